"""What a model must offer is looked at before anything is bought."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from plain_towers import PlainTowers, Twin

from tfrecal import AcquireLabels, Pool, ReplayOracle, TwoTower
from tfrecal.export import export_model
from tfrecal.model import probe
from tfrecal.model.protocol import EMBED, Offers
from tfrecal.scoring.scorer import PoolScorer

UNSEEN = "i18"  # not among those looked at when `fit` begins


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
    plain = probe.check(towers, pool)
    assert plain == Offers("strings", ("user_id",), ("item_id",), True, False)
    own = TwoTower.from_interactions(shop, embedding_dim=4)
    found = probe.check(own, pool)
    assert found.passes and found.labels and found.ids == "codes"
    assert probe.check(Twin(own), pool).passes


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
        probe.check(changed(towers, name, function), pool)


def test_ids_of_another_type(pool):
    """Integers where the pool has strings, and another vocabulary."""
    strange = PlainTowers(["u-1", "u-2"], pool.item_ids)
    with pytest.raises(ValueError, match="tell ids apart.*another vocabular"):
        probe.check(strange, pool)
    numbers = PlainTowers(pool.user_ids, pool.item_ids)
    numbers.user_model = tf_keras.Sequential([
        tf_keras.layers.IntegerLookup(vocabulary=[1, 2, 3]),
        tf_keras.layers.Embedding(4, 8)])
    with pytest.raises(ValueError, match=r"must embed the pool's features "
                       r"\(user_id: string \[8\]\). Received: \w+"):
        probe.check(numbers, pool)


def test_a_model_without_the_functions(pool):
    with pytest.raises(TypeError, match="a Sequential without "
                       "`embed_queries`, `embed_candidates`"):
        probe.check(tf_keras.Sequential(), pool)
    half = PlainTowers(pool.user_ids, pool.item_ids)
    half.query_parts = half.embed_queries
    with pytest.raises(TypeError, match="without `candidate_parts`"):
        probe.check(half, pool)


@pytest.mark.parametrize("name, value, error, message", [
    ("query_features", "user_id", TypeError, "a tuple of names"),
    ("query_features", (), TypeError, "at least one. Received: .*=()"),
    ("query_features", None, TypeError, "a tuple of names"),
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
        probe.check(towers, pool)


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


def test_a_tower_that_reads_rows_beside_its_own(pool, towers):
    """Normalised by the batch, as in training: no two calls tell it."""
    norm = tf_keras.layers.BatchNormalization()
    with pytest.raises(ValueError, match="each vector of its own row"):
        probe.check(changed(towers, "embed_candidates", lambda found: norm(
            found, training=True)), pool)
    fresh = PlainTowers(pool.user_ids, pool.item_ids)
    probe.check(changed(fresh, "embed_candidates", lambda found: norm(
        found, training=False)), pool)


def test_a_vocabulary_that_lacks_most_items(pool):
    """Cold items share a vector, the first eight among them."""
    probe.check(PlainTowers(pool.user_ids, pool.item_ids[12:13]), pool)


def test_functions_without_a_name(pool, towers):
    class Layer(tf_keras.layers.Layer):
        def call(self, features):
            return towers.user_model(features["user_id"])
    towers.embed_queries = Layer()
    assert probe.check(towers, pool).labels


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_vectors_of_another_precision(pool, towers, dtype):
    """Are scored as float32."""
    plain = PoolScorer.of(towers, pool).vectors()
    for name in EMBED.values():
        changed(towers, name, lambda found: tf.cast(found, dtype))
    probe.check(towers, pool)
    for found, wanted in zip(PoolScorer(
            PlainTwin(towers), pool).vectors(), plain):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=0.01, atol=1e-3)


class PlainTwin:
    """Offers what another model does, and is no Keras model."""

    def __init__(self, model):
        self.embed_queries = model.embed_queries
        self.embed_candidates = model.embed_candidates
        self.predict_label = model.predict_label


@pytest.mark.parametrize("wrong, message", [
    (lambda item, found: found + tf.where(
        item == UNSEEN, np.nan, 0.)[:, None],
     "Vectors of `embed_candidates` must be finite. Received: 1 of 30"),
    (lambda item, found: tf.cond(
        tf.reduce_any(item == UNSEEN), lambda: tf.ensure_shape(
            found + tf.zeros([tf.size(item) + 1, 1]), found.shape),
        lambda: found),
     r"must embed the pool's features \(item_id: string \[30\]\). "
     "Received: InvalidArgumentError: .*ncompatible shapes"),
    (lambda item, found: tf.cond(
        tf.size(item) > 20, lambda: found[:, :5], lambda: found),
     "one width. Received: `embed_queries` with 8, `embed_candidates` with 5")
])
def test_items_that_only_scoring_meets(shop, wrong, message):
    """They end the first round."""
    pool = Pool.from_interactions(shop, initial=0.3, seed=0)
    model = PlainTowers(pool.user_ids, pool.item_ids)
    model.compile(tf_keras.optimizers.SGD(0.01))
    item_model = model.item_model
    model.embed_candidates = lambda features: wrong(
        features["item_id"], item_model(features["item_id"]))
    model.compute_loss = lambda features, training=False: tf.reduce_mean(
        item_model(features["item_id"]))
    probe.check(model, pool)
    with pytest.raises(ValueError, match=message):
        bought(pool, model, "vopt", shop)
    assert pool.spent == 0 and not pool.pending


def test_one_model_on_two_pools(shop):
    """Whose tables hold a column as other kinds of numbers."""
    model = PlainTowers(shop.user_ids, shop.item_ids)
    model.candidate_features = ("item_id", "price")
    plain = model.embed_candidates
    model.embed_candidates = lambda features: plain(features) + tf.cast(
        features["price"], tf.float32)[:, None]
    whole = Pool.from_interactions(shop, initial=0.3, seed=0)
    whole.item_table = whole.item_table.assign(price=1)
    part = Pool.from_interactions(shop, initial=0.3, seed=0)
    part.item_table = part.item_table.assign(price=1.5)
    scorers = [PoolScorer.of(model, one) for one in (whole, part)]
    one, other = (scorer.vectors()[1][1:] for scorer in scorers)
    np.testing.assert_allclose(one + 0.5, other, rtol=1e-5)
