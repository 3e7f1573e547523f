"""Chooses the options of a linear block on validation rows, in seconds.

The trained vectors stay as they are: an option is tried by solving the block
and ranking the catalogue for users of the validation part. What decides the
answers to users who are known by a history only is tried on the same users,
by the last one to four items that they liked.
"""
from __future__ import annotations

import time
from dataclasses import dataclass, fields, replace

import numpy as np

from tfrecal import checks, metrics
from tfrecal.model.block_solvers import EXACT
from tfrecal.model.linear_block import (
    LARGEST,
    BlockOptions,
    Solved,
    Unsolvable,
    regress,
    with_texts,
)
from tfrecal.scoring.block import (
    GradedHistories,
    PlacedBlock,
    beside,
    options_of,
    texts_of,
)
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.scoring.unknown_users import (
    beside_block,
    stranger_queries,
    stranger_rows,
)

_USERS = 4_000   # that are ranked for
_K = 10
_LAST = 4        # items of a history as of somebody unknown
# What is tried; by factors, but for `decay`, `cosine` and `popular`. A factor
# that helps is tried once more.
_DECAYS = (0.9, 0.8, 0.65)
_COSINES = (0.5, 1.0, 2.0)
_POPULAR = (1.0, 4.0)
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
            f"{one.text:.3g}, cosine {one.cosine:.3g}, history decay "
            f"{one.decay:g}, popular {one.popular:g}: NDCG@10 "
            f"{self.without:.4f} -> {self.ndcg:.4f} for {self.users:,} users "
            f"of the validation part ({self.tried} tries, "
            f"{self.seconds:.1f} s)")


def choose_linear_block(model, pool, validation, fixed=(),
                        seed: int = 0) -> BlockChoice:
    """Chooses options on validation rows, and gives them to the model.

    It goes from the model's options by one option at a time, and takes a
    step where users gain more than a standard error of their mean gain, so
    that few rows change nothing; two where the block would go, and for
    `popular`. Beyond `EXACT` items, where a solution takes long, only
    options that need none are tried.

    Args:
        model: a trained model; its `linear_block` is set.
        pool: the `Pool` that it was trained on.
        validation: `Interactions` over the same tables.
        fixed: names of options that stay as they are.
        seed: draws the users, where there are many.

    Raises:
        ValueError: `fixed` has a name that is no option's, or a pair of the
            validation rows is in the pool.

    Example:
        print(choose_linear_block(model, pool, split.validation))
    """
    fixed = [fixed] if isinstance(fixed, str) else list(fixed)
    for name in fixed:
        checks.one_of("fixed", name, [
            field.name for field in fields(BlockOptions)])
    if not pool.lazy:
        pool.check_leakage(validation)
    started = time.perf_counter()
    search = _Search(model, pool, validation, seed)
    if search.users:
        search.climb_all(set(fixed))
        if "popular" not in fixed and not pool.has_lists:
            search.choose_popular()
    model.linear_block = search.best
    return BlockChoice(
        search.best, search.mean(search.worth), search.mean(search.without),
        search.users, search.tried, time.perf_counter() - started)


