"""Scenarios of a comparison: what the pool holds and who is served.

Each scenario hides the labels of the same 70% of a log and tests on 20% of
it. Scenarios differ in which labels are known at first, which may be bought,
and whose error counts. They work with any data set of users, items and
labels.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfrecal.data import splits
from tfrecal.data.interactions import Interactions
from tfrecal.data.query import rows_of
from tfrecal.pool.pool import Pool
from tfrecal.pool.target import Target

INITIAL = 0.02        # share of the pool labelled at first
COLD, BUSY = 0.3, 0.1  # shares of cold users or items, of busy users
THINNED = 0.15        # share of the other users' rows in a redundant log


@dataclass
class Problem:
    """One scenario on one data set with one seed.

    Args:
        data: the whole log, for its tables and its label scale.
        pool: the pool, with the initial labels.
        answers: rows that hold the pool's hidden labels.
        validation: held-out rows of the audience, which calibrate
            probabilities.
        test: held-out rows of the audience, which judge.
        target: the audience, without labels.
    """

    data: Interactions
    pool: Pool
    answers: Interactions
    validation: Interactions
    test: Interactions
    target: Target


@dataclass(frozen=True)
class Scenario:
    """How a `Problem` is made, and how it is judged.

    Args:
        name: the scenario's name.
        says: what it is about in a few words, for tables and reports.
        metric: the metric that judges it where labels are ratings; see
            `judged_by`.
        at: share of the random baseline's budget whose quality is to be
            reached.
        make: `(data, seed, segment) -> Problem`.
    """

    name: str
    says: str
    metric: str
    at: float
    make: Callable

    def judged_by(self, binary: bool) -> str:
        """Returns the metric that judges it, a column of the curves.

        Args:
            binary: whether labels are 0 and 1, of which there is no RMSE.
        """
        return self.metric.replace("rmse", "auc") if binary else self.metric


def standard(data, seed, segment=None) -> Problem:
    """The pool is like the audience."""
    split = _split(data, seed)
    pool = _pool(split.train, seed)
    return Problem(data, pool, split.train, split.validation, split.test,
                   Target.from_pool(pool))


def _pool(train, seed) -> Pool:
    # Of few rows, one label at least.
    return Pool.from_interactions(
        train, max(INITIAL, 1 / max(1, len(train))), seed)


def segment(data, seed, segment=None) -> Problem:
    """A segment of the users is served; anybody may be asked."""
    if not segment:
        raise ValueError(
            "The scenario `segment` needs a query on the users table. "
            "Received: none. Give one, such as segment=\"age <= 21\".")
    split = _split(data, seed)
    inside = np.r_[False, rows_of(data.users, segment)]
    problem = standard(data, seed)
    problem.target = Target.segment(split.train, users=segment)
    return _audience(problem, inside[split.validation.user_code],
                     inside[split.test.user_code])


def cold_users(data, seed, segment=None) -> Problem:
    """Some users have no label at first; these users are served."""
    return _cold(data, seed, "user_code")


def cold_items(data, seed, segment=None) -> Problem:
    """Some items have no label at first; these items are judged."""
    return _cold(data, seed, "item_code")


def new_users(data, seed, segment=None) -> Problem:
    """New users join a system that knows the others well."""
    return _cold(data, seed, "user_code", warm=True)


def new_items(data, seed, segment=None) -> Problem:
    """New items join a system that knows the others well."""
    return _cold(data, seed, "item_code", warm=True)


def redundant(data, seed, segment=None) -> Problem:
    """The busiest users made most of the log; all users count the same."""
    split = _split(data, seed)
    train = split.train
    number = np.bincount(train.user_code, minlength=data.user_vocabulary.size)
    most = max(1, int(round(BUSY * np.count_nonzero(number))))
    busy = np.zeros(len(number), bool)
    busy[np.argsort(-number, kind="stable")[:most]] = True
    kept = busy[train.user_code] | (np.random.default_rng(
        [seed, 23]).random(len(train)) < THINNED)
    train = train.take(kept)
    pool = _pool(train, seed)
    return Problem(data, pool, train, split.validation, split.test,
                   Target.from_interactions(train, uniform="users"))


def item_averaged(data, seed, segment=None) -> Problem:
    """All items count the same."""
    problem = standard(data, seed)
    problem.target = problem.target.uniform("items")
    return problem


_ALL = {scenario.name: scenario for scenario in (
    Scenario("standard", "the pool looks like the audience", "rmse", 1.0,
             standard),
    Scenario("segment", "a segment of the users is served", "rmse", 1.0,
             segment),
    Scenario("cold_users", "30% of the users without a label", "rmse", 0.4,
             cold_users),
    Scenario("cold_items", "30% of the items without a label", "rmse", 0.4,
             cold_items),
    Scenario("redundant", "a log of the busiest 10%, users count alike",
             "rmse_users", 1.0, redundant),
    Scenario("new_users", "new users, the others well known", "rmse", 1.0,
             new_users),
    Scenario("new_items", "new items, the others well known", "rmse", 0.4,
             new_items),
    Scenario("item_averaged", "items count alike", "rmse_items", 1.0,
             item_averaged),
    Scenario("recall", "the lists count, not the ratings", "recall@10", 0.4,
             standard))}


def names() -> list[str]:
    """Returns the names that `get` knows."""
    return list(_ALL)


def get(name: str) -> Scenario:
    """Returns the scenario of a name.

    Raises:
        ValueError: there is no such scenario.
    """
    if name not in _ALL:
        raise ValueError(f"A scenario must be one of {', '.join(_ALL)}. "
                         f"Received: {name!r}.")
    return _ALL[name]


def check(data, name: str, seed: int, config) -> Problem:
    """Makes a scenario, and checks that it makes sense on the data.

    Args:
        data: the `Interactions`.
        name: name of the scenario.
        seed: a seed of the comparison.
        config: the `ComparisonConfig`.

    Returns:
        The `Problem`.

    Raises:
        ValueError: the scenario cannot be made, or there is too little to
            ask or to judge by.
    """
    try:
        problem = get(name).make(data, seed, config.segment)
    except ValueError as error:
        raise ValueError(
            f"The scenario `{name}` cannot be made of {len(data):,} rows: "
            f"{error}") from None
    pool, found = problem.pool, []
    free = pool.counts["unlabelled"]
    bought = round(config.budget * free)
    if not pool.counts["labelled"]:
        found.append("no label to begin with")
    if bought < config.rounds:
        found.append(f"{bought} labels to buy in {config.rounds} rounds")
    if not len(problem.validation):
        found.append("no validation row")
    good = problem.test.label >= pool.positive
    if not good.any():
        found.append("no positive among the test rows")
    elif good.all() and is_binary(data):
        found.append("no negative among the test rows")
    if found:
        raise ValueError(
            f"The scenario `{name}` needs labels to begin with, to buy and "
            f"to judge by. Received: {', '.join(found)} of {len(data):,} "
            f"rows with seed {seed}. Bring more rows, or choose fewer "
            "`--rounds`, a larger `--budget` or other `--scenarios`.")
    return problem


def is_binary(data) -> bool:
    """Returns whether the labels of `Interactions` are 0 and 1."""
    return tuple(map(float, data.scale)) == (0.0, 1.0)


def _split(data, seed):
    return splits.random(data, (0.7, 0.1, 0.2), seed)


def _cold(data, seed, codes, warm=False) -> Problem:
    split = _split(data, seed)
    size = (data.user_vocabulary if codes == "user_code"
            else data.item_vocabulary).size
    rng = np.random.default_rng([seed, 29])
    cold = rng.permutation(size) < round(COLD * size)
    cold[0] = False
    inside = cold[getattr(split.train, codes)]
    known = ~inside
    if not warm:
        known &= rng.random(len(inside)) < INITIAL / max(known.mean(), 1e-9)
    pool = Pool.from_interactions(split.train, known)
    target = Target.from_interactions(
        split.train.take(inside), name=f"cold {codes[:4]}s")
    problem = Problem(data, pool, split.train, split.validation, split.test,
                      target)
    return _audience(problem, cold[getattr(split.validation, codes)],
                     cold[getattr(split.test, codes)])


def _audience(problem, validation, test) -> Problem:
    problem.validation = problem.validation.take(validation)
    problem.test = problem.test.take(test)
    if not len(problem.test):
        raise ValueError(
            "An audience needs test rows. Received: none for "
            f"{problem.target}. Widen the segment, or bring more data.")
    return problem
