"""HighestPredicted: what the model would recommend anyway."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class HighestPredicted(Strategy):
    """Pairs with the highest predicted label.

    People like to be asked about what they will like, but the labels are
    biased upwards and teach little: a baseline.

    Reference:
        Elahi, Ricci and Rubens 2014, "Active Learning Strategies for Rating
        Elicitation in Collaborative Filtering: A System-Wide Perspective",
        ACM TIST 5(1), article 13: its "highest predicted".
    """

    needs = frozenset({"mean"})

    def utilities(self, view):
        return np.array(view.mean, np.float64)

    def explain(self, view, chosen, utilities):
        return [f"the model expects a label of {utilities[i]:.3g}"
                for i in chosen]
