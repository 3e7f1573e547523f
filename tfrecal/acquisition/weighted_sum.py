"""WeightedSum: utilities of several strategies, added."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition import picking
from tfrecal.acquisition.combiner import Combiner


class WeightedSum(Combiner):
    """Adds the utilities of its strategies, each scaled to 0 to 1.

    The scaling is by minimum and maximum, so gaps between utilities count:
    one pair far above the rest leaves the rest little. `RankVoting` looks at
    the order alone. It reads the utilities of strategies, also of those
    whose picks depend on each other; `Mixture` takes their picks.

    Args:
        strategies: a dict from strategies or their names to the weights of
            their utilities, or a list of strategies.
        weights: the weights for a list, each > 0; all 1 by default.

    Example:
        WeightedSum({"bald": 2, "user_coverage": 1})
    """

    def __init__(self, strategies: dict | list,
                 weights: list | None = None, **options):
        if isinstance(strategies, dict) and weights is None:
            strategies, weights = list(strategies), list(strategies.values())
        super().__init__(strategies, **options)
        self.weights = [1.0] * len(strategies) if weights is None else [
            float(weight) for weight in weights]
        good = all(0 < weight < np.inf for weight in self.weights)
        if not good or len(self.weights) != len(self.strategies):
            raise ValueError(
                "`weights` must be a positive number for each of "
                f"{len(self.strategies)} strategies. Received: weights="
                f"{weights}.")

    def utilities(self, view):
        total = np.zeros(len(view))
        for weight, values in zip(self.weights, self.arm_utilities(view)):
            total += weight * picking.scaled(values)
        return total

    def get_config(self):
        return {**super().get_config(), "weights": self.weights}
