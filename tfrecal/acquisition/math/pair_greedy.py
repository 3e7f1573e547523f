"""PairGreedy: picks one pair at a time, and counts each label at once."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.math.posterior import PairPosterior, groups, moments


class PairGreedy:
    """Gains of pairs under a `PairPosterior`, and the greedy picks.

    Asking (u, i) changes S_u and S_i alone, by rank-1 downdates, so only the
    gains of the pairs of u and of i are computed anew. The greedy choice is
    exact and takes O(pairs of u and of i) a pick.

    Args:
        posterior: the `PairPosterior` of the labels so far.
        user, item: codes of the candidates, `[n]`.
        target: `(user, item, weight)` of the pairs to be served, or None
            where the gain does not look at them.
        gain: a function `(served, variance) -> gain [n]`; `served` is the
            drop of the target's predictive variance times (1 + variance).

    Attributes:
        served: phi^T S_u M_u S_u phi + psi^T S_i M_i S_i psi, `[n]`, where
            M are the second moments of the target's features.
        variance: phi^T S_u phi + psi^T S_i psi, `[n]`.
    """

    def __init__(self, posterior: PairPosterior, user, item, target, gain):
        self._codes = np.asarray(user), np.asarray(item)
        self._features = posterior.features
        self._covariance = [s.copy() for s in posterior.covariance]
        self._gain = gain
        self._moments = [None, None]
        if target is not None:
            *owners, weight = target
            self._moments = [moments(
                posterior.features[side], owners[side], owners[1 - side],
                weight, len(self._covariance[side])) for side in (0, 1)]
        size = len(user)
        # One row for each side: variances of pairs, and what they serve.
        self._variance = np.zeros((2, size))
        self._served = np.zeros((2, size))
        self._rows = [{}, {}]
        for side in (0, 1):
            for code, rows in groups(self._codes[side]):
                self._rows[side][code] = rows
                self._set_up(side, code, rows)

    @property
    def served(self):
        return self._served.sum(axis=0)

    @property
    def variance(self):
        return self._variance.sum(axis=0)

    def _set_up(self, side, code, rows):
        phi = self._features[side][self._codes[1 - side][rows]]
        spread = phi @ self._covariance[side][code]
        self._variance[side, rows] = np.einsum("nd,nd->n", spread, phi)
        if self._moments[side] is not None:
            self._served[side, rows] = np.einsum(
                "nd,nd->n", spread @ self._moments[side][code], spread)

    def gains(self, rows=slice(None)) -> np.ndarray:
        """Returns the gain of a label of each candidate, float64 `[n]`."""
        return self._gain(self._served[:, rows].sum(axis=0),
                          self._variance[:, rows].sum(axis=0))

    def label(self, pick: int) -> list[np.ndarray]:
        """Counts a label of a candidate; returns rows whose gain changed."""
        total = 1 + self._variance[:, pick].sum()
        return [self._count_label(side, pick, total) for side in (0, 1)]

    def _count_label(self, side, pick, total):
        code = int(self._codes[side][pick])
        rows = self._rows[side][code]
        features = self._features[side]
        phi = features[self._codes[1 - side][rows]]
        covariance = self._covariance[side][code]
        step = covariance @ features[self._codes[1 - side][pick]]
        along = phi @ step
        if self._moments[side] is not None:
            pull = self._moments[side][code] @ step
            self._served[side, rows] += along * (
                along * (pull @ step / total)
                - 2 * (phi @ (covariance @ pull))) / total
        self._variance[side, rows] -= along ** 2 / total
        self._covariance[side][code] = (
            covariance - np.outer(step, step) / total)
        return rows

    def select(self, n: int, factor, limits, rng) -> np.ndarray:
        """Makes the greedy picks.

        Args:
            n: how many, at most.
            factor: multiplies the gains, >= 0, `[candidates]`; zero is never
                chosen.
            limits: see `Strategy.limits`.
            rng: breaks ties.

        Returns:
            Positions of the picks, int64, in order.
        """
        # Ties are broken by a shift far below what gains differ by.
        factor = factor * (1 + 1e-9 * rng.random(len(factor)))
        best = _Highest(self._codes[0], self._rows[0], np.where(
            factor > 0, self.gains() * factor, -np.inf))
        picks, passed = [], []
        while len(picks) < n:
            pick = best.pop()
            if pick < 0:
                if not (passed and limits.release()):
                    break
                rows, passed = np.array(passed), []
                best.put(rows, self.gains(rows) * factor[rows])
            elif not limits.allows(pick):
                passed.append(pick)
            else:
                limits.take(pick)
                picks.append(pick)
                for rows in self.label(pick):
                    best.change(rows, self.gains(rows) * factor[rows])
        return np.array(picks, np.int64)


class _Highest:
    """The highest of many values, of which few change at a time."""

    def __init__(self, code, rows, value):
        self.value = value
        self._rows = rows
        self._code = code
        self._top = np.full(int(code.max(initial=0)) + 1, -np.inf)
        self._place = np.full(len(self._top), -1)
        for each in rows:
            self._find_top(each)

    def _find_top(self, code):
        rows = self._rows[code]
        place = rows[self.value[rows].argmax()]
        self._place[code], self._top[code] = place, self.value[place]

    def pop(self) -> int:
        """Takes out and returns the highest; -1 if only -inf is left."""
        code = int(self._top.argmax())
        if self._top[code] == -np.inf:
            return -1
        pick = int(self._place[code])
        self.value[pick] = -np.inf
        self._find_top(code)
        return pick

    def change(self, rows, value):
        """Sets the values of those rows that are still in."""
        there = self.value[rows] > -np.inf
        self.put(rows[there], value[there])

    def put(self, rows, value):
        """Sets the values of rows."""
        self.value[rows] = value
        code = self._code[rows]
        higher = value > self._top[code]
        # Several rows may have one code, so the highest is looked up again.
        for each in np.unique(code[higher | (self._place[code] == rows)]):
            self._find_top(int(each))
