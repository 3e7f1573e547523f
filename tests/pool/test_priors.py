"""Domain knowledge: weights of pairs, embargoes and quotas of a batch."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from contracts import make_view

from tfrecal import acquisition
from tfrecal.acquisition.picking import Limits, capped
from tfrecal.acquisition.quota import Quota
from tfrecal.data.pairs import Pairs
from tfrecal.data.vocabulary import Vocabulary
from tfrecal.pool import priors

ITEMS = pd.DataFrame(
    {"margin": [0.5, None, 2.0], "genre": ["war|love", "love", None],
     "year": [1990, 2000, 2010]}, index=["a", "b", "c"])
USERS = ["u", "u", "v", "v"]


def test_a_column_is_the_weight():
    prior = priors.ColumnPrior(ITEMS, "margin", default=0.25)
    found = prior(USERS, np.array(["c", "b", "a", "unknown"], object))
    np.testing.assert_array_equal(found, [2, 0.25, 0.5, 0.25])
    trust = pd.DataFrame({"trust": [0.0, 3.0]}, index=["u", "v"])
    found = priors.ColumnPrior(trust, "trust", of="users")(USERS, ["a"] * 4)
    np.testing.assert_array_equal(found, [0, 0, 3, 3])


@pytest.mark.parametrize("table, column, options, message", [
    (ITEMS, "price", {}, r"'price'.*the table has \['margin'"),
    (ITEMS, "margin", {"of": "pairs"}, "of='pairs'"),
    (ITEMS, "genre", {}, "column of numbers.*'genre'"),
    (ITEMS, "margin", {"default": -1.0}, "2 that are negative"),
    (ITEMS.assign(margin=[-1, 1, np.inf]), "margin", {}, "2 that are neg")])
def test_columns_that_are_no_weights(table, column, options, message):
    with pytest.raises(ValueError, match=message):
        priors.ColumnPrior(table, column, **options)


def test_an_embargo_of_ids_and_of_a_query():
    embargo = priors.Embargo(ITEMS, ["c"], "year < 1995")
    np.testing.assert_array_equal(embargo(USERS, ["a", "b", "c", "b"]),
                                  [0, 1, 0, 1])
    np.testing.assert_array_equal(
        priors.Embargo(ITEMS)(USERS, ["a", "b", "c", "b"]), np.ones(4))
    with pytest.raises(ValueError, match="1 that are not, such as 'd'"):
        priors.Embargo(ITEMS, ["a", "d"])
    with pytest.raises(ValueError, match="no column .price."):
        priors.Embargo(ITEMS, query="price > 3")


def test_priors_are_multiplied_and_checked():
    both = priors.Product([
        lambda user, item: np.arange(4.0), priors.ColumnPrior(
            ITEMS, "year")])
    np.testing.assert_array_equal(both(USERS, ["a", "b", "c", "c"]),
                                  [0, 2000, 4020, 6030])
    for wrong in (np.ones(3), -np.ones(4), np.full(4, np.nan), 1.0):
        def mine(user, item, wrong=wrong):
            return wrong
        with pytest.raises(ValueError, match="`prior` must be a.*from mine"):
            priors.Product([mine])(USERS, ["a", "b", "c", "c"])


def test_priors_read_codes_and_make_no_strings():
    pairs = Pairs([1, 2, 1, 2], [3, 1, 2, 2], Vocabulary(["u", "v"]),
                  Vocabulary(["b", "z", "a"]))  # another order, "c" is new
    made = [priors.ColumnPrior(ITEMS, "margin", default=0.25),
            priors.ColumnPrior(pd.DataFrame(
                {"trust": [3.0]}, index=["v"]), "trust", of="users"),
            priors.Embargo(ITEMS, ["b", "c"])]
    for prior in [*made, priors.Product(made)]:
        found = priors.factors_of(prior, pairs)
        assert "user_id" not in vars(pairs) and "item_id" not in vars(pairs)
        np.testing.assert_array_equal(found, prior(
            ["u", "v", "u", "v"], ["a", "b", "z", "z"]))
    np.testing.assert_array_equal(found, [0.5, 0, 0.25, 0.75])
    np.testing.assert_array_equal(priors.factors_of(
        lambda user, item: (user == "u") + 2.0 * (item == "a"), pairs),
        [3, 0, 1, 0])


@pytest.mark.parametrize("form", [
    lambda ids: ids, lambda ids: [str(n) for n in ids],
    lambda ids: np.array(ids), lambda ids: pd.Series(ids, dtype="Int64"),
    lambda ids: pd.Series(ids, dtype="category")])
def test_ids_of_another_type_than_the_table_s(form):
    table = pd.DataFrame({"item_id": form([30, 40, 50]), "w": [1, 2, 3]})
    prior = priors.ColumnPrior(table, "w", default=9)
    embargo = priors.Embargo(table, form([40]), "w > 2")
    assert embargo.items.tolist() == ["40", "50"]
    for ids in (["40", "50", "60"], [40, 50, 60], np.array([40., 50., 60.])):
        assert prior(["u"] * 3, ids).tolist() == [2, 3, 9]
        assert embargo(["u"] * 3, ids).tolist() == [0, 0, 1]


def test_tables_and_ids_that_a_prior_refuses():
    with pytest.raises(ValueError, match=r"column \(or an index\) `item_id`"):
        priors.ColumnPrior(pd.DataFrame({"w": [1, 2]}), "w")
    with pytest.raises(ValueError, match="there once.*'a'"):
        priors.Embargo(ITEMS.iloc[[0, 0]])
    with pytest.raises(ValueError, match="whole numbers.*2.5"):
        priors.Embargo(ITEMS)(["u"], [2.5])


def slow_batch(order, n, caps, group, most, least):
    """Greedy, written the long way; reserved places go first to their own."""
    chosen, kept = [], dict(least)
    free = n - sum(least.values())
    used = [{} for _ in caps]
    for reserve in (True, False):
        for row in order:
            g = group[row]
            if row in chosen or len(chosen) == n:
                continue
            if any(count.get(codes[row], 0) >= cap
                   for count, (codes, cap) in zip(used, caps)):
                continue
            if sum(group[c] == g for c in chosen) >= most.get(g, n):
                continue
            if reserve and not kept.get(g, 0) and not free:
                continue
            if kept.get(g, 0):
                kept[g] -= 1
            else:
                free -= 1
            for count, (codes, _) in zip(used, caps):
                count[codes[row]] = count.get(codes[row], 0) + 1
            chosen.append(row)
    return chosen


@pytest.mark.parametrize("n", [7, 20, 60])
@pytest.mark.parametrize("cap", [None, 2])
def test_quotas_equal_a_slow_loop(n, cap):
    rng = np.random.default_rng(n)
    for _ in range(5):
        group, user = rng.integers(0, 4, 100), rng.integers(0, 20, 100)
        order = rng.permutation(100)
        caps = [] if cap is None else [(user, cap)]
        most = {1: n // 4}
        least = {2: n // 3, 3: n // 5}
        by_group = [np.array([table.get(g, other) for g in range(4)])
                    for table, other in ((most, n), (least, 0))]
        found = capped(order, n, Limits(
            [*caps, (group, by_group[0])],
            [(group, by_group[1], n - by_group[1].sum())]))
        assert found.tolist() == slow_batch(
            order.tolist(), n, caps, group, most, least)


STRATEGIES = ["random", "margin", "core_set", "user_coverage",
              "item_coverage", "joint_coverage", "badge", "batch_bald",
              "typi_clust", "prob_cover", "vopt", "target_matched"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_kind_of_strategy_keeps_quotas(name):
    view = make_view()
    groups = np.r_[-1, np.arange(15) % 3]
    quota = Quota(groups, at_most={0: 0.25}, at_least={1: 0.6})
    made = acquisition.get(name, quotas=[quota], max_per_user=4)
    chosen = made.select(view, 20, np.random.default_rng(0))
    counts = np.bincount(groups[view.item[chosen]], minlength=3)
    assert len(set(chosen.tolist())) == counts.sum() == 20
    assert counts[0] <= 5 and counts[1] >= 12
    assert np.bincount(view.user[chosen]).max() <= 4
    plain = acquisition.get(name, max_per_user=4).select(
        view, 20, np.random.default_rng(0))
    assert np.bincount(groups[view.item[plain]])[1] < 12  # it does something


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_cannot_be_reserved_goes_to_others(name):
    view = make_view()
    groups = np.r_[-1, 0, np.ones(14, int)]  # one item in group 0
    own = int((view.item == 1).sum())
    chosen = acquisition.get(
        name, quotas=[Quota(groups, at_least={0: 0.9})]).select(
            view, 20, np.random.default_rng(0))
    counts = np.bincount(groups[view.item[chosen]], minlength=2)
    assert counts.tolist() == [own, 20 - own]


def test_a_quota_from_a_table():
    quota = Quota.from_table(ITEMS, "genre", at_most={"love": 0.5},
                             at_least={"war": 0.3})
    assert quota.groups.tolist() == [-1, 0, 1, -1]
    assert quota.codes(np.array([1, 3])).tolist() == [1, 0]
    assert quota.most(10).tolist() == [10, 10, 5]
    assert quota.least(10).tolist() == [0, 3, 0]
    lists = pd.DataFrame({"genre": [["x", "y"], [], ["y"]]})
    assert Quota.from_table(lists, "genre").groups.tolist() == [-1, 0, -1, 1]
    strategy = acquisition.get("entropy", quotas=[quota])
    config = json.loads(json.dumps(strategy.get_config()))
    assert vars(acquisition.Entropy.from_config(config)) == vars(strategy)


@pytest.mark.parametrize("make, message", [
    (lambda: Quota([0, 1], {0: 1.5}), "shares from 0 to 1"),
    (lambda: Quota([0, 1], None, {0: .6, 1: .5}), "at most 1. Received: 1.1"),
    (lambda: Quota([0, 1], {0: .2}, {0: .5}), "must not be above"),
    (lambda: Quota([-2, 1]), "least=-2"),
    (lambda: Quota.from_table(ITEMS, "kind"), "column='kind'"),
    (lambda: Quota.from_table(ITEMS, "genre", {"jazz": 0.1}),
     r"\['jazz'\]; there are \['war', 'love'\]"),
    (lambda: Quota([-1, 0]).codes(np.array([2])), "2 entries and an item")])
def test_bad_quotas(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rateability_multiplies_like_a_prior():
    rateability = np.linspace(0.1, 1, 60)
    for name in STRATEGIES:
        view = make_view(rateability=rateability)
        made = acquisition.get(name, rateable=True)
        assert "rateability" in made.needs
        same = acquisition.get(name).select(
            make_view(prior=rateability), 20, np.random.default_rng(0))
        chosen = made.select(view, 20, np.random.default_rng(0))
        np.testing.assert_array_equal(chosen, same)
        view.rateability = None
        with pytest.raises(ValueError, match="reads `rateability`"):
            made.select(view, 5, np.random.default_rng(0))
    assert "rateability" not in acquisition.get("margin").needs
