"""BALD: what a label would tell about the model."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.entropy import entropy


class BALD(Strategy):
    """Mutual information of label and model, over MC-dropout passes.

    It is high where each pass is sure and the passes disagree. With
    `batch="power"` it is PowerBALD (arXiv 2106.12059), about as good as
    methods whose picks depend on each other.

    Reference:
        Houlsby et al. 2011, "Bayesian Active Learning for Classification
        and Preference Learning", arXiv 1112.5745, equation 2.
    """

    needs = frozenset({"sample_probabilities"})

    def utilities(self, view):
        passes = view.sample_probabilities
        within = np.mean([entropy(one) for one in passes], axis=0)
        marginal = np.mean(passes, axis=0, dtype=np.float64)
        # Rounding can leave a tiny negative number where passes agree.
        return np.maximum(entropy(marginal) - within, 0)
