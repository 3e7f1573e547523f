"""StopAtTime: the time is up."""
from __future__ import annotations

import time

from tfrecal import checks
from tfrecal.callbacks.stop_buying import StopBuying


class StopAtTime(StopBuying):
    """Buys nothing more once this `fit` has taken so many seconds.

    The epoch in which the time runs out is finished, and the final epochs
    follow. It does not wait for answers to open questions.

    Args:
        acquire: the `AcquireLabels` callback; it comes before this one.
        seconds: seconds since `fit` began, > 0.
        final_epochs, verbose: see `StopBuying`.
    """

    waits = False

    def __init__(self, acquire, seconds: float, final_epochs: int = 1,
                 verbose: int = 1):
        super().__init__(acquire, final_epochs, verbose)
        checks.positive(seconds=seconds)
        self.seconds = seconds

    def on_train_begin(self, logs=None):
        self._started = time.monotonic()

    def reason(self, epoch, logs):
        passed = time.monotonic() - self._started
        if passed < self.seconds:
            return ""
        return f"{passed:.0f} of {self.seconds:g} seconds have passed"
