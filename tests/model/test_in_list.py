"""InList: clicks over what their lists showed, against plain NumPy."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrecal import splits
from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.data.interactions import Interactions
from tfrecal.model.tasks import InList, default_tasks
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import LABELLED, Pool
from tfrecal.scoring.block import GradedHistories


def plain(query, candidate, data, temperature):
    losses, weights = [], []
    for row in np.flatnonzero(data["positive"] & (data["list_id"] > 0)):
        shown = np.flatnonzero((data["list_id"] == data["list_id"][row])
                               & ~data["positive"])
        if len(shown):
            scores = candidate[[row, *shown]] @ query[row] / temperature
            losses.append(np.log(np.exp(scores).sum()) - scores[0])
            weights.append(data["weight"][row])
    return np.average(losses, weights=weights)


def batch():
    rng = np.random.default_rng(0)
    lists = np.array([3, 1, 1, 3, 3, 0, 1, 2, 2, 0, 4, 1], np.int32)
    positive = np.array([1, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0], bool)
    vectors = rng.normal(size=(2, 12, 4)).astype(np.float32)
    return vectors, {
        "label": positive.astype(np.float32), "positive": positive,
        "weight": rng.random(12).astype(np.float32), "list_id": lists,
        "item_id": np.arange(12), "user_id": lists}


@pytest.mark.parametrize("scale", [1, 100])
def test_a_click_is_compared_with_its_list(scale):
    (query, candidate), data = batch()
    query = query * np.float32(scale)
    task = InList(temperature=0.5 * scale)
    np.testing.assert_allclose(
        task(query, candidate, data),
        plain(query.astype(float), candidate.astype(float), data,
              0.5 * scale), rtol=1e-5)
    again = InList.from_config(task.get_config())
    assert again.get_config() == task.get_config()


def test_large_scores_overflow_nothing():
    (query, candidate), data = batch()
    query = tf.Variable(query * 1000)
    with tf.GradientTape() as tape:
        loss = InList()(query, candidate, data)
    assert np.isfinite(loss)
    assert np.isfinite(tf.convert_to_tensor(tape.gradient(loss, query))).all()


def test_nothing_to_compare_is_no_loss():
    (query, candidate), data = batch()
    alone = {**data, "list_id": np.arange(12, dtype=np.int32)}
    assert InList()(query, candidate, alone) == 0
    del data["list_id"]
    assert InList()(query, candidate, data) == 0


def test_default_tasks_have_it_where_there_are_lists():
    def names(**options):
        return [task.name for task in default_tasks((0, 1), **options)]
    assert names() == ["rating", "retrieval"]
    assert names(lists=True) == ["rating", "retrieval", "in_list"]
    assert names(lists=True, losses=("retrieval",)) == ["retrieval"]


def shown(users=40, lists=8, size=6, seed=0):
    """Users click an item of their own half of 40 items; all are shown."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        own = rng.permutation(np.arange(20) + 20 * (user % 2))[:lists]
        others = rng.permutation(np.arange(20) + 20 * (1 - user % 2))
        for number, item in enumerate(own):
            rows.append((f"u{user}", f"i{item}", 1, f"{user}-{number}"))
            rows += [(f"u{user}", f"i{other}", 0, f"{user}-{number}")
                     for other in rng.permutation(others)[:size]]
    return Interactions.from_frame(pd.DataFrame(rows, columns=[
        "user_id", "item_id", "label", "list_id"]))


def test_batches_hold_lists_together():
    data = shown()
    pool = Pool.from_interactions(data, initial=0.9, seed=0)
    sequence = pool.sequence(batch_size=64, seed=3)
    seen = [sequence[number] for number in range(len(sequence))]
    rows = pool.rows(*(np.concatenate([one[name] for one in seen])
                       for name in ("user_id", "item_id")))
    assert sorted(rows) == pool.labelled_rows().tolist()
    lists = np.concatenate([one["list_id"] for one in seen])
    assert lists.tolist() == data.list_code[rows].tolist()
    runs = 1 + np.count_nonzero(np.diff(lists))
    assert runs == len(np.unique(data.list_code[pool.state == LABELLED]))
    again = pool.sequence(batch_size=64, seed=3)
    np.testing.assert_array_equal(again[0]["item_id"], seen[0]["item_id"])
    sequence.on_epoch_end()
    assert (sequence[0]["item_id"] != seen[0]["item_id"]).any()
    shares = [sequence.share(1, replica, 2) for replica in range(2)]
    whole = sequence[1]["list_id"]
    for share in shares:
        own = slice(*share["own"])
        assert share["list_id"].tolist() == whole[share["place"]].tolist()
        assert share["all"]["list_id"][own].tolist() == (
            share["list_id"].tolist())


def test_without_lists_batches_are_as_before():
    data = shown()
    plain = data.with_frame(data.frame.drop(columns="list_id"))
    sequence = Pool.from_interactions(plain, initial=1.0).sequence(
        batch_size=64, seed=3)
    assert "list_id" not in sequence[0]
    order = np.random.default_rng([3, 0]).permutation(len(data))
    np.testing.assert_array_equal(sequence[0]["item_id"],
                                  plain.item_code[order[:64]])


def test_a_stored_pool_knows_its_lists(tmp_path):
    data = shown()
    pool = Pool.from_interactions(data, initial=0.5)
    pool.save(tmp_path / "pool.npz")
    again = Pool.load(tmp_path / "pool.npz", data)
    rows = np.arange(len(pool))
    assert again.lists(rows).tolist() == data.list_code.tolist()
    lazy = Pool.cross(data.take(np.arange(100)))
    free = lazy.candidates(limit=3)
    lazy.ask(*free, round=0, strategy="random")
    assert lazy.lists(np.arange(103)).tolist() == [
        *data.list_code[:100], 0, 0, 0]


def test_lists_teach_what_is_clicked():
    split = splits.leave_last_n(shown(), n=2, validation=0)

    def auc(tasks=None):
        pool = Pool.from_interactions(split.train, initial=1.0)
        model = TwoTower.from_interactions(
            split.train, embedding_dim=8, tasks=tasks, linear_block=None)
        model.compile(learning_rate=0.05)
        test = EvaluateRetrieval(pool, split.test, part="test")
        model.fit(pool.sequence(batch_size=256), epochs=3, verbose=0,
                  shuffle=False, callbacks=[test])
        return model, test.found

    model, found = auc()
    assert model.task(InList)
    assert found["test_list_auc"] > 0.9
    assert found["test_list_ndcg@10"] > 0.8
    np.testing.assert_equal(auc()[1], found)
    only = auc([InList(name="in_list")])[1]
    assert only["test_list_auc"] > 0.9


@pytest.mark.parametrize("kind", ["frame", "interactions"])
def test_lists_of_a_table_teach_too(kind):
    data = shown()
    model = TwoTower.from_interactions(
        data, embedding_dim=4, linear_block=None)
    model.compile(learning_rate=0.05)
    found = model.fit(data.frame if kind == "frame" else data,
                      batch_size=256, epochs=2, verbose=0).history
    first, last = found["in_list_loss"]
    assert 0 < last < first


def test_labels_of_no_click_age_no_history():
    data = shown()
    pool = Pool.from_interactions(data, initial=1.0)
    clicks = Pool.from_interactions(
        data.take(data.label == 1), initial=1.0)
    found, expected = map(GradedHistories.of_pool, (pool, clicks))
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_array_equal(found.indptr, expected.indptr)
