"""Strategies that value each pair by itself, against plain NumPy."""
from __future__ import annotations

import math

import numpy as np
import pytest
from contracts import StrategyContract, make_view

from tfrecal.acquisition import View
from tfrecal.acquisition.bald import BALD
from tfrecal.acquisition.binary_prediction import BinaryPrediction
from tfrecal.acquisition.epsilon_greedy import EpsilonGreedy
from tfrecal.acquisition.expected_gradient_length import ExpectedGradientLength
from tfrecal.acquisition.highest_predicted import HighestPredicted
from tfrecal.acquisition.influence import Influence
from tfrecal.acquisition.joint_coverage import JointCoverage
from tfrecal.acquisition.log_pop_entropy import LogPopEntropy
from tfrecal.acquisition.power_bald import PowerBALD
from tfrecal.acquisition.query_by_committee import QueryByCommittee
from tfrecal.acquisition.rating_variance import RatingVariance
from tfrecal.acquisition.thompson import Thompson
from tfrecal.acquisition.ucb import UCB

_NO_LABELS = {"labelled_user": np.zeros(0, np.int32),
              "labelled_item": np.zeros(0, np.int32),
              "labelled_label": np.zeros(0, np.float32)}


class TestHighestPredicted(StrategyContract):
    strategy = HighestPredicted

    def test_numbers(self):
        view = make_view()
        chosen = self.make().select(view, 60, np.random.default_rng(0))
        assert (np.diff(view.mean[chosen]) <= 0).all()
        assert self.make().explain(
            make_view(size=1, mean=np.array([4.25])), np.array([0]),
            np.array([4.25])) == ["the model expects a label of 4.25"]


class TestRatingVariance(StrategyContract):
    strategy = RatingVariance

    def test_numbers(self):
        # Item 1 has labels 1, 1, 5, 5; item 2 has 3, 3; item 3 has one.
        view = View(
            np.ones(4, np.int32), np.arange(1, 5, dtype=np.int32),
            labelled_user=np.ones(7, np.int32),
            labelled_item=np.array([1, 1, 1, 1, 2, 2, 3], np.int32),
            labelled_label=np.array([1, 1, 5, 5, 3, 3, 4], np.float32))
        overall = 16 / 4
        np.testing.assert_allclose(self.make().utilities(view), [
            (16 + 5 * overall) / 8, 5 * overall / 6, overall, overall])

    def test_is_the_variance_once_there_are_many_labels(self):
        rng = np.random.default_rng(0)
        label = rng.normal(size=(2, 20_000)) * [[1], [3]]
        view = View(
            np.ones(2, np.int32), np.array([1, 2], np.int32),
            labelled_user=np.ones(40_000, np.int32),
            labelled_item=np.repeat([1, 2], 20_000),
            labelled_label=label.ravel())
        np.testing.assert_allclose(
            self.make().utilities(view), label.var(axis=1), rtol=2e-3)

    def test_no_labels(self):
        utilities = self.make().utilities(make_view(labelled=0))
        assert (utilities == utilities[0]).all()


class TestLogPopEntropy(StrategyContract):
    strategy = LogPopEntropy

    def test_numbers(self):
        view = View(
            np.ones(3, np.int32), np.arange(1, 4, dtype=np.int32),
            item_traffic=np.array([0, 9, 99, 999]),
            labelled_user=np.ones(6, np.int32),
            labelled_item=np.array([1, 1, 1, 1, 2, 2], np.int32),
            labelled_label=np.array([1, 1, 1, 5, 2.5, 2.5]))
        entropy = -.75 * math.log(.75) - .25 * math.log(.25)
        np.testing.assert_allclose(
            self.make().utilities(view), [math.log(10) * entropy, 0, 0])

    def test_equals_a_slow_loop(self):
        view = make_view(labelled=100)
        for row, found in enumerate(self.make().utilities(view)):
            item = view.item[row]
            label = view.labelled_label[view.labelled_item == item]
            share = np.array([np.mean(label == x) for x in set(label)])
            expected = (math.log(1 + view.item_traffic[item])
                        * -(share * np.log(share)).sum())
            assert found == pytest.approx(expected)

    def test_no_labels(self):
        assert not self.make().utilities(make_view(labelled=0)).any()


