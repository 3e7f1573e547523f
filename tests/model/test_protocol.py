"""What a model must offer is looked at before anything is bought."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from plain_towers import PlainTowers, Twin

from tfrecal import AcquireLabels, Pool, ReplayOracle, TwoTower
from tfrecal.export import export_model
from tfrecal.model import protocol
from tfrecal.model.protocol import Offers


@pytest.fixture(scope="module")
def pool(shop):
    return Pool.from_interactions(shop, initial=0.3, seed=0)


@pytest.fixture
def towers(pool):
    model = PlainTowers(pool.user_ids, pool.item_ids)
    model.compile(tf_keras.optimizers.SGD(0.01))
    return model


def changed(model, name, function):
    """The model with another function under a name."""
    old = getattr(model, name)
    setattr(model, name, lambda features: function(old(features)))
    getattr(model, name).__name__ = name
    return model


def test_what_both_kinds_offer(shop, pool, towers):
    plain = protocol.check(towers, pool)
    assert plain == Offers("strings", ("user_id",), ("item_id",), True, False)
    own = TwoTower.from_interactions(shop, embedding_dim=4)
    found = protocol.check(own, pool)
    assert found.passes and found.labels and found.ids == "codes"
    assert protocol.check(Twin(own), pool).passes


@pytest.mark.parametrize("name, function, message", [
    ("embed_queries", lambda found: found[0],
     r"`embed_queries` must return float vectors \[B, d\], a row for each of "
     r"B=8. Received: shape=\(8,\)"),
    ("embed_queries", lambda found: found[:3], r"shape=\(3, 8\)"),
    ("embed_candidates", lambda found: found[:, :0], r"shape=\(8, 0\)"),
    ("embed_candidates", lambda found: tf.cast(found, tf.int32), "int32"),
    ("embed_candidates", lambda found: found[:, :5],
     "of one width. Received: `embed_queries` with 8, `embed_candidates` "
     "with 5"),
    ("embed_candidates", lambda found: found / 0 * 0,
     "8 of 8 rows with NaN or infinite"),
    ("embed_queries", lambda found: {"vectors": found},
     "with 'rating' and 'retrieval'. Received: a dict with .'vectors'."),
    ("embed_queries", lambda found: found + tf.random.normal([8, 8]),
     "the same vectors each time"),
    ("embed_queries", lambda found: 0 * found + 1, "must tell ids apart")])
def test_towers_of_another_shape(pool, towers, name, function, message):
    with pytest.raises(ValueError, match=message):
        protocol.check(changed(towers, name, function), pool)


def test_ids_of_another_type(pool):
    """Integers where the pool has strings, and another vocabulary."""
    strange = PlainTowers(["u-1", "u-2"], pool.item_ids)
    with pytest.raises(ValueError, match="tell ids apart.*another vocabular"):
        protocol.check(strange, pool)
    numbers = PlainTowers(pool.user_ids, pool.item_ids)
    numbers.user_model = tf_keras.Sequential([
        tf_keras.layers.IntegerLookup(vocabulary=[1, 2, 3]),
        tf_keras.layers.Embedding(4, 8)])
    with pytest.raises(ValueError, match=r"must embed the pool's features "
                       r"\(user_id: string \[8\]\). Received: \w+"):
        protocol.check(numbers, pool)


def test_a_model_without_the_functions(pool):
    with pytest.raises(TypeError, match="a Sequential without "
                       "`embed_queries`, `embed_candidates`"):
        protocol.check(tf_keras.Sequential(), pool)
    half = PlainTowers(pool.user_ids, pool.item_ids)
    half.query_parts = half.embed_queries
    with pytest.raises(TypeError, match="without `candidate_parts`"):
        protocol.check(half, pool)


@pytest.mark.parametrize("name, value, error, message", [
    ("query_features", "user_id", TypeError, "a tuple of names"),
    ("query_features", ("user_id", "years"), ValueError,
     "may name user_id, history, and columns of the users table"),
    ("candidate_features", ("history",), ValueError, "of the items table"),
    ("ids", "numbers", ValueError, "'codes' or 'strings'"),
    ("predict_label", lambda score: score[:2], ValueError,
     r"shape=\(2,\)"),
    ("predict_label", lambda score: score.label, ValueError,
     "Received: AttributeError")])
def test_wrong_declarations(pool, towers, name, value, error, message):
    setattr(towers, name, value)
    with pytest.raises(error, match=message):
        protocol.check(towers, pool)


def bought(pool, model, strategy, shop, **options):
    acquire = AcquireLabels(pool, strategy, ReplayOracle(shop), per_round=5,
                            **options)
    model.fit(pool.sequence(64, ids="strings"), verbose=0, shuffle=False,
              callbacks=[acquire])
    return pool.spent


@pytest.mark.parametrize("strategy, break_it, message", [
    ("vopt", lambda model: changed(
        model, "embed_queries", lambda found: found[:, :5]), "one width"),
    ("bald", lambda model: model,
     "without dropout passes.*uncertainty=\"heads\""),
    ("margin", lambda model: setattr(model, "predict_label", None) or model,
     "needs? a model that offers `predict_label`")])
def test_nothing_is_bought(shop, towers, strategy, break_it, message):
    pool = Pool.from_interactions(shop, initial=0.3, seed=0)
    with pytest.raises(ValueError, match=message):
        bought(pool, break_it(towers), strategy, shop)
    assert pool.spent == 0 and not pool.pending
    assert int(towers.optimizer.iterations) == 0


def test_a_model_without_labels_can_be_asked_by_vectors(shop, towers):
    pool = Pool.from_interactions(shop, initial=0.3, seed=0)
    score = towers.predict_label
    towers.predict_label = None
    towers.compute_loss = lambda features, training=False: tf.reduce_mean(
        (score(tf.reduce_sum(towers.embed_queries(features)
                             * towers.embed_candidates(features), axis=1))
         - features["label"]) ** 2)
    assert bought(pool, towers, "core_set", shop) == 5


@pytest.mark.large  # an export
def test_candidates_that_change_under_export(pool, towers, tmp_path,
                                             monkeypatch):
    import sys

    from tfrecal.export import export_model as function
    module = sys.modules[function.__module__]
    real = module.check_loads

    def meanwhile(*arguments):
        weight = towers.item_model.layers[-1].kernel
        weight.assign(weight + 0.1)
        return real(*arguments)
    monkeypatch.setattr(module, "check_loads", meanwhile)
    with pytest.raises(ValueError, match="stay as it is while it is exported"):
        export_model(towers, tmp_path / "shop", pool=pool, k=5)
    assert not [path for path in (tmp_path / "shop").iterdir()
                if path.is_dir()]


def test_columns_of_tables_reach_the_towers(shop):
    """In training and in scoring alike, as texts and as numbers."""
    pool = Pool.from_interactions(shop, initial=0.3, seed=0)
    sequence = pool.sequence(16, ids="strings",
                             columns=("segment", "price", "history"))
    batch = sequence[0]
    users = shop.users["segment"].loc[batch["user_id"]].fillna("")
    assert batch["segment"].tolist() == users.tolist()
    np.testing.assert_allclose(
        batch["price"], shop.items["price"].loc[batch["item_id"]], rtol=1e-6)
    for history, item, user in zip(
            batch["history"].numpy(), batch["item_id"], batch["user_id"]):
        liked = shop.frame[(shop.frame["user_id"] == user)
                           & (shop.frame["label"] >= pool.positive)]
        names = [name.decode() for name in history]
        assert item not in names and set(names) <= set(liked["item_id"])
    features = Offers("strings", ("user_id", "segment", "history"),
                      ("price",), True, False).features(pool)
    assert features("query", np.array([3]))["segment"] == (
        shop.users["segment"].fillna("").iloc[2])
    with pytest.raises(ValueError, match="'colour', which is in none"):
        pool.sequence(16, ids="strings", columns=["colour"])
