"""Entropy of the predicted classes."""
from __future__ import annotations

import numpy as np
from scipy.special import entr

from tfrecal.acquisition.base import Strategy


class Entropy(Strategy):
    """Shannon entropy of the class probabilities, in nats.

    It counts noise that no label removes as much as what the model could
    learn; `BALD` keeps only the latter.

    Reference:
        Shannon 1948; Settles 2009, "Active Learning Literature Survey",
        equation of section 3.1.
    """

    needs = frozenset({"probabilities"})

    def utilities(self, view):
        return entropy(view.probabilities)


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Returns the entropy over the last axis, float64, in nats."""
    return entr(np.asarray(probabilities, np.float64)).sum(axis=-1)
