"""What a retraining learns from, and how the gate's metric is made."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tfrecal.data.interactions import Interactions
from tfrecal.pool.pool import Pool
from tfrecal.retrain import judging
from tfrecal.retrain.material import REASONS, NothingNew, base_labels, gather

_LABELS = ["user_id", "item_id", "label", "timestamp"]


def tables():
    return Interactions.from_frame(
        pd.DataFrame([("a", "x", 1, 10), ("b", "y", 0, 10), ("c", "x", 1, 10)],
                     columns=_LABELS),
        users=pd.DataFrame({"age": [20, 30, 40]}, index=["a", "b", "c"]
                           ).rename_axis("user_id"),
        items=pd.DataFrame({"title": ["X", "Y"]}, index=["x", "y"]
                           ).rename_axis("item_id"), scale=(0, 1))


def base():
    return tables().frame[_LABELS].assign(
        rank=np.nan, propensity=np.nan, explored=False)


def responses(*rows):
    """(user, item, kind, time); received in the order given, from 1."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "kind", "time"])
    return frame.assign(
        request_id="", received=np.arange(1.0, len(rows) + 1),
        value=(frame["kind"] == "click") * 1.0)


SHOWN = pd.DataFrame(columns=[
    "request_id", "rank", "time", "user_id", "item_id", "propensity",
    "strategy", "received"]).astype({"rank": int, "time": float,
                                     "propensity": float, "received": float})
EVENTS = responses(
    ("a", "y", "click", 100.0), ("new", "x", "click", 110.0),
    ("b", "y", "click", 120.0), ("a", "z", "click", 130.0),
    ("c", "y", "skip", 140.0), ("a", "strange", "click", 150.0))
ITEMS = pd.DataFrame({"title": ["Z", "other"]}, index=["z", "x"]
                     ).rename_axis("item_id")


def made(received=None, **options):
    events = EVENTS if received is None else EVENTS.assign(received=received)
    return gather(base(), tables(), events, SHOWN, **{
        "served_until": -np.inf, "now": 200.0, "holdout": 0.4,
        "patience": 0.0, "items": ITEMS, **options})


def labels(part):
    return {(row.user_id, row.item_id): row.label
            for row in part.frame.itertuples()}


def test_feedback_joins_the_log_and_the_newest_judges():
    found = made()
    # The newest two of five pairs judge; one is on an unknown item.
    assert labels(found.held_out) == {("a", "z"): 1, ("c", "y"): 0}
    assert labels(found.train) == {
        ("a", "x"): 1, ("c", "x"): 1, ("a", "y"): 1, ("new", "x"): 1,
        ("b", "y"): 1}  # a click since, where the log has a 0
    assert labels(found.before) == labels(tables())
    assert found.counts["of_unknown_items"] == 1
    assert found.counts["new_pairs"] == 5


def test_ids_keep_their_places_and_columns():
    train = made().train
    assert train.users.index.tolist() == ["a", "b", "c", "new"]
    assert train.items.index.tolist() == ["x", "y", "z"]
    assert train.items["title"].tolist() == ["X", "Y", "Z"]
    assert train.users["age"].tolist()[:3] == [20, 30, 40]
    assert np.isnan(train.users.loc["new", "age"])


def test_what_the_served_model_has_heard_is_old():
    found = made(served_until=3.0)
    assert labels(found.before) == {
        ("a", "x"): 1, ("c", "x"): 1, ("a", "y"): 1, ("b", "y"): 1}
    assert found.counts["new_pairs"] == 2 and len(found.held_out) == 1
    with pytest.raises(ValueError, match="needs new feedback"):
        made(served_until=6.0)


def test_a_pair_that_judges_is_not_trained_on():
    found = made(holdout=0.6)  # b's click on y among them, and the log's 0
    assert ("b", "y") in labels(found.held_out)
    assert ("b", "y") not in labels(found.train)


def test_the_erased_are_gone_unless_they_came_back():
    found = made(erased={"c": 1e9, "b": 50.0})
    assert "c" in found.train.users.index  # has a response since
    assert ("c", "x") not in labels(found.train)
    found = gather(
        base(), tables(), EVENTS[EVENTS["user_id"] != "c"], SHOWN,
        served_until=-np.inf, now=200.0, holdout=0.4, patience=0.0,
        items=ITEMS, erased={"c": 1e9, "b": 50.0})
    assert found.train.users.index.tolist() == ["a", "b", "new"]
    assert labels(found.held_out)[("b", "y")] == 1  # came back
    assert not any(user == "c" for user, _ in labels(found.before))


def test_an_erased_user_who_came_back_has_no_old_columns():
    found = made(erased={"c": 1e9})
    assert np.isnan(found.train.users.loc["c", "age"])
    today = pd.DataFrame({"age": [41]}, index=["c"]).rename_axis("user_id")
    found = made(erased={"c": 1e9}, users=today)
    assert found.train.users.loc["c", "age"] == 41
    # Who was erased before the served model was made is another matter.
    found = made(erased={"c": 50.0}, served_until=60.0, now=300.0,
                 received=np.arange(71.0, 77.0))
    assert found.train.users.loc["c", "age"] == 40


