"""Strategies made of strategies, against slow loops and known answers."""
from __future__ import annotations

import json

import numpy as np
import pytest
from contracts import StrategyContract, make_view
from scipy.stats import rankdata

from tfrecal.acquisition import (
    BALD,
    CoreSet,
    LeastConfidence,
    Popularity,
    PredictiveVariance,
    Random,
    Strategy,
    UserCoverage,
    View,
)
from tfrecal.acquisition.combiner import ranks
from tfrecal.acquisition.mixture import Mixture
from tfrecal.acquisition.quota import Quota
from tfrecal.acquisition.rank_voting import RankVoting
from tfrecal.acquisition.stages import Stages
from tfrecal.acquisition.weighted_sum import WeightedSum


class CombinerContract(StrategyContract):

    def test_config_round_trip(self):
        made = self.make(max_per_user=3, per_cost=True)
        config = json.loads(json.dumps(made.get_config()))
        again = self.strategy.from_config(config)
        assert again.get_config() == made.get_config()
        assert again.max_per_user == 3 and again.per_cost
        assert [vars(arm) for arm in again.strategies] == [
            vars(arm) for arm in made.strategies]
        view = make_view(cost=np.ones(60))
        np.testing.assert_array_equal(*(
            strategy.select(view, 9, np.random.default_rng(0))
            for strategy in (made, again)))

    def test_explains_each_choice(self):
        view, strategy = make_view(), self.make()
        chosen = strategy.select(view, 4, np.random.default_rng(0))
        why = strategy.explain(view, chosen, strategy.utilities(view))
        assert len(why) == 4 and all("top" in text for text in why)

    def test_an_arm_that_diverged(self):
        view = make_view()
        view.item_traffic[view.item[5]] = np.nan
        with pytest.raises(ValueError, match="`popularity`|that are NaN"):
            self.make().select(view, 5, np.random.default_rng(0))

    def test_cost_counts(self):
        # One candidate costs next to nothing: it comes first.
        cost = np.full(60, 1e6)
        cost[11] = 1e-6
        chosen = self.make(per_cost=True).select(
            make_view(cost=cost), 1, np.random.default_rng(0))
        assert chosen.tolist() == [11]


class TestWeightedSum(CombinerContract):
    strategy = WeightedSum
    options = {"strategies": {"least_confidence": 1, "popularity": 2}}

    def test_numbers(self):
        view = make_view()

        def scaled(x):
            share = (x - x.min()) / (x.max() - x.min())
            return 1 / 60 + share * 59 / 60
        expected = (scaled(1 - view.probabilities.max(axis=1))
                    + 2 * scaled(view.item_traffic[view.item]))
        np.testing.assert_allclose(self.make().utilities(view), expected)

    def test_strategies_and_names(self):
        made = WeightedSum({BALD(batch="power"): 3, "random": 0.5})
        assert made.weights == [3, 0.5] and made.strategies[0].batch == "power"
        assert made.needs == {"sample_probabilities"}
        assert WeightedSum(["bald", "random"]).weights == [1, 1]

    @pytest.mark.parametrize("strategies, weights, message", [
        ({"bald": 0}, None, r"weights=\[0\]"), ({}, None, "at least one"),
        (["bald", "random"], [1], r"each of 2.*weights=\[1\]"),
        ({"bald": np.nan}, None, "nan"), (["bold"], None, "'bold'"),
        ([{"batch": "top"}], None, "`name`")])
    def test_bad_options(self, strategies, weights, message):
        with pytest.raises(ValueError, match=message):
            WeightedSum(strategies, weights)


class TestRankVoting(CombinerContract):
    strategy = RankVoting
    options = {"strategies": ["least_confidence", "popularity", "bald"]}

    def test_borda_points_by_counting(self):
        view = make_view()
        votes = [arm.utilities(view) for arm in self.make().strategies]
        expected = [sum((vote < vote[row]).sum() + (
            (vote == vote[row]).sum() - 1) / 2 for vote in votes)
            for row in range(60)]
        np.testing.assert_allclose(self.make().utilities(view), expected)

    def test_the_scale_of_a_vote_does_not_count(self):
        view, larger = make_view(), make_view()
        larger.item_traffic = np.exp(9 * larger.item_traffic)
        np.testing.assert_allclose(*(
            self.make().utilities(each) for each in (view, larger)))


