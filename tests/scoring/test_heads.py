"""Heads against ridge regressions one by one and exact posteriors."""
from __future__ import annotations

import numpy as np

from tfrecal.scoring import anchored_heads as module
from tfrecal.scoring.anchored_heads import anchored_heads, head_vectors

OWNERS, OTHERS, D = 9, 12, 4


def problem(seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(OTHERS + 1, D))
    owner = rng.integers(1, 8, 60)  # 8 and the unknown 0 have no label
    other = rng.integers(1, OTHERS + 1, 60)
    noise = rng.uniform(0.2, 2, 60)
    prior = np.array([1.0, 0.5, 0.1, 0.0])
    return features, owner, other, rng.normal(size=60), noise, prior


def slow_posterior(features, owner, other, residual, noise, prior):
    """Mean and covariance of each owner, one at a time, by conditioning."""
    means, covariances = [], []
    for one in range(OWNERS):
        rows = owner == one
        phi = features[other[rows]]
        gain = np.diag(prior) @ phi.T @ np.linalg.inv(
            phi @ np.diag(prior) @ phi.T + np.diag(noise[rows]))
        means.append(gain @ residual[rows])
        covariances.append(np.diag(prior) - gain @ phi @ np.diag(prior))
    return np.array(means), np.array(covariances)


def test_heads_are_draws_from_the_exact_posterior(monkeypatch):
    monkeypatch.setattr(module, "_CELLS", 1 << 19)  # more than one group
    given = problem()
    count = 20_000
    heads = anchored_heads(*given, OWNERS, count, np.random.default_rng(1))
    mean, covariance = slow_posterior(*given)
    assert heads.shape == (count, OWNERS, D) and heads.dtype == np.float32
    deviation = np.sqrt(covariance[:, range(D), range(D)])
    error = (heads.mean(axis=0) - mean) * np.sqrt(count)
    assert (np.abs(error) <= 5 * deviation + 1e-3).all()
    centred = heads - heads.mean(axis=0)
    found = np.einsum("hod,hoe->ode", centred, centred) / count
    np.testing.assert_allclose(found, covariance, atol=0.04)
    assert np.ptp(heads[:, 1:, 3]) == 0  # a prior of no variance


def test_a_head_is_a_ridge_regression():
    """With labels of no noise and no anchor: plain ridge, user by user."""

    class NoDraws:
        def standard_normal(self, shape, dtype=np.float64):
            return np.zeros(shape, dtype)

    features, owner, other, residual, _, _ = problem(3)
    noise, prior = 0.7, np.array([1.0, 0.5, 0.1, 2.0])
    head, = anchored_heads(features, owner, other, residual, noise, prior,
                           OWNERS, 1, NoDraws())
    for one in range(OWNERS):
        rows = owner == one
        phi = np.concatenate([features[other[rows]] / np.sqrt(noise),
                              np.diag(1 / np.sqrt(prior))])
        label = np.r_[residual[rows] / np.sqrt(noise), np.zeros(D)]
        expected = np.linalg.lstsq(phi, label, rcond=None)[0]
        np.testing.assert_allclose(head[one], expected, atol=1e-5)


def test_both_sides_add_their_variances():
    rng = np.random.default_rng(4)
    query = rng.normal(size=(OWNERS, D + 2)).astype(np.float32)
    candidate = rng.normal(size=(OTHERS + 1, D + 2)).astype(np.float32)
    query[:, -1] = candidate[:, -2] = 1
    _, user, item, residual, _, _ = problem(4)
    made = head_vectors(query, candidate, user, item, residual, 0.5, 8000, 0)
    assert all((q[:, -1] == 1).all() and (c[:, -2] == 1).all()
               for q, c in made[:20])
    scores = np.array([q[5] @ c[7] for q, c in made])
    own, free = [0, 1, 2, 3, 4], [0, 1, 2, 3, 5]
    noise = np.full(60, 0.5)
    _, s_user = slow_posterior(
        candidate[:, own].astype(float), user, item, residual / 2, noise,
        query[1:, own].var(axis=0))
    rows = item == 7
    psi, prior = query[:, free].astype(float), candidate[1:, free].var(axis=0)
    s_item = np.linalg.inv(np.diag(1 / prior) + np.einsum(
        "nd,ne->de", psi[user[rows]], psi[user[rows]]) / 0.5)
    mean_q = np.mean([q[5] for q, _ in made], axis=0)
    mean_c = np.mean([c[7] for _, c in made], axis=0)
    expected = (mean_c[own] @ s_user[5] @ mean_c[own]
                + mean_q[free] @ s_item @ mean_q[free]
                + np.sum(s_user[5][:D, :D] * s_item[:D, :D]))
    assert abs(scores.var() / expected - 1) < 0.08


def test_same_seed_same_heads():
    rng = np.random.default_rng(4)
    query, candidate = rng.normal(size=(2, 13, D + 2)).astype(np.float32)
    _, user, item, residual, _, _ = problem(4)
    first, second, other = (head_vectors(
        query, candidate, user, item, residual, 0.5, 2, s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first[1][0], second[1][0])
    assert not np.allclose(first[1][0], other[1][0])
