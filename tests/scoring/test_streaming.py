"""The best pairs of a stream are those of a full sort."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.hashes import hashed
from tfrecal.scoring.stream.best_pairs import TIE, top_pairs
from tfrecal.scoring.stream.pair_tiles import CrossPairs, ListedPairs

USERS, ITEMS = 23, 31


def table(seed=0, high=6):
    """Utilities by code; small whole numbers, so that many are equal."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, high, (USERS + 1, ITEMS + 1)).astype(np.float32)


def taken(seed=0):
    pairs = np.random.default_rng(seed).choice(USERS * ITEMS, 90, False)
    return pairs // ITEMS + 1, pairs % ITEMS + 1


def cross(shape=(7, 9), **options):
    return CrossPairs(np.arange(1, USERS + 1), np.arange(1, ITEMS + 1),
                      *taken(), shape=shape, **options)


def listed(size=50):
    free = np.ones((USERS + 1, ITEMS + 1), bool)
    free[0] = free[:, 0] = False
    free[taken()] = False
    user, item = np.nonzero(free)
    order = np.random.default_rng(5).permutation(len(user))
    return ListedPairs(user[order].astype(np.int32),
                       item[order].astype(np.int32), size)


def scorer(values):
    return lambda tile: values[tile.pairs()]


def brute_force(values, n, per_user, per_item, seed):
    """Sorts every free pair and walks the list in plain Python."""
    pairs = listed()
    tie = hashed(pairs.user, pairs.item, seed, TIE)
    ranked = sorted(zip(values[pairs.user, pairs.item].tolist(),
                        tie.tolist(), pairs.user.tolist(),
                        pairs.item.tolist()), reverse=True)
    users, items, picks = {}, {}, []
    for value, _, user, item in ranked:
        if (users.get(user, 0) < (per_user or n)
                and items.get(item, 0) < (per_item or n) and len(picks) < n):
            users[user] = users.get(user, 0) + 1
            items[item] = items.get(item, 0) + 1
            picks.append((user, item, value))
    return picks


@pytest.mark.parametrize("n, per_user, per_item, buffer", [
    (1, None, None, None), (40, None, None, None), (900, None, None, None),
    (40, 2, None, 60), (40, None, 1, 50), (60, 3, 2, 64), (23, 1, 1, 25),
    (900, 2, 2, 70)])
def test_as_a_full_sort(n, per_user, per_item, buffer):
    values = table()
    expected = brute_force(values, n, per_user, per_item, 3)
    assert len(expected) == min(n, len(listed().user)) or per_user or per_item
    for pairs in (cross(), cross((4, 50)), cross((100, 100)), listed(),
                  listed(1)):
        found = top_pairs(
            pairs, scorer(values), n, max_per_user=per_user,
            max_per_item=per_item, seed=3, buffer=buffer)
        assert list(zip(*(part.tolist() for part in found))) == expected


def test_ties_are_broken_by_the_seed():
    flat = np.ones((USERS + 1, ITEMS + 1), np.float32)
    picks = [top_pairs(cross(), scorer(flat), 50, seed=s)
             for s in (1, 1, 2)]
    np.testing.assert_array_equal(picks[0], picks[1])
    assert (np.array(picks[0]) != np.array(picks[2])).any()
    assert len(set(picks[0][0].tolist())) > 15  # not the first users


def test_users_and_items_that_are_left_out():
    pairs = CrossPairs([2, 5, 11], [3, 4, 30], *taken(), shape=(2, 2))
    user, item, _ = top_pairs(pairs, scorer(table()), 100)
    busy = set(zip(*(codes.tolist() for codes in taken())))
    assert set(zip(user.tolist(), item.tolist())) == {
        (u, i) for u in (2, 5, 11) for i in (3, 4, 30)} - busy


@pytest.mark.parametrize("mode, weights", [
    ("softmax", np.exp), ("power", lambda u: u)])
def test_stochastic_batches_draw_by_weight(mode, weights):
    """First draws over many seeds against their chances (chi-square)."""
    user = np.arange(1, 6, dtype=np.int32)
    values = np.zeros((6, 2))
    values[1:, 1] = [0, 0.5, 1, 1.5, 2]
    pairs = ListedPairs(user, np.ones(5, np.int32), 2)
    first = [top_pairs(pairs, scorer(values), 1, mode=mode, seed=s)[0][0]
             for s in range(600)]
    chance = weights(values[1:, 1]) / weights(values[1:, 1]).sum()
    count = np.bincount(first, minlength=6)[1:]
    some = chance > 0
    assert (count[~some] == 0).all()
    expected = 600 * chance[some]
    assert ((count[some] - expected) ** 2 / expected).sum() < 18.5  # 0.1%


def test_a_draw_does_not_depend_on_tiles():
    values = table() - 2  # power shifts by the least, which comes late
    for mode in ("power", "softmax"):
        picks = [top_pairs(pairs, scorer(values), 30, mode=mode, seed=4,
                           max_per_user=3)
                 for pairs in (cross(), cross((100, 100)), listed(11))]
        np.testing.assert_array_equal(picks[0], picks[1])
        np.testing.assert_array_equal(picks[0], picks[2])


def test_prior_and_cost_as_the_strategy_weighs_them():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(USERS + 1, ITEMS + 1))
    prior = rng.random(values.shape) * (rng.random(values.shape) > 0.3)
    cost = rng.uniform(1, 5, values.shape)
    user, item = listed().user, listed().item
    from tfrecal.acquisition import Strategy, View

    class Given(Strategy):
        def utilities(self, view):
            return values[view.user, view.item]

    chosen = Given(per_cost=True, max_per_item=4).select(
        View(user=user, item=item, prior=prior[user, item],
             cost=cost[user, item]), 80, np.random.default_rng(0))
    found = top_pairs(
        cross(), scorer(values), 80, max_per_item=4,
        prior=lambda u, i: prior[u, i], cost=lambda u, i: cost[u, i])
    np.testing.assert_array_equal(found[0], user[chosen])
    np.testing.assert_array_equal(found[1], item[chosen])
    np.testing.assert_array_equal(found[2], values[user, item][chosen])


@pytest.mark.parametrize("options, match", [
    ({"mode": "softrank"}, "rank of every pair.*candidates="),
    ({"prior": lambda u, i: -np.ones(len(u))}, "`prior`.*>= 0.*-1"),
    ({"prior": lambda u, i: 1.0}, "`prior`.*one for each of"),
    ({"cost": lambda u, i: np.zeros(len(u))}, "`cost`.*> 0")])
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        top_pairs(cross(), scorer(table()), 5, **options)


def test_utilities_that_are_not_finite():
    values = table()
    values[USERS, ITEMS] = np.nan
    with pytest.raises(ValueError, match="1 that are NaN"):
        top_pairs(cross(), scorer(values), 5)