def test_ranks():
    values = np.random.default_rng(0).integers(0, 9, 50)
    np.testing.assert_allclose(ranks(values), rankdata(values) - 1)


class TestStages(CombinerContract):
    strategy = Stages
    options = {"stages": [(20, "random"), (None, "popularity")]}
    batches = ("top",)

    def test_missing_need(self):
        for missing, need in ((("item_traffic",), "item_traffic"),
                              (("labelled_user", "labelled_item",
                                "labelled_label"), "labelled_user")):
            with pytest.raises(ValueError, match=f"`stages` reads `{need}`"):
                self.make().select(make_view(**dict.fromkeys(missing)), 5,
                                   np.random.default_rng(0))

    @pytest.mark.parametrize("labelled, expected", [
        (0, Random), (9, Random), (10, Popularity), (29, Popularity),
        (30, CoreSet), (100, CoreSet)])
    def test_switches_by_labels(self, labelled, expected):
        strategies = [Random(), Popularity(batch="power"), CoreSet()]
        made = Stages(zip([10, 30, None], strategies), max_per_item=2)
        view = make_view(labelled=labelled)
        alone = expected(batch="top" if expected is CoreSet else "power",
                         max_per_item=2)
        np.testing.assert_array_equal(*(
            strategy.select(view, 20, np.random.default_rng(0))
            for strategy in (made, alone)))
        assert strategies[0].max_per_item is None
        np.testing.assert_array_equal(
            made.utilities(view), alone.utilities(view))

    @pytest.mark.parametrize("stages", [
        [(10, "random")], [(None, "random"), (None, "bald")],
        [(10, "random"), (10, "bald"), (None, "bald")],
        [(0, "random"), (None, "bald")], [(1.5, "random"), (None, "bald")]])
    def test_bad_stages(self, stages):
        with pytest.raises(ValueError, match="`stages` must have rising"):
            Stages(stages)

    def test_no_stages(self):
        with pytest.raises(ValueError, match="at least one"):
            Stages([])

    def test_a_stage_makes_its_own_batch(self):
        with pytest.raises(ValueError, match="must be top.*batch='power'"):
            self.make(batch="power")


class Tied(Strategy):
    """All candidates equal."""

    def utilities(self, view):
        return np.zeros(len(view))


class Few(Popularity):
    """Never chooses more than three."""

    def select(self, view, n, rng, utilities=None):
        return super().select(view, n, rng, utilities)[:3]


class Never(Popularity):

    def select(self, view, n, rng, utilities=None):
        return np.zeros(0, np.int64)


