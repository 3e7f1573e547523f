"""Which labels are positives by default, and items' shares of positives."""
from __future__ import annotations

import numpy as np


def default_positive(scale) -> float:
    """Returns the lowest label of a positive: three quarters up the scale.

    Args:
        scale: (lowest, highest) label.
    """
    low, high = map(float, scale)
    return low + 0.75 * (high - low)


def log_shares(traffic, labels, positives) -> np.ndarray:
    """Returns log shares of traffic times the smoothed rate of positives.

    Args:
        traffic: rows of each item by code, float64 `[items + 1]`.
        labels, positives: numbers of labelled rows of each item, and of
            positives among them, `[items + 1]`.

    Returns:
        float32 `[items + 1]`, code 0 has the smallest value.
    """
    overall = (positives.sum() + 1) / (labels.sum() + 2)
    share = (traffic + 0.5) * (positives + 5 * overall) / (labels + 5)
    share[0] = share[1:].min(initial=1.0)
    return np.log(share / share[1:].sum()).astype(np.float32)
