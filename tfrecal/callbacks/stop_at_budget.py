"""StopAtBudget: nothing more can be bought."""
from __future__ import annotations

import tf_keras


class StopAtBudget(tf_keras.callbacks.Callback):
    """Stops training when `AcquireLabels` can buy nothing more.

    That is when its budget is spent, its rounds are done, or the pool has
    no pair left to ask.

    Args:
        acquire: the `AcquireLabels` callback; it comes before this one.
        final_epochs: epochs trained after that, so that the last labels are
            trained on.
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

    def on_train_begin(self, logs=None):
        self.left = self.final_epochs

    def on_epoch_end(self, epoch, logs=None):
        if not self.acquire.exhausted or self.acquire.pool.pending:
            return
        if self.left <= 0:
            self.model.stop_training = True
            if self.verbose:
                print(f"Stopped after epoch {epoch + 1}: "
                      f"{self.acquire.exhausted}.")
        self.left -= 1