class _Search:
    """Ranks for users with some options; holds the best so far."""

    def __init__(self, model, pool, validation, seed):
        self.best = options_of(model) or BlockOptions()
        self.tried = 0
        self._pool = pool
        self._trained = PoolScorer.of(model, pool).trained_vectors(
            "retrieval")
        self._texts = texts_of(model, pool)
        self._histories = GradedHistories.of_pool(pool)
        labelled = pool.labelled_rows()
        # Without times, the order of rows says nothing.
        self._timed = len(labelled) and np.ptp(pool.time[labelled]) > 0
        self._matrix = self._histories.matrix
        self._regressed = self._solved = None, None
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
        if "cosine" not in fixed and self.best.cosine and (
                self._texts is not None):
            self._climb_either("cosine", _COSINES, (0,))
        factors = [("beta", _BETA)]
        if self._solves:
            factors += [("l2", _L2), ("text", _TEXT), ("beta", _BETA)]
        for name, factor in factors:
            at = getattr(self.best, name)
            if name in fixed or not at or (
                    name == "text" and self._texts is None):
                continue
            self._climb_either(name, (at * factor, at * factor ** 2),
                               (at / factor, at / factor ** 2))
        # Without it, new items and fresh clicks would lose their answers.
        if "beta" not in fixed and _is_better(
                self.without, self.worth, errors=2):
            self.best = replace(self.best, beta=0.0)
            self.worth = self.without

    def choose_popular(self) -> None:
        """Chooses `popular` for the ranked users as if nobody knew them."""
        indptr, items = self._pool.histories()
        first = np.maximum(indptr[self._codes], indptr[self._codes + 1]
                           - 1 - np.arange(self.users) % _LAST)
        number = indptr[self._codes + 1] - first
        likes = np.zeros((self.users, _LAST), np.int32)
        there = np.arange(_LAST) < number[:, np.newaxis]
        likes[there] = items[(first[:, np.newaxis] + np.arange(_LAST))[there]]
        if not number.any():
            return
        query, candidate = self._trained
        block = self._place(self.best)
        linear = block.solved.queries(
            np.concatenate([[0], np.cumsum(number)]), likes[there],
            np.full(number.sum(), block.like, np.float32))
        trained = np.zeros(len(query), bool)
        trained[self._pool.user[self._pool.labelled_rows()]] = True
        mean, rows = stranger_rows(
            query, indptr, items, trained, len(candidate))
        vectors = np.hstack([candidate, block.candidates])

        def worth(popular):
            self.tried += 1
            others = stranger_queries(
                *beside_block(mean, rows, popular), likes).numpy()
            return self._ndcg(np.hstack(
                [others * block.evidence(linear), linear]), vectors)

        best = worth(self.best.popular)
        for value in (0.0, *_POPULAR):
            found = worth(value)
            # These users stand for others: it takes more to be believed.
            if _is_better(found, best, errors=2):
                best, self.best = found, replace(self.best, popular=value)

    def _climb_either(self, name: str, values, others) -> None:
        """Tries other values where none of the first is better."""
        if not self._climb(name, values):
            self._climb(name, others)

    def _climb(self, name: str, values) -> bool:
        """Tries values as long as each is better; says whether one was."""
        before = self.best
        for value in values:
            if value > LARGEST:
                break
            options = replace(self.best, **{name: value})
            try:
                worth = self._worth(options)
            except Unsolvable:
                break
            if not _is_better(worth, self.worth):
                break
            self.best, self.worth = options, worth
        return self.best is not before

    def _worth(self, options) -> np.ndarray:
        """Returns the NDCG of each user, float64 `[users]`."""
        self.tried += 1
        block = self._place(options)
        return self._rank(*(np.hstack([one, other]) for one, other in zip(
            self._trained, (block.queries, block.candidates))))

    def _place(self, options) -> PlacedBlock:
        solved = replace(self._solve(options), options=options)
        return beside(*self._trained, solved, self._histories.queries(solved),
                      self._histories.like, options.beta)

    def _solve(self, options) -> Solved:
        """Solves anew what other options decide than the last time."""
        key = replace(options, beta=1.0, decay=1.0, popular=1.0)
        regression = replace(key, cosine=0.0)
        if self._regressed[0] != regression:
            self._regressed = regression, regress(
                self._matrix, regression, self._texts)
        if self._solved[0] != key:
            self._solved = key, with_texts(
                self._regressed[1], self._matrix, key, self._texts)
        return self._solved[1]

    def _rank(self, query, candidate) -> np.ndarray:
        return self._ndcg(query[self._codes], candidate)

    def _ndcg(self, query, candidate) -> np.ndarray:
        """Returns the NDCG of queries of the users, float64 `[users]`."""
        result = metrics.ranking(
            query, candidate[1:], self._relevant, self._seen, k=_K)
        return result.per_user[f"ndcg@{_K}"]


def _of_users(users, user, item, items):
    """Returns the pairs of some users, sparse `[users, items]`."""
    place = np.searchsorted(users, user)
    place[place == len(users)] = 0
    mine = users[place] == user if len(users) else np.zeros(len(user), bool)
    return metrics.pairs(place[mine], item[mine] - 1, (len(users), items))


def _is_better(worth, than, errors: float = 1.0) -> bool:
    """Returns whether users gain more than standard errors of their mean."""
    gain = worth - than
    return gain.mean() > errors * gain.std() / np.sqrt(max(1, len(gain) - 1))
