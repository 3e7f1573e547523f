"""Exploration slots: what is shown, and with exactly what probability."""
from __future__ import annotations

import os
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from tfrecal.feedback.exploration import Exploration, chance_to_be_greatest
from tfrecal.feedback.wanted_pairs import Wanted, by_user
from tfrecal.serving.client import client as client_module
from tfrecal.serving.client.answers import Recommendations, Scores
from tfrecal.serving.client.connection import ServingUnavailable

ITEMS = [f"i{n}" for n in range(10)]


def wants(*items, user="u"):
    """So many wanted items, their utility falling."""
    return lambda: {user: [(item, "BALD", -n)
                           for n, item in enumerate(items)]}


def lists(exploration, count, items=ITEMS, exclude=None, score=None,
          user="u"):
    return exploration.explore(
        [f"r{n}" for n in range(count)], [user] * count, [items] * count,
        [np.arange(len(items), 0, -1)] * count,
        None if exclude is None else [exclude] * count, score)


def beliefs(users, items):
    """Ratings by the number in an item's name."""
    number = np.array([int(item[1:]) for item in items], float)
    return Scores(number, 3 + np.sin(number), 0.2 + number % 3, 1)


def table(found, items=ITEMS):
    """place -> item -> (how often, propensity)."""
    seen = [{} for _ in items]
    for row in found:
        for place, (item, chance) in enumerate(zip(
                row.item_ids, row.propensities)):
            count, before = seen[place].get(item, (0, chance))
            assert before == chance  # of one item and place
            seen[place][item] = count + 1, chance
    return seen


def assert_frequent(seen, count):
    """Propensities are the frequencies, within 5 standard errors."""
    for place in seen:
        for times, chance in place.values():
            error = np.sqrt(chance * (1 - chance) / count)
            assert abs(times / count - chance) <= 5 * error + 1e-12
        total = sum(chance for _, chance in place.values())
        assert total == pytest.approx(1, abs=1e-6)


def test_epsilon_greedy_propensities_are_the_frequencies():
    wanted = [f"w{n}" for n in range(5)]
    seen = table(lists(Exploration(wants(*wanted), epsilon=0.6), 4000))
    assert_frequent(seen, 4000)
    for place, row in enumerate(seen):
        if place not in (4, 9):
            assert row == {ITEMS[place]: (4000, 1.0)}
    assert {item: chance for item, (_, chance) in seen[4].items()} == \
        pytest.approx({"i4": 0.4, "w0": 0.2, "w2": 0.2, "w4": 0.2})
    assert {item: chance for item, (_, chance) in seen[9].items()} == \
        pytest.approx({"i9": 0.4, "w1": 0.3, "w3": 0.3})


def test_thompson_propensities_are_the_frequencies():
    exploration = Exploration(wants("w11", "w12", "w16", "w13", "w14"),
                              method="thompson")
    seen = table(lists(exploration, 3000, score=beliefs))
    assert_frequent(seen, 3000)
    assert set(seen[4]) == {"i4", "w11", "w16", "w14"}
    assert set(seen[9]) == {"i9", "w12", "w13"}
    assert sum(len(row) for row in seen) == 8 + 4 + 3
    score = beliefs(None, ["i9", "w12", "w13"])
    expected = chance_to_be_greatest(score.rating, score.uncertainty)
    assert [seen[9][item][1] for item in ("i9", "w12", "w13")] == \
        pytest.approx(expected)


def test_slots_are_independent():
    found = lists(Exploration(wants("a", "b"), epsilon=0.5), 4000)
    both = [(row.item_ids[4] == "a", row.item_ids[9] == "b")
            for row in found]
    assert np.mean([a and b for a, b in both]) == pytest.approx(
        0.25, abs=5 * np.sqrt(0.25 * 0.75 / 4000))


