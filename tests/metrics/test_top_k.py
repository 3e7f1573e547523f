"""The best of each row, against sorting and against the exact index."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.export.index import build_index
from tfrecal.metrics.top_k import best_items, top_k


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_top_k_equals_sorting_with_ties(levels):
    rng = np.random.default_rng(levels)
    for width, k in ((7, 3), (333, 4), (1000, 25)):
        scores = rng.integers(0, levels, (20, width)).astype(np.float32)
        scores[rng.random(scores.shape) < 0.5] = -np.inf
        scores[0], scores[1, 2:] = -np.inf, -np.inf
        listed = top_k(scores, k, np.arange(20), seed=0)
        for row, columns in zip(scores, listed):
            expected = np.sort(row[row > -np.inf])[::-1][:k]
            got = columns[columns >= 0]
            assert len(set(got)) == len(got)
            assert (columns[len(got):] == -1).all()
            np.testing.assert_array_equal(row[got], expected)


def test_many_ties_are_drawn_evenly():
    scores = np.zeros((3000, 200), np.float32)
    listed = top_k(scores, 2, np.arange(3000), seed=1)
    count = np.bincount(listed.reshape(-1), minlength=200)
    # 30 expected in each; chi-squared with 199 degrees, mean 199, sd 20
    assert ((count - 30) ** 2 / 30).sum() < 300


@pytest.mark.parametrize("k", [1, 7, 300])
def test_best_items_are_those_of_the_index_ties_included(k):
    """Small whole numbers: every sum is exact, and many are equal."""
    rng = np.random.default_rng(0)
    queries = rng.integers(-2, 3, (70, 5)).astype(np.float32)
    items = rng.integers(-2, 3, (300, 5)).astype(np.float32)
    taken = rng.random((70, 300)) < 0.2
    taken[3] = True
    scores, places = build_index(items, kind="exact").search(
        queries, k, _listed(taken))
    found = best_items(queries, items, k, np.nonzero(taken))
    np.testing.assert_array_equal(found[1], scores)
    left = np.isfinite(found[1])
    np.testing.assert_array_equal(found[0][left], places.numpy()[left])
    assert (found[0][~left] == -1).all() and not left[3].any()


def _listed(taken):
    """bool `[q, n]` as positions, filled up with -1."""
    found = np.full(taken.shape, -1, np.int32)
    for row, out in zip(found, taken):
        row[:out.sum()] = np.flatnonzero(out)
    return found


def test_best_items_do_not_depend_on_what_is_taken_together():
    rng = np.random.default_rng(1)
    queries = rng.normal(size=(100, 33)).astype(np.float32)
    items = rng.normal(size=(2000, 33)).astype(np.float32)
    items[1000:] = items[:1000]  # all tied
    together = best_items(queries, items, 9)
    exact = queries.astype(float) @ items.astype(float).T
    for row in range(100):
        alone = best_items(queries[row:row + 1], items, 9)
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        np.testing.assert_array_equal(alone[1][0], together[1][row])
        np.testing.assert_array_equal(together[0][row], np.lexsort(
            (np.arange(2000), -exact[row].astype(np.float32)))[:9])
    assert best_items(queries, items[:0], 3)[0].tolist() == [[-1] * 3] * 100
