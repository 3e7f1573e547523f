"""Exact and ScaNN indexes against plain NumPy."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrecal.export import index
from tfrecal.export.index import build_index


def clustered(count, dim=16, clusters=60, seed=0):
    centres = np.random.default_rng(0).normal(size=(clusters, dim))
    rng = np.random.default_rng([seed, 1])
    noise = 0.4 * rng.normal(size=(count, dim))
    return (centres[rng.integers(clusters, size=count)] + noise).astype("f4")


@pytest.fixture(scope="module")
def vectors():
    return clustered(3000)


@pytest.fixture(scope="module")
def scann(vectors):
    pytest.importorskip("scann")
    return build_index(vectors, kind="scann", k=10, target_recall=0.9)


def best(vectors, queries, k, excluded=None):
    """`(scores, positions)` by NumPy."""
    scores = queries @ vectors.T
    for row, places in enumerate([] if excluded is None else excluded):
        scores[row, [p for p in places if p >= 0]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), order


@pytest.mark.parametrize("rows", [0, 1, 7, 50])
@pytest.mark.parametrize("tile", [1 << 24, 3000 * 8])
def test_exact_equals_numpy(vectors, rows, tile, monkeypatch):
    monkeypatch.setattr(index, "_TILE", tile)
    queries = clustered(50, seed=1)[:rows]
    excluded = np.arange(2 * rows, dtype=np.int32).reshape(rows, 2)
    excluded[rows // 2:, 1] = -1
    exact = build_index(vectors, kind="exact")
    search = tf.function(exact.search)
    for places in (None, excluded):
        scores, positions = search(
            tf.constant(queries.reshape(rows, 16)), 6,
            None if places is None else tf.constant(places))
        expected = best(vectors, queries, 6, places)
        assert scores.shape == (rows, 6)
        np.testing.assert_allclose(scores, expected[0], rtol=1e-4)
        assert np.array_equal(positions, expected[1])


def test_excluded_do_not_come_back_when_few_remain():
    exact = build_index(clustered(5), kind="exact", k=5)
    scores, positions = exact.search(
        tf.constant(clustered(1, seed=1)), 5, tf.constant([[0, 1, 2, 4]]))
    assert positions[0, 0] == 3
    assert np.isneginf(scores[0, 1:]).all()


def test_scann_reaches_its_recall_with_few_leaves(scann, vectors):
    report = scann.report
    assert report.kind == "scann" and 0.87 <= report.recall
    assert report.settings["leaves_to_search"] < report.settings["leaves"]
    queries = clustered(200, seed=2)
    _, found = scann.search(tf.constant(queries), 10)
    _, truth = best(vectors, queries, 10)
    hits = [len(set(a) & set(b)) / 10 for a, b in zip(found.numpy(), truth)]
    assert np.mean(hits) == pytest.approx(report.recall, abs=0.06)
    scores = np.einsum("qd,qkd->qk", queries, vectors[found])
    assert np.all(np.diff(scores, axis=1) <= 1e-4)


def test_scann_takes_excluded_out(scann):
    queries = tf.constant(clustered(4, seed=3))
    _, first = scann.search(queries, 10)
    scores, second = scann.search(queries, 10, first[:, :5])
    assert second.shape == (4, 10) and np.isfinite(scores).all()
    for before, after in zip(first.numpy(), second.numpy()):
        assert not set(before[:5]) & set(after)
        assert set(before[5:]) <= set(after)


def test_a_small_catalogue_gets_the_exact_index():
    for kind in ("auto", "scann"):
        made = build_index(clustered(999), kind=kind)
        assert made.exact and "999 candidates" in made.report.note
        assert made.report.recall == 1.0


def test_auto_without_scann_says_so(vectors, monkeypatch):
    def missing():
        raise ImportError("no scann")

    monkeypatch.setattr(index, "_scann_ops", missing)
    monkeypatch.setattr(index, "_SMALL", 2000)
    assert "no scann" in build_index(vectors).report.note
    with pytest.raises(ImportError, match="no scann"):
        build_index(vectors, kind="scann")


def test_a_recall_out_of_reach(vectors, monkeypatch):
    pytest.importorskip("scann")
    monkeypatch.setattr(index.index_tuning, "_fewest", lambda *_: None)
    monkeypatch.setattr(index, "_SMALL", 2000)
    made = build_index(vectors)
    assert made.exact and "does not reach" in made.report.note
    assert made.report.recall == 1.0 and not made.report.settings
    with pytest.raises(ValueError, match="Lower it, or choose"):
        build_index(vectors, kind="scann")


@pytest.mark.parametrize("options, message", [
    ({"k": 0}, "`k` must be from 1"), ({"k": 3001}, "`k` must be from 1"),
    ({"target_recall": 0}, r"lie in \(0, 1\]"),
    ({"kind": "hnsw"}, "one of auto, exact, scann"),
    ({"kind": "scann", "queries": np.ones((5, 3))}, "candidates' width")])
def test_bad_options(vectors, options, message):
    with pytest.raises(ValueError, match=message):
        build_index(vectors, **options)


@pytest.mark.parametrize("bad", [
    np.ones(3), np.ones((0, 4)), np.full((2, 2), np.nan)])
def test_bad_vectors(bad):
    with pytest.raises(ValueError, match="matrix of finite numbers"):
        build_index(bad)
