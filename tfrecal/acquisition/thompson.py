"""Thompson: the best pairs under one plausible model."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class Thompson(Strategy):
    """The highest predicted labels of one MC-dropout pass, drawn each round.

    It explores where a high label is plausible: use it to serve while
    learning, not for accuracy. The utility is the mean over the passes, which
    is what a draw varies around.

    Reference:
        Thompson 1933, "On the Likelihood that One Unknown Probability
        Exceeds Another"; Gal and Ghahramani 2016, arXiv 1506.02142, section
        5.3: a dropout pass as the posterior draw.
    """

    needs = frozenset({"samples"})

    def utilities(self, view):
        return np.mean(view.samples, axis=0, dtype=np.float64)

    def select(self, view, n, rng, utilities=None):
        _, allowed = self.weigh(view, n, utilities)
        if not len(allowed):
            return allowed
        drawn = view.samples[rng.integers(len(view.samples))]
        return super().select(view, n, rng, drawn)

    def explain(self, view, chosen, utilities):
        low, high = np.quantile(
            np.asarray(view.samples)[:, chosen], [0, 1], axis=0)
        return [f"one dropout pass ranks it high; the passes expect labels "
                f"of {a:.2g} to {b:.2g}" for a, b in zip(low, high)]
