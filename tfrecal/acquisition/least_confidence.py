"""LeastConfidence: the likeliest class is not likely."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class LeastConfidence(Strategy):
    """One minus the probability of the likeliest class.

    Reference:
        Lewis and Gale 1994, "A Sequential Algorithm for Training Text
        Classifiers", arXiv cmp-lg/9407020.
    """

    needs = frozenset({"probabilities"})

    def utilities(self, view):
        return 1 - np.asarray(view.probabilities, np.float64).max(axis=-1)
