"""Combiner: what strategies made of other strategies share."""
from __future__ import annotations

import copy

import numpy as np

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.view import View


class Combiner(Strategy):
    """A strategy made of others, its arms.

    It needs what its arms need. Its own caps and quotas hold for all picks
    together, and prior, rateability and cost count for all arms.

    Args:
        strategies: names, strategies, or configs `{"name": ..., **config}`.
        **options: of `Strategy`.
    """

    def __init__(self, strategies: list, **options):
        super().__init__(**options)
        self.strategies = [_strategy_of(strategy) for strategy in strategies]
        if not self.strategies:
            raise ValueError(f"`{self.name}` must have at least one "
                             "strategy. Received: strategies=[].")
        self.needs = self.needs.union(
            *(strategy.needs for strategy in self.strategies))

    def arm_utilities(self, view: View) -> list[np.ndarray]:
        """Returns the utilities of each arm, float64 `[n]` each.

        Raises:
            ValueError: a utility is not finite.
        """
        if self in view.kept:
            return view.kept[self]
        found = view.kept[self] = []
        for strategy in self.strategies:
            values = np.asarray(strategy.utilities(view), np.float64)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"Utilities of `{strategy.name}` in `{self.name}` must "
                    "be finite. Received: "
                    f"{int((~np.isfinite(values)).sum())} that are NaN or "
                    "infinite. Look at the predictions: a model that "
                    "diverged gives NaN.")
            found.append(values)
        return found

    def explain(self, view, chosen, utilities):
        """Says where each arm that does not find all equal places a pair."""
        size = len(view)
        places = [(strategy.name, size - ranks(values)[chosen])
                  for strategy, values in zip(
                      self.strategies, self.arm_utilities(view))
                  if (values != values[0]).any()]
        if not places:
            return ["its strategies find all candidates equal"] * len(chosen)
        return [", ".join(
            f"{name} puts it in the top {100 * place[i] / size:.1f}%"
            for name, place in places) + f" of {size:,} candidates"
            for i in range(len(chosen))]

    def observe(self, logs, labelled):
        """Passes it on to all arms."""
        found = {}
        for strategy in self.strategies:
            found.update(strategy.observe(logs, labelled))
        return found

    def state(self):
        """Returns the state of each arm, in their order."""
        return {"arms": [strategy.state() for strategy in self.strategies]}

    def restore(self, state):
        for strategy, own in zip(self.strategies, state.get("arms", ())):
            strategy.restore(own)

    def get_config(self):
        return {"strategies": [
            {"name": strategy.name, **strategy.get_config()}
            for strategy in self.strategies], **super().get_config()}


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns how many values are lower, float64 `[n]`.

    Equal values count a half.
    """
    _, place, count = np.unique(
        values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]


def within(strategy: Strategy, outer: Strategy) -> Strategy:
    """Returns a copy of an arm with the limits and factors of both."""
    arm = copy.copy(strategy)
    for name in ("max_per_user", "max_per_item"):
        most = [cap for cap in (getattr(arm, name), getattr(outer, name))
                if cap is not None]
        setattr(arm, name, min(most, default=None))
    arm.per_cost = arm.per_cost or outer.per_cost
    arm.rateable = arm.rateable or outer.rateable
    return arm


def only_top(strategy: Strategy) -> None:
    """Raises ValueError if a combiner whose arms pick has a `batch`."""
    if strategy.batch != "top":
        raise ValueError(
            f"`batch` of `{strategy.name}` must be top: each of its "
            f"strategies makes its own picks. Received: batch="
            f"{strategy.batch!r}. Pass strategies that have it, such as "
            "`BALD(batch=\"power\")`.")


def _strategy_of(strategy) -> Strategy:
    # Here and not above: the package imports this module.
    from tfrecal import acquisition

    if not isinstance(strategy, dict):
        return acquisition.get(strategy)
    options = dict(strategy)
    if "name" not in options:
        raise ValueError(
            "A strategy given by its config must have a `name`. Received: "
            f"{strategy}.")
    return acquisition.get(options.pop("name"), **options)
