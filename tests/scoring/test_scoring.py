"""PoolScorer: blocks agree with pairs, streams with the whole pool."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from plain_towers import PlainTowers, make_towers
from random_model import make_model

from tfrecal import acquisition
from tfrecal.acquisition import Strategy
from tfrecal.pool.pool import UNLABELLED, Pool
from tfrecal.pool.priors import ColumnPrior
from tfrecal.scoring.scorer import PoolScorer


@pytest.fixture(scope="module", params=["two_tower", "own_towers"])
def model(request, shop):
    """Both kinds of model: ours, and plain TFRS towers of a user's."""
    if request.param == "own_towers":
        return make_towers(shop, 0, 3.0)
    return make_model(shop, dropout=0.1)


@pytest.fixture(scope="module")
def sampling(model):
    """How the model is sampled: plain towers have no dropout passes."""
    return ({"uncertainty": "heads"} if isinstance(model, PlainTowers)
            else {"uncertainty": "dropout"})


@pytest.fixture(scope="module")
def pool(shop):
    """Every pair of the shop; a few were asked and excluded beside."""
    half = np.arange(len(shop.frame)) < len(shop.frame) // 2
    pool = Pool.cross(shop.take(half), exclude=[shop.take(~half)])
    user, item = pool.candidates(20)
    pool.ask(user, item, 0, "random")
    return pool


@pytest.fixture(scope="module")
def scorer(model, pool):
    return PoolScorer(model, pool)


def all_pairs(pool):
    """Every pair that may be asked, by the pool's own account."""
    user, item = pool.candidates(10_000)
    order = np.lexsort((item, user))
    return user[order], item[order]


def as_set(user, item):
    return set(zip(user.tolist(), item.tolist()))


@pytest.mark.parametrize("name", [
    "predictive_variance", "margin", "bald", "popularity"])
def test_streamed_strategies_choose_from_every_pair(scorer, pool, name,
                                                    sampling):
    user, item = all_pairs(pool)
    strategy = acquisition.get(name, max_per_user=2, max_per_item=3)
    found = scorer.top(strategy, 25, passes=4, seed=3, **sampling)
    view = scorer.view(user, item, strategy.needs, passes=4, seed=3,
                       **sampling)
    utilities = strategy.utilities(view)
    chosen = strategy.select(view, 25, np.random.default_rng(0), utilities)
    np.testing.assert_allclose(
        found[2], utilities[chosen], rtol=1e-4, atol=1e-6)
    if name != "popularity":  # which ties
        assert as_set(found[0], found[1]) == as_set(
            user[chosen], item[chosen])


def test_nothing_known_asked_or_excluded_is_chosen(scorer, pool):
    free = as_set(*all_pairs(pool))
    assert len(free) < 40 * 30 - 500
    user, item, _ = scorer.top("random", 10_000)
    assert len(user) == len(free) and as_set(user, item) == free
    few = scorer.top("mean", 10_000, users=[3, 7], items=[1, 2, 9, 30])
    assert as_set(*few[:2]) == {
        (u, i) for u, i in free if u in (3, 7) and i in (1, 2, 9, 30)}


def test_a_listed_pool_is_streamed_too(model, shop, sampling):
    pool = Pool.from_interactions(shop, 0.3)
    scorer = PoolScorer(model, pool)
    user, item = pool.candidates()
    found = scorer.top("predictive_variance", 15, passes=3, **sampling)
    view = scorer.view(user, item, {"samples"}, passes=3, **sampling)
    best = np.argsort(-view.samples.var(axis=0))[:15]
    assert as_set(*found[:2]) == as_set(user[best], item[best])
    rows = pool.rows(found[0], found[1])
    assert (pool.state[rows] == UNLABELLED).all()


def test_moments_are_those_of_samples(scorer, pool, sampling):
    user, item = all_pairs(pool)
    view = scorer.view(user, item, {"mean", "samples"}, passes=5, seed=2,
                       **sampling)
    samples = view.samples.astype(np.float64)
    for kind, expected in (
            ("mean", view.mean), ("variance", samples.var(axis=0)),
            ("upper_bound", samples.mean(axis=0) + samples.std(axis=0))):
        found = scorer.top(kind, len(user), passes=5, seed=2, **sampling)
        order = np.lexsort((found[1], found[0]))
        np.testing.assert_allclose(found[2][order], expected, atol=2e-5)


@pytest.mark.parametrize("rates", [
    {"dropout": 0.2, "id_dropout": 0.3}, {"dropout": 0.0, "id_dropout": 0.3},
    {"dropout": 0.2, "id_dropout": 0.0}])