class TestBinaryPrediction(StrategyContract):
    strategy = BinaryPrediction

    def test_most_rateable_first(self):
        view = make_view()
        chosen = self.make().select(view, 60, np.random.default_rng(0))
        assert (np.diff(view.rateability[chosen]) < 0).all()


class TestJointCoverage(StrategyContract):
    strategy = JointCoverage
    batches = ("top", "power")

    @pytest.mark.parametrize("most, prior", [
        (60, None), (2, None), (60, np.random.default_rng(1).random(60))])
    def test_equals_a_slow_loop(self, most, prior):
        view = make_view(prior=prior)
        users = view.user_labelled.astype(int).copy()
        items = view.item_labelled.astype(int).copy()
        chosen = self.make(max_per_user=most).select(
            view, 40, np.random.default_rng(0)).tolist()
        weight = np.ones(60) if prior is None else prior
        for place, pick in enumerate(chosen):
            taken = np.bincount(view.user[chosen[:place]], minlength=13)
            left = [row for row in range(60) if row not in chosen[:place]
                    and taken[view.user[row]] < most]
            value = weight / (1 + users[view.user] + items[view.item])
            assert pick in left
            assert value[pick] == pytest.approx(value[left].max())
            users[view.user[pick]] += 1
            items[view.item[pick]] += 1

    def test_large_view(self):
        view = make_view(size=20_000, users=500, items=800, labelled=5_000)
        chosen = self.make().select(view, 500, np.random.default_rng(0))
        # Greedy picks take each user at most about once.
        assert np.bincount(view.user[chosen]).max() <= 10
        assert len(np.unique(chosen)) == 500


class TestQueryByCommittee(StrategyContract):
    strategy = QueryByCommittee

    def test_votes_by_hand(self):
        passes = np.array([
            [[.6, .4, 0], [1, 0, 0]], [[.1, .9, 0], [.5, .4, .1]],
            [[.3, .3, .4], [.4, .3, .3]], [[.8, .1, .1], [.9, .1, 0]]])
        view = make_view(size=2, sample_probabilities=passes)
        found = self.make().utilities(view)
        np.testing.assert_allclose(found, [1.5 * math.log(2), 0], atol=1e-12)
        assert self.make().explain(view, np.array([0]), found) == [
            "2 of 4 dropout passes vote against the likeliest class"]


def gradient(view, user, item, level):
    """Of (q . c - label)^2, q . c being given, over all vectors."""
    query, candidate = view.query_vectors, view.candidate_vectors
    found = np.zeros(query.size + candidate.size)
    q, c = query.shape[1] * user, query.size + query.shape[1] * item
    found[q:q + query.shape[1]] = candidate[item]
    found[c:c + query.shape[1]] = query[user]
    return level * found


class TestExpectedGradientLength(StrategyContract):
    strategy = ExpectedGradientLength

    def test_equals_a_loop_over_classes_with_finite_differences(self):
        view = make_view(size=8)
        query, candidate = view.query_vectors, view.candidate_vectors
        view.mean = np.einsum("nd,nd->n", query[view.user],
                              candidate[view.item])
        found = self.make().utilities(view)
        for row, (user, item) in enumerate(zip(view.user, view.item)):
            both, expected = np.concatenate(
                [query[user], candidate[item]]), 0
            for level, share in zip(view.levels, view.probabilities[row]):
                def loss(x):
                    return (x[:3] @ x[3:] - level) ** 2
                slope = [(loss(both + step) - loss(both - step)) / 2e-5
                         for step in 1e-5 * np.eye(6)]
                expected += share * np.linalg.norm(slope)
            assert found[row] == pytest.approx(expected, rel=1e-6)


