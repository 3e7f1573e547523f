"""Ridge regressions of many ids are those of one id after the other."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.model import ridge

PENALTY = ridge.Penalty(0.3, 0.7, 5.0)


def rows_of(numbers, seed=0, others=40, width=6):
    """Rows of ids with some numbers of rows, in mixed order."""
    rng = np.random.default_rng(seed)
    code = rng.permutation(np.repeat(np.arange(len(numbers)), numbers))
    return (code, rng.integers(0, others, len(code)),
            rng.standard_normal(len(code)), rng.uniform(0.2, 2, len(code)),
            rng.standard_normal((others, width)))


def one_by_one(code, other, target, weight, vectors, penalty, size):
    """The plain normal equations of each id."""
    width = vectors.shape[1] + 1
    found = np.zeros((size, width))
    for one in np.unique(code):
        mine = code == one
        features = np.hstack([np.ones((mine.sum(), 1)), vectors[other[mine]]])
        held = np.diag([penalty.bias_l2] + [penalty.l2] * (width - 1))
        found[one] = np.linalg.solve(
            (features.T * weight[mine]) @ features
            + (mine.sum() + penalty.shrinkage) * held,
            (features.T * weight[mine]) @ target[mine])
    return found[:, 1:], found[:, 0]


@pytest.mark.parametrize("numbers", [
    [1, 2, 3, 0, 5], [7, 6, 8, 30, 200, 0, 3], [0, 0, 4], [500]])
def test_all_ids_at_once_are_solved_like_each_alone(numbers):
    given = *rows_of(numbers), PENALTY, len(numbers)
    for mine, plain in zip(ridge.solve(*given), one_by_one(*given)):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, plain, rtol=1e-5, atol=1e-6)
        assert not mine[np.array(numbers) == 0].any()


def test_small_batches_find_the_same(monkeypatch):
    numbers = np.random.default_rng(1).integers(0, 90, 50)
    given = *rows_of(numbers), PENALTY, len(numbers)
    whole = ridge.solve(*given)
    monkeypatch.setattr(ridge, "_ELEMENTS", 500)
    monkeypatch.setattr(ridge, "_ROWS", 11)
    for small, large in zip(ridge.solve(*given), whole):
        np.testing.assert_allclose(small, large, rtol=1e-5, atol=1e-6)


def test_without_l2_and_with_equal_rows_it_stays_finite():
    code, other, target, weight, vectors = rows_of([9, 3])
    other[:] = 4
    for found in ridge.solve(code, other, target, weight, vectors,
                             ridge.Penalty(0.0, 0.0, 0.0), 2):
        assert np.isfinite(found).all()


def test_working_labels_of_squares():
    weight, target = ridge.working_labels(
        np.zeros(3), np.array([1.0, 3.0, 5.0]), "mse", unit=2.0)
    np.testing.assert_array_equal(weight, 0.25)
    np.testing.assert_array_equal(target, [1, 3, 5])


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("score", [-30.0, -1.0, 0.0, 1e-6, 0.3, 4.0])
def test_working_labels_bound_cross_entropy(score, label):
    weight, target = ridge.working_labels(
        np.array([score]), np.array([label]), "binary_crossentropy")

    def loss(at):
        return np.logaddexp(0, at) - label * at

    def bound(at):
        return (weight * ((target - at) ** 2 - (target - score) ** 2)
                + loss(score))

    at = np.linspace(-40, 40, 401)
    assert (bound(at) >= loss(at) - 1e-9).all()
    slope = (loss(score + 1e-5) - loss(score - 1e-5)) / 2e-5
    assert -2 * weight * (target - score) == pytest.approx(slope, abs=1e-6)
