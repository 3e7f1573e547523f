"""One `fit` in which the pool grows: rounds, budgets, resumable state."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras
from plain_towers import PlainTowers, Twin

from tfrecal import acquisition, callbacks, splits
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.histories import ragged_histories
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer


@pytest.fixture(scope="module")
def split(shop):
    return splits.random(shop, seed=0)


@pytest.fixture(params=[
    "two_tower", pytest.param("own_towers", marks=pytest.mark.large)])
def kind(request):
    """Both kinds of model: ours, and plain TFRS towers of a user's."""
    return request.param


def make(split, seed=0, kind="two_tower"):
    pool = Pool.from_interactions(split.train, initial=0.2, seed=seed)
    if kind == "own_towers":
        model = PlainTowers(pool.user_ids, pool.item_ids, seed=seed)
        model.compile(tf_keras.optimizers.Adam(0.01))
        return pool, model
    model = TwoTower.from_interactions(
        split.train, embedding_dim=4, dropout=0.1, seed=seed)
    model.compile(learning_rate=0.01)
    return pool, model


def sequence(pool, kind, batch_size=32):
    ids = "strings" if kind == "own_towers" else "codes"
    return pool.sequence(batch_size, ids=ids)


def samples(kind):
    """Options of a callback whose strategy samples the model."""
    return {"uncertainty": "heads"} if kind == "own_towers" else {}


def fit(split, strategy="random", epochs=4, folder=None, kind="two_tower",
        **options):
    pool, model = make(split, kind=kind)
    options = {"per_round": 40, **samples(kind), **options}
    acquire = callbacks.AcquireLabels(
        pool, strategy, ReplayOracle(split.train), **options)
    watch = [callbacks.EvaluateRetrieval(pool, split.validation), acquire,
             callbacks.StopAtBudget(acquire, 1, verbose=0)]
    if folder:
        watch.append(callbacks.SavePool(pool, folder, acquire))
    # Plain Keras would shuffle batches by Python's global generator.
    history = model.fit(sequence(pool, kind), epochs=epochs, verbose=0,
                        shuffle=False, callbacks=watch).history
    return pool, model, history


