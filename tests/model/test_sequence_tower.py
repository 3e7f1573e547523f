"""SequenceQueryTower: histories are read in their order, and never ahead."""
from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras

from tfrecal.callbacks.evaluate_retrieval import EvaluateRetrieval
from tfrecal.data import splits
from tfrecal.data.interactions import Interactions
from tfrecal.model.sequence_tower import SequenceQueryTower
from tfrecal.model.tasks import Retrieval
from tfrecal.model.towers import CandidateTower
from tfrecal.model.transfer import transfer
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer

D = 4


def tower(shop, **options):
    """A tower beside candidates, whose ids all count, none of it zero."""
    query = SequenceQueryTower(
        shop.user_ids, item_ids=shop.item_ids, embedding_dim=D,
        **{"window": 8, **options})
    candidate = CandidateTower(shop.item_ids, embedding_dim=D)
    query.read_items_by(candidate)
    candidate.make_warm(tf.range(1, len(shop.item_ids) + 1))
    rng = np.random.default_rng(0)
    for weight in query.sequence_weights():
        weight.assign(weight + rng.normal(0, 0.3, weight.shape))
    return query, candidate


def retrieval(query, features, **options):
    return query.parts(features, **options)["history"][:, D:].numpy()


def normalised(x, pair):
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.sqrt((x ** 2).mean(axis=1, keepdims=True) + 1e-6)
    return x * pair[0].numpy() + pair[1].numpy()


def by_hand(query, candidate, codes):
    """A causal transformer as its papers write it, one item at a time."""
    def dense(x, pair):
        return x @ pair[0].numpy() + pair[1].numpy()

    x = 2 * candidate.retrieval_of(tf.constant(codes, tf.int32)).numpy()
    x = x + query.positions.numpy()[:len(codes)]
    gelu = np.vectorize(lambda v: v * (1 + math.erf(v / 2 ** 0.5)) / 2)
    for layer in query.layer_weights:
        normal = normalised(x, layer.norm)
        q, k, v = (dense(normal, pair).reshape(len(x), query.heads, -1)
                   for pair in (layer.query, layer.key, layer.value))
        rows = []
        for place in range(len(x)):
            heads = []
            for head in range(query.heads):
                scores = k[:place + 1, head] @ q[place, head] / (
                    D / query.heads) ** 0.5
                weights = np.exp(scores - scores.max())
                heads.append(weights / weights.sum() @ v[:place + 1, head])
            rows.append(np.concatenate(heads))
        x = x + dense(np.array(rows), layer.out)
        x = x + dense(gelu(dense(normalised(x, layer.last), layer.inner)),
                      layer.outer)
    return normalised(x, query.last_norm)


@pytest.mark.parametrize("codes", [[3], [5, 2, 9, 2], list(range(1, 9))])
def test_a_history_is_read_as_the_papers_say(shop, codes):
    query, candidate = tower(shop)
    wanted = by_hand(query, candidate, codes)
    found = retrieval(query, {"history": tf.constant([codes])})
    np.testing.assert_allclose(found[0], wanted[-1], atol=1e-5)
    places = np.arange(len(codes) + 1)
    found = retrieval(query, {
        "history": tf.constant([codes] * len(places)),
        "window": tf.ragged.constant([codes], tf.int32),
        "window_row": tf.zeros_like(places, tf.int32),
        "window_place": tf.constant(places, tf.int32)})
    np.testing.assert_allclose(found[1:], wanted, atol=1e-5)
    assert not found[0].any()


def test_only_the_last_known_items_count(shop):
    query, _ = tower(shop, window=4)
    rows = [[1, 2, 3, 4, 5, 6], [3, 0, 4, 5, 0, 6], [0, 0, 0, 0, 0, 0],
            [9, 9, 9, 9, 9, 9]]
    found = retrieval(query, {"history": tf.constant(rows)})
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert not found[2].any() and found[3].any()
    ragged = tf.ragged.constant([[3, 4, 5, 6], [], [7]], tf.int32)
    found = retrieval(query, {"history": ragged})
    np.testing.assert_allclose(
        found[0], retrieval(query, {"history": tf.constant(rows)})[0],
        atol=1e-6)
    assert not found[1].any()
    long = np.random.default_rng(0).integers(1, 20, [1, 10_000])
    np.testing.assert_allclose(
        retrieval(query, {"history": tf.constant(long)}),
        retrieval(query, {"history": tf.constant(long[:, -4:])}), atol=1e-6)


