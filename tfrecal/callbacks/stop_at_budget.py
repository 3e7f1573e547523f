"""StopAtBudget: nothing more can be bought."""
from __future__ import annotations

from tfrecal.callbacks.stop_buying import StopBuying


class StopAtBudget(StopBuying):
    """Stops training when `AcquireLabels` can buy nothing more.

    This is so when its budget is spent, its rounds are done, the pool has no
    pair left to ask, or another callback told it to stop.

    Args:
        acquire, final_epochs, verbose: see `StopBuying`.
    """
