"""BatchBALD: what the labels of a whole batch would tell about the model."""
from __future__ import annotations

import numpy as np
from scipy.special import entr

from tfrecal import checks
from tfrecal.acquisition.bald import BALD
from tfrecal.acquisition.batch_aware import BatchAware, Remaining
from tfrecal.acquisition.entropy import entropy

_BLOCK = 64  # candidates evaluated at a time


class BatchBALD(BatchAware):
    """Greedy joint mutual information of the batch's labels and the model.

    For batches of tens. The information cannot exceed log(passes): with 10
    dropout passes a few picks use it up, and what follows is hardly better
    than BALD's order. PowerBALD (`BALD` with `batch="power"`) does as well
    at a fraction of the cost (arXiv 2106.12059), for batches of any size.

    A gain only falls as the batch grows, so that candidates are evaluated
    anew only where their last gain could still be the best.

    Args:
        candidates: pairs of highest BALD among which the batch is found; or
            twice the size of the batch, if that is more.
        configurations: joint labels of the batch that are held. As long as
            there are not more the information is exact; then as many are
            drawn, the same number from each pass.

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
        """BALD: the information of the pair's label alone, in nats."""
        return BALD().utilities(view)

    def pick(self, view, rows, values, weight, n, rng):
        weight = self.noisy(weight, rng)
        best = np.argsort(-values * weight, kind="stable")
        best = best[:max(self.candidates, 2 * n)]
        weight, gain = weight[best], values[best]
        passes = np.asarray(view.sample_probabilities)[:, rows[best]]
        passes = passes.astype(np.float64).transpose(1, 0, 2)
        joint = _Joint(passes.shape[1], self.configurations, rng)
        remaining = Remaining(self.limits(view, n), rows[best])
        fresh = np.ones(len(best), bool)
        picks = []
        while len(picks) < n and remaining.left.any():
            pick = remaining.best(gain * weight)
            while not fresh[pick]:
                stale = np.flatnonzero(remaining.left & ~fresh)
                if len(stale) > _BLOCK:
                    top = np.argpartition(
                        -(gain * weight)[stale], _BLOCK)[:_BLOCK]
                    # Rounding of equal values must not leave `pick` out.
                    stale = np.union1d(stale[top], pick)
                gain[stale] = joint.gains(passes[stale])
                fresh[stale] = True
                pick = remaining.best(gain * weight)
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
        """Information of one more label, given those of the batch.

        Args:
            passes: probabilities of candidates, `[b, passes, classes]`.

        Returns:
            nats, `[b]`.
        """
        count, size, classes = passes.shape
        table = self.posterior @ passes.transpose(1, 0, 2).reshape(size, -1)
        total = (self.chance @ entr(table)).reshape(count, classes).sum(1)
        # The drawn configurations' own weights of the passes, and not equal
        # ones: the same on average, and the gain is never negative.
        within = entropy(passes) @ (self.chance @ self.posterior)
        return np.maximum(total - within, 0)

    def add(self, passes: np.ndarray) -> None:
        """Extends the configurations by a label, `[passes, classes]`."""
        size = len(self.chance) * passes.shape[1]
        if self._owner is None and size <= self._limit:
            joint = (self.chance[:, None] * self.posterior)[:, None] * passes.T
            joint = joint.reshape(-1, len(passes))
            self.chance = joint.sum(axis=1)
            joint, self.chance = (part[self.chance > 0]
                                  for part in (joint, self.chance))
            self.posterior = joint / self.chance[:, None]
            return
        if self._owner is None:
            self._sample()
        label = _drawn(passes[self._owner], self._rng)
        self.posterior *= passes[:, label].T
        self.posterior /= self.posterior.sum(axis=1, keepdims=True)

    def _sample(self) -> None:
        count = len(self.posterior[0])
        each = self._limit // count
        by_pass = self.chance[:, None] * self.posterior
        rows = np.concatenate([self._rng.choice(
            len(by_pass), each, p=column / column.sum())
            for column in by_pass.T])
        self._owner = np.repeat(np.arange(count), each)
        self.posterior = self.posterior[rows]
        self.chance = np.full(len(rows), 1 / len(rows))


def _drawn(chances: np.ndarray, rng) -> np.ndarray:
    """One class for each row of probabilities."""
    sums = np.cumsum(chances, axis=1)
    level = rng.random(len(chances)) * sums[:, -1]
    return (sums <= level[:, None]).sum(axis=1)