def test_the_order_counts_for_lists_and_not_for_labels(shop):
    query, _ = tower(shop)
    one, other = (query.parts({"history": tf.constant([codes])})["history"]
                  for codes in ([2, 5, 7], [7, 5, 2]))
    np.testing.assert_allclose(one[:, :D], other[:, :D], atol=1e-6)
    assert np.abs(one[:, D:] - other[:, D:]).max() > 0.01


def test_a_batch_without_windows_is_refused(shop):
    model = TwoTower.from_interactions(
        shop, embedding_dim=D, query="sequence", mean=3.0)
    batch = Pool.cross(shop).sequence()[0]
    with pytest.raises(ValueError, match="batches with windows"):
        model.compute_loss(batch, training=True)


@pytest.mark.parametrize("options, match", [
    ({"window": 0}, "`window`"), ({"layers": 0}, "`layers`"),
    ({"heads": 3}, "`heads` must divide"),
    ({"sequence_dropout": 1.0}, "`sequence_dropout`")])
def test_bad_options_are_refused(shop, options, match):
    with pytest.raises(ValueError, match=match):
        tower(shop, **options)


def test_a_tower_needs_the_items(shop):
    query = SequenceQueryTower(shop.user_ids, item_ids=shop.item_ids,
                               embedding_dim=D)
    with pytest.raises(ValueError, match="read_items_by"):
        query({"history": tf.constant([[1]])})
    assert np.isfinite(query({"user_id": tf.constant([1])})["rating"]).all()


def test_towers_of_other_widths_are_refused(shop):
    query, _ = tower(shop)
    with pytest.raises(ValueError, match="one `embedding_dim`"):
        query.read_items_by(CandidateTower(shop.item_ids, embedding_dim=8))
    with pytest.raises(ValueError, match="`query` must be"):
        TwoTower.from_interactions(shop, query="order")


def test_sampled_softmax_is_that_of_its_formula():
    rng = np.random.default_rng(0)
    query, candidate, negatives = (
        rng.normal(size=[n, D]).astype(np.float32) for n in (5, 5, 7))
    item, drawn = np.array([1, 2, 3, 4, 1]), np.array([9, 2, 8, 8, 1, 7, 6])
    keep = np.array([True, True, False, True, True])
    weight = np.array([1, 2, 1, 0.5, 1], np.float32)
    losses = []
    for n in np.flatnonzero(keep):
        others = negatives[drawn != item[n]] @ query[n] / 0.5
        own = candidate[n] @ query[n] / 0.5
        losses.append(np.log(np.exp(own) + np.exp(others).sum()) - own)
    wanted = np.average(losses, weights=weight[keep])
    batch = {"positive": keep, "item_id": item, "weight": weight,
             "negatives": negatives, "negative_id": drawn}
    found = Retrieval(negatives=7, temperature=0.5)(
        query, candidate, {k: tf.constant(v) for k, v in batch.items()})
    assert float(found) == pytest.approx(wanted, rel=1e-5)


def circle(users=60, items=12, length=9, seed=0):
    """Rows of users who go from each item to the next one, in a circle."""
    start = np.random.default_rng(seed).integers(0, items, users)
    place = np.arange(length)
    return Interactions.from_frame(pd.DataFrame({
        "user_id": np.repeat([f"u{n}" for n in range(users)], length),
        "item_id": [f"i{n:02}" for n in (
            (start[:, None] + place) % items).ravel()],
        "label": 1.0, "timestamp": np.tile(place, users)}), scale=(0, 1))


def fitted(data, seed=0, epochs=25, **options):
    pool = Pool.from_interactions(data, initial=1.0)
    tf_keras.utils.set_random_seed(seed)
    model = TwoTower.from_interactions(
        data, embedding_dim=16, seed=seed, mean=0.9, linear_block=None,
        **options)
    model.compile(learning_rate=0.02)
    model.fit(pool.sequence(32, seed=seed), epochs=epochs, verbose=0)
    return model, pool


@pytest.mark.large
def test_it_learns_what_comes_next():
    """The mean of a history cannot tell where in the circle a user is."""
    split = splits.leave_last_n(circle(), 1, 1)
    found = {}
    for query in ("mean", "sequence"):
        model, pool = fitted(split.train, query=query)
        found[query] = EvaluateRetrieval(pool, split.validation, k=1).evaluate(
            model)["recall@1"]
    assert found["sequence"] > 0.95 > 0.7 > found["mean"]