def test_ids_of_older_stores_are_those_of_the_tables():
    """White space and ".0" make no phantoms."""
    log = pd.DataFrame([("7", "x", 1, 10), ("b", "9", 0, 10)],
                       columns=_LABELS)
    served = Interactions.from_frame(log, scale=(0, 1))
    events = responses(
        ("7.0", "9", "click", 100.0), (" b", "x ", "click", 110.0),
        ("7", "9.0", "skip", 120.0), ("40.0", "x", "click", 130.0),
        (" 40", "9", "click", 140.0), (" ", "x", "click", 150.0))
    found = gather(
        served.frame[_LABELS].assign(rank=np.nan, propensity=np.nan,
                                     explored=False), served, events, SHOWN,
        served_until=-np.inf, now=200.0, holdout=0.2, patience=0.0)
    assert found.train.users.index.tolist() == ["7", "b", "40"]
    assert found.train.items.index.tolist() == ["9", "x"]
    assert {**labels(found.train), **labels(found.held_out)} == {
        ("7", "x"): 1, ("7", "9"): 0, ("b", "9"): 0, ("b", "x"): 1,
        ("40", "x"): 1, ("40", "9"): 1}
    assert found.counts["without_id"] == found.counts["replaced"] == 1
    assert any("5 `user_id` with white space" in note
               for note in found.notes)
    assert found.responses["user_id"].isin(["7", "b", "40"]).all()


def test_each_response_is_learned_from_or_counted_once():
    rng = np.random.default_rng(0)
    log = pd.DataFrame([("a", "x", 2, 10), ("b", "y", 5, 10)],
                       columns=_LABELS)
    served = Interactions.from_frame(log, scale=(2, 5))
    size = 400
    kind = rng.choice(["rating", "click", "skip"], size, p=[0.8, 0.1, 0.1])
    events = pd.DataFrame({
        "user_id": rng.choice(["a", "b", "new", ""], size),
        "item_id": rng.choice(["x", "y", "z"], size), "kind": kind,
        "time": rng.uniform(0, 1000, size), "request_id": "",
        "received": np.arange(1.0, size + 1),
        "value": rng.integers(1, 7, size)})
    found = gather(
        served.frame[_LABELS].assign(rank=np.nan, propensity=np.nan,
                                     explored=False), served, events, SHOWN,
        served_until=-np.inf, now=800.0, holdout=0.2, patience=0.0)
    left = {name: found.counts[name] for name in REASONS}
    good = events[events["user_id"] != ""]
    soon = good[good["time"] <= 800]
    rated = soon[soon["kind"] == "rating"]
    on = rated[rated["value"].between(2, 5)]
    last = on.sort_values("time").drop_duplicates(
        ["user_id", "item_id"], keep="last")
    assert left == {
        "without_id": size - len(good), "later_than_now":
        len(good) - len(soon), "responses_of_other_kinds":
        len(soon) - len(rated), "off_the_scale": len(rated) - len(on),
        "replaced": len(on) - len(last),
        "of_unknown_items": (last["item_id"] == "z").sum()}
    assert size == sum(left.values()) + found.counts["new_pairs"]
    said = found.notes[-1]
    assert f"{left['off_the_scale']} off the scale (2 to 5)" in said
    assert any("2 users are new" in note or "1 of 3 users are new" in note
               for note in found.notes)
    assert any("1 of 3 items are new, such as 'z'" in note
               for note in found.notes)


def test_feedback_that_teaches_nothing_says_why():
    served = Interactions.from_frame(
        pd.DataFrame([("a", "x", 2, 10), ("b", "y", 5, 10)],
                     columns=_LABELS), scale=(2, 5))
    events = pd.DataFrame({
        "user_id": "a", "item_id": "x", "kind": "rating", "value": [1, 1],
        "time": [20.0, 30.0], "request_id": "", "received": [1.0, 2.0]})
    with pytest.raises(NothingNew, match="2 off the scale .2 to 5.*--items"):
        gather(served.frame[_LABELS].assign(
            rank=np.nan, propensity=np.nan, explored=False), served, events,
            SHOWN, served_until=-np.inf, now=99.0, holdout=0.2, patience=0.0)


def test_most_users_being_new_is_said_aloud():
    events = responses(*[(f"u{n}", "x", "click", 100.0 + n)
                         for n in range(312)],
                       *[("abc"[n % 3], "y", "click", 500.0 + n)
                         for n in range(9)])
    found = gather(base(), tables(), events, SHOWN, served_until=-np.inf,
                   now=900.0, holdout=0.2, patience=0.0)
    assert any("312 of 315 users are new, such as 'u0'. They join the model. "
               "Most are new: check" in note for note in found.notes)


def test_places_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    request = rng.integers(0, 7, 60)
    score = rng.normal(size=60)
    found = judging._places(request, score)
    for row in range(60):
        mine = score[request == request[row]]
        assert found[row] == (mine > score[row]).sum()


