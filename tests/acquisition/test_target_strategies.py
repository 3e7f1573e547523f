"""Strategies that know the target, against slow loops and closed forms."""
from __future__ import annotations

import numpy as np
import pytest
from contracts import StrategyContract, make_view

from tfrecal import acquisition
from tfrecal.acquisition.math.features import linear_features
from tfrecal.acquisition.math.posterior import PairPosterior, moments, quadratic


def plain_greedy(view, n, gain, weight=None):
    """Every gain computed anew, for every pair, at every pick."""
    posterior = PairPosterior(view)
    of_users, of_items = (s.copy() for s in posterior.covariance)
    phi, psi = posterior.features
    served_users = np.zeros_like(of_users)
    served_items = np.zeros_like(of_items)
    for u, i, w in zip(view.target_user, view.target_item,
                       view.target_weight):
        served_users[u] += w * np.outer(phi[i], phi[i])
        served_items[i] += w * np.outer(psi[u], psi[u])
    picks = []
    for _ in range(n):
        values = np.full(len(view), -np.inf)
        for row, (u, i) in enumerate(zip(view.user, view.item)):
            a, b = of_users[u] @ phi[i], of_items[i] @ psi[u]
            values[row] = gain(
                a @ served_users[u] @ a + b @ served_items[i] @ b,
                phi[i] @ a + psi[u] @ b)
        if weight is not None:
            values *= weight
        values[picks] = -np.inf
        picks.append(int(values.argmax()))
        u, i = view.user[picks[-1]], view.item[picks[-1]]
        a, b = of_users[u] @ phi[i], of_items[i] @ psi[u]
        total = 1 + phi[i] @ a + psi[u] @ b
        of_users[u] -= np.outer(a, a) / total
        of_items[i] -= np.outer(b, b) / total
    return picks


def v_optimal(served, variance):
    return served / (1 + variance)


def d_optimal(served, variance):
    return np.log1p(variance)


def check_greedy(strategy, view, n, gain, weight=None):
    chosen = strategy.select(view, n, np.random.default_rng(0))
    assert chosen.tolist() == plain_greedy(view, n, gain, weight)


class TestVOpt(StrategyContract):
    strategy = acquisition.VOpt
    batches = ("top",)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_equals_the_plain_greedy(self, seed):
        check_greedy(self.make(), make_view(seed), 40, v_optimal)

    def test_gain_is_the_drop_of_the_targets_variance(self):
        """By the inverse of the whole precision, weights of all at once."""
        view = make_view(3)
        posterior = PairPosterior(view)
        phi, psi = posterior.features
        sizes = [s.shape for s in posterior.covariance]
        width = sum(shape[0] * shape[1] for shape in sizes)

        def row(u, i):
            found = np.zeros(width)
            start = u * sizes[0][1]
            found[start:start + sizes[0][1]] = phi[i]
            start = sizes[0][0] * sizes[0][1] + i * sizes[1][1]
            found[start:start + sizes[1][1]] = psi[u]
            return found

        whole = np.zeros((width, width))
        at = 0
        for part in posterior.covariance:
            for each in part:
                step = len(each)
                whole[at:at + step, at:at + step] = each
                at += step
        target = np.stack([row(u, i) for u, i in zip(
            view.target_user, view.target_item)])
        before = view.target_weight @ np.einsum(
            "nd,de,ne->n", target, whole, target)
        utilities = self.make().utilities(view)
        for place in (0, 17, 41):
            x = row(view.user[place], view.item[place])
            after = np.linalg.inv(np.linalg.inv(
                whole + 1e-12 * np.eye(width)) + np.outer(x, x))
            # Cross terms of user and item weights are left out.
            drop = whole - after
            blocks = np.zeros_like(drop)
            at = 0
            for part in posterior.covariance:
                for each in part:
                    step = slice(at, at + len(each))
                    blocks[step, step] = drop[step, step]
                    at += len(each)
            expected = view.target_weight @ np.einsum(
                "nd,de,ne->n", target, blocks, target)
            assert 0 < expected < before
            assert utilities[place] == pytest.approx(expected, rel=1e-4)

    def test_prior_and_cost_weigh_the_gains(self):
        rng = np.random.default_rng(5)
        prior, cost = rng.random(60) + 0.1, rng.random(60) + 0.5
        check_greedy(self.make(per_cost=True), make_view(
            2, prior=prior, cost=cost), 20, v_optimal, prior / cost)

    def test_asks_about_the_target(self):
        view = make_view(
            4, target_user=np.full(30, 3), target_item=np.full(30, 7))
        chosen = self.make().select(view, 5, np.random.default_rng(0))
        about = (view.user == 3) | (view.item == 7)
        assert about.sum() > 5 and about[chosen].all()

    def test_bad_options(self):
        with pytest.raises(ValueError, match="must be top"):
            self.make(batch="power")
        with pytest.raises(ValueError, match="components=0"):
            self.make(components=0)

    def test_vectors_that_are_not_finite(self):
        view = make_view()
        view.query_vectors[3] = np.nan
        with pytest.raises(ValueError, match="1 that are NaN"):
            self.make().select(view, 5, np.random.default_rng(0))

    def test_config_keeps_components(self):
        config = self.make(components=3, max_per_user=2).get_config()
        again = acquisition.VOpt.from_config(config)
        assert again.components == 3 and again.max_per_user == 2


class TestDOptimal(StrategyContract):
    strategy = acquisition.DOptimal
    batches = ("top",)

    @pytest.mark.parametrize("seed", [0, 1])
    def test_equals_the_plain_greedy(self, seed):
        check_greedy(self.make(), make_view(seed), 40, d_optimal)

    def test_gain_is_the_information_about_all_weights(self):
        view = make_view(3)
        variance = PairPosterior(view).variance(view.user, view.item)
        np.testing.assert_allclose(
            self.make().utilities(view), np.log(1 + variance) / 2)

    def test_prior_and_cost_weigh_the_gains(self):
        prior = np.random.default_rng(5).random(60) + 0.1
        check_greedy(self.make(), make_view(2, prior=prior), 20, d_optimal,
                     prior)


