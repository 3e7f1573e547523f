"""Rateability against a world whose probabilities are known."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tfrecal.data.pairs import Pairs
from tfrecal.data.vocabulary import Vocabulary
from tfrecal.metrics import auc
from tfrecal.pool.pool import DECLINED, LABELLED
from tfrecal.pool.rateability import Rateability, fit_logistic


def world(seed=0, users=120, items=90):
    """Users of three tastes; a pair has met with a known probability."""
    rng = np.random.default_rng(seed)
    same = (np.arange(users) % 3)[:, None] == np.arange(items) % 3
    chance = np.where(same, 0.5, 0.05)
    user, item = np.nonzero(rng.random((users, items)) < chance)
    pool = SimpleNamespace(
        user=(user + 1).astype(np.int32), item=(item + 1).astype(np.int32),
        ticket=np.full(len(user), -1), state=np.full(len(user), LABELLED),
        user_vocabulary=Vocabulary(range(users)),
        item_vocabulary=Vocabulary(range(items)), lazy=True)
    met = np.zeros((users, items), bool)
    met[user, item] = True
    return pool, chance, met


@pytest.fixture(scope="module")
def made():
    pool, chance, met = world()
    return pool, chance, met, Rateability(pool, rank=3)


def pairs(pool, user, item):
    return Pairs(user, item, pool.user_vocabulary, pool.item_vocabulary)


def other_pairs(met):
    """Pairs outside the traffic, as codes."""
    user, item = np.nonzero(~met)
    return user + 1, item + 1


def test_tastes_are_found_and_probabilities_calibrated(made):
    pool, chance, met, model = made
    user, item = np.divmod(np.arange(chance.size), chance.shape[1])
    found = model.predict(pairs(pool, user + 1, item + 1))
    assert found.min() >= 0 and found.max() <= 1
    same = chance.ravel() > 0.3
    assert auc(same, found) > 0.97
    # The mean probability is the share of pairs that have met.
    assert found.mean() == pytest.approx(met.mean(), rel=0.15)
    assert found[same].mean() == pytest.approx(0.5, abs=0.1)
    assert found[~same].mean() == pytest.approx(0.05, abs=0.03)


def test_asked_pairs_are_no_traffic(made):
    pool, _, met, model = made
    user, item = other_pairs(met)
    asked = SimpleNamespace(**vars(pool))
    for name, more in (("user", user[:500]), ("item", item[:500]),
                       ("ticket", np.arange(500)),
                       ("state", np.zeros(500, int))):
        setattr(asked, name, np.append(getattr(pool, name), more))
    np.testing.assert_array_equal(
        Rateability(asked, rank=3).predict(pairs(pool, user, item)),
        model.predict(pairs(pool, user, item)))


def test_declining_lowers_the_rate_of_user_and_item():
    pool, _, _ = world(users=9, items=9)
    pool.lazy = False
    pool.user, pool.item = np.repeat([1, 2], 3), np.array([1, 2, 3, 4, 1, 2])
    pool.ticket, pool.state = np.full(6, -1), np.full(6, LABELLED)
    model = Rateability(pool)
    user, item = np.array([1, 2, 3, 1]), np.array([9, 9, 9, 1])
    assert (model.responds(user, item) == 1).all()
    pool.ticket = np.arange(6)
    pool.state[:3] = DECLINED  # all that user 1 was asked
    overall = 4 / 8
    down, up, item_rate = 2.5 / 8, 5.5 / 8, 3.5 / 7  # item 1: one of two
    np.testing.assert_allclose(
        model.responds(user, item),
        [down, up, overall, down * item_rate / overall])


@pytest.mark.parametrize("users, items", [(1, 5), (2, 2), (5, 1)])
def test_tiny_pools(users, items):
    pool, _, _ = world(users=users, items=items)
    user, item = np.divmod(np.arange(users * items), items)
    found = Rateability(pool).predict(pairs(pool, user + 1, item + 1))
    assert np.isfinite(found).all() and (0 <= found).all()
    with pytest.raises(ValueError, match="rank=0"):
        Rateability(pool, rank=0)


def test_logistic_finds_the_weights_again():
    rng = np.random.default_rng(0)
    features = np.stack([np.ones(20_000), rng.normal(size=20_000) * 7], 1)
    true = np.array([-1.0, 0.3])
    label = rng.random(20_000) < 1 / (1 + np.exp(-features @ true))
    # Half of the positives left out, each of the others counts twice.
    keep = ~label | (rng.random(20_000) < 0.5)
    weight = np.where(label, 2.0, 1.0)
    np.testing.assert_allclose(
        fit_logistic(features[keep], label[keep], weight[keep]), true,
        atol=0.07)