@pytest.fixture(scope="module")
def made():
    """A model as if it were trained, and its pool."""
    data = circle(20, 8, 5)
    model = TwoTower.from_interactions(
        data, embedding_dim=16, query="sequence", mean=0.9,
        linear_block=None)
    for one in (model.query_tower, model.candidate_tower):
        one.make_warm(tf.range(1, len(one.ids) + 1))
    return model, Pool.from_interactions(data, initial=1.0)


def vectors(model, pool):
    return np.hstack([*PoolScorer(model, pool).vectors("retrieval")[0],
                      *PoolScorer(model, pool).vectors("retrieval")[1]])


@pytest.mark.large
def test_the_same_seed_gives_the_same_weights():
    model, pool = fitted(circle(20, 8, 5), epochs=2, query="sequence")
    again, _ = fitted(circle(20, 8, 5), epochs=2, query="sequence")
    for one, other in zip(model.weights, again.weights):
        np.testing.assert_array_equal(one, other)
    other, _ = fitted(circle(20, 8, 5), seed=1, epochs=2, query="sequence")
    assert not np.array_equal(vectors(model, pool), vectors(other, pool))


@pytest.mark.large
def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    data = circle(20, 8, 5)
    pool = Pool.from_interactions(data, initial=1.0)
    whole, first, second = (TwoTower.from_interactions(
        data, embedding_dim=8, query="sequence", mean=0.9)
        for _ in range(3))
    whole.compile()
    whole.fit(pool.sequence(16), epochs=3, verbose=0)
    first.compile()
    first.fit(pool.sequence(16), epochs=2, verbose=0)
    path = tf.train.Checkpoint(model=first).write(str(tmp_path / "model"))
    second.compile()
    tf.train.Checkpoint(model=second).restore(path)
    sequence = pool.sequence(16)
    sequence.start(2)
    second.fit(sequence, initial_epoch=2, epochs=3, verbose=0)
    for one, other in zip(whole.weights, second.weights):
        np.testing.assert_array_equal(one, other)


def test_saved_and_loaded(made, tmp_path):
    model, pool = made
    model.save(tmp_path / "model.keras")
    same = tf_keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(same.query_tower, SequenceQueryTower)
    assert same.tasks[1].negatives == 256
    np.testing.assert_array_equal(vectors(model, pool), vectors(same, pool))


def test_it_grows(made):
    model, _ = made
    data = circle(25, 10, 5, seed=1)
    new = TwoTower.from_interactions(
        data, embedding_dim=16, query="sequence", mean=0.9, seed=9)
    transfer(model, new)
    ids = tf.constant([["i05", "i00", "i03"]])
    found = [one.embed_queries({"history": ids})["retrieval"].numpy()
             for one in (model, new)]
    assert found[0].any()
    np.testing.assert_allclose(*found, atol=1e-6)
    with pytest.raises(ValueError, match="query_tower.window"):
        transfer(model, TwoTower.from_interactions(
            data, embedding_dim=16, mean=0.9))


DEVICES = """
import sys
import tfrecal
import numpy as np
import tensorflow as tf
import tf_keras
sys.path.append(sys.argv[1])
from test_sequence_tower import circle
from tfrecal.model import (
    CandidateTower, SequenceQueryTower, TwoTower, default_tasks)
from tfrecal.pool.pool import Pool

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2)
data = circle(20, 8, 5)
pool = Pool.from_interactions(data, 1.0)

def trained(strategy):
    with strategy.scope():
        options = {"embedding_dim": 8, "id_dropout": 0.0}
        model = TwoTower(
            SequenceQueryTower(data.user_ids, item_ids=data.item_ids,
                               layers=1, sequence_dropout=0.0, **options),
            CandidateTower(data.item_ids, retrieval_id_dropout=0.0, seed=3,
                           **options),
            default_tasks((0, 1), 0.9, negatives=6))
        model.compile(tf_keras.optimizers.SGD(0.1))
    before = [weight.numpy() for weight in model.trainable_weights]
    model.fit(pool.sequence(32), epochs=2, verbose=0)
    return before, [weight.numpy() for weight in model.trainable_weights]

before, one = trained(tf.distribute.get_strategy())
_, two = trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
assert max(abs(a - b).max() for a, b in zip(before, one)) > 0.01
for single, several in zip(one, two):
    np.testing.assert_allclose(several, single, atol=1e-5)
"""


@pytest.mark.large
def test_two_devices_train_as_one():
    subprocess.run([sys.executable, "-c", DEVICES, Path(__file__).parent],
                   check=True, timeout=300)
