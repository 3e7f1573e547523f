"""Which pairs teach most? A strategy takes arrays and returns indices."""
from __future__ import annotations

import inspect

from tfrecal import checks
from tfrecal.acquisition.badge import BADGE
from tfrecal.acquisition.bald import BALD
from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.batch_bald import BatchBALD
from tfrecal.acquisition.binary_prediction import BinaryPrediction
from tfrecal.acquisition.chooser import Chooser
from tfrecal.acquisition.core_set import CoreSet
from tfrecal.acquisition.coverage import ItemCoverage, UserCoverage
from tfrecal.acquisition.d_optimal import DOptimal
from tfrecal.acquisition.entropy import Entropy
from tfrecal.acquisition.epig import EPIG
from tfrecal.acquisition.epsilon_greedy import EpsilonGreedy
from tfrecal.acquisition.expected_gradient_length import ExpectedGradientLength
from tfrecal.acquisition.highest_predicted import HighestPredicted
from tfrecal.acquisition.influence import Influence
from tfrecal.acquisition.joint_coverage import JointCoverage
from tfrecal.acquisition.least_confidence import LeastConfidence
from tfrecal.acquisition.log_pop_entropy import LogPopEntropy
from tfrecal.acquisition.margin import Margin
from tfrecal.acquisition.math import probabilities
from tfrecal.acquisition.mixture import Mixture
from tfrecal.acquisition.popularity import Popularity
from tfrecal.acquisition.power_bald import PowerBALD
from tfrecal.acquisition.predictive_variance import PredictiveVariance
from tfrecal.acquisition.prob_cover import ProbCover
from tfrecal.acquisition.query_by_committee import QueryByCommittee
from tfrecal.acquisition.quota import Quota
from tfrecal.acquisition.random import Random
from tfrecal.acquisition.rank_voting import RankVoting
from tfrecal.acquisition.rating_variance import RatingVariance
from tfrecal.acquisition.stages import Stages
from tfrecal.acquisition.target_matched import TargetMatched
from tfrecal.acquisition.thompson import Thompson
from tfrecal.acquisition.typi_clust import TypiClust
from tfrecal.acquisition.ucb import UCB
from tfrecal.acquisition.view import View
from tfrecal.acquisition.vopt import VOpt
from tfrecal.acquisition.weighted_sum import WeightedSum

_STRATEGIES = {strategy.name: strategy for strategy in (
    Random, TargetMatched, VOpt, EPIG, DOptimal, Influence, CoreSet, BADGE,
    TypiClust, ProbCover, UserCoverage, ItemCoverage, JointCoverage,
    PredictiveVariance, BALD, PowerBALD, BatchBALD, QueryByCommittee,
    ExpectedGradientLength, LeastConfidence, Margin, Entropy, Thompson, UCB,
    EpsilonGreedy, HighestPredicted, Popularity, RatingVariance,
    LogPopEntropy, BinaryPrediction)}
# These are made of other strategies, which they must be given.
_COMBINERS = {strategy.name: strategy for strategy in (
    Chooser, Mixture, RankVoting, Stages, WeightedSum)}

__all__ = [
    "BADGE", "BALD", "BatchBALD", "BinaryPrediction", "Chooser", "CoreSet",
    "DOptimal", "EPIG", "Entropy", "EpsilonGreedy",
    "ExpectedGradientLength", "HighestPredicted", "Influence",
    "ItemCoverage", "JointCoverage", "LeastConfidence", "LogPopEntropy",
    "Margin", "Mixture", "Popularity", "PowerBALD", "PredictiveVariance",
    "ProbCover", "QueryByCommittee", "Quota", "Random", "RankVoting",
    "RatingVariance", "Stages", "Strategy", "TargetMatched", "Thompson",
    "TypiClust", "UCB", "UserCoverage", "VOpt", "View", "WeightedSum",
    "get", "names", "options_of", "probabilities"]


def names() -> list[str]:
    """Returns the names of the strategies that `get` makes without options."""
    return list(_STRATEGIES)


def options_of(strategy: str) -> dict[str, str]:
    """Returns option -> its type as it is written, of a strategy's name.

    It is empty for an unknown name.
    """
    kind = {**_STRATEGIES, **_COMBINERS}.get(strategy, object)
    found = {}
    for parent in reversed(kind.__mro__[:-1]):
        if "__init__" in vars(parent):
            own = inspect.signature(parent.__init__).parameters.values()
            if not any(one.kind is one.VAR_KEYWORD for one in own):
                found = {}
            found.update({one.name: str(one.annotation) for one in own
                          if one.kind is one.POSITIONAL_OR_KEYWORD
                          and one.name != "self"})
    return found


def get(strategy: str | Strategy, **options) -> Strategy:
    """Returns the strategy of a name.

    Args:
        strategy: one of `names()`, or `chooser`, `mixture`, `rank_voting`,
            `stages` or `weighted_sum`, which need the option `strategies`;
            or a `Strategy`, which is returned.
        **options: arguments of its constructor, such as `max_per_user`.

    Raises:
        ValueError: there is no such name.
    """
    if isinstance(strategy, Strategy) and not options:
        return strategy
    known = {**_STRATEGIES, **_COMBINERS}
    if strategy not in known:
        raise ValueError(
            f"`strategy` must be one of {', '.join(names())}, or, with the "
            f"option `strategies`, of {', '.join(_COMBINERS)}. Received: "
            f"strategy={checks.shown(strategy)}. Pass an instance of a "
            "`Strategy` of your own without options.")
    return known[strategy](**options)
