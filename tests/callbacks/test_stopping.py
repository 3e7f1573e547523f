"""When to buy no more: time, stable lists, gain below cost; explanations."""
from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tfrecal import acquisition, callbacks, splits
from tfrecal.acquisition.chooser import Chooser
from tfrecal.callbacks import stop_at_time
from tfrecal.callbacks.stop_below_cost import expected_gain
from tfrecal.callbacks.stop_when_stable import overlap
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import ReplayOracle
from tfrecal.pool import priors
from tfrecal.pool.pool import Pool


class Acquire(SimpleNamespace):
    """What the stopping callbacks use of `AcquireLabels`."""

    def __init__(self, **fields):
        super().__init__(**{
            "exhausted": "", "last_labels": -1, "per_round": 100,
            "pool": SimpleNamespace(pending=0), **fields})

    def stop(self, reason):
        self.exhausted = reason


def start(stop):
    model = SimpleNamespace(stop_training=False)
    stop.set_model(model)
    stop.on_train_begin()
    return model


def test_time(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(stop_at_time.time, "monotonic", lambda: clock[0])
    acquire = Acquire(pool=SimpleNamespace(pending=5))
    stop = callbacks.StopAtTime(acquire, 60, final_epochs=1)
    model = start(stop)
    for epoch, now, bought, stopped in (
            (0, 130, "", False), (1, 165, "65 of 60 seconds", False),
            (2, 190, "65 of 60 seconds", True)):
        clock[0] = now
        if not acquire.exhausted:
            acquire.last_labels = epoch
        stop.on_epoch_end(epoch, {})
        assert acquire.exhausted.startswith(bought) and bool(
            acquire.exhausted) == bool(bought)
        assert model.stop_training is stopped
    assert capsys.readouterr().out == (
        "Stopped after epoch 3: 65 of 60 seconds have passed.\n")


def curve(stop, model, metric, labels):
    """Epochs with a metric each; returns those that were trained."""
    pool = stop.acquire.pool
    for epoch, (value, number) in enumerate(zip(metric, labels)):
        pool.counts = {"labelled": number}
        pool.state, pool.ticket = np.full(number, 2), np.arange(number)
        pool.spent = 3.0 * number
        stop.on_epoch_begin(epoch)
        logs = {"val_rmse": value, "loss": 1.0}
        stop.on_epoch_end(epoch, logs)
        if model.stop_training:
            return epoch + 1, logs
    return len(metric), logs


def test_gain_below_cost(capsys):
    labels = np.arange(100, 2100, 100)
    metric = 0.9 + 2 * labels ** -0.5  # a power law
    for value, late in ((1e5, False), (1e8, True)):
        acquire = Acquire()
        stop = callbacks.StopBelowCost(
            acquire, value, "val_rmse", final_epochs=0)
        model = start(stop)
        epochs, logs = curve(stop, model, metric, labels)
        assert model.stop_training is not late
        assert logs["expected_cost"] == 300
        # The last two rounds are below, the one before was not.
        gain = 2 * (labels ** -0.5 - (labels + 100) ** -0.5)
        below = gain * value < 300
        if not late:
            assert np.abs(epochs - (np.argmax(below) + 2)) <= 2
            assert "`val_rmse` by" in capsys.readouterr().out


def test_waiting_is_no_round():
    stop = callbacks.StopBelowCost(
        Acquire(), 1.0, "val_rmse", patience=1, final_epochs=0)
    model = start(stop)
    curve(stop, model, np.ones(20), np.full(20, 100))
    assert not model.stop_training
    with pytest.warns(UserWarning, match="Available: loss"):
        stop.on_epoch_end(0, {"loss": 1.0})


def test_expected_gain_of_a_straight_line():
    labels = np.array([100, 200, 400, 800, 1600.0])
    metric = 0.1 * np.log(labels)
    metric[2] += 5  # one odd round
    assert expected_gain(labels, metric, 1600) == pytest.approx(
        0.1 * np.log(2))


def test_overlap():
    before = np.array([[1, 2, 3], [4, 5, -1], [-1, -1, -1]])
    after = np.array([[3, 9, 1], [5, -1, -1], [-1, -1, -1]])
    assert overlap(before, after) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert overlap(before, before) == 1


@pytest.mark.parametrize("make, message", [
    (lambda a: callbacks.StopAtTime(a, 0), "seconds=0"),
    (lambda a: callbacks.StopAtTime(a, 1, final_epochs=-1), "final_epochs="),
    (lambda a: callbacks.StopWhenStable(a, threshold=0), "threshold=0"),
    (lambda a: callbacks.StopWhenStable(a, patience=0), "patience=0"),
    (lambda a: callbacks.StopBelowCost(a, 0), "value=0"),
    (lambda a: callbacks.StopBelowCost(a, 1, mode="up"), "mode='up'"),
    # Nothing may choose by the test part.
    (lambda a: callbacks.StopBelowCost(a, 1, "test_rmse"), "Use 'val_rmse'"),
    (lambda a: callbacks.StopAtPlateau("test_ndcg@10"), "'test_ndcg@10'"),
    (lambda a: Chooser(["margin"], "test_ndcg@10"), "of the test part")])
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make(Acquire())


@pytest.fixture(scope="module")
def split(shop):
    return splits.random(shop, seed=0)


@pytest.fixture(scope="module")
def model(split):
    made = TwoTower.from_interactions(
        split.train, embedding_dim=4, dropout=0.1, seed=0)
    made.compile(learning_rate=0.01)
    return made


def fit(model, split, strategy, *more, epochs=3, state=None, pool=None,
        **options):
    pool = pool or Pool.from_interactions(split.train, initial=0.2, seed=0)
    acquire = callbacks.AcquireLabels(
        pool, strategy, ReplayOracle(split.train),
        **{"per_round": 40, **options})
    if state:
        acquire.restore(state)
    watch = [make(pool, acquire) for make in more]
    history = model.fit(
        pool.sequence(64), epochs=epochs, verbose=0,
        callbacks=[callbacks.EvaluateRetrieval(pool, split.validation), acquire,
                   *watch]).history
    return pool, acquire, history


def test_a_chooser_in_a_fit(model, split, tmp_path):
    strategy = Chooser(["entropy", "user_coverage"], "val_rmse", floor=0.25)
    pool, acquire, history = fit(
        model, split, strategy,
        lambda pool, acquire: callbacks.SavePool(pool, tmp_path, acquire))
    by = pool.labelled_by()
    assert by["random"] >= 30 and sum(by.values()) == 120
    assert np.shape(history["share/random"]) == (3,)
    records = acquire.state()["strategy"]["records"]
    assert [one["round"] for one in records] == [0, 1, 2]
    given = np.array(records[1]["given"])
    first = pool.strategy[pool.round == 0]
    names = np.array(pool.strategies)[first]
    np.testing.assert_allclose(given, [
        np.mean(names == arm.name) for arm in strategy.strategies])
    lines = [json.loads(line) for line in (
        tmp_path / "explanations.jsonl").read_text().splitlines()]
    assert [one["round"] for one in lines] == [0] * 5 + [1] * 5 + [2] * 5
    assert lines == acquire.explanations
    who = {(pool.user_ids[u - 1], pool.item_ids[i - 1]): pool.strategies[s]
           for u, i, s in zip(pool.user, pool.item, pool.strategy) if s >= 0}
    assert all(who[one["user_id"], one["item_id"]] == one["strategy"]
               for one in lines)
    assert all(one["why"] and np.isfinite(one["utility"]) for one in lines)
    # A resumed run writes no line twice.
    state = json.loads((tmp_path / "state.json").read_text())["acquire"]
    fit(model, split, Chooser(["entropy", "user_coverage"], "val_rmse",
                              floor=0.25),
        lambda pool, acquire: callbacks.SavePool(pool, tmp_path, acquire),
        state=state, pool=pool, epochs=1)
    lines = (tmp_path / "explanations.jsonl").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 20


def test_stable_lists_end_buying(model, split, capsys):
    pool, acquire, history = fit(
        model, split, "random", lambda pool, acquire:
        callbacks.StopWhenStable(acquire, k=5, threshold=0.01, patience=2),
        epochs=9)
    assert len(history["rows"]) == 4 and acquire.stopped
    assert acquire.state()["stopped"] == acquire.stopped
    assert history["acquired"] == [40, 40, 40, 0]
    assert all(0.01 < one <= 1 for one in history["stability"][1:])
    assert "the top-5 lists kept" in capsys.readouterr().out


def test_lists_without_new_labels_are_not_stable(model, split):
    acquire = Acquire(pool=Pool.from_interactions(split.train, 0.2))
    stop = callbacks.StopWhenStable(acquire, threshold=0.5, patience=1)
    start(stop)
    model.linear_block = None  # it would move lists with the labels
    stop.model, logs = model, {}
    for epoch in range(3):
        stop.on_epoch_begin(epoch)
        assert not stop.reason(epoch, logs) and not logs
    acquire.pool.state[np.flatnonzero(acquire.pool.state == 0)[:3]] = 2
    stop.on_epoch_begin(3)
    assert "kept 100% of" in stop.reason(3, logs) and logs["stability"] == 1


def test_the_lists_leave_out_what_the_pool_held(model, split):
    pool, acquire, _ = fit(model, split, "random", epochs=1)
    stop = callbacks.StopWhenStable(acquire, k=50, users=7)
    stop.set_model(model)
    stop.on_train_begin()
    lists = stop.lists()
    assert lists.shape == (7, 50)
    for user, listed in zip(stop._users, lists):
        known = pool.item[pool.user == user] - 1
        others = np.setdiff1d(np.arange(len(pool.item_ids)), known)
        assert sorted(listed[listed >= 0]) == others.tolist()


def test_priors_rateability_and_quotas_in_a_fit(model, split):
    items = split.train.items
    half = items.index[:len(items) // 2]
    pool, _, _ = fit(
        model, split, acquisition.get("margin", rateable=True), epochs=1,
        prior=[priors.Embargo(items, half), lambda user, item:
               np.full(len(user), 2.0)])
    asked = pool.item[pool.ticket >= 0]
    assert len(asked) == 40 and asked.min() > len(half)
    with pytest.raises(ValueError, match="`prior` must be a finite"):
        fit(model, split, "random", epochs=1, prior=lambda user, item: -1)


def test_every_pair_is_streamed(model, split):
    pool = Pool.cross(split.train, [split.test])
    before = len(pool)
    pool, acquire, _ = fit(model, split, "popularity", epochs=1, pool=pool,
                           candidates="all")
    asked = np.flatnonzero(pool.ticket >= 0)
    assert len(asked) == 40 == len(pool) - before
    free = np.ones((len(pool.user_ids) + 1, len(pool.item_ids) + 1), bool)
    free[0] = free[:, 0] = False
    free[pool.user[:before], pool.item[:before]] = False
    free[split.test.user_code, split.test.item_code] = False
    best = np.sort(pool.item_traffic[np.nonzero(free)[1]])[-40:]
    np.testing.assert_array_equal(
        np.sort(pool.item_traffic[pool.item[asked]]), best)
    assert len(acquire.explanations) == 5
    with pytest.raises(ValueError, match="neither quotas nor rateability"):
        fit(model, split, acquisition.get("margin", rateable=True),
            epochs=1, candidates="all")