@pytest.mark.parametrize("method", ["epsilon_greedy", "thompson"])
def test_lists_hold_no_item_twice_and_nothing_excluded(method):
    rng = np.random.default_rng(0)
    catalogue = [f"i{n}" for n in range(40)]
    for trial in range(60):
        items = list(rng.permutation(catalogue)[:rng.integers(0, 25)])
        wanted = list(rng.choice(catalogue, rng.integers(0, 30)))
        exclude = [item for item in rng.permutation(catalogue)[:8]
                   if item not in items]
        exploration = Exploration(wants(*wanted), method=method, seed=trial,
                                  share=0.3, epsilon=1.0)
        (row,) = lists(exploration, 1, items, exclude, beliefs)
        assert len(set(row.item_ids)) == len(items) == len(row.item_ids)
        assert not set(row.item_ids) & set(exclude)
        assert len(row.scores) == len(row.propensities) == len(items)
        for place, item in enumerate(items):
            mine = row.item_ids[place] == item
            assert (row.strategies[place] == "") == mine
            assert np.isnan(row.scores[place]) == (not mine)
        assert 0 < row.propensities.min(initial=1) <= 1
        assert row.propensities.max(initial=1) <= 1


@pytest.mark.parametrize("size, share, places", [
    (10, 0.2, [4, 9]), (10, 0.1, [9]), (9, 0.1, []), (4, 0.2, []),
    (7, 0.2, [6]), (30, 0.1, [9, 19, 29]), (2, 0.5, [1]),
    (5, 0.5, [1, 4]), (1, 0.5, []), (0, 0.5, [])])
def test_slots(size, share, places):
    wanted = [f"w{n}" for n in range(40)]
    exploration = Exploration(wants(*wanted), share=share, epsilon=1)
    (row,) = lists(exploration, 1, [f"i{n}" for n in range(size)])
    assert [n for n, strategy in enumerate(row.strategies)
            if strategy] == places


def test_wanted_items_are_dealt_by_utility_and_ten_to_a_slot():
    pairs = [(f"w{n}", f"s{n}", n) for n in range(50)]
    exploration = Exploration(lambda: {"u": pairs}, epsilon=1)
    seen = table(lists(exploration, 600))
    assert set(seen[4]) == {f"w{n}" for n in range(49, 30, -2)}
    assert set(seen[9]) == {f"w{n}" for n in range(48, 29, -2)}
    assert {chance for _, chance in seen[4].values()} == {0.1}
    row = lists(exploration, 1)[0]
    assert row.strategies[4] == "s" + row.item_ids[4][1:]


def test_other_users_and_shown_items_change_nothing():
    for exploration, user in (
            (Exploration(wants("w"), epsilon=1), "other"),
            (Exploration(wants(), epsilon=1), "u"),
            (Exploration(wants("i9", "i0"), epsilon=1), "u")):
        (row,) = lists(exploration, 1, user=user)
        assert row.item_ids == ITEMS and set(row.propensities) == {1}
        np.testing.assert_array_equal(row.scores, np.arange(10, 0, -1))


def test_seed_and_request_fix_the_draws():
    wanted = [f"w{n}" for n in range(20)]
    one, same, other = (Exploration(wants(*wanted), seed=seed)
                        for seed in (0, 0, 1))
    first = [row.item_ids for row in lists(one, 50)]
    assert first == [row.item_ids for row in lists(one, 50)]
    assert first[::-1] == [
        same.explore([f"r{n}"], ["u"], [ITEMS], [np.zeros(10)])[0].item_ids
        for n in range(49, -1, -1)]
    assert first != [row.item_ids for row in lists(other, 50)]
    assert len(set(map(tuple, first))) > 10


def test_thompson_asks_once_for_a_batch_and_each_pair_once():
    calls = []

    def score(users, items):
        calls.append(list(zip(users, items)))
        return beliefs(users, items)

    exploration = Exploration(wants("w1", "w2"), method="thompson")
    lists(exploration, 7, score=score)
    assert [sorted(call) for call in calls] == [
        [("u", "i4"), ("u", "i9"), ("u", "w1"), ("u", "w2")]]
    lists(exploration, 7, user="other", score=score)
    assert len(calls) == 1


def failing(error):
    def score(users, items):
        raise error
    return score


