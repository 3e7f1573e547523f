"""UCB: the best pairs under an optimistic model."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition.base import Strategy


class UCB(Strategy):
    """Upper confidence bound of the predicted label.

    It is the mean of the MC-dropout passes plus `kappa` of their standard
    deviations: use it to serve while learning, not for accuracy.

    Args:
        kappa: how many standard deviations are added, >= 0.

    Reference:
        Srinivas et al. 2010, "Gaussian Process Optimization in the Bandit
        Setting", arXiv 0912.3995, equation 6; kappa is its beta ** 0.5.
    """

    needs = frozenset({"samples"})

    def __init__(self, kappa: float = 1.0, **options):
        super().__init__(**options)
        checks.at_least(0, kappa=kappa)
        checks.finite(kappa=kappa)
        self.kappa = kappa

    def utilities(self, view):
        mean = np.mean(view.samples, axis=0, dtype=np.float64)
        return mean + self.kappa * np.std(
            view.samples, axis=0, dtype=np.float64)

    def explain(self, view, chosen, utilities):
        mean = np.mean(np.asarray(view.samples)[:, chosen], axis=0)
        return [f"the model expects a label of {expected:.2g}, which may be "
                f"{utilities[i]:.2g}" for i, expected in zip(chosen, mean)]

    def get_config(self):
        return {"kappa": self.kappa, **super().get_config()}
