"""Folders of vectors: whole, of one fingerprint."""
from __future__ import annotations

import json

import numpy as np
import pytest
from random_model import make_model

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


def test_vectors_of_before_are_read_but_not_held_against_a_pool(
        model, pool, tmp_path):
    write_vectors(model, pool, tmp_path / "v")
    meta = tmp_path / "v" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format": 1}))
    vectors = Vectors(tmp_path / "v")
    assert len(vectors.items()["item_id"]) == len(pool.item_ids)
    with pytest.raises(ValueError, match="by an earlier one. Write them"):
        vectors.check_pool(pool, "since")


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