class TestInfluence(StrategyContract):
    strategy = Influence

    @pytest.mark.parametrize("labelled", [60, 0])
    def test_equals_whole_gradients_and_a_whole_hessian(self, labelled):
        view = make_view(labelled=labelled)
        target = sum(w * gradient(view, u, i, 1.0) for u, i, w in zip(
            view.target_user, view.target_item, view.target_weight))
        diagonal = sum((gradient(view, u, i, 1.0) ** 2 for u, i in zip(
            view.labelled_user, view.labelled_item)), np.concatenate([
                np.tile((view.candidate_vectors[1:] ** 2).mean(0), 13),
                np.tile((view.query_vectors[1:] ** 2).mean(0), 16)]))
        found = self.make().utilities(view)
        for row, (user, item) in enumerate(zip(view.user, view.item)):
            expected = sum(
                share * abs(gradient(view, user, item, view.mean[row] - level)
                            @ (target / diagonal))
                for level, share in zip(
                    view.levels, view.probabilities[row]))
            assert found[row] == pytest.approx(expected)

    def test_nothing_to_do_with_the_target(self):
        view = make_view(target_user=np.array([3]), target_item=np.array([4]),
                         target_weight=np.ones(1))
        apart = (view.user != 3) & (view.item != 4)
        found = self.make().utilities(view)
        assert not found[apart].any() and (found[~apart] > 0).all()

    def test_vectors_with_a_dimension_of_zeros(self):
        view = make_view()
        view.query_vectors[:, 1] = view.candidate_vectors[:, 1] = 0
        assert np.isfinite(self.make().utilities(view)).all()


class TestThompson(StrategyContract):
    strategy = Thompson

    def test_each_batch_follows_one_pass(self):
        view, seen = make_view(), set()
        orders = np.argsort(-view.samples, axis=1)
        for seed in range(40):
            chosen = self.make().select(
                view, 60, np.random.default_rng(seed))
            same = (orders == chosen).all(axis=1)
            assert same.sum() == 1
            seen.add(int(same.argmax()))
        assert seen == set(range(5))

    def test_utility_is_the_mean(self):
        view = make_view()
        np.testing.assert_allclose(
            self.make().utilities(view), view.samples.mean(0), rtol=1e-6)


class TestUCB(StrategyContract):
    strategy = UCB
    options = {"kappa": 2.0}

    def test_numbers(self):
        view = make_view(size=2, samples=np.array([[1., 3], [3, 3]]))
        np.testing.assert_allclose(self.make().utilities(view), [4, 3])

    def test_bad_kappa(self):
        with pytest.raises(ValueError, match="kappa=-1"):
            UCB(kappa=-1)


class TestPowerBALD(StrategyContract):
    strategy = PowerBALD

    def test_is_bald_with_a_power_batch(self):
        view = make_view()
        assert self.make().batch == "power"
        np.testing.assert_array_equal(
            self.make().select(view, 20, np.random.default_rng(0)),
            BALD(batch="power").select(view, 20, np.random.default_rng(0)))


class TestEpsilonGreedy(StrategyContract):
    strategy = EpsilonGreedy
    options = {"epsilon": 0.25}
    batches = ("top",)

    def test_config_round_trip(self):
        made = self.make(max_per_user=3)
        again = EpsilonGreedy.from_config(made.get_config())
        assert again.get_config() == made.get_config()
        assert again.epsilon == 0.25 and again.max_per_user == 3

    @pytest.mark.parametrize("epsilon", [0.0, 0.25, 1.0])
    def test_shares(self, epsilon):
        view = make_view(size=1000, users=100, items=100)
        chosen, arm = EpsilonGreedy(epsilon).select_arms(
            view, 200, np.random.default_rng(0))
        assert (arm == 1).sum() == 200 * epsilon
        best = np.argsort(-view.mean)[:200]
        by_mean = chosen[arm == 0]
        # A pair that the random part took is passed over.
        rest = best[~np.isin(best, chosen[arm == 1])]
        np.testing.assert_array_equal(by_mean, rest[:len(by_mean)])

    def test_bad_epsilon(self):
        with pytest.raises(ValueError, match="epsilon=1.5"):
            EpsilonGreedy(1.5)
