"""EpsilonGreedy: mostly what looks best, sometimes anything."""
from __future__ import annotations

from tfrecal import checks
from tfrecal.acquisition.highest_predicted import HighestPredicted
from tfrecal.acquisition.mixture import Mixture
from tfrecal.acquisition.random import Random


class EpsilonGreedy(Mixture):
    """A share `epsilon` of the picks at random, the rest `HighestPredicted`.

    Use it to serve while learning; the random picks keep it from asking only
    about what it already likes.

    Args:
        epsilon: share at random, 0 to 1.

    Reference:
        Sutton and Barto 2018, "Reinforcement Learning", section 2.2.
    """

    def __init__(self, epsilon: float = 0.1, **options):
        checks.lies_in("[0, 1]", epsilon=epsilon)
        super().__init__([HighestPredicted(), Random()],
                         [1 - epsilon, epsilon], **options)
        self.epsilon = epsilon

    def utilities(self, view):
        return self.strategies[0].utilities(view)

    def explain(self, view, chosen, utilities):
        return [f"{why}, or it is of the {self.epsilon:.0%} at random"
                for why in self.strategies[0].explain(
                    view, chosen, utilities)]

    def get_config(self):
        config = super().get_config()
        del config["strategies"], config["shares"]
        return {"epsilon": self.epsilon, **config}
