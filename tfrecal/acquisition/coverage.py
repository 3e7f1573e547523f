"""UserCoverage and ItemCoverage: the least labelled first."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy, View


class _Coverage(Strategy):

    def codes(self, view: View) -> np.ndarray:
        """Code of the user or item to be covered, of each candidate."""
        raise NotImplementedError

    def counts(self, view: View) -> np.ndarray:
        """Labelled pairs by code."""
        raise NotImplementedError

    def utilities(self, view):
        return -np.asarray(self.counts(view), np.float64)[self.codes(view)]

    def select(self, view, n, rng, utilities=None):
        """As the base; each choice counts as a label for the next ones.

        The count of a candidate is the labels of its user (item) and the
        candidates of the same that come before it: those of higher prior
        (of lower cost, with `per_cost`), then at random.
        """
        if utilities is None:
            utilities = self.utilities(view)
        order = rng.permutation(len(view))
        if self.per_cost and view.cost is not None:
            order = order[np.argsort(
                np.asarray(view.cost)[order], kind="stable")]
        if view.prior is not None and len(view.prior) == len(view):
            order = order[np.argsort(
                -np.asarray(view.prior)[order], kind="stable")]
        before = rank_within(self.codes(view), order)
        return super().select(view, n, rng, utilities - before)


class UserCoverage(_Coverage):
    """Pairs of the users with the fewest labels.

    Use it where each user counts the same but the log is made by the busiest
    few, or for recall over the catalogue. On a pool that looks like the
    audience it is worse than random.
    """

    def codes(self, view):
        return view.user

    def counts(self, view):
        return view.user_labelled


class ItemCoverage(_Coverage):
    """Pairs of the items with the fewest labels.

    Use it where each item counts the same; it hurts recall over the
    catalogue.
    """

    def codes(self, view):
        return view.item

    def counts(self, view):
        return view.item_labelled


def rank_within(codes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """How many of the same code come earlier in `order`, int64 `[n]`."""
    grouped = order[np.argsort(codes[order], kind="stable")]
    place = np.arange(len(codes))
    starts = np.ones(len(codes), bool)
    starts[1:] = codes[grouped[1:]] != codes[grouped[:-1]]
    rank = np.empty(len(codes), np.int64)
    rank[grouped] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return rank