class TestMixture(CombinerContract):
    strategy = Mixture
    options = {"strategies": ["least_confidence", "popularity", "random"],
               "shares": [0.5, 0.3, 0.2]}
    batches = ("top",)

    def test_shares_and_own_order(self):
        view = make_view(size=600, users=60, items=60)
        made = self.make()
        chosen, arm = made.select_arms(view, 100, np.random.default_rng(0))
        assert np.bincount(arm).tolist() == [50, 30, 20]
        assert len(set(chosen.tolist())) == 100
        for number in (0, 1):
            own = chosen[arm == number]
            utility = made.strategies[number].utilities(view)
            assert (np.diff(utility[own]) <= 0).all()
            # Nothing better is left.
            assert utility[own].min() >= np.delete(utility, chosen).max()

    @pytest.mark.parametrize("strategy", [
        CoreSet(), UserCoverage(max_per_item=2), BALD(batch="softmax")])
    def test_one_arm_is_that_strategy(self, strategy):
        mixed = Mixture([strategy]).select(
            make_view(), 25, np.random.default_rng(0))
        rng = np.random.default_rng(0)
        rng.random()  # the mixture rounds its shares first
        np.testing.assert_array_equal(
            mixed, strategy.select(make_view(), 25, rng))

    def test_each_beginning_has_the_shares(self):
        view = make_view(size=2000, users=100, items=100)
        _, arm = Mixture(["least_confidence", "popularity"],
                         [0.25, 0.75]).select_arms(
            view, 400, np.random.default_rng(0))
        share = np.cumsum(arm == 0) / np.arange(1, 401)
        assert abs(share[39:] - 0.25).max() < 0.06

    def test_rounding_is_right_on_average(self):
        made, rng = Mixture([Tied(), Tied(), Tied()], [0.7, 0.2, 0.1]), (
            np.random.default_rng(0))
        counts = np.array([np.bincount(
            made.select_arms(make_view(), 3, rng)[1], minlength=3)
            for _ in range(2000)])
        assert (counts.sum(axis=1) == 3).all()
        assert (abs(counts - [2.1, 0.6, 0.3]) < 1).all()
        np.testing.assert_allclose(
            counts.mean(axis=0), [2.1, 0.6, 0.3], atol=0.05)

    def test_arms_that_want_the_same(self):
        view = make_view(size=600, users=60, items=60)
        view.item_traffic = np.random.default_rng(1).random(61)
        chosen, arm = Mixture([Popularity(), Popularity()]).select_arms(
            view, 100, np.random.default_rng(0))
        assert np.bincount(arm).tolist() == [50, 50]
        utility = Popularity().utilities(view)
        np.testing.assert_allclose(
            np.sort(utility[chosen]), np.sort(utility)[-100:])

    def test_others_fill_what_an_arm_leaves(self):
        view = make_view()
        for short in (Popularity(max_per_user=1, max_per_item=1), Never()):
            made = Mixture([short, "least_confidence"], [0.8, 0.2])
            chosen, arm = made.select_arms(
                view, 50, np.random.default_rng(0))
            assert len(set(chosen.tolist())) == 50
            own = chosen[arm == 0]
            # The arm keeps its own caps over all times it was asked.
            assert np.bincount(view.user[own], minlength=1).max() <= 1
        assert not len(Mixture([Never()]).select(
            view, 5, np.random.default_rng(0)))

    def test_an_arm_keeps_its_caps_when_asked_again(self):
        view = make_view(size=600, users=12, items=60, item_traffic=np.arange(
            61.0))
        made = Mixture([Popularity(max_per_user=2), Popularity()])
        for seed in range(20):
            chosen, arm = made.select_arms(
                view, 40, np.random.default_rng(seed))
            assert np.bincount(arm).tolist() == [20, 20]
            assert np.bincount(view.user[chosen[arm == 0]]).max() <= 2

    def test_an_arm_that_gives_little_is_asked_again(self):
        _, arm = Mixture([Few(), Tied()]).select_arms(
            make_view(), 40, np.random.default_rng(0))
        assert np.bincount(arm).tolist() == [20, 20]

    def test_shares_may_be_set_anew(self):
        made = self.make()
        made.shares = [0, 0, 1]
        _, arm = made.select_arms(make_view(), 10, np.random.default_rng(0))
        assert (arm == 2).all()
        for shares in ([1, 1, 1], [1, 0], [-1, 1, 1], [np.nan, 0, 1]):
            with pytest.raises(ValueError, match="`shares` must be"):
                made.shares = shares

    def test_prior_holds_for_all_arms(self):
        prior = np.ones(60)
        prior[:20] = 0
        chosen, arm = self.make().select_arms(
            make_view(prior=prior), 30, np.random.default_rng(0))
        assert (chosen >= 20).all()
        assert np.bincount(arm).tolist() == [15, 9, 6]

    def test_quotas_hold_for_the_batch(self):
        view = make_view(size=600, users=60, items=60)
        groups = np.arange(61) % 3
        quota = Quota(groups, at_most={0: 0.1}, at_least={2: 0.6})
        chosen = self.make(quotas=[quota]).select(
            view, 100, np.random.default_rng(0))
        count = np.bincount(groups[view.item[chosen]], minlength=3)
        assert count.sum() == 100 and count[0] <= 10 and count[2] >= 60

    def test_reserved_places_that_nobody_can_fill(self):
        view = make_view()
        quota = Quota(np.append(np.zeros(15, int), 1), at_least={1: 0.5})
        chosen = self.make(quotas=[quota]).select(
            view, 50, np.random.default_rng(0))
        assert len(set(chosen.tolist())) == 50

    def test_rateable_holds_for_all_arms(self):
        rateability = np.full(60, 1e-9)
        rateability[[4, 9, 33]] = 1
        made = self.make(rateable=True)
        assert "rateability" in made.needs
        chosen = made.select(make_view(rateability=rateability), 3,
                             np.random.default_rng(0))
        assert sorted(chosen.tolist()) == [4, 9, 33]

    def test_mixtures_of_mixtures(self):
        inner = Mixture([BALD(), "random"])
        made = Mixture([inner, Stages([(None, CoreSet())])],
                       max_per_user=2, max_per_item=3)
        view = make_view()
        chosen, arm = made.select_arms(view, 20, np.random.default_rng(0))
        assert np.bincount(arm).tolist() == [10, 10]
        assert np.bincount(view.user[chosen]).max() <= 2
        assert np.bincount(view.item[chosen]).max() <= 3

    def test_an_arm_makes_its_own_batch(self):
        with pytest.raises(ValueError, match="must be top.*batch='softmax'"):
            self.make(batch="softmax")

    def test_a_large_batch(self):
        rng = np.random.default_rng(0)
        size = 50_000
        view = View(
            rng.integers(1, 2000, size), rng.integers(1, 500, size),
            item_traffic=rng.pareto(1, 500), samples=rng.random((3, size)))
        made = Mixture([Popularity(), PredictiveVariance(), Random()],
                       max_per_user=2, max_per_item=6)
        chosen, arm = made.select_arms(view, 1500, rng)
        assert len(np.unique(chosen)) == 1500
        assert np.bincount(view.item[chosen]).max() == 6
        assert np.bincount(arm).tolist() == [500] * 3


