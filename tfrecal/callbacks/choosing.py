"""What `AcquireLabels` asks: from candidates to picks that are affordable."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfrecal.pool.priors import Product
from tfrecal.pool.rateability import Rateability
from tfrecal.scoring.stream.whole_pool import check_pair_by_pair

_EXPLAINED = 5  # picks of a round
_BESIDE = 2000  # candidates to compare them with, where all are streamed


class Chosen(NamedTuple):
    """The picks of a round, best first.

    Args:
        user, item: codes, int32 `[n]`.
        utility: float64 `[n]`.
        strategy: name of the strategy that chose each, object `[n]`.
    """

    user: np.ndarray
    item: np.ndarray
    utility: np.ndarray
    strategy: np.ndarray


class Choice:
    """Makes the next picks of an `AcquireLabels` and can explain them.

    Args:
        acquire: the callback, whose options are read.
    """

    def __init__(self, acquire):
        self.acquire = acquire
        priors = acquire.prior
        if priors is not None:
            priors = Product(priors if isinstance(priors, (list, tuple))
                             else [priors])
        self.prior = priors
        self._rateability = None
        self._seen = None

    def check(self) -> None:
        """Raises ValueError where the model lacks what the strategy reads."""
        needs, scorer = self.acquire.strategy.needs, self.acquire.scorer
        samples = needs & {"samples", "sample_probabilities"}
        if samples and self.acquire.uncertainty == "dropout":
            scorer.check_dropout()
        if samples or needs & {"mean", "probabilities"}:
            scorer.labels()
        if self.acquire.candidates == "all":
            self._check_streamed()

    def _check_streamed(self):
        """Raises ValueError where the strategy cannot score every pair."""
        strategy = self.acquire.strategy
        check_pair_by_pair(strategy)
        if strategy.quotas or self._reads_rateability():
            raise ValueError(
                "candidates=\"all\" streams over single pairs and keeps "
                "neither quotas nor rateability. Received: a strategy with "
                "`quotas`, `rateable` or the need of rateability. Score a "
                "sample: candidates=200_000.")

    def choose(self) -> tuple[Chosen, str]:
        """Returns the next picks, and if there are none, why."""
        acquire = self.acquire
        rng = np.random.default_rng([acquire.seed, acquire.round])
        stream = acquire.candidates == "all"
        user, item = acquire.pool.candidates(
            _BESIDE if stream else acquire.candidates, rng)
        if not len(user):
            return self._no_picks("every pair of the pool was asked")
        chosen = (self._pick_from_all(user, item) if stream
                  else self._pick(user, item, rng))
        if not len(chosen.user):
            return self._no_picks(
                "the strategy chose no pair (caps or a prior of 0)")
        enough = self._affordable(self._cost(
            acquire.pool.pairs(chosen.user, chosen.item)))
        if not enough:
            return self._no_picks(f"the budget of {acquire.budget:g} is spent")
        return Chosen(*(column[:enough] for column in chosen)), ""

    def _pick(self, user, item, rng) -> Chosen:
        strategy, view = self.acquire.strategy, self.view(user, item)
        n = min(self.acquire.per_round, len(user))
        utility = np.asarray(strategy.utilities(view), np.float64)
        if hasattr(strategy, "select_arms"):
            picks, arm = strategy.select_arms(view, n, rng, utility)
            names = np.array(
                [one.name for one in strategy.strategies], object)[arm]
        else:
            picks = strategy.select(view, n, rng, utility)
            names = np.full(len(picks), strategy.name, object)
        self._seen = view, picks[:_EXPLAINED], utility
        return Chosen(user[picks], item[picks], utility[picks], names)

    def _pick_from_all(self, user, item) -> Chosen:
        """Picks the best of all pairs; `user`, `item` are a sample."""
        acquire, strategy = self.acquire, self.acquire.strategy
        self._check_streamed()
        found = acquire.scorer.top(
            strategy, acquire.per_round, calibration=self._held_out_pairs(),
            target=acquire.target, prior=self.prior,
            cost=acquire.oracle.expected_cost, passes=acquire.passes,
            uncertainty=acquire.uncertainty,
            seed=acquire.seed + acquire.round)
        names = np.full(len(found[0]), strategy.name, object)
        first = Chosen(*(column[:_EXPLAINED]
                         for column in (*found, names)))
        view = self.view(np.append(first.user, user),
                         np.append(first.item, item))
        self._seen = (view, np.arange(len(first.user)),
                      np.asarray(strategy.utilities(view), np.float64))
        return Chosen(*found, names)

    def _no_picks(self, why):
        self._seen = None
        none = np.zeros(0, np.int32)
        return Chosen(none, none, np.zeros(0), np.zeros(0, object)), why

    def view(self, user, item):
        """Returns what the strategy sees of pairs.

        Args:
            user, item: codes, int32 `[n]`.
        """
        acquire, pool = self.acquire, self.acquire.pool
        pairs = pool.pairs(user, item)
        view = acquire.scorer.view(
            user, item, acquire.strategy.needs - {"rateability"},
            calibration=self._held_out_pairs(), target=acquire.target,
            passes=acquire.passes, uncertainty=acquire.uncertainty,
            seed=acquire.seed + acquire.round,
            prior=None if self.prior is None else self.prior.factors(pairs),
            cost=self._cost(pairs))
        if self._reads_rateability():
            if self._rateability is None:
                self._rateability = Rateability(pool, seed=acquire.seed)
            view.rateability = self._rateability.predict(pairs)
        return view

    def _reads_rateability(self) -> bool:
        strategy = self.acquire.strategy
        return strategy.rateable or "rateability" in strategy.needs

    def _held_out_pairs(self):
        held_out = self.acquire.calibration
        return None if held_out is None else (
            held_out.user_code, held_out.item_code, held_out.label)

    def _cost(self, pairs):
        return np.asarray(self.acquire.oracle.expected_cost(
            pairs.user_id, pairs.item_id))

    def _affordable(self, cost) -> int:
        """Returns how many of the picks the budget still pays."""
        budget, pool = self.acquire.budget, self.acquire.pool
        if budget is None:
            return len(cost)
        cost = np.cumsum(cost, dtype=np.float64)
        left = budget - pool.spent - pool.pending * cost[-1] / len(cost)
        return int(np.sum(cost <= left * (1 + 1e-9)))

    def explanations(self, chosen: Chosen) -> list[dict]:
        """Says why the best of the picks just made are asked.

        Args:
            chosen: the picks.

        Returns:
            Dicts that can be written as JSON: `round`, `user_id`, `item_id`,
            `strategy`, `utility` and `why`.
        """
        if self._seen is None:
            return []
        view, picks, utility = self._seen
        why = self.acquire.strategy.explain(view, picks, utility)
        pairs = self.acquire.pool.pairs(chosen.user, chosen.item)
        return [{"round": self.acquire.round, "user_id": user,
                 "item_id": item, "strategy": name,
                 "utility": float(value), "why": text}
                for user, item, value, name, text in zip(
                    pairs.user_id, pairs.item_id, *chosen[2:], why)]
