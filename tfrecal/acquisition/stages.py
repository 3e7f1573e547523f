"""Stages: another strategy once there are enough labels."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.combiner import Combiner, only_top, within
from tfrecal.acquisition.view import View


class Stages(Combiner):
    """Switches strategies by the number of labelled pairs.

    Which strategy is best changes with the stage: a model with few labels
    does not know what it does not know. One strategy makes all picks of a
    round, by the number of labels at its start.

    Args:
        stages: a list of `(until_labelled, strategy)`: the strategy is used
            while there are fewer labelled pairs; rising, and None in the
            last.

    Example:
        Stages([(500, "random"), (None, "bald")])

    Reference:
        Elahi, Ricci and Rubens 2014, "Active Learning Strategies for Rating
        Elicitation in Collaborative Filtering: A System-Wide Perspective",
        ACM TIST 5(1), article 13: no strategy is best at all stages.
    """

    def __init__(self, stages: list, **options):
        stages = list(stages)
        super().__init__([strategy for _, strategy in stages], **options)
        only_top(self)
        self.untils = [until for until, _ in stages]
        self.stages = list(zip(self.untils, self.strategies))
        ends = self.untils[:-1]
        if (self.untils[-1] is not None or any(
                not isinstance(end, (int, np.integer)) for end in ends)
                or any(b <= a for a, b in zip([0, *ends], ends))):
            raise ValueError(
                "`stages` must have rising positive whole numbers of labelled "
                "pairs, and None in the last. Received: "
                f"{self.untils}. Such as [(500, \"random\"), (None, "
                "\"bald\")].")
        self.needs |= {"labelled_user"}

    def active(self, view: View) -> Strategy:
        """Returns the strategy for as many labels as the view has."""
        labelled = len(view.labelled_user)
        for until, strategy in zip(self.untils, self.strategies):
            if until is None or labelled < until:
                return within(strategy, self)

    def utilities(self, view):
        return self.active(view).utilities(view)

    def select(self, view, n, rng, utilities=None):
        _, allowed = self.weigh(view, n, utilities)
        if not len(allowed):
            return allowed
        return self.active(view).select(view, n, rng, utilities)

    def explain(self, view, chosen, utilities):
        strategy = self.active(view)
        return [f"{strategy.name}, up to now {len(view.labelled_user):,} "
                f"labels: {why}"
                for why in strategy.explain(view, chosen, utilities)]

    def get_config(self):
        config = super().get_config()
        return {"stages": [list(stage) for stage in zip(
            self.untils, config.pop("strategies"))], **config}