def test_least_confidence_alone_is_voted_as_it_is():
    view, rng = make_view(), np.random.default_rng
    for strategy in (RankVoting(["least_confidence"]),
                     WeightedSum({"least_confidence": 5})):
        np.testing.assert_array_equal(
            strategy.select(view, 60, rng(0)),
            LeastConfidence().select(view, 60, rng(0)))


class Counted(Random):
    """Counts how often its utilities were computed and what it heard."""

    name = "counted"

    def __init__(self, **options):
        super().__init__(**options)
        self.computed, self.heard = 0, []

    def utilities(self, view):
        self.computed += 1
        return super().utilities(view)

    def observe(self, logs, labelled):
        self.heard.append(labelled)
        return {"heard": len(self.heard)}

    def state(self):
        return {"heard": self.heard}

    def restore(self, state):
        self.heard = state["heard"]


def test_arms_are_asked_once_a_view():
    arm = Counted()
    mixture = Mixture([arm, Popularity()])
    view = make_view()
    utilities = mixture.utilities(view)
    mixture.select(view, 5, np.random.default_rng(0), utilities)
    mixture.explain(view, np.arange(3), utilities)
    assert arm.computed == 1
    mixture.utilities(view.take(np.arange(7)))  # nothing kept of the whole
    assert arm.computed == 2


def test_arms_hear_and_resume():
    inner = Counted()
    outer = RankVoting([Popularity(), WeightedSum([inner])])
    assert outer.observe({"val_rmse": 1.0}, {"counted": 3}) == {"heard": 1}
    state = json.loads(json.dumps(outer.state()))
    again = RankVoting([Popularity(), WeightedSum([Counted()])])
    again.restore(state)
    assert again.strategies[1].strategies[0].heard == [{"counted": 3}]
    again.restore({})  # the state of a version that kept none