def test_the_metric_of_lists_is_unbiased(monkeypatch):
    """Clicks fall where the served order put items; the estimate does not."""
    rng = np.random.default_rng(1)
    users, items, k, requests = 40, 30, 8, 12_000
    attraction = rng.beta(0.5, 2.0, (users, items))
    scores = [attraction * rng.lognormal(0, noise, attraction.shape)
              for noise in (1.5, 0.3)]  # the candidate knows more
    who = rng.integers(0, users, requests)
    shown_items = np.argsort(rng.random((requests, items)), axis=1)[:, :k]
    # Lists hold chance items, in the served model's order.
    order = np.argsort(-np.take_along_axis(
        scores[0][who], shown_items, axis=1), axis=1)
    shown_items = np.take_along_axis(shown_items, order, axis=1)
    liked = np.take_along_axis(attraction[who], shown_items, axis=1)
    looked = 1 / np.arange(1, k + 1)
    clicks = rng.random(liked.shape) < liked * looked
    shown = pd.DataFrame({
        "request_id": np.repeat([f"r{n}" for n in range(requests)], k),
        "rank": np.tile(np.arange(1, k + 1), requests), "time": 5.0,
        "user_id": np.repeat(who, k).astype(str),
        "item_id": shown_items.ravel().astype(str)})
    told = shown[clicks.ravel()].assign(kind="click")
    material = SimpleNamespace(
        held_out=SimpleNamespace(frame=pd.DataFrame({"timestamp": [0]})),
        train=SimpleNamespace(codes=lambda u, i: (
            u.astype(int).to_numpy() + 1, i.astype(int).to_numpy() + 1)))
    monkeypatch.setattr(judging, "_scores", lambda *_: [
        lambda codes, table=table: table[codes - 1] for table in scores])
    found = judging.values(
        None, None, material, shown, told, metric="list_dcg",
        position_bias=1.0, clip=float(k))

    def truth(table):
        best = np.argsort(-np.take_along_axis(
            table[who], shown_items, axis=1), axis=1)
        gains = np.take_along_axis(liked, best, axis=1) / np.log2(
            np.arange(k) + 2)
        return np.bincount(who, gains.sum(1)) / np.bincount(who)

    expected = [truth(table) for table in scores]
    assert found[0].mean() == pytest.approx(1)
    ratio = expected[1].mean() / expected[0].mean()
    assert ratio > 1.05
    assert found[1].mean() == pytest.approx(ratio, abs=0.02)
    # Without the correction the served order looks as good.
    biased = judging.values(
        None, None, material, shown, told, metric="list_dcg",
        position_bias=0.0, clip=float(k))
    assert biased[1].mean() < ratio - 0.03


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@0"])
def test_an_unknown_metric(metric):
    with pytest.raises(ValueError, match="must be list_dcg, rmse"):
        judging.values(None, None, None, None, None, metric=metric,
                       position_bias=1.0, clip=10.0)


def test_parts_of_seconds_stay_in_the_first_labels(shop):
    rows = shop.take(range(20))
    rows = rows.with_frame(rows.frame.assign(
        timestamp=rows.frame["timestamp"] + 0.25))
    found = base_labels(Pool.from_interactions(rows, initial=1.0))
    assert found["timestamp"].tolist() == rows.frame["timestamp"].tolist()


def test_lists_of_the_log_and_of_the_feedback_stay_together(shop):
    """Where the run learned from lists, its retrainings do."""
    rows = shop.take(range(40))
    rows = rows.with_frame(rows.frame.assign(
        list_id=[f"of {user}" for user in rows.frame["user_id"]]))
    pool = Pool.from_interactions(rows, initial=1.0)
    user = rows.frame["user_id"].iloc[0]
    seen = set(rows.frame["item_id"][rows.frame["user_id"] == user])
    first, second = rows.items.index[~rows.items.index.isin(seen)][:2]
    events = responses((user, first, "rating", 9e9),
                       (user, second, "rating", 9.1e9)).assign(
                           request_id="r", value=5.0)
    shown = pd.DataFrame({
        "request_id": "r", "rank": [1, 2], "time": 8.9e9, "user_id": user,
        "item_id": [first, second], "propensity": 1.0, "strategy": "",
        "received": 1.0})
    found = gather(base_labels(pool), rows, events, shown,
                   served_until=-np.inf, now=1e10, holdout=0, patience=0.0)
    alone = gather(base_labels(pool).drop(columns="list_id"), rows, events,
                   shown, served_until=-np.inf, now=1e10, holdout=0,
                   patience=0.0)
    assert not alone.pool(alone.train).has_lists
    told = ((found.train.frame["item_id"] == first)
            & (found.train.frame["user_id"] == user))  # the newest judges
    assert found.train.frame["list_id"][told].tolist() == ["request:r"]
    of_log = found.train.frame[~told]
    lists = of_log.groupby("user_id")["list_id"].nunique()
    assert (lists == 1).all() and of_log["list_id"].nunique() == len(lists)
    assert found.pool(found.train).has_lists
