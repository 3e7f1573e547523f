"""DOptimal: pairs that tell most about the model itself."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.math.pair_greedy import PairGreedy
from tfrecal.acquisition.math.posterior import PairPosterior
from tfrecal.acquisition.vopt import VOpt


class DOptimal(VOpt):
    """Greedy D-optimal design: log(1 + v), whoever is served.

    v is the variance of the predicted label (`PairPosterior`); the picks
    maximise the determinant of the precision of the linear model. It looks
    at no target and prefers what is rare: on a pool that looks like the
    audience it is worse than random.

    Reference:
        Fedorov 1972, "Theory of Optimal Experiments"; the information gain
        of MacKay 1992, "Information-Based Objective Functions for Active
        Data Selection", equation 4.
    """

    name = "d_optimal"
    needs = frozenset({"vectors", "user_traffic", "item_traffic"})

    def greedy(self, view):
        return PairGreedy(
            PairPosterior(view, self.components), view.user, view.item, None,
            lambda served, variance: np.log1p(variance) / 2)

    def explain(self, view, chosen, utilities):
        """Names the variance of the predicted label."""
        return [f"the variance of its predicted label is {np.expm1(2 * u):.2g}"
                " of that of a label's noise" for u in utilities[chosen]]
