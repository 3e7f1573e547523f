"""SavePool: the run can go on from its last whole epoch."""
from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

from tfrecal.files import replace_file
from tfrecal.pool import STATES


class SavePool(tf_keras.callbacks.Callback):
    """Writes the pool, the acquisitions and the weights after each epoch.

    In `folder`: `pool/round_0003.npz`, `acquisitions.parquet` (who was
    asked, why, the answer, its cost), `weights/` (TensorFlow checkpoints
    with the optimizers), and last `state.json`, which names the files that
    belong together. What a kill leaves half-written is never named there.

    Args:
        pool: the `Pool`.
        folder: the run folder.
        acquire: the `AcquireLabels` callback, whose round and oracle are
            saved too; None in a run without.
        weights: False saves no weights.
    """

    def __init__(self, pool, folder, acquire=None, weights: bool = True):
        super().__init__()
        self.pool = pool
        self.folder = Path(folder)
        self.acquire = acquire
        self.weights = weights

    def set_model(self, model):
        super().set_model(model)
        checkpoint = tf.train.Checkpoint(model=model)
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(self.folder / "weights"), max_to_keep=2)

    def on_epoch_end(self, epoch, logs=None):
        self.save(epoch)

    def save(self, epoch: int) -> None:
        """Writes everything for the epoch that has just ended."""
        round_ = self.acquire.round if self.acquire else epoch + 1
        name = f"pool/round_{round_:04d}.npz"
        self.pool.save(self.folder / name)
        replace_file(self.folder / "acquisitions.parquet",
                     lambda path: acquisitions(self.pool).to_parquet(path))
        state = {"epoch": epoch, "round": round_, "pool": name}
        if self.acquire:
            state["oracle"] = self.acquire.oracle.state()
            state["exhausted"] = self.acquire.exhausted
        if self.weights:
            path = self._manager.save(checkpoint_number=epoch + 1)
            state["checkpoint"] = os.path.basename(path)
        replace_file(self.folder / "state.json",
                     lambda path: path.write_text(json.dumps(state)))


def acquisitions(pool) -> pd.DataFrame:
    """One row a question, in the order asked."""
    rows = np.flatnonzero(pool.ticket >= 0)
    rows = rows[np.argsort(pool.ticket[rows])]
    return pd.DataFrame({
        "ticket": pool.ticket[rows], "round": pool.round[rows],
        "user_id": pool.user_ids[pool.user[rows] - 1],
        "item_id": pool.item_ids[pool.item[rows] - 1],
        "strategy": [pool.strategies[s] for s in pool.strategy[rows]],
        "utility": pool.utility[rows],
        "state": np.array(STATES, object)[pool.state[rows]],
        "label": pool.label[rows], "cost": pool.cost[rows]})
