"""Folders of vectors: whole, of one fingerprint; the best items of them."""
from __future__ import annotations

import json

import numpy as np
import pytest
from test_scoring import make_model

from tfrecal.export.index import build_index
from tfrecal.metrics.best_items import best_items
from tfrecal.pool.pool import Pool
from tfrecal.scoring.beam.vectors import Vectors, VectorsChanged, write_vectors
from tfrecal.scoring.scorer import PoolScorer


@pytest.fixture(scope="module")
def model(shop):
    return make_model(shop, dropout=0.1)


@pytest.fixture
def pool(shop):
    return Pool.cross(shop)


def test_what_is_written_is_what_is_read(model, pool, tmp_path):
    mark = write_vectors(model, pool, tmp_path / "v", passes=2, group=200)
    vectors = Vectors(tmp_path / "v")
    scorer = PoolScorer(model, pool)
    assert vectors.fingerprint == mark
    users, items = vectors.users(0), vectors.items()
    for block in ("rating", "retrieval"):
        query, candidate = scorer.vectors(block)
        np.testing.assert_array_equal(users[block], query[1:])
        np.testing.assert_array_equal(items[block], candidate[1:])
    second = scorer.samples(2, "dropout", 0)[1]
    np.testing.assert_array_equal(users["pass_1"], second.query[1:])
    assert users["user_id"].tolist() == pool.user_ids.tolist()
    pairs = vectors.pairs(0)
    assert set(zip(pairs["user"], pairs["item"])) == set(
        zip(pool.user, pool.item))
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_the_fingerprint_follows_model_and_pool(model, pool, tmp_path):
    first = write_vectors(model, pool, tmp_path / "v")
    assert write_vectors(model, pool, tmp_path / "v") == first
    reader = Vectors(tmp_path / "v")
    user, item = pool.candidates(1)
    pool.ask(user, item, 0, "random")
    assert write_vectors(model, pool, tmp_path / "v") != first
    for read in (reader.check, reader.items, lambda: reader.users(0)):
        with pytest.raises(VectorsChanged, match="changed or was lost"):
            read()
    (tmp_path / "v" / "items.parquet").unlink()
    with pytest.raises(VectorsChanged, match="items.parquet"):
        Vectors(tmp_path / "v").items()


def test_nothing_is_written_of_a_model_that_diverged(shop, pool, tmp_path):
    broken = make_model(shop)
    broken.query_tower.id_table.assign(
        np.full(broken.query_tower.id_table.shape, np.nan))
    with pytest.raises(ValueError, match="must be finite"):
        write_vectors(broken, pool, tmp_path / "v")
    with pytest.raises(ValueError, match="multiple of 200"):
        write_vectors(broken, pool, tmp_path / "v", group=300)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="`write_vectors` wrote"):
        Vectors(tmp_path / "v")
    (tmp_path / "meta.json").write_text(json.dumps({})[:1])
    with pytest.raises(ValueError, match="`write_vectors` wrote"):
        Vectors(tmp_path)


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


def test_best_items_do_not_hang_on_what_is_taken_together():
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
