"""BatchBALD: what all picks together would tell about the model."""
from __future__ import annotations

import numpy as np
from scipy.special import entr

from tfrecal import checks
from tfrecal.acquisition.bald import BALD
from tfrecal.acquisition.entropy import entropy
from tfrecal.acquisition.pick_by_pick import PickByPick, Remaining

_TILE = 64  # candidates evaluated at a time


class BatchBALD(PickByPick):
    """Greedy joint mutual information of the picks' labels and the model.

    Use it for tens of picks a round. The information cannot exceed
    log(passes): with 10 dropout passes a few picks use it up, and what follows
    is hardly better than BALD's order. PowerBALD (`BALD` with `batch="power"`)
    does as well at a fraction of the cost (arXiv 2106.12059), for any number
    of picks.

    A gain only falls as there are more picks, so that candidates are
    evaluated anew only where their last gain could still be the best.

    Args:
        candidates: how many pairs of highest BALD are candidates; at least
            twice the number of picks are.
        configurations: how many joint labels of the picks are held. The
            information is exact as long as there are no more; then so many
            are drawn, the same number from each pass.

    Reference:
        Kirsch et al. 2019, "BatchBALD: Efficient and Diverse Batch
        Acquisition for Deep Bayesian Active Learning", arXiv 1906.08158,
        algorithm 1; configurations are drawn as in its section on sampling.
    """

    needs = frozenset({"sample_probabilities"})

    def __init__(self, candidates: int = 2000, configurations: int = 1000,
                 **options):
        super().__init__(**options)
        checks.whole(1, candidates=candidates, configurations=configurations)
        self.candidates = candidates
        self.configurations = configurations

    def utilities(self, view):
        """Returns BALD: the information of each label alone, in nats."""
        return BALD().utilities(view)

    def pick(self, view, rows, values, factor, n, rng):
        factor = self.noisy(factor, rng)
        best = np.argsort(-values * factor, kind="stable")
        best = best[:max(self.candidates, 2 * n)]
        factor, gain = factor[best], values[best]
        passes = np.asarray(view.sample_probabilities)[:, rows[best]]
        passes = passes.astype(np.float64).transpose(1, 0, 2)
        joint = _Joint(passes.shape[1], self.configurations, rng)
        remaining = Remaining(self.limits(view, n), rows[best])
        fresh = np.ones(len(best), bool)
        picks = []
        while len(picks) < n and remaining.left.any():
            pick = remaining.best(gain * factor)
            while not fresh[pick]:
                stale = np.flatnonzero(remaining.left & ~fresh)
                if len(stale) > _TILE:
                    top = np.argpartition(
                        -(gain * factor)[stale], _TILE)[:_TILE]
                    # Rounding of equal values must not leave `pick` out.
                    stale = np.union1d(stale[top], pick)
                gain[stale] = joint.gains(passes[stale])
                fresh[stale] = True
                pick = remaining.best(gain * factor)
            picks.append(pick)
            remaining.take(pick)
            joint.add(passes[pick])
            fresh[:] = False
        return best[picks]

    def explain(self, view, chosen, utilities):
        return [f"the dropout passes disagree: its label alone tells "
                f"{u:.2g} nats about the model"
                for u in np.asarray(utilities)[chosen]]

    def get_config(self):
        return {**super().get_config(), "candidates": self.candidates,
                "configurations": self.configurations}


class _Joint:
    """Joint labels of the picks: their chances, overall and by pass.

    Each configuration keeps the posterior of the passes given its labels,
    so that nothing underflows however many picks there are.
    """

    def __init__(self, passes: int, limit: int, rng):
        self.posterior = np.full((1, passes), 1 / passes)
        self.chance = np.ones(1)
        self._limit = max(limit, passes)
        self._rng = rng
        self._owner = None  # the pass that drew each configuration

    def gains(self, passes: np.ndarray) -> np.ndarray:
        """Returns the information of one more label, given the picks'.

        Args:
            passes: probabilities of candidates, `[b, passes, classes]`.

        Returns:
            Nats, `[b]`.
        """
        count, size, classes = passes.shape
        table = self.posterior @ passes.transpose(1, 0, 2).reshape(size, -1)
        total = (self.chance @ entr(table)).reshape(count, classes).sum(1)
        # Passes count by the posterior of the drawn configurations, and not
        # equally: it is the same on average, and no gain is negative.
        within = entropy(passes) @ (self.chance @ self.posterior)
        return np.maximum(total - within, 0)

    def add(self, passes: np.ndarray) -> None:
        """Extends the configurations by a label, `[passes, classes]`."""
        size = len(self.chance) * passes.shape[1]
        if self._owner is None and size <= self._limit:
            joint = (self.chance[:, None] * self.posterior)[:, None] * passes.T
            joint = joint.reshape(-1, len(passes))
            self.chance = joint.sum(axis=1)
            joint, self.chance = (array[self.chance > 0]
                                  for array in (joint, self.chance))
            self.posterior = joint / self.chance[:, None]
            return
        if self._owner is None:
            self._draw_configurations()
        label = _draw_classes(passes[self._owner], self._rng)
        self.posterior *= passes[:, label].T
        self.posterior /= self.posterior.sum(axis=1, keepdims=True)

    def _draw_configurations(self) -> None:
        count = len(self.posterior[0])
        each = self._limit // count
        by_pass = self.chance[:, None] * self.posterior
        rows = np.concatenate([self._rng.choice(
            len(by_pass), each, p=column / column.sum())
            for column in by_pass.T])
        self._owner = np.repeat(np.arange(count), each)
        self.posterior = self.posterior[rows]
        self.chance = np.full(len(rows), 1 / len(rows))


def _draw_classes(chances: np.ndarray, rng) -> np.ndarray:
    """Draws one class for each row of probabilities."""
    sums = np.cumsum(chances, axis=1)
    level = rng.random(len(chances)) * sums[:, -1]
    return (sums <= level[:, None]).sum(axis=1)