@pytest.mark.parametrize("score", [
    failing(ServingUnavailable("gone", grpc.StatusCode.UNAVAILABLE)),
    failing(ValueError("The model must answer with `score`")),
    lambda users, items: beliefs(users, items)._replace(
        uncertainty=np.full(len(items), np.nan))])
def test_thompson_without_scores_leaves_lists_as_they_are(score, caplog):
    exploration = Exploration(wants("w1"), method="thompson")
    for row in lists(exploration, 3, score=score):
        assert row.item_ids == ITEMS and set(row.propensities) == {1}
    assert caplog.text.count("`method` thompson") == 1


def test_draws_without_uncertainty():
    exploration = Exploration(wants("w1", "w2"), method="thompson")

    def score(users, items):
        return Scores(None, np.array([item == "w1" for item in items]),
                      np.zeros(len(items)), 1)

    for row in lists(exploration, 20, score=score):
        assert row.item_ids[4] == "w1" and row.item_ids[9] in ("i9", "w2")
        assert row.propensities[[4, 9]] == pytest.approx([1, 0.5])


def test_an_unknown_pair_is_drawn_by_its_mean():
    """One unknown user does not end the exploration of the others."""
    exploration = Exploration(wants("w1", "w2"), method="thompson")

    def score(users, items):
        unknown = np.array([item == "w2" for item in items])
        return Scores(None, np.array([item[0] == "w" for item in items]),
                      np.where(unknown, np.nan, 0), 1, np.where(
                          unknown, "none", "user").tolist())

    for row in lists(exploration, 20, score=score):
        assert (row.item_ids[4], row.item_ids[9]) == ("w1", "w2")


def test_chances_of_two_are_a_normal_probability():
    rng = np.random.default_rng(0)
    for _ in range(50):
        mean, sd = rng.normal(size=2), 10 ** rng.uniform(-3, 1, 2)
        expected = norm.cdf((mean[0] - mean[1]) / np.hypot(*sd))
        assert chance_to_be_greatest(mean, sd) == pytest.approx(
            [expected, 1 - expected], abs=1e-9)


def test_chances_beside_adaptive_quadrature_and_simulation():
    rng = np.random.default_rng(1)
    for size in (1, 3, 6):
        mean, sd = rng.normal(size=size), rng.uniform(0.2, 2, size)
        found = chance_to_be_greatest(mean, sd)

        def integrand(x, i):
            others = np.delete(norm.cdf(x, mean, sd), i)
            return norm.pdf(x, mean[i], sd[i]) * others.prod()

        expected = [quad(integrand, -np.inf, np.inf, (i,), epsabs=1e-11)[0]
                    for i in range(size)]
        np.testing.assert_allclose(found, expected, atol=1e-9)
        draws = rng.normal(mean, sd, (100_000, size)).argmax(axis=1)
        share = np.bincount(draws, minlength=size) / 100_000
        np.testing.assert_allclose(found, share, atol=0.01)


def test_chances_of_equals_and_of_very_different_scales():
    np.testing.assert_allclose(
        chance_to_be_greatest(np.zeros(7), np.ones(7)), 1 / 7, atol=1e-12)
    # A sure one beside two wide ones: 0 is the greatest where both are below.
    np.testing.assert_allclose(
        chance_to_be_greatest([0, 0, 0], [1e-6, 1, 50]),
        [0.25, *chance_above_zero(1, 50)], atol=1e-6)
    np.testing.assert_allclose(
        chance_to_be_greatest([0, 1000], [1, 1]), [0, 1], atol=1e-12)


def chance_above_zero(one, other):
    """P(the first of two centred draws is the greater and above 0)."""
    angle = np.arctan(other / one)
    return [angle_share(np.pi / 2 - angle), angle_share(angle)]


def angle_share(angle):
    # In units of sd the plane is symmetric about 0; the region is a sector
    # from the boundary x sd_x = y sd_y through the axis to where x is 0.
    return (angle + np.pi / 2) / (2 * np.pi)


