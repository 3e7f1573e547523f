"""Chooses the options of a linear block on validation rows, in seconds.

The trained vectors stay as they are: an option is tried by solving the block
and ranking the catalogue for users of the validation part.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from tfrecal import metrics
from tfrecal.model.block_solvers import EXACT
from tfrecal.model.linear_block import BlockOptions
from tfrecal.scoring.block import GradedHistories, beside, options_of, texts_of
from tfrecal.scoring.scorer import PoolScorer

_USERS = 4_000   # that are ranked for
_K = 10
# What is tried, in this order; by factors, but for `decay`. A factor that
# helps is tried once more.
_DECAYS = (0.9, 0.8, 0.65)
_BETA, _L2, _TEXT = 2.0, 3.0, 4.0


@dataclass(frozen=True)
class BlockChoice:
    """What was chosen, and why.

    Attributes:
        options: the chosen `BlockOptions`.
        ndcg: mean NDCG@10 of the users, with the chosen options.
        without: the same without the block.
        users: how many users were ranked for.
        tried: number of options that were tried.
        seconds: that it took.
    """

    options: BlockOptions
    ndcg: float
    without: float
    users: int
    tried: int
    seconds: float

    def __str__(self):
        one = self.options
        if not self.users:
            return ("linear block: its defaults, because no validation row "
                    "is a positive of a user with labels")
        return (
            f"linear block: beta {one.beta:.3g}, l2 {one.l2:.3g}, text "
            f"{one.text:.3g}, history decay {one.decay:g}: NDCG@10 "
            f"{self.without:.4f} -> {self.ndcg:.4f} for {self.users:,} users "
            f"of the validation part ({self.tried} tries, "
            f"{self.seconds:.1f} s)")


def choose_linear_block(model, pool, validation, fixed=(),
                        seed: int = 0) -> BlockChoice:
    """Chooses options on validation rows, and gives them to the model.

    It goes from the model's options by one option at a time, and takes a
    step where users gain more than a standard error of their mean gain, so
    that few rows change nothing. Beyond `EXACT` items, where a solution takes
    long, only `beta` and `decay` are tried, which need none.

    Args:
        model: a trained model; its `linear_block` is set.
        pool: the `Pool` that it was trained on.
        validation: `Interactions` over the same tables.
        fixed: names of options that stay as they are.
        seed: draws the users, where there are many.

    Example:
        print(choose_linear_block(model, pool, split.validation))
    """
    started = time.perf_counter()
    search = _Search(model, pool, validation, seed)
    if search.users:
        search.climb_all(set(fixed))
    model.linear_block = search.best
    return BlockChoice(
        search.best, search.mean(search.worth), search.mean(search.without),
        search.users, search.tried, time.perf_counter() - started)


class _Search:
    """Ranks for users with some options; holds the best so far."""

    def __init__(self, model, pool, validation, seed):
        self.best = options_of(model) or BlockOptions()
        self.tried = 0
        self._trained = PoolScorer.of(model, pool).trained_vectors(
            "retrieval")
        self._texts = texts_of(model, pool)
        self._histories = GradedHistories.of_pool(pool)
        labelled = pool.labelled_rows()
        # Without times, the order of rows says nothing.
        self._timed = np.ptp(pool.time[labelled]) > 0
        self._solved = None, None
        items = pool.item_vocabulary.size - 1
        self._solves = items <= EXACT
        good = validation.label >= pool.positive
        user = validation.user_code[good]
        # Of a user without a label, a block knows nothing.
        known = np.isin(user, pool.user[labelled])
        users = np.unique(user[known])
        if len(users) > _USERS:
            users = np.sort(np.random.default_rng(
                [seed, 17]).choice(users, _USERS, replace=False))
        self._codes, self.users = users, len(users)
        self._relevant, self._seen = (
            _of_users(users, *pairs, items) for pairs in (
                (user, validation.item_code[good]), (pool.user, pool.item)))
        self.worth = self.without = None
        if self.users:
            self.without = self._rank(*self._trained)
            self.worth = self._worth(self.best)

    @staticmethod
    def mean(worth) -> float:
        return float("nan") if worth is None else float(worth.mean())

    def climb_all(self, fixed) -> None:
        """Tries one option after the other."""
        if "decay" not in fixed and self.best.decay == 1 and self._timed:
            self._climb("decay", _DECAYS)
        factors = [("beta", _BETA)]
        if self._solves:
            factors += [("l2", _L2), ("text", _TEXT), ("beta", _BETA)]
        for name, factor in factors:
            at = getattr(self.best, name)
            if name in fixed or not at or (
                    name == "text" and self._texts is None):
                continue
            if not self._climb(name, (at * factor, at * factor ** 2)):
                self._climb(name, (at / factor, at / factor ** 2))
        if "beta" not in fixed and _is_better(self.without, self.worth):
            self.best = replace(self.best, beta=0.0)
            self.worth = self.without

    def _climb(self, name: str, values) -> bool:
        """Tries values as long as each is better; says whether one was."""
        before = self.best
        for value in values:
            options = replace(self.best, **{name: value})
            worth = self._worth(options)
            if not _is_better(worth, self.worth):
                break
            self.best, self.worth = options, worth
        return self.best is not before

    def _worth(self, options) -> np.ndarray:
        """Returns the NDCG of each user, float64 `[users]`."""
        self.tried += 1
        # What decides a solution, but for what decides queries and places.
        key = replace(options, beta=1.0, decay=1.0)
        if self._solved[0] != key:
            self._solved = key, self._histories.solve(key, self._texts)
        solved = replace(self._solved[1], options=options)
        queries = self._histories.queries(solved)
        block = beside(*self._trained, solved, queries,
                       self._histories.like, options.beta)
        return self._rank(*(np.hstack([one, other]) for one, other in zip(
            self._trained, (queries, block.candidates))))

    def _rank(self, query, candidate) -> np.ndarray:
        result = metrics.ranking(
            query[self._codes], candidate[1:], self._relevant, self._seen,
            k=_K)
        return result.per_user[f"ndcg@{_K}"]


def _of_users(users, user, item, items):
    """Returns the pairs of some users, sparse `[users, items]`."""
    place = np.searchsorted(users, user)
    place[place == len(users)] = 0
    mine = users[place] == user if len(users) else np.zeros(len(user), bool)
    return metrics.pairs(place[mine], item[mine] - 1, (len(users), items))


def _is_better(worth, than) -> bool:
    """Returns whether users gain more than a standard error of the mean."""
    gain = worth - than
    return gain.mean() > gain.std() / np.sqrt(max(1, len(gain) - 1))
