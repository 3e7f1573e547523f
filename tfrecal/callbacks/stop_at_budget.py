"""StopAtBudget: nothing more can be bought."""
from __future__ import annotations

import tf_keras


class StopAtBudget(tf_keras.callbacks.Callback):
    """Stops training when `AcquireLabels` can buy nothing more.

    That is when its budget is spent, its rounds are done, or the pool has
    no pair left to ask.

    Args:
        acquire: the `AcquireLabels` callback; it comes before this one.
        final_epochs: epochs trained after the last labels came, so that
            they are trained on.
        verbose: 1 says why training stops.
    """

    def __init__(self, acquire, final_epochs: int = 1, verbose: int = 1):
        super().__init__()
        if final_epochs < 0:
            raise ValueError("`final_epochs` must be 0 or more. Received: "
                             f"final_epochs={final_epochs}.")
        self.acquire = acquire
        self.final_epochs = final_epochs
        self.verbose = verbose

    def on_epoch_end(self, epoch, logs=None):
        acquire = self.acquire
        if not acquire.exhausted or acquire.pool.pending:
            return
        if epoch - acquire.last_labels >= self.final_epochs:
            self.model.stop_training = True
            if self.verbose:
                print(f"Stopped after epoch {epoch + 1}: "
                      f"{acquire.exhausted}.")