class TestEPIG(StrategyContract):
    strategy = acquisition.EPIG

    def test_equals_a_slow_loop(self):
        view = make_view(1)
        posterior = PairPosterior(view)
        (phi, psi), (of_users, of_items) = (
            posterior.features, posterior.covariance)

        def noisy(u, i):
            return 1 + phi[i] @ of_users[u] @ phi[i] + (
                psi[u] @ of_items[i] @ psi[u])

        expected = np.zeros(len(view))
        for row, (u, i) in enumerate(zip(view.user, view.item)):
            for v, j, w in zip(view.target_user, view.target_item,
                               view.target_weight):
                both = noisy(u, i) * noisy(v, j)
                for cov in ((phi[i] @ of_users[u] @ phi[j]) * (u == v),
                            (psi[u] @ of_items[i] @ psi[v]) * (i == j)):
                    expected[row] -= w * np.log(1 - cov ** 2 / both) / 2
        np.testing.assert_allclose(self.make().utilities(view), expected)

    def test_thinned_targets_keep_their_weight(self):
        strategy = self.make(most=4)
        weight = np.arange(20.0)
        rows, kept = strategy._thin_out(np.arange(5, 17), weight)
        assert len(rows) == 4 and rows[0] == 5 and rows[-1] == 16
        assert kept.sum() == pytest.approx(weight[5:17].sum())


class TestTargetMatched(StrategyContract):
    strategy = acquisition.TargetMatched

    def test_of_a_segment_is_random_within_it(self):
        view = make_view(size=150)
        inside = view.user <= 4
        view.target_user, view.target_item = (
            view.user[inside], view.item[inside])
        view.target_weight = np.full(inside.sum(), 1 / inside.sum())
        utilities = self.make().utilities(view)
        assert not utilities[~inside].any()
        np.testing.assert_allclose(
            utilities[inside], utilities[inside].mean(), rtol=0.02)

    def test_marginals_are_those_of_the_target(self):
        view = make_view(size=150)
        utilities = self.make().utilities(view)
        drawn = np.bincount(view.item, utilities, 16) / utilities.sum()
        np.testing.assert_allclose(drawn, np.bincount(
            view.target_item, view.target_weight, 16), atol=0.02)

    def test_a_target_without_candidates_is_random(self):
        view = make_view()
        view.target_user = np.full(30, 12 + 1)
        assert (self.make().utilities(view) == 1).all()


def test_linear_features_are_standardised():
    rng = np.random.default_rng(0)
    traffic = np.r_[0, rng.integers(0, 50, 40)]
    found = linear_features(rng.normal(size=(41, 6)), traffic, 3)
    weight = (1 + traffic[1:]) / (1 + traffic[1:]).sum()
    assert found.shape == (41, 5) and not found[0].any()
    np.testing.assert_allclose(found[1:, 0], 1)
    np.testing.assert_allclose(weight @ found[1:, 1:], 0, atol=1e-9)
    np.testing.assert_allclose(weight @ found[1:, 1:] ** 2, 1)


def test_linear_features_of_vectors_without_directions():
    found = linear_features(np.ones((5, 3)), np.zeros(5))
    assert found.shape == (5, 1)


def test_posterior_is_bayesian_linear_regression():
    """With items known for sure, a user's weights are a ridge regression."""
    view = make_view()
    posterior = PairPosterior(view, bias=0.25, slope=0.05)
    phi, psi = posterior.features
    doubt = quadratic(posterior.covariance[1], psi, view.labelled_item,
                      view.labelled_user)
    assert (doubt > 0).all()
    user = int(view.labelled_user[0])
    rows = np.flatnonzero(view.labelled_user == user)
    prior = np.diag(1 / np.r_[0.25, np.full(phi.shape[1] - 1, 0.05)])
    # The last sweep over users came before the last one over items.
    assert np.linalg.eigvalsh(np.linalg.inv(prior)
                              - posterior.covariance[0][user]).min() > -1e-12
    known = moments(phi, view.labelled_user, view.labelled_item,
                    np.ones(20), 13)[user]
    surest = np.linalg.inv(prior + known)
    assert len(rows) and (np.trace(surest)
                          < np.trace(posterior.covariance[0][user]))


def test_quadratic_and_moments_equal_loops():
    rng = np.random.default_rng(0)
    features, matrices = rng.normal(size=(7, 3)), rng.normal(size=(5, 3, 3))
    owner, other = rng.integers(0, 5, 40), rng.integers(0, 7, 40)
    weight = rng.random(40)
    np.testing.assert_allclose(
        quadratic(matrices, features, owner, other),
        [features[j] @ matrices[o] @ features[j]
         for o, j in zip(owner, other)])
    expected = np.zeros((5, 3, 3))
    for o, j, w in zip(owner, other, weight):
        expected[o] += w * np.outer(features[j], features[j])
    np.testing.assert_allclose(
        moments(features, owner, other, weight, 5), expected)


@pytest.mark.parametrize("name", ["vopt", "d_optimal"])
def test_what_was_kept_changes_no_batch(name):
    strategy = acquisition.get(name)
    view, fresh = [make_view() for _ in range(2)]
    utilities = strategy.utilities(view)
    picks = [strategy.select(one, 10, np.random.default_rng(0), utilities)
             for one in (view, fresh, view)]
    assert picks[0].tolist() == picks[1].tolist() == picks[2].tolist()
