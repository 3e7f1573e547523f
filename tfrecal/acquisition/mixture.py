"""Mixture: each strategy makes its share of the picks."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition import picking
from tfrecal.acquisition.combiner import Combiner, only_top, within
from tfrecal.acquisition.view import View


class Mixture(Combiner):
    """Lets each strategy make a share of the round's picks.

    The picks are shuffled together, so that the first ones have about the
    same shares as all. A pair that two strategies want counts for the one
    that has it earlier, and the other chooses again. If a strategy has no
    more pairs, the others make its picks.

    Args:
        strategies: see `Combiner`; each picks with its own `batch` and
            `temperature`.
        shares: share of the picks of each strategy, summing to 1; equal by
            default. Where a share is no whole number of pairs it is rounded
            at random, right on average. The attribute may be set anew
            between rounds.
    """

    def __init__(self, strategies: list, shares=None, **options):
        super().__init__(strategies, **options)
        only_top(self)
        size = len(self.strategies)
        self.shares = np.full(size, 1 / size) if shares is None else shares

    @property
    def shares(self) -> np.ndarray:
        """Share of the picks that each strategy makes, float64."""
        return self._shares

    @shares.setter
    def shares(self, shares):
        found = np.array(shares, np.float64)
        if found.shape != (len(self.strategies),) or not (
                (found >= 0).all() and abs(found.sum() - 1) < 1e-6):
            raise ValueError(
                "`shares` must be a number >= 0 for each of "
                f"{len(self.strategies)} strategies and sum to 1. Received: "
                f"shares={shares}.")
        self._shares = found

    def utilities(self, view):
        """Returns the sum of scaled utilities, each times its share."""
        total = np.zeros(len(view))
        for share, values in zip(self.shares, self.arm_utilities(view)):
            total += share * picking.scaled(values)
        return total

    def select(self, view, n, rng, utilities=None):
        return self.select_arms(view, n, rng, utilities)[0]

    def select_arms(self, view: View, n: int, rng: np.random.Generator,
                    utilities: np.ndarray | None = None):
        """Selects, and says which strategy chose what.

        Args:
            view, n, rng, utilities: see `select`.

        Returns:
            `(chosen, arm)`, int64: indices into the view, and into
            `strategies`.
        """
        _, allowed = self.weigh(view, n, utilities)
        chosen, by = [], []
        if len(allowed):
            arms = [_Arm(within(strategy, self), values, view)
                    for strategy, values in zip(
                        self.strategies, self.arm_utilities(view))]
            for row, k in self._picks(view, arms, allowed, n, rng):
                chosen.append(row)
                by.append(k)
        return np.array(chosen, np.int64), np.array(by, np.int64)

    def _picks(self, view, arms, allowed, n, rng):
        limits = self.limits(view, n)
        untaken = np.zeros(len(view), bool)
        untaken[allowed] = True
        shares = self.shares
        want = _whole_numbers(min(n, len(allowed)), shares, rng)
        while want.any():
            left = allowed[untaken[allowed] & limits.open(allowed)]
            if not len(left) or not shares.any():
                if not limits.release():
                    return
                shares = self.shares
                continue
            offers = [arm.offer(view, left, number, rng)
                      for arm, number in zip(arms, want)]
            for row, k in _shuffled(offers, rng):
                if (untaken[row] and limits.allows(row)
                        and arms[k].limits.allows(row)):
                    limits.take(row)
                    arms[k].limits.take(row)
                    untaken[row] = False
                    want[k] -= 1
                    yield row, k
            # An arm with nothing to offer leaves its places to the others.
            silent = (want > 0) & [not len(offer) for offer in offers]
            shares = np.where(silent, 0, shares)
            if silent.any() and shares.any():
                lost = want[silent].sum()
                want[silent] = 0
                want += _whole_numbers(lost, shares / shares.sum(), rng)

    def get_config(self):
        return {**super().get_config(), "shares": self.shares.tolist()}


class _Arm:
    """One strategy while a round is chosen.

    Its caps hold for all that it offers in the round.
    """

    def __init__(self, strategy, utilities, view):
        self.strategy, self.utilities = strategy, utilities
        self.limits = picking.Limits(strategy.caps(view))

    def offer(self, view, left, n, rng) -> np.ndarray:
        """Returns at most `n` of the rows `left`, best first."""
        rows = left[self.limits.open(left)]
        if not n or not len(rows):
            return np.zeros(0, np.int64)
        some = view if len(rows) == len(view) else view.take(rows)
        return rows[self.strategy.select(
            some, int(n), rng, self.utilities[rows])]


def _whole_numbers(n: int, shares: np.ndarray, rng) -> np.ndarray:
    """Rounds shares of `n` up or down to whole numbers that sum to `n`.

    By systematic sampling; on average each number is its share.
    """
    ends = np.append(0, np.cumsum(shares)) * n
    ends[-1] = n
    return np.diff(np.floor(ends + rng.random()).astype(np.int64))


def _shuffled(offers, rng):
    """Yields all offers as `(row, arm)`, each arm spread over the whole."""
    # The j-th of m offers stands somewhere in [j / m, (j + 1) / m).
    place = np.concatenate([
        (np.arange(len(offer)) + rng.random(len(offer))) / max(len(offer), 1)
        for offer in offers])
    arm = np.repeat(np.arange(len(offers)), [len(offer) for offer in offers])
    order = np.argsort(place, kind="stable")
    return zip(np.concatenate(offers)[order].tolist(), arm[order].tolist())
