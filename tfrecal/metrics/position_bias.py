"""examination: how often each rank is looked at, from explored slots."""
from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression

from tfrecal import checks


def examination(rank, clicked, explored, smoothing: float = 1.0
                ) -> np.ndarray:
    """Returns the probability that a rank is examined, relative to rank 1.

    If exploration draws the items of a slot at random, ranks differ by
    examination alone, and the ratio of their click rates is the ratio of
    their examinations. Slots of the model's own list do not count: better
    items stand higher there. The rates are smoothed towards their mean, and
    the closest (weighted squares) that never rise with the rank are taken.

    A click at rank k counts 1 / examination[k - 1] in training
    (`off_policy.training_weights`).

    Args:
        rank: rank of each slot, 1 is first, `[n]`.
        clicked: whether the slot was clicked, `[n]`.
        explored: whether its item was drawn at random, the same way at
            every rank, `[n]`.
        smoothing: clicks and views at the mean rate that every rank gets in
            addition, measured in views.

    Returns:
        float64 `[highest rank]` in (0, 1], the first is 1. Ranks without
        explored slots lie on a line between their neighbours.

    Raises:
        ValueError: there is no explored slot at rank 1, or no click on any.

    Reference:
        Joachims et al. 2017, "Unbiased Learning-to-Rank with Biased
        Feedback", arXiv 1608.04468 (propensities from randomised ranks).
    """
    rank, clicked, explored = map(np.asarray, (rank, clicked, explored))
    if not rank.shape == clicked.shape == explored.shape or rank.ndim != 1:
        raise ValueError(
            "`rank`, `clicked` and `explored` must be of one length. "
            f"Received: shapes {rank.shape}, {clicked.shape} and "
            f"{explored.shape}.")
    if len(rank) and rank.min() < 1:
        raise ValueError("`rank` must be 1 or more. Received: "
                         f"rank={rank.min()}.")
    checks.positive(smoothing=smoothing)
    drawn = np.asarray(explored, bool)
    place = rank[drawn].astype(np.int64) - 1
    click = np.asarray(clicked[drawn], np.float64)
    if not (place == 0).any() or not click.any():
        raise ValueError(
            "Examination needs explored slots at rank 1, and clicks on some. "
            f"Received: {len(place)} explored slots, {(place == 0).sum()} of "
            f"them at rank 1, {click.sum():.0f} clicks. Let exploration take "
            "every rank, or wait for more feedback.")
    views = np.bincount(place)
    clicks = np.bincount(place, click)
    rate = (clicks + smoothing * click.mean()) / (views + smoothing)
    seen = np.flatnonzero(views)
    fitted = isotonic_regression(
        rate[seen], weights=views[seen] + smoothing, increasing=False).x
    everywhere = np.interp(np.arange(rank.max()), seen, fitted)
    return everywhere / everywhere[0]
