"""ChiefDecides: one worker evaluates and buys for all."""
from __future__ import annotations

import tf_keras

from tfrecal.callbacks.acquire_labels import AcquireLabels


class ChiefDecides(tf_keras.callbacks.Callback):
    """Runs callbacks on the chief of several workers, and tells the others.

    Every worker gets what they write into `logs`, whether training stops,
    and the questions and answers of an `AcquireLabels` among them. So there
    is one oracle, and the pools stay the same, row for row, which is checked
    after each epoch. On a single worker it changes nothing.

    Args:
        workers: the `Workers`.
        pool: this worker's `Pool`.
        callbacks: the callbacks, in their order; on the other workers they
            do not run.

    Raises:
        WorkersStopped: a callback raised on the chief (on the others), or
            the pools differ (on all).
    """

    def __init__(self, workers, pool, callbacks):
        super().__init__()
        self.workers = workers
        self.pool = pool
        self.callbacks = list(callbacks)
        self.acquire = next((callback for callback in self.callbacks
                             if isinstance(callback, AcquireLabels)), None)

    def set_params(self, params):
        super().set_params(params)
        for callback in self.callbacks:
            callback.set_params(params)

    def set_model(self, model):
        super().set_model(model)
        for callback in self.callbacks:
            callback.set_model(model)

    def _call_on_chief(self, name, *args):
        if self.workers.chief:
            for callback in self.callbacks:
                getattr(callback, name)(*args)

    def on_train_begin(self, logs=None):
        self._call_on_chief("on_train_begin", logs)

    def on_epoch_begin(self, epoch, logs=None):
        self._call_on_chief("on_epoch_begin", epoch, logs)

    def on_train_end(self, logs=None):
        self._call_on_chief("on_train_end", logs)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        workers, acquire = self.workers, self.acquire
        if workers.number == 1:
            self._call_on_chief("on_epoch_end", epoch, logs)
            return

        def decide():
            heard = acquire.heard if acquire else 0
            self._call_on_chief("on_epoch_end", epoch, logs)
            return {"logs": {name: value if isinstance(value, str)
                             else float(value)
                             for name, value in logs.items()},
                    "stop": bool(self.model.stop_training),
                    "news": acquire.news(heard) if acquire else None}

        told = workers.from_chief(decide)
        if not workers.chief:
            logs.update(told["logs"])
            self.model.stop_training = told["stop"]
            if acquire:
                acquire.follow(epoch, told["news"])
        workers.check_same(
            f"pool after epoch {epoch + 1}", self.pool.digest(),
            "Nothing of this epoch was saved but what was bought; `tfrecal "
            "run --resume` on all workers copies the chief's pool.")
