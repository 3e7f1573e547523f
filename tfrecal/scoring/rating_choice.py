"""Chooses the L2 of rating vectors on validation rows, in seconds.

Users and items are factorised by alternating ridge regressions, of ids alone
and before anything is trained. What holds these vectors best holds those of a
model with texts and columns too (benchmarks/RESULTS.md).
"""
from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from tfrecal import checks
from tfrecal.model import ridge

_WIDTH = 32        # of the vectors
_SWEEPS = 6
_STEP = 1.5        # factor between what is tried
_MOST = 8          # steps to one side
_ROWS = 1_000_000  # labels that are read; beyond, those of some users


@dataclass(frozen=True)
class RatingChoice:
    """What was chosen, and why.

    Attributes:
        l2: the chosen factor, of `rating_l2`.
        loss: name of the loss, see `Rating`.
        error: mean error of validation rows with it: the root of the mean
            square, or the mean cross-entropy.
        before: the same with the factor that was there.
        rows: validation rows that were predicted.
        tried: number of factors that were tried.
        seconds: that it took.
    """

    l2: float
    loss: str
    error: float
    before: float
    rows: int
    tried: int
    seconds: float

    def __str__(self):
        if not self.rows:
            return (f"rating l2 {self.l2:.3g}: the default, as no validation "
                    "row tells labels apart")
        name = "RMSE" if self.loss == "mse" else "cross-entropy"
        return (f"rating l2 {self.l2:.3g}: {name} {self.before:.4f} -> "
                f"{self.error:.4f} of ids alone, for {self.rows:,} rows of "
                f"the validation part ({self.tried} tries, "
                f"{self.seconds:.1f} s)")


def choose_rating_l2(pool, validation, *, l2: float = 0.1,
                     shrinkage: float = 40.0, seed: int = 0) -> RatingChoice:
    """Chooses `rating_l2` for the labels of a pool.

    It goes to a smaller or larger one as long as predictions gain more than
    a standard error of their mean gain, so that few rows change nothing.

    Args:
        pool: a `Pool`; its labelled rows teach.
        validation: `Interactions` over the same tables.
        l2: where it begins.
        shrinkage: see `TwoTower.from_interactions`.
        seed: of the first vectors, and of the users, where there are many
            rows.

    Raises:
        ValueError: an option is out of range, or a pair of the validation
            rows is in the pool.

    Example:
        l2 = choose_rating_l2(pool, split.validation).l2
        model = TwoTower.from_interactions(split.train, rating_l2=l2)
    """
    checks.positive(l2=l2)
    checks.at_least(0, shrinkage=shrinkage)
    if not pool.lazy:
        pool.check_leakage(validation)
    started = time.perf_counter()
    binary = tuple(map(float, pool.scale)) == (0.0, 1.0)
    loss = "binary_crossentropy" if binary else "mse"
    rows = _some_rows(pool, seed)
    tried = {}

    def errors(value):
        if value not in tried:
            predicted = _predictions(
                pool, rows, validation, loss, seed,
                ridge.Penalty(value, value, shrinkage))
            tried[value] = _errors(validation.label, predicted, loss)
        return tried[value]

    best, label = l2, pool.label[rows]
    if len(validation) and len(rows) and label.min() < label.max():
        for step in (1 / _STEP, _STEP):
            for _ in range(_MOST):
                gain = errors(best) - errors(best * step)
                if gain.mean() <= gain.std() / np.sqrt(len(gain)):
                    break
                best *= step
            if best != l2:
                break

    def shown(value):
        mean = float(tried[value].mean()) if tried else float("nan")
        return mean ** 0.5 if loss == "mse" else mean

    return RatingChoice(
        best, loss, shown(best), shown(l2), len(validation) if tried else 0,
        len(tried), time.perf_counter() - started)


def _some_rows(pool, seed) -> np.ndarray:
    """Returns the labelled rows, or all those of some users."""
    rows = pool.labelled_rows()
    if len(rows) <= _ROWS:
        return rows
    drawn = np.random.default_rng([seed, 19]).random(
        pool.user_vocabulary.size)
    return rows[drawn[pool.user[rows]] < _ROWS / len(rows)]


def _predictions(pool, rows, validation, loss, seed, penalty) -> np.ndarray:
    """Returns scores of validation rows with an offset, float64 `[n]`."""
    user, item, label = pool.user[rows], pool.item[rows], pool.label[rows]
    low, high = pool.scale
    mean = float(label.mean())
    if loss != "mse":
        mean = min(max(mean, 1e-3), 1 - 1e-3)
        mean = np.log(mean / (1 - mean))
    sizes = pool.user_vocabulary.size, pool.item_vocabulary.size
    rng = np.random.default_rng([seed, 23])
    found = [(np.zeros((sizes[0], _WIDTH)), np.zeros(sizes[0])),
             (0.05 * rng.standard_normal((sizes[1], _WIDTH)),
              np.zeros(sizes[1]))]

    def scores(user, item):
        return (mean + found[0][1][user] + found[1][1][item]
                + np.einsum("nd,nd->n", found[0][0][user], found[1][0][item]))

    codes = user, item
    for _ in range(_SWEEPS):
        for side in (0, 1):
            weight, target = ridge.working_labels(
                scores(*codes), label, loss, (high - low) / 4)
            other = codes[1 - side]
            found[side] = ridge.solve(
                codes[side], other,
                target - mean - found[1 - side][1][other], weight,
                found[1 - side][0], penalty, sizes[side])
    found = scores(validation.user_code, validation.item_code)
    return np.clip(found, low, high) if loss == "mse" else found


def _errors(label, score, loss) -> np.ndarray:
    """Returns the error of each row: a square, or the cross-entropy."""
    if loss == "mse":
        return (label - score) ** 2
    return np.logaddexp(0, score) - label * score
