"""Which way is better: of a metric, by its name."""
from __future__ import annotations

_ERRORS = ("loss", "rmse", "mae")


def lower_is_better(metric: str, mode: str = "auto") -> bool:
    """Whether a metric is better the lower it is.

    Args:
        metric: its name.
        mode: `"min"`, `"max"`, or `"auto"`, which goes by the name.
    """
    if mode not in ("auto", "min", "max"):
        raise ValueError("`mode` must be 'auto', 'min' or 'max'. Received: "
                         f"mode={mode!r}.")
    if mode == "auto":
        return any(word in metric for word in _ERRORS)
    return mode == "min"
