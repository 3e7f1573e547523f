"""Which way a metric is better, and whether one may choose by it."""
from __future__ import annotations

from tfrecal import checks

_ERRORS = ("loss", "rmse", "mae")


def lower_is_better(metric: str, mode: str = "auto") -> bool:
    """Returns whether lower values of a metric are better.

    Args:
        metric: name of the metric.
        mode: `"min"`, `"max"`, or `"auto"`, which decides by the name.
    """
    checks.one_of("mode", mode, ("auto", "min", "max"))
    if mode == "auto":
        return any(word in metric for word in _ERRORS)
    return mode == "min"


def check_monitor(monitor: str) -> None:
    """Raises ValueError where a metric of the test part would choose.

    Args:
        monitor: name of the metric.
    """
    if monitor.startswith("test_"):
        raise ValueError(
            "`monitor` must not be a metric of the test part, by which "
            f"nothing may be chosen. Received: monitor={monitor!r}. Use "
            f"{monitor.replace('test_', 'val_', 1)!r}, of the validation "
            "part.")
