"""What must hold of an argument?"""
from __future__ import annotations

import numpy as np


def check_weights(values, size: int, name: str, *, positive: bool = False,
                  source: str = "") -> np.ndarray:
    """Checks weights, costs and the like, one a pair.

    Args:
        values: numbers, `[size]`.
        size: how many pairs there are.
        name: of the argument.
        positive: whether 0 is refused too.
        source: where the numbers come from, for the message.

    Returns:
        them as float64 `[size]`.

    Raises:
        ValueError: another number of them, or one that is negative (or 0),
            NaN or infinite.
    """
    found = np.asarray(values, np.float64)
    wrong = ~(np.isfinite(found) & (found > 0 if positive else found >= 0))
    if found.shape == (size,) and not wrong.any():
        return found
    least = ">" if positive else ">="
    received = f"shape={found.shape}"
    if wrong.any():
        received += (f", {int(wrong.sum())} that are negative,"
                     f"{' 0,' if positive else ''} NaN or infinite, the first "
                     f"is {name}={found[wrong].flat[0]}")
        if found.ndim == 1:
            received += f" at place {np.flatnonzero(wrong)[0]}"
    raise ValueError(
        f"`{name}` must be a finite number {least} 0, one for each of {size} "
        f"pairs. Received: {received}{source and f', from {source}'}.")


def on_scale(labels, scale) -> np.ndarray:
    """Which labels lie on a scale, bool `[n]`.

    NaN lies on none. A scale of None holds every finite number.
    """
    labels = np.asarray(labels)
    low, high = (-np.inf, np.inf) if scale is None else scale
    return np.isfinite(labels) & (labels >= low) & (labels <= high)


def check_labels(labels, scale, tickets, *, cure: str) -> None:
    """Checks that labels lie on a scale.

    Args:
        labels: numbers, `[n]`.
        scale: `(lowest, highest)` label, or None for any finite number.
        tickets: of their questions, `[n]`.
        cure: a sentence to end the message with.

    Raises:
        ValueError: a label lies off the scale, or is NaN.
    """
    wrong = np.flatnonzero(~on_scale(labels, scale))
    if len(wrong):
        where = ("be finite numbers" if scale is None else
                 f"lie on the scale {scale[0]:g} to {scale[1]:g}")
        raise ValueError(
            f"Labels must {where}. Received: label={labels[wrong[0]]:g} for "
            f"ticket={tickets[wrong[0]]}. {cure}")


def check_scale(scale) -> tuple[float, float]:
    """Checks a label scale, `(lowest, highest)`, and returns it as floats.

    Raises:
        ValueError: it is not two finite numbers that rise.
    """
    try:
        low, high = map(float, scale)
        if -np.inf < low < high < np.inf:
            return low, high
    except (TypeError, ValueError):
        pass
    raise ValueError("`scale` must be (lowest, highest) label. Received: "
                     f"scale={scale!r}.")
