"""What is measured of the validation and of the test part, and when."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tf_keras

from tfrecal import callbacks, splits
from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer


@pytest.fixture(scope="module")
def split(shop):
    return splits.random(shop, seed=0)


@pytest.fixture(scope="module")
def made(split):
    """A pool and a model that the tests of this file share."""
    model = TwoTower.from_interactions(split.train, embedding_dim=4, seed=0)
    model.compile(learning_rate=0.01)
    return Pool.from_interactions(split.train, initial=0.2, seed=0), model


class Call(tf_keras.callbacks.Callback):
    """Calls a function after each epoch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_epoch_end(self, epoch, logs=None):
        assert not any(name.startswith("test_") for name in logs)
        self.function()

    def on_train_end(self, logs=None):
        assert "test_ndcg@10" in logs


def by_hand(model, pool, held_out, masked):
    """NDCG@10 over users with something to find, and RMSE, in NumPy."""
    query, candidate = PoolScorer(model, pool).vectors("retrieval")
    scores = (query @ candidate.T).astype(float)
    scores[:, 0] = -np.inf
    for part in masked:
        scores[part.user_code, part.item_code] = -np.inf
    discount = 1 / np.log2(np.arange(2, 12))
    found = []
    for user in np.unique(held_out.user_code):
        mine = held_out.user_code == user
        good = held_out.item_code[mine & (held_out.label >= pool.positive)]
        if len(good):
            hits = np.isin(np.argsort(-scores[user])[:10], good)
            found.append((hits * discount).sum()
                         / discount[:min(len(good), 10)].sum())
    error = held_out.label - PoolScorer(model, pool).predict(
        held_out.user_code, held_out.item_code)
    return np.mean(found), np.sqrt(np.mean(error ** 2)), len(found)


def test_each_part_is_measured_under_its_own_name(split, made):
    pool, model = made
    test = EvaluateRetrieval(
        pool, split.test, seen=split.validation, part="test")
    acquire = callbacks.AcquireLabels(
        pool, "random", ReplayOracle(split.train), batch_size=40)
    whole = []
    history = model.fit(
        pool.sequence(64), epochs=3, verbose=0, callbacks=[
            EvaluateRetrieval(pool, split.validation), test,
            # Before anything else is bought.
            Call(lambda: whole.append(by_hand(
                model, pool, split.validation, [split.train]))),
            acquire]).history
    np.testing.assert_allclose(
        history["val_ndcg@10"], [one[0] for one in whole])
    np.testing.assert_allclose(
        history["val_rmse"], [one[1] for one in whole], rtol=1e-6)
    ndcg, rmse, users = by_hand(
        model, pool, split.test, [split.train, split.validation])
    assert test.found["test_ndcg@10"] == pytest.approx(ndcg)
    assert test.found["test_rmse"] == pytest.approx(rmse, rel=1e-6)
    assert test.counts == {"rows": len(split.test), "users": users}
    # One number, in the row of the last epoch.
    table = pd.DataFrame(history)
    assert table["test_ndcg@10"].isna().tolist() == [True, True, False]
    assert table["test_ndcg@10"].iloc[-1] == test.found["test_ndcg@10"]


def test_the_test_part_is_left_alone_until_training_ends(split, made):
    """Not even where an epoch ends early, or training breaks off."""
    pool, model = made
    test = EvaluateRetrieval(pool, split.test, part="test")
    with pytest.raises(KeyboardInterrupt):
        model.fit(pool.sequence(64), epochs=2, verbose=0, callbacks=[
            test, tf_keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: interrupt())])
    assert not test.found and not test.counts
    history = model.fit(pool.sequence(64), epochs=3, verbose=0, callbacks=[
        test, tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch,
                                                logs: stop(model))]).history
    assert len(history["loss"]) == len(history["test_ndcg@10"]) == 1
    assert np.isfinite(test.found["test_rmse"])


def test_the_test_part_is_of_the_weights_that_are_kept(split, made):
    """`EarlyStopping` before it sets them back when training ends."""
    pool, model = made
    validation = EvaluateRetrieval(pool, split.validation)
    test = EvaluateRetrieval(pool, split.test, part="test")
    early = tf_keras.callbacks.EarlyStopping(
        "labelled", patience=1, restore_best_weights=True)
    constant = tf_keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(labelled=1))
    model.fit(pool.sequence(64), epochs=3, verbose=0,
              callbacks=[validation, constant, early, test])
    assert early.stopped_epoch == 1 and early.best_epoch == 0
    user, item, label = (split.test.user_code, split.test.item_code,
                         split.test.label)
    rmse = np.sqrt(np.mean((
        PoolScorer(model, pool).predict(user, item) - label) ** 2))
    assert test.found["test_rmse"] == pytest.approx(rmse, rel=1e-6)


def interrupt():
    raise KeyboardInterrupt


def stop(model):
    model.stop_training = True


def test_the_test_part_each_epoch_where_one_asks_for_it(split, made):
    pool, model = made
    test = EvaluateRetrieval(pool, split.test, part="test", every=2)
    history = model.fit(pool.sequence(64), epochs=3, verbose=0,
                        callbacks=[test]).history
    assert len(history["test_ndcg@10"]) == 1 and len(history["loss"]) == 3
    assert test.found["test_ndcg@10"] == history["test_ndcg@10"][0]


@pytest.mark.parametrize("options, message", [
    ({"part": "train"}, "`part` must be .* part='train'"),
    ({"held_out": []}, "`held_out` must hold at least one row")])
def test_what_cannot_be_measured_is_refused(split, made, options, message):
    with pytest.raises(ValueError, match=message):
        EvaluateRetrieval(made[0], **{"held_out": split.test, **options})
