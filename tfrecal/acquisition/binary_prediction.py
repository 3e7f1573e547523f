"""BinaryPrediction: pairs that the user can most likely answer."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class BinaryPrediction(Strategy):
    """Pairs that are most likely rateable.

    It collects the most answers for a number of questions, whatever they
    teach.

    Reference:
        Elahi, Ricci and Rubens 2014, "Active Learning Strategies for Rating
        Elicitation in Collaborative Filtering: A System-Wide Perspective",
        ACM TIST 5(1), article 13: its "binary prediction", a factorisation
        of the matrix of known (1) and unknown (0) pairs.
    """

    needs = frozenset({"rateability"})

    def utilities(self, view):
        return np.array(view.rateability, np.float64)

    def explain(self, view, chosen, utilities):
        return [f"its user can answer with a probability of "
                f"{utilities[i]:.0%}" for i in chosen]