def test_each_epoch_trains_every_labelled_row(split, kind):
    pool, model, history = fit(split, kind=kind)
    start = round(0.2 * len(split.train))
    if kind == "two_tower":  # it counts them
        assert history["rows"] == [start + 40 * i for i in range(4)]
    steps = sum(-(-(start + 40 * i) // 32) for i in range(4))
    assert int(model.optimizer.iterations) == steps
    assert history["labelled"] == [start + 40 * (i + 1) for i in range(4)]
    truth = split.train.label[pool.rows(
        split.train.user_code, split.train.item_code)]
    rows = pool.labelled_rows()
    assert np.array_equal(pool.label[rows], truth[rows])


@pytest.fixture(scope="module")
def growing(split):
    """Pools and models that all strategies share, traced once."""
    return {kind: make(split, kind=kind)
            for kind in ("two_tower", "own_towers")}


@pytest.mark.parametrize("strategy", acquisition.names())
def test_every_strategy_buys_in_a_fit(split, growing, strategy, kind):
    pool, model = growing[kind]
    before = pool.spent
    acquire = callbacks.AcquireLabels(
        pool, strategy, ReplayOracle(split.train), per_round=3,
        **samples(kind))
    history = model.fit(sequence(pool, kind), verbose=0, callbacks=[
        callbacks.EvaluateRetrieval(pool, split.validation), acquire]).history
    assert history["acquired"] == [3] and pool.spent == before + 3
    assert 0 <= history["val_ndcg@10"][0] <= 1


def test_same_seed_same_acquisitions(split, kind):
    pools = [fit(split, "bald", epochs=2, kind=kind)[0] for _ in range(2)]
    assert np.array_equal(pools[0].ticket, pools[1].ticket)
    assert pools[0].ticket.max() == 79


def test_the_budget_is_never_exceeded(split, kind):
    pool, _, history = fit(split, epochs=9, budget=100, kind=kind)
    assert pool.spent == 100
    assert history["acquired"] == [40, 40, 20, 0]


def test_another_callback_goes_on_counting_rounds(split, capsys):
    pool, model = make(split)
    for _ in range(2):
        model.fit(pool.sequence(32), epochs=3, verbose=0, callbacks=[
            callbacks.AcquireLabels(pool, "random", ReplayOracle(split.train),
                                    per_round=40, rounds=2, verbose=1)])
    asked = np.bincount(pool.round[pool.ticket >= 0])
    assert asked.tolist() == [40] * 4 and pool.rounds == 4
    # A line for each round, none for an epoch without one.
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["1:", "2:", "3:", "4:"]


def test_declined_pairs_are_not_asked_again(split):
    pool, model = make(split)
    oracle = ReplayOracle(split.train, decline=1.0)
    acquire = callbacks.AcquireLabels(pool, "random", oracle, per_round=200)
    history = model.fit(
        pool.sequence(32), epochs=5, verbose=0,
        callbacks=[acquire, callbacks.StopAtBudget(acquire, 0, verbose=0)])
    assert pool.counts["unlabelled"] == 0
    assert sum(history.history["acquired"]) == 0
    assert "every pair" in acquire.exhausted


def test_a_data_set_that_cannot_grow_is_refused(split):
    pool, model = make(split)
    batch = pool.sequence(32)[0]
    assert not pool.sequences  # nobody holds it any more
    acquire = callbacks.AcquireLabels(
        pool, "random", ReplayOracle(split.train))
    with pytest.raises(ValueError, match="grows with the pool"):
        model.fit(tf.data.Dataset.from_tensors(batch), epochs=1, verbose=0,
                  callbacks=[acquire])
    assert pool.spent == 0


def test_rows_left_out_are_noticed(split, kind):
    pool, model = make(split, kind=kind)
    acquire = callbacks.AcquireLabels(
        pool, "random", ReplayOracle(split.train))
    with pytest.raises(RuntimeError, match="rows trained"):
        model.fit(sequence(pool, kind, 8), steps_per_epoch=1, epochs=1,
                  verbose=0, callbacks=[acquire])
    assert pool.spent == 0


@pytest.mark.parametrize("options", [
    {"budget": 0}, {"per_round": 0}, {"every": 0}, {"rounds": -1}])
def test_numbers_must_be_positive(split, options):
    pool, _ = make(split)
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        callbacks.AcquireLabels(
            pool, "random", ReplayOracle(split.train), **options)


def test_the_old_name_of_per_round(split):
    pool, _ = make(split)
    oracle = ReplayOracle(split.train)
    old = callbacks.AcquireLabels(pool, "random", oracle, batch_size=7)
    assert old.per_round == 7
    with pytest.raises(TypeError, match="the old name of `per_round`"):
        callbacks.AcquireLabels(pool, "random", oracle, batch_size=7,
                                per_round=8)


def test_leaking_rows_are_refused(split):
    pool, _ = make(split)
    with pytest.raises(ValueError, match="must not be in the pool"):
        callbacks.EvaluateRetrieval(pool, split.train)


def test_the_saved_state_belongs_together(split, tmp_path):
    pool, model, _ = fit(split, "margin", folder=tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    same = Pool.load(tmp_path / state["pool"], split.train)
    assert np.array_equal(same.state, pool.state)
    asked = pd.read_parquet(tmp_path / "acquisitions.parquet")
    assert len(asked) == 160 and set(asked["strategy"]) == {"margin"}
    assert asked["utility"].notna().all() and asked["cost"].sum() == 160
    assert (tmp_path / "weights" / f"{state['checkpoint']}.index").exists()


def test_plateau_counts_rounds_with_labels_only():
    stop = callbacks.StopAtPlateau("val_rmse", patience=2, verbose=0)

    class Model:
        stop_training = False

    stop.set_model(Model)
    stop.on_train_begin()
    for value, acquired in ((1.0, 5), (1.0, 0), (1.0, 0), (1.1, 5)):
        stop.on_epoch_end(0, {"val_rmse": value, "acquired": acquired})
    assert not Model.stop_training
    stop.on_epoch_end(0, {"val_rmse": 1.0, "acquired": 5})
    assert Model.stop_training
    with pytest.warns(UserWarning, match="Available: loss"):
        stop.on_epoch_end(0, {"loss": 1.0})


def test_predictions_are_those_of_the_model_pair_by_pair(split):
    pool, model, _ = fit(split, epochs=2)
    user, item = split.test.user_code, split.test.item_code
    features = {"user_id": user, "item_id": item}
    features["history"] = ragged_histories(*pool.histories(), user, 200)
    pairs = model(features).numpy()
    np.testing.assert_allclose(
        PoolScorer(model, pool).predict(user, item), pairs, atol=1e-5)


def test_dropout_passes_differ_and_repeat(split):
    pool, model, _ = fit(split, epochs=1)
    user, item = pool.candidates()
    views = [PoolScorer(model, pool).view(
        user, item, {"samples"}, passes=3, seed=s) for s in (1, 1, 2)]
    assert np.array_equal(views[0].samples, views[1].samples)
    assert not np.allclose(views[0].samples, views[2].samples)
    assert (views[0].samples.std(axis=0) > 0).mean() > 0.9


def test_schedules_and_early_stopping_survive_rounds(split):
    """Keras' own callbacks count epochs, whatever the rounds bring."""
    pool, model = make(split)
    decay = tf_keras.optimizers.schedules.ExponentialDecay(1e-2, 10, 0.5)
    model.compile(tf_keras.optimizers.Adam(decay))
    sequence = pool.sequence(32)
    steps = []
    history = model.fit(sequence, epochs=9, verbose=0, callbacks=[
        callbacks.AcquireLabels(pool, "random", ReplayOracle(split.train),
                                per_round=40),
        tf_keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: steps.append(len(sequence))),
        tf_keras.callbacks.EarlyStopping(
            "loss", patience=3, min_delta=1e9)]).history
    assert history["acquired"] == [40] * 4 and len(set(steps)) > 1
    assert int(model.optimizer.iterations) == sum(steps)
    assert float(model.optimizer.lr) == pytest.approx(
        1e-2 * 0.5 ** ((sum(steps) - 1) / 10))  # that of the last step


def test_a_plateau_lowers_the_rate_while_labels_come(split):
    pool, model = make(split)
    start = float(model.optimizer.lr)
    history = model.fit(pool.sequence(32), epochs=4, verbose=0, callbacks=[
        callbacks.AcquireLabels(pool, "random", ReplayOracle(split.train),
                                per_round=40),
        tf_keras.callbacks.ReduceLROnPlateau(
            "loss", factor=0.5, patience=1, min_delta=1e9)]).history
    np.testing.assert_allclose(
        history["lr"], [start, start, start / 2, start / 4])


@pytest.mark.large
@pytest.mark.parametrize("strategy", ["vopt", "bald", "core_set", "badge"])
def test_a_twin_behind_other_classes_buys_the_same_pairs(split, strategy):
    """Number for number, through three rounds of training."""
    bought = []
    for wrap in (lambda model: model, Twin):
        pool, inner = make(split)
        model = wrap(inner)
        if model is not inner:
            model.compile()
        acquire = callbacks.AcquireLabels(
            pool, strategy, ReplayOracle(split.train), per_round=20)
        model.fit(pool.sequence(32), epochs=3, verbose=0, shuffle=False,
                  callbacks=[acquire])
        bought.append((pool.ticket, pool.utility))
    assert bought[0][0].max() == 59
    for ours, twins in zip(*bought):
        np.testing.assert_array_equal(ours, twins)


def test_a_backup_beside_a_fresh_pool_is_refused(split, tmp_path):
    """Keras brings the weights back, nobody the labels that were paid."""
    def train(stop_at=None):
        pool, model = make(split)
        oracle = ReplayOracle(split.train)
        acquire = callbacks.AcquireLabels(
            pool, "random", oracle, per_round=10)

        def stop(epoch, logs):
            if epoch == stop_at:
                raise KeyboardInterrupt
        model.fit(pool.sequence(32), epochs=4, verbose=0, callbacks=[
            tf_keras.callbacks.BackupAndRestore(str(tmp_path / "backup")),
            acquire, tf_keras.callbacks.LambdaCallback(on_epoch_begin=stop)])
        return pool

    with pytest.raises(KeyboardInterrupt):
        train(stop_at=2)
    with pytest.raises(ValueError, match="goes on at epoch 2.*SavePool"):
        train()


@pytest.mark.parametrize("option, message", [
    ({"candidates": "every"}, "number, \"all\" or None"),
    ({"candidates": -1}, "`candidates` must be a positive number"),
    ({"strategy": "mixure"}, "with the option `strategies`, of")])
def test_bad_options_of_acquire_labels(split, option, message):
    pool, _ = make(split)
    with pytest.raises(ValueError, match=message):
        callbacks.AcquireLabels(
            pool, option.pop("strategy", "random"),
            ReplayOracle(split.train), **option)
