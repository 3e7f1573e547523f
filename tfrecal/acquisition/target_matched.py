"""TargetMatched: random pairs, drawn as the target draws them."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy

_SWEEPS = 10


class TargetMatched(Strategy):
    """Random pairs, drawn so that the picks look like the target.

    The chance of a pair is the product of a factor of its user and a factor
    of its item, fitted so that users and items have the shares that they
    have in the target. With a segment of the pool as target, it draws at
    random among the pairs of the segment; with the pool as target, among all
    pairs. Most of what a target brings comes from knowing it: this is the
    baseline for strategies that know it too.

    Reference:
        Deming and Stephan 1940, "On a Least Squares Adjustment of a Sampled
        Frequency Table", Annals of Mathematical Statistics 11: iterative
        proportional fitting.
    """

    needs = frozenset({"target"})

    def __init__(self, batch: str = "power", **options):
        super().__init__(batch=batch, **options)

    def utilities(self, view):
        """Returns target density over candidate density, float64 `[n]`."""
        found = np.ones(len(view))
        if not len(view):
            return found
        sides = []
        for codes, target in ((view.user, view.target_user),
                              (view.item, view.target_item)):
            size = 1 + max(codes.max(), target.max())
            sides.append((codes, np.bincount(
                target, view.target_weight, size)))
        for _ in range(_SWEEPS):
            for codes, wanted in sides:
                there = np.bincount(codes, found, len(wanted))
                found *= np.divide(wanted, there, where=there > 0,
                                   out=np.zeros_like(there))[codes]
        return found * len(found) if found.any() else np.ones(len(found))
