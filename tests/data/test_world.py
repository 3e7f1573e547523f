"""World: a truth that is known, luck that is shared, days that pass."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal.data.sets.shop import TOPICS, WORDS
from tfrecal.data.world.clicks import seen
from tfrecal.data.world.world import DAY, World


def ids(world):
    return (world.users.index.to_numpy(object),
            world.items.index.to_numpy(object))


def logits(world, users, items):
    chance = world.attraction(users[:, None], items[None, :])
    return np.log(chance / (1 - chance))


def many_times(world, number):
    return world.now + np.arange(number) * DAY / number


def test_simulated_clicks_are_the_expected_ones():
    world = World(users=5, items=30, seed=3)
    users, items = ids(world)
    lists = np.array([items[n:n + 8] for n in range(len(users))])
    number = 20_000
    clicked = np.array([world.respond(
        np.repeat(u, number), shown, many_times(world, number)).sum(1).mean()
        for u, shown in zip(users, lists)])
    expected = world.expected_clicks(users, lists)
    slow = [sum(float(world.attraction(u, i)) / rank
                for rank, i in enumerate(shown, 1))
            for u, shown in zip(users, lists)]
    np.testing.assert_allclose(expected, slow)
    # The variance of a sum of independent clicks is below its mean.
    assert (abs(clicked - expected) < 4 * np.sqrt(expected / number)).all()


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_lower_ranks_are_looked_at_less(bias):
    world = World(users=2, items=20, seed=1, position_bias=bias)
    users, items = ids(world)
    best, number = world.best(users[0], 1)[0], 20_000
    others = items[items != best][:9]
    rates = []
    for rank in (1, 2, 5, 10):
        shown = np.insert(others, rank - 1, best)
        clicks = world.respond(users[0], shown, many_times(world, number))
        rates.append(clicks[:, rank - 1].mean())
    at_first = world.attraction(users[0], best)
    np.testing.assert_allclose(
        rates, at_first * np.array([1., 2., 5., 10.]) ** -bias, atol=0.015)


def test_position_and_liking_are_independent():
    """Clicks at two ranks of a visit, and of two users, do not correlate."""
    world = World(users=2, items=20, seed=2, position_bias=0.3)
    users, _ = ids(world)
    shown = world.best(users[0], 3)
    times = many_times(world, 20_000)
    clicks = np.column_stack([
        world.respond(users[0], shown, times),
        world.respond(users[1], shown, times)]).astype(float)
    clicks = clicks[:, clicks.std(0) > 0]
    away = np.corrcoef(clicks.T) - np.eye(clicks.shape[1])
    assert clicks.shape[1] >= 4 and abs(away).max() < 0.03


def test_paired_worlds_meet_the_same_luck():
    one, two = World(seed=5), World(seed=5)
    users, items = ids(one)
    one.log(2)
    for _ in range(3):
        one.visits()
        one.best(users, 3)
        for world in (one, two):
            world.next_day()
    pd.testing.assert_frame_equal(one.visits(), two.visits())
    pd.testing.assert_frame_equal(one.users, two.users)
    pd.testing.assert_frame_equal(one.items, two.items)
    user, time = one.visits().to_numpy(object)[:50].T
    a = np.tile(items[:10], (len(user), 1))
    b = a.copy()
    b[:, 5:] = items[10:15]
    first, second = one.respond(user, a, time), two.respond(user, b, time)
    assert first[:, :5].any()
    np.testing.assert_array_equal(first[:, :5], second[:, :5])
    single = [two.respond(u, shown, t) for u, shown, t in zip(user, a, time)]
    np.testing.assert_array_equal(first, single)


def test_a_liked_item_is_liked_at_each_rank_of_a_visit():
    world = World(users=50, items=20, seed=4, position_bias=0.0)
    users, items = ids(world)
    time = np.full(len(users), world.now)
    shown = np.tile(items[:8], (len(users), 1))
    forward = world.respond(users, shown, time)
    backward = world.respond(users, shown[:, ::-1], time)
    np.testing.assert_array_equal(forward, backward[:, ::-1])
    assert 0 < forward.mean() < 1


def test_other_seeds_and_other_days_are_other_worlds():
    one, two = World(seed=0), World(seed=1)
    assert not one.items["title"].equals(two.items["title"])
    before = one.visits()
    one.next_day()
    assert not one.visits()["user_id"].equals(before["user_id"])


@pytest.mark.parametrize("days", [0, 10, 30])
def test_tastes_drift_at_the_rate_that_is_asked_for(days):
    world = World(users=400, items=80, seed=0, drift=0.05)
    users, items = ids(world)
    bias = world._items.bias
    before = logits(world, users, items) - bias
    for _ in range(days):
        world.next_day()
    after = logits(world, users, items) - bias
    found = (before * after).mean() / np.sqrt(
        (before ** 2).mean() * (after ** 2).mean())
    assert found == pytest.approx(np.exp(-0.05 * days), abs=0.08)
    # Stationary: tastes get neither stronger nor weaker.
    assert after.std() == pytest.approx(before.std(), rel=0.1)


def test_without_drift_nothing_changes():
    world = World(users=20, items=20, drift=0.0)
    users, items = ids(world)
    before = logits(world, users, items)
    for _ in range(5):
        world.next_day()
    np.testing.assert_array_equal(before, logits(world, users, items))


def test_drift_changes_who_is_best_and_makes_old_lists_worse():
    world = World(seed=6, arrivals_items=0)
    users, _ = ids(world)
    old = world.best(users, 10)
    assert world.recall(users, old).min() == 1
    for _ in range(28):
        world.next_day()
    assert world.recall(users, old).mean() < 0.8
    assert world.expected_clicks(users, old).mean() < 0.9 * (
        world.expected_clicks(users, world.best(users, 10)).mean())


def test_users_and_items_arrive_and_are_seen():
    world = World(users=100, items=50, arrivals_users=2.5, arrivals_items=0.2)
    first = world.users, world.items
    for day in range(1, 11):
        known = set(world.users.index)
        world.next_day()
        assert world.day == day
        assert len(world.users) == 100 + int(2.5 * day)
        assert len(world.items) == 50 + int(0.2 * day)
        new = set(world.users.index) - known
        assert new and new <= set(world.visits()["user_id"])
    assert world.now - World().now == 10 * DAY
    for before, now in zip(first, (world.users, world.items)):
        pd.testing.assert_frame_equal(before, now.iloc[:len(before)])
        assert now.index.is_unique and now.notna().all(axis=None)
    assert (world.users["about"] != "").all()


def test_visits_are_of_the_day_in_order_and_a_few_users_make_most():
    world = World(users=500, seed=1, arrivals_users=0)
    counts = pd.Series(0, world.users.index)
    for _ in range(20):
        visits = world.visits()
        assert visits["time"].is_monotonic_increasing
        assert visits["time"].between(world.now, world.now + DAY).all()
        counts = counts.add(visits["user_id"].value_counts(), fill_value=0)
        world.next_day()
    assert counts.sum() == pytest.approx(500 * 20 * 0.5, rel=0.15)
    # Were all alike, chance would give the busiest tenth less than a fifth.
    assert counts.nlargest(50).sum() > 0.3 * counts.sum()


def test_best_and_recall_by_slow_loops():
    world = World(users=6, items=25, seed=2)
    users, items = ids(world)
    lists = np.array([items[n:n + 4] for n in range(len(users))])
    share = []
    for user, shown, best in zip(users, lists, world.best(users, 4)):
        chance = [float(world.attraction(user, i)) for i in items]
        ranked = [items[n] for n in np.argsort(chance)[::-1]]
        assert ranked[:4] == list(best)
        share.append(len(set(shown) & set(best)) / 4)
    np.testing.assert_allclose(world.recall(users, lists), share)
    assert 0 < np.mean(share) < 1
    assert world.recall(users[0], world.best(users[0], 4)) == 1


def test_the_best_lists_earn_most():
    world = World(seed=8)
    users, items = ids(world)
    rng = np.random.default_rng(0)
    best = world.expected_clicks(users, world.best(users, 10))
    for _ in range(5):
        other = rng.permuted(np.tile(items, (len(users), 1)), axis=1)[:, :10]
        assert (world.expected_clicks(users, other) < best).all()


def test_the_log_is_what_was_popular():
    world = World(seed=0)
    users, items = ids(world)
    data = world.log(days=28)
    counts = data.frame["item_id"].value_counts()
    assert counts.iloc[:20].sum() > 2 * 0.1 * counts.sum()
    shown = counts.reindex(items, fill_value=0)
    liked = world.attraction(users[:, None], items).mean(0)
    assert np.corrcoef(shown.rank(), liked)[0, 1] > 0.3
    # Shares of labels are no shares of liking: the log is no fair sample.
    assert data.label.mean() > 1.5 * liked.mean()


def test_the_log_is_clean_and_the_same_whenever_it_is_asked_for():
    world = World(seed=9)
    data = world.log(days=5)
    users, items = world.users, world.items
    assert data.scale == (0, 1) and set(data.label) == {0, 1}
    assert not data.frame.duplicated(["user_id", "item_id"]).any()
    time = data.frame["timestamp"]
    assert time.is_monotonic_increasing
    assert time.between(world.now - 5 * DAY, world.now - 1).all()
    assert list(data.users["about"]) == list(users["about"])
    assert list(data.items["title"]) == list(items["title"])
    for _ in range(3):
        world.next_day()
    assert world.log(days=5).fingerprint() == data.fingerprint()
    longer = world.log(days=8).frame["timestamp"]
    assert longer.min() < world.now - 8 * DAY


def test_the_log_does_not_know_the_future():
    world = World(users=300, items=100, arrivals_users=100,
                  arrivals_items=40)
    frame = world.log(days=2).frame
    early = frame["timestamp"] < world.now - DAY
    for name, there in (("user_id", 100), ("item_id", 20)):
        ids = frame[name].str[1:].astype(int)
        assert ids[early].max() <= there < ids[~early].max()


def test_a_pair_that_was_ever_clicked_is_a_click():
    world = World(users=20, items=5, activity=20.0, drift=0.0,
                  arrivals_users=0, arrivals_items=0, position_bias=0.0)
    users, items = ids(world)
    data = world.log(days=30)
    assert len(data) == pytest.approx(len(users) * len(items), abs=10)
    likely = world.attraction(data.frame["user_id"], data.frame["item_id"])
    assert data.label[likely > 0.05].mean() > 0.95


def test_seen_is_all_down_to_the_last_click():
    clicks = np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(seen(clicks == 1), [
        [True] * 4 + [False], [False] * 5, [True] + [False] * 4])


def test_texts_tell_topics():
    """Nearest centroid of words finds the topic, far above chance."""
    world = World(items=300, seed=0)
    text = world.items["title"] + " " + world.items["description"]
    words = [set(t.replace(",", "").split()) for t in text]
    counts = np.array([[word in of for word in WORDS] for of in words], float)
    topic = world._items.traits[:, :len(TOPICS)].argmax(1)
    train = np.arange(len(topic)) < 150
    centroids = np.array([counts[train & (topic == t)].mean(0)
                          for t in range(len(TOPICS))])
    nearest = (counts @ centroids.T / np.linalg.norm(centroids, axis=1)
               ).argmax(1)
    assert (nearest == topic)[~train].mean() > 4 / len(TOPICS)
    assert set().union(*words) <= set(WORDS)


def test_users_say_what_they_like_but_not_for_sure():
    world = World(users=500, topics=6, seed=0)
    names = list(TOPICS)[:6]
    favourite = world._taste[:, :6].argmax(1)
    told = [names[f] in about for f, about in
            zip(favourite, world.users["about"])]
    assert 1.5 * 2 / 6 < np.mean(told) < 0.95


@pytest.mark.parametrize("options", [
    {"users": 0}, {"items": 0}, {"topics": 1}, {"topics": 99}, {"seed": -1},
    {"drift": -0.1}, {"drift": float("nan")}, {"arrivals_users": -1},
    {"arrivals_items": float("inf")}, {"position_bias": -1},
    {"activity": -1}])
def test_numbers_that_cannot_be_are_refused(options):
    (name, value), = options.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .*={value}"):
        World(**options)


def test_strangers_and_other_days_are_refused():
    world = World(users=5, items=5)
    users, items = ids(world)
    with pytest.raises(ValueError, match="user_id must .*'nobody'"):
        world.respond("nobody", items, world.now)
    with pytest.raises(ValueError, match="item_id must .*'nothing'"):
        world.attraction(users[0], "nothing")
    with pytest.raises(ValueError, match="lists equally long"):
        world.respond(users[:2], [items[:2], items[:3]], world.now)
    for time in (world.now - 1, world.now + DAY):
        with pytest.raises(ValueError, match="must lie in day 0"):
            world.respond(users[0], items, time)
    with pytest.raises(ValueError, match="log needs a click"):
        World(users=1, items=1, activity=0).log(2)
