"""Which pairs teach most: one strategy a file, arrays in, indices out."""
from __future__ import annotations

from tfrecal.acquisition import probabilities
from tfrecal.acquisition.bald import BALD
from tfrecal.acquisition.base import Strategy, View
from tfrecal.acquisition.core_set import CoreSet
from tfrecal.acquisition.coverage import ItemCoverage, UserCoverage
from tfrecal.acquisition.entropy import Entropy
from tfrecal.acquisition.least_confidence import LeastConfidence
from tfrecal.acquisition.margin import Margin
from tfrecal.acquisition.popularity import Popularity
from tfrecal.acquisition.predictive_variance import PredictiveVariance
from tfrecal.acquisition.uniform import Random

_STRATEGIES = {strategy.name: strategy for strategy in (
    Random, Popularity, UserCoverage, ItemCoverage, LeastConfidence, Margin,
    Entropy, PredictiveVariance, BALD, CoreSet)}

__all__ = [
    "BALD", "CoreSet", "Entropy", "ItemCoverage", "LeastConfidence",
    "Margin", "Popularity", "PredictiveVariance", "Random", "Strategy",
    "UserCoverage", "View", "get", "names", "probabilities"]


def names() -> list[str]:
    """Names that `get` knows."""
    return list(_STRATEGIES)


def get(strategy: str | Strategy, **options) -> Strategy:
    """The strategy of a name.

    Args:
        strategy: one of `names()`, or a `Strategy`, which is returned.
        **options: of its constructor, such as `batch` and `max_per_user`.

    Raises:
        ValueError: there is no such name.
    """
    if isinstance(strategy, Strategy) and not options:
        return strategy
    if strategy not in _STRATEGIES:
        raise ValueError(
            f"`strategy` must be one of {', '.join(names())}. Received: "
            f"strategy={strategy!r}. Pass an instance of a `Strategy` of "
            "your own without options.")
    return _STRATEGIES[strategy](**options)
