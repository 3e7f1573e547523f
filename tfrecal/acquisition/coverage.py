"""UserCoverage and ItemCoverage: the least labelled first."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition import picking
from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.view import View


class _Coverage(Strategy):

    def codes(self, view: View) -> np.ndarray:
        """Returns the code of each candidate's user or item, `[n]`."""
        raise NotImplementedError

    def counts(self, view: View) -> np.ndarray:
        """Returns the numbers of labelled pairs, by code."""
        raise NotImplementedError

    def utilities(self, view):
        return -np.asarray(self.counts(view), np.float64)[self.codes(view)]

    def select(self, view, n, rng, utilities=None):
        """Does as the base; each pick counts as a label for the next ones.

        To the labels of a candidate's user (item) are added its candidates
        that come before this one: those with a higher factor (prior,
        rateability, one over cost), then at random.
        """
        if utilities is None:
            self.check_needs(view)
            utilities = self.utilities(view)
        order = rng.permutation(len(view))
        factors = self.factors(view)
        if factors is not None:
            order = order[np.argsort(-factors[order], kind="stable")]
        before = rank_within(self.codes(view), order)
        return super().select(view, n, rng, utilities - before)

    def cap(self, view, order, n):
        """Does as the base; a pair that is not allowed leaves its place.

        The next pair of the same user (item) with the same factor gets the
        place.
        """
        limits = self.limits(view, n)
        if not limits:
            return order[:n]
        same = [key for key in (self.codes(view), self.factors(view))
                if key is not None]
        _, groups = np.unique(same, axis=1, return_inverse=True)
        return in_turns(order, n, limits, groups.ravel())


class UserCoverage(_Coverage):
    """Pairs of the users with the fewest labels.

    Use it where each user counts the same but the log is made by the busiest
    few, or for recall over the catalogue. On a pool that looks like the
    audience it is worse than random.
    """

    needs = frozenset({"user_labelled"})

    def codes(self, view):
        return view.user

    def counts(self, view):
        return view.user_labelled


class ItemCoverage(_Coverage):
    """Pairs of the items with the fewest labels.

    Use it where each item counts the same; it hurts recall over the
    catalogue.
    """

    needs = frozenset({"item_labelled"})

    def codes(self, view):
        return view.item

    def counts(self, view):
        return view.item_labelled


def in_turns(order: np.ndarray, n: int, limits: picking.Limits,
             groups: np.ndarray) -> np.ndarray:
    """Does as `picking.capped`, with places of groups, not of candidates."""
    def walk(order, n, limits):
        queues: dict[int, list] = {}
        for row, group in zip(order[::-1].tolist(),
                              groups[order[::-1]].tolist()):
            queues.setdefault(group, []).append(row)
        chosen = []
        for group in groups[order].tolist():
            queue = queues[group]
            while queue and len(chosen) < n:
                row = queue.pop()
                if limits.allows(row):
                    limits.take(row)
                    chosen.append(row)
                    break
        return np.array(chosen, np.int64)
    return picking.in_two_walks(order, n, limits, walk)


def rank_within(codes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns how many of the same code come earlier in `order`.

    Args:
        codes: of the candidates, int `[n]`.
        order: all candidates, best first, int `[n]`.

    Returns:
        int64 `[n]`.
    """
    grouped = order[np.argsort(codes[order], kind="stable")]
    place = np.arange(len(codes))
    starts = np.ones(len(codes), bool)
    starts[1:] = codes[grouped[1:]] != codes[grouped[:-1]]
    rank = np.empty(len(codes), np.int64)
    rank[grouped] = place - np.maximum.accumulate(np.where(starts, place, 0))
    return rank
