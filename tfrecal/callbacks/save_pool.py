"""SavePool: the run can go on from its last whole epoch."""
from __future__ import annotations

import os

import tensorflow as tf
import tf_keras

from tfrecal.files import make_folder, make_private, sync_file, sync_folder
from tfrecal.pool.run_folder import RunFolder


class SavePool(tf_keras.callbacks.Callback):
    """Writes the pool, the acquisitions and the weights after each epoch.

    See `RunFolder` for the files. The weights are TensorFlow checkpoints
    with the optimizers, of an encoder only what is trained.
    `explanations.jsonl` says in words why the best pairs of each round were
    asked. The files are their owner's alone.

    Args:
        pool: the `Pool`.
        folder: the run folder.
        acquire: the `AcquireLabels` callback, whose round and oracle are
            saved too; None in a run without.
        lines: the `RoundLines` callback, whose history is saved too; None
            in a run without.
        weights: False saves no weights.
    """

    def __init__(self, pool, folder, acquire=None, weights: bool = True,
                 lines=None):
        super().__init__()
        self.pool = pool
        self.folder = RunFolder(folder)
        self.acquire = acquire
        self.weights = weights
        self.lines = lines

    def set_model(self, model):
        super().set_model(model)
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(model=model), str(self.folder / "weights"),
            max_to_keep=2)

    def on_epoch_begin(self, epoch, logs=None):
        self._rows = self.pool.counts["labelled"]

    def on_epoch_end(self, epoch, logs=None):
        stop = self.params["epochs"]
        state = {"epoch": epoch, "rows": self._rows, "stop": stop,
                 "finished": self.model.stop_training or epoch + 1 >= stop}
        if self.acquire:
            state["acquire"] = self.acquire.state()
        if self.lines:
            state["history"] = self.lines.rows
        if self.weights:
            state["checkpoint"] = os.path.basename(self._save(epoch + 1))
            state["encoder"] = getattr(self.model, "fingerprint", "")
        self.folder.write(self.pool, **state)

    def _save(self, number):
        make_folder(self.folder / "weights")
        try:
            path = self._manager.save(checkpoint_number=number)
        except tf.errors.OpError as error:  # such as a full disk
            raise OSError(
                "The weights could not be written to "
                f"{self.folder / 'weights'}: {error.message}. The folder "
                "holds the last whole epoch: mend this and resume.") from error
        # TensorFlow leaves it to the system when they reach the disk, and
        # `state.json` must not be there before them.
        folder = self.folder / "weights"
        for part in folder.glob(f"{os.path.basename(path)}.*"):
            sync_file(part)
        make_private(folder)
        sync_folder(folder)
        return path