def test_closed_form_variance_is_the_limit_of_passes(shop, pool, rates):
    model = make_model(shop)
    for tower in (model.query_tower, model.candidate_tower):
        tower.dropout, tower.id_dropout = rates.values()
        tower.category_kernel.assign(np.random.default_rng(2).normal(
            size=tower.category_kernel.shape))
    scorer = PoolScorer(model, pool)
    user, item, exact = scorer.top(
        "closed_form_variance", 40, users=[1, 5, 9], items=[2, 3, 4, 8])
    passes = 40_000
    # Each row has masks of its own: a row repeated is one pass a row.
    sides = [[np.array(tower.combine(
        {key: np.repeat(part[code:code + 1], passes, axis=0)
         for key, part in scorer.parts(name).items()}, True)["rating"])
        for code in codes] for name, tower, codes in (
            ("query", model.query_tower, user),
            ("candidate", model.candidate_tower, item))]
    samples = np.array([np.einsum("nd,nd->n", query, candidate) for
                        query, candidate in zip(*sides)], np.float64).T
    fourth = ((samples - samples.mean(axis=0)) ** 4).mean(axis=0)
    error = np.sqrt((fourth - samples.var(axis=0) ** 2) / passes)
    assert (np.abs(samples.var(axis=0) - exact) < 5 * error).all()
    assert abs((samples.var(axis=0) / exact).mean() - 1) < 0.02


@pytest.mark.parametrize("binary", [False, True])
def test_heads_need_no_dropout(shop, binary):
    if binary:
        frame = shop.frame.assign(label=(shop.frame["label"] > 3) * 1.0)
        shop = type(shop).from_frame(
            frame, shop.users, shop.items, scale=(0, 1))
    model = make_model(shop)
    model.candidate_tower.id_dropout = 0.0
    pool = Pool.from_interactions(shop, 0.5)
    scorer = PoolScorer(model, pool)
    user, item = pool.candidates()
    with pytest.raises(ValueError, match="heads"):
        scorer.view(user, item, {"samples"})
    view = scorer.view(user, item, {"samples"}, passes=4, uncertainty="heads")
    assert view.samples.shape == (4, len(user))
    assert (view.samples.std(axis=0) > 0).mean() > 0.5
    found = scorer.top("predictive_variance", 5, passes=4,
                       uncertainty="heads")
    np.testing.assert_allclose(
        found[2], np.sort(view.samples.var(axis=0))[::-1][:5], rtol=1e-4)


def test_prior_and_cost_are_functions_of_ids(scorer, pool):
    cheap = pool.item_ids[4]
    strategy = acquisition.get("random", batch="top", per_cost=True)
    _, item, _ = scorer.top(
        strategy, 10, cost=lambda u, i: np.where(i == cheap, 0.1, 1.0),
        prior=lambda u, i: 1.0 * (u != pool.user_ids[0]))
    assert (item == 5).all()


def test_a_prior_by_code_chooses_as_its_function_of_ids(scorer, pool):
    weights = np.random.default_rng(5).random(len(pool.item_ids)).round(1)
    prior = ColumnPrior(pd.DataFrame(
        {"weight": weights}, index=pool.item_ids), "weight")
    found = [scorer.top("random", 20, prior=one) for one in (
        prior, lambda user, item: weights[pd.Index(
            pool.item_ids).get_indexer(item)])]
    assert (weights[found[0][1] - 1] > 0).all()
    for ours, theirs in zip(*found):
        np.testing.assert_array_equal(ours, theirs)


class Ranks(Strategy):
    """Not pair by pair: the place among the candidates."""

    def utilities(self, view):
        return np.arange(len(view), dtype=float)


@pytest.mark.parametrize("strategy, options, match", [
    ("core_set", {}, "batch as a whole.*candidates="),
    ("user_coverage", {}, "batch as a whole"),
    (Ranks(), {}, "depend on the other candidates"),
    ("random", {"users": [0, 1]}, "`users` must hold codes from 1 to 40"),
    ("random", {"n": 0}, "at least 1"),
    ("bald", {"uncertainty": "hope"}, "`uncertainty` must be"),
    (acquisition.get("random", per_cost=True), {}, "expected_cost"),
    ("nonsense", {}, "`strategy` must be one of")])
def test_what_cannot_be_streamed(scorer, strategy, options, match):
    with pytest.raises(ValueError, match=match):
        scorer.top(strategy, **{"n": 5, **options})


def test_weights_that_change_without_a_step(shop, pool, tmp_path):
    """Restored from a file, averaged, or set back to the best epoch's."""
    model = make_towers(shop, 0, 3.0)
    scorer = PoolScorer(model, pool)
    first = [vectors.copy() for vectors in scorer.vectors()]
    parts = scorer.parts("query")
    assert scorer.parts("query") is parts
    model.save_weights(tmp_path / "weights")
    table = model.user_model.layers[-1].embeddings
    table.assign(table[::-1])
    assert not np.array_equal(scorer.vectors()[0], first[0])
    model.load_weights(tmp_path / "weights")
    for found, wanted in zip(scorer.vectors(), first):
        np.testing.assert_array_equal(found, wanted)