def test_wanted_pairs_are_read_again(caplog):
    answers = [{"u": [("c", "s", np.nan), ("a", "s", 1.0), ("b", "s", 2.0)]},
               OSError("down"),
               {"u": [("a", "", 1.0)]}, {}]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = Wanted(read, 1e9)
    assert found.of("u") == [("b", "s"), ("a", "s"), ("c", "s")]
    assert found.of("v") == []
    found.refresh()
    assert found.of("u") == [("b", "s"), ("a", "s"), ("c", "s")]
    assert "Received: OSError('down')" in caplog.text
    found.refresh()  # no strategy is named
    assert found.of("u") == [("b", "s"), ("a", "s"), ("c", "s")]
    found.refresh()
    assert found.of("u") == []


def test_wanted_pairs_are_read_in_the_background():
    reads = []

    def read():
        reads.append(os.getpid())
        return {"u": [("a", "s", len(reads))]}

    found = Wanted(read, 0.01)
    assert len(reads) == 1
    found.of("u")
    until = time.monotonic() + 5
    while len(reads) < 3:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_pairs_by_user():
    frame = pd.DataFrame({
        "ticket": [1, 2, 3], "user_id": ["u", "v", "u"],
        "item_id": ["a", "a", "b"], "strategy": ["S", "", "T"],
        "utility": [1.0, 2.0, 3.0]})
    assert by_user(frame) == {"u": [("a", "S", 1.0), ("b", "T", 3.0)],
                              "v": [("a", "question", 2.0)]}
    assert by_user(frame[:0]) == {}


def test_a_client_explores_and_records_what_it_returns():
    recorded = []
    log = SimpleNamespace(
        new_id=iter("abcdefghij").__next__,
        shown=lambda *args, **more: recorded.append((*args, more)))
    explore = Exploration(wants("w0", "w1", "w2", "i3"), epsilon=1)
    shop = client_module.Recommender("localhost:1", log=log, explore=explore)
    base = Recommendations([ITEMS, ITEMS], [np.ones(10, np.float32)] * 2, 3)
    shop._ranked_lists = lambda call, k, **inputs: base
    found = shop.recommend(["u", "nobody"], exclude=[["w0", b"w2"], []])
    assert found.item_ids[0] == [*ITEMS[:4], "w1", *ITEMS[5:]]
    assert found.item_ids[1] == ITEMS and found.version == 3
    assert np.flatnonzero(np.isnan(found.scores[0])).tolist() == [4]
    user, items, more = recorded[0]
    assert (user, items) == ("u", found.item_ids[0])
    assert more["request_id"] == found.request_ids[0]
    assert more["strategies"] == [""] * 4 + ["BALD"] + [""] * 5
    assert more["propensities"].tolist() == [1] * 10  # epsilon is 1
    assert len(recorded) == 2
    searched = shop.search(["a", "b"], users=["u", "u"])
    assert searched.item_ids == base.item_ids


@pytest.mark.parametrize("arguments, text", [
    ({"share": 0}, "`share` must lie in \\(0, 0.5\\]. .* share=0"),
    ({"share": 0.6}, "`share`"), ({"epsilon": 0}, "`epsilon`"),
    ({"epsilon": 1.1}, "`epsilon` must lie in \\(0, 1\\]"),
    ({"method": "ucb"}, "`method` must be one of .* Received: method='ucb'"),
    ({"seconds": 0}, "`seconds` must be a positive number")])
def test_arguments_that_cannot_be(arguments, text):
    with pytest.raises(ValueError, match=text):
        Exploration(dict, **arguments)


def test_a_client_does_not_explore_without_a_log():
    with pytest.raises(ValueError, match="`explore` must come with a `log`"):
        client_module.Recommender("localhost:1", explore=Exploration(dict))


def test_ids_are_those_of_tables():
    wanted = Exploration(lambda: {" u": [("i77 ", "BALD", 2.0)],
                                  "u\u00a0": [("i78", "BALD", 1.0)]},
                         epsilon=1.0)
    for user in ("u", "\u3000u "):
        seen = {item for row in lists(wanted, 20, user=user)
                for item in row.item_ids}
        assert seen >= {"i77", "i78"} and "i77 " not in seen
    seen = {item for row in lists(wanted, 20, exclude=["\u2003i77"])
            for item in row.item_ids}
    assert "i77" not in seen and "i78" in seen
