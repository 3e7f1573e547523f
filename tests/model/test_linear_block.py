"""The linear block: a closed-form regression, exact or by iteration."""
from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from tfrecal.model import block_solvers
from tfrecal.model.linear_block import BlockOptions, grades, solve


@pytest.fixture
def history():
    """Grades of 40 users and 30 items in three groups of taste, by code."""
    rng = np.random.default_rng(0)
    user, item = np.nonzero(rng.random((40, 30)) < 0.3)
    same = user % 3 == item % 3
    grade = np.where(same, 1.0, 0.2)
    keep = same | (rng.random(len(user)) < 0.3)
    return scipy.sparse.csr_matrix(
        (grade[keep].astype(np.float32), (user[keep] + 1, item[keep] + 1)),
        shape=(41, 31))


@pytest.fixture
def texts():
    """Vectors of norm 1 that know the group of an item, mostly."""
    rng = np.random.default_rng(1)
    found = np.eye(3, 8)[np.arange(30) % 3] + 0.3 * rng.normal(size=(30, 8))
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return np.vstack([np.zeros((1, 8)), found]).astype(np.float32)


def by_the_book(history, options, texts=None):
    """B = I - P / diag(P), as Steck writes it, without any cut."""
    x = history.toarray()[:, 1:].astype(np.float64)
    own = (x ** 2).sum(axis=0)
    unit = own[own > 0].mean()
    h = x.T @ x + np.diag(options.l2 * unit + options.dropout / (
        1 - options.dropout) * own)
    if texts is not None:
        h += options.text * unit * texts[1:] @ texts[1:].T
    p = np.linalg.inv(h)
    return np.eye(len(p)) - p / np.diag(p)


@pytest.mark.parametrize("with_texts", [False, True])
@pytest.mark.parametrize("exact", [0, 8_000])
def test_predictions_are_those_of_the_regression(
        history, texts, with_texts, exact, monkeypatch):
    monkeypatch.setattr(block_solvers, "EXACT", exact)
    monkeypatch.setattr(block_solvers, "_TIMES", 32)
    options = BlockOptions(rank=29, cosine=0)
    texts = texts if with_texts else None
    wanted = history[:, 1:] @ by_the_book(history, options, texts)
    found = solve(history, options, texts)
    predicted = history @ found.rows @ found.vectors[1:].T
    # Rank 29 of 30, and where it is iterated an estimated diagonal.
    assert np.abs(predicted - wanted).max() < (
        0.02 if exact else 0.05) * np.abs(wanted).max()


def test_cosines_join_the_regression(history, texts):
    """Of full rank, the sum is that of both, in the wanted proportion."""
    plain = solve(history, BlockOptions(rank=29, cosine=0), texts)
    both = solve(history, BlockOptions(rank=29, cosine=0.5), texts)

    def predicted(found):
        return history[1:] @ found.rows @ found.vectors[1:].T

    cosines = history[1:] @ texts @ texts[1:].T
    spread = [np.sqrt(one.var(axis=1).mean())
              for one in (predicted(plain), cosines)]
    wanted = predicted(plain) + 0.5 * spread[0] / spread[1] * cosines
    # 29 of 30 directions are kept.
    assert np.abs(predicted(both) - wanted).max() < (
        0.05 * np.abs(wanted).max())


def test_equal_texts_add_no_cosines(history):
    equal = np.zeros((31, 8), np.float32)
    found, plain = (solve(history, BlockOptions(cosine=cosine), equal)
                    for cosine in (1.0, 0.0))
    np.testing.assert_array_equal(found.rows, plain.rows)


def test_a_click_on_an_ungraded_item_tells_by_its_text(history, texts):
    history = history.tolil()
    history[:, 3] = 0
    found = solve(history.tocsr(), BlockOptions(cosine=1.0), texts)
    scores = found.rows[3] @ found.vectors[1:].T
    alike = texts[3] @ texts[1:].T
    assert not found.graded[3]
    assert np.corrcoef(scores, alike)[0, 1] > 0.5


def test_both_ways_give_the_same_lists(monkeypatch):
    rng = np.random.default_rng(3)
    taste, niche = rng.integers(0, 12, 900), rng.integers(0, 12, 500)
    often = 0.3 / np.arange(1, 501) ** 0.5
    chosen = rng.random((900, 500)) < often * np.where(
        np.equal.outer(taste, niche), 3, 0.3)
    history = scipy.sparse.csr_matrix(
        np.pad(chosen, ((1, 0), (1, 0))).astype(np.float32))
    texts = np.eye(12)[niche] + 0.4 * rng.normal(size=(500, 12))
    texts = np.vstack([np.zeros((1, 12)), texts]).astype(np.float32)
    for name, value in (
            ("_NYSTROEM", 64), ("_TIMES", 32), ("_TOLERANCE", 1e-4)):
        monkeypatch.setattr(block_solvers, name, value)
    lists = []
    for exact in (0, 8_000):
        monkeypatch.setattr(block_solvers, "EXACT", exact)
        found = solve(history, BlockOptions(rank=32), texts)
        scores = history @ found.rows @ found.vectors.T - 9 * history
        lists.append(np.argsort(-np.asarray(scores)[1:], axis=1)[:, :10])
    shared = np.mean([len(np.intersect1d(*pair)) / 10
                      for pair in zip(*lists)])
    assert shared > 0.97


