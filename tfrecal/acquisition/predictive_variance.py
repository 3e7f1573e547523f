"""PredictiveVariance: dropout passes disagree about the label."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class PredictiveVariance(Strategy):
    """Variance of the predicted label over MC-dropout passes.

    Its top n are near-duplicates: use `batch="power"` or caps.

    Reference:
        Gal and Ghahramani 2016, "Dropout as a Bayesian Approximation",
        arXiv 1506.02142, equation 4 without the noise term.
    """

    needs = frozenset({"samples"})

    def utilities(self, view):
        return np.var(view.samples, axis=0, dtype=np.float64)
