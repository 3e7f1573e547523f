"""StopBuying: the base of callbacks that end acquisition, then training."""
from __future__ import annotations

import tf_keras

from tfrecal import checks


class StopBuying(tf_keras.callbacks.Callback):
    """Ends buying for a reason, and `fit` after some final epochs.

    A subclass writes `reason`. The last labels are trained on for
    `final_epochs`. The callback waits for answers to open questions.

    Args:
        acquire: the `AcquireLabels` callback; it comes before this one.
        final_epochs: epochs of training after the last labels came.
        verbose: 1 says why training stops.
    """

    waits = True

    def __init__(self, acquire, final_epochs: int = 1, verbose: int = 1):
        super().__init__()
        checks.at_least(0, final_epochs=final_epochs)
        self.acquire = acquire
        self.final_epochs = final_epochs
        self.verbose = verbose

    def reason(self, epoch: int, logs: dict) -> str:
        """Says why nothing more should be bought; empty to go on.

        Args:
            epoch: number of the epoch that ends, from 0.
            logs: logs of the epoch.
        """
        return ""

    def on_epoch_end(self, epoch, logs=None):
        acquire = self.acquire
        if not acquire.exhausted:
            why = self.reason(epoch, {} if logs is None else logs)
            if why:
                acquire.stop(why)
        if self.model.stop_training or not acquire.exhausted or (
                self.waits and acquire.pool.pending):
            return
        if epoch - acquire.last_labels >= self.final_epochs:
            self.model.stop_training = True
            if self.verbose:
                print(f"Stopped after epoch {epoch + 1}: "
                      f"{acquire.exhausted}.")
