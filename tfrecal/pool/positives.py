"""What a positive is where nobody says, and items' shares of positives."""
from __future__ import annotations

import numpy as np


def default_positive(scale) -> float:
    """Lowest label of a positive: three quarters up a (lowest, highest)."""
    low, high = map(float, scale)
    return low + 0.75 * (high - low)


def log_shares(traffic, labels, positives) -> np.ndarray:
    """Traffic times the smoothed rate of positives, as log shares.

    Args:
        traffic: rows of each item by code, float64 `[items + 1]`.
        labels, positives: how many of an item's rows are labelled, and how
            many of these are positive, `[items + 1]`.

    Returns:
        float32 `[items + 1]`, code 0 has the smallest value.
    """
    overall = (positives.sum() + 1) / (labels.sum() + 2)
    share = (traffic + 0.5) * (positives + 5 * overall) / (labels + 5)
    share[0] = share[1:].min(initial=1.0)
    return np.log(share / share[1:].sum()).astype(np.float32)