@pytest.mark.parametrize("exact", [0, 8_000])
def test_a_rank_above_that_of_the_grades(history, texts, exact, monkeypatch):
    monkeypatch.setattr(block_solvers, "EXACT", exact)
    options = BlockOptions(rank=20, cosine=0)
    some = history[:5]
    found = solve(some, options, texts)
    assert found.rows.shape == found.vectors.shape == (31, 20)
    wanted = some[:, 1:] @ by_the_book(some, options, texts)
    predicted = some @ found.rows @ found.vectors[1:].T
    graded = found.graded[1:]
    assert np.abs(predicted - wanted)[:, graded].max() < (
        0.1 * np.abs(wanted).max())


def test_a_low_rank_keeps_the_groups(history):
    found = solve(history, BlockOptions(rank=3))
    assert found.rows.shape == found.vectors.shape == (31, 3)
    scores = np.asarray(history @ found.rows @ found.vectors.T)[1:, 1:]
    same = np.equal.outer(np.arange(40) % 3, np.arange(30) % 3)
    assert scores[same].mean() > 2 * scores[~same].mean()


def test_new_items_are_placed_by_their_text(history, texts):
    cold = [3, 4, 5]
    known = history.tolil()
    known[:, cold] = 0
    found = solve(known.tocsr(), BlockOptions(rank=8), texts)
    assert not found.graded[cold].any() and found.graded[6:].any()
    scores = np.asarray(known @ found.rows @ found.vectors.T)[1:, cold]
    same = np.equal.outer(np.arange(40) % 3, (np.array(cold) - 1) % 3)
    assert scores[same].mean() > scores[~same].mean() + 0.05
    norm = np.linalg.norm(found.vectors, axis=1)
    assert 0.2 < norm[cold].mean() / norm[6:].mean() < 1.5
    # Without texts, nothing is known of them.
    alone = solve(known.tocsr(), BlockOptions(rank=8))
    assert np.abs(alone.vectors[cold]).max() < 1e-4


def test_queries_weigh_by_grade_and_age(history):
    found = solve(history, BlockOptions(rank=4, decay=0.5))
    indptr, items = np.array([0, 3, 3, 4]), np.array([7, 8, 9, 7])
    grade = np.array([1, 0.5, 1, 0.2], np.float32)
    queries = found.queries(indptr, items, grade)
    np.testing.assert_allclose(
        queries[0], 0.25 * found.rows[7] + 0.25 * found.rows[8]
        + found.rows[9], rtol=1e-5)
    assert not queries[1].any()
    np.testing.assert_allclose(queries[2], 0.2 * found.rows[7], rtol=1e-5)


@pytest.mark.parametrize("change", [
    lambda x: x * 0, lambda x: x[:, :2], lambda x: x[:1]])
def test_what_cannot_be_solved_is_zero(history, texts, change):
    some = change(history).tocsr()
    some.eliminate_zeros()
    found = solve(some, BlockOptions(rank=4), texts[:some.shape[1]])
    assert not found.rows.any() and not found.vectors.any()
    assert len(found.rows) == some.shape[1]


def test_a_solution_does_not_depend_on_chance(history, texts):
    one, other = (solve(history, BlockOptions(rank=5), texts)
                  for _ in range(2))
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.vectors, other.vectors)


def test_grades():
    np.testing.assert_allclose(
        grades([1, 2, 5], (1, 5)), [0.05, 0.25, 1])
    np.testing.assert_allclose(grades([0, 1], (0, 1)), [0, 1])
    np.testing.assert_array_equal(grades([2, 2], (2, 2)), [1, 1])


@pytest.mark.parametrize("wrong", [
    {"beta": -1}, {"beta": float("nan")}, {"l2": 0}, {"dropout": 1},
    {"text": -1}, {"rank": 0}, {"rank": 2.5}, {"decay": 0}, {"decay": 1.5},
    {"new_items": -1}, {"beta": float("inf")}, {"popular": 1e300},
    {"l2": 1e38}, {"text": float("inf")}, {"cosine": 1e300}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        BlockOptions(**wrong)


@pytest.mark.parametrize("options", [
    {"text": 1e6, "l2": 1e-3, "dropout": 0},
    {"text": 0.0, "l2": 1e-12, "dropout": 0}])
def test_what_float32_cannot_solve_is_one_error(texts, options):
    alike = scipy.sparse.csr_matrix(np.pad(
        np.ones((40, len(texts) - 1), np.float32), ((1, 0), (1, 0))))
    with pytest.raises(ValueError, match="regression.*l2=.*larger `l2`"):
        solve(alike, BlockOptions(**options), texts)


def test_new_items_have_their_share(history, texts):
    known = history.tolil()
    known[:, [3, 4]] = 0
    some = known.tocsr()
    norms = [np.linalg.norm(solve(some, BlockOptions(
        rank=8, new_items=share), texts).vectors, axis=1)
        for share in (0, 1, 3)]
    assert not norms[0][[3, 4]].any()
    np.testing.assert_allclose(norms[2][[3, 4]], 3 * norms[1][[3, 4]],
                               rtol=1e-4)
    np.testing.assert_allclose(norms[2][5:], norms[0][5:], rtol=1e-5)


def test_items_that_were_only_shown_are_new(history, texts):
    """A label of 0 has no grade: it teaches no vector."""
    shown = history.copy()
    shown.data[shown.indices == 3] = 0
    found = solve(shown, BlockOptions(rank=8), texts)
    assert not found.graded[3] and found.vectors[3].any()
