"""Off-policy estimates against known answers and simulated truth."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.metrics import off_policy
from tfrecal.metrics.off_policy import ips, list_target, snips, training_weights
from tfrecal.metrics.position_bias import examination

# Two requests of two slots; weights are 2, 0, 0.5 and 4.
HAND = {"request": ["a", "a", "b", "b"], "rank": [1, 2, 1, 2],
        "reward": [1.0, 1, 0, 3], "propensity": [0.5, 0.9, 0.8, 0.25],
        "target": [1.0, 0, 0.4, 1]}


def world(seed, requests=2000, sharp=1.0, slots=2):
    """A log of lists drawn slot by slot, and what a candidate would earn.

    The policies and the users are always the same, the log is not.
    """
    rng = np.random.default_rng(4)
    items = 4
    logging = rng.dirichlet(np.ones(items), slots) * 0.8 + 0.2 / items
    target = logging ** sharp
    target = target[:, ::-1] / target.sum(axis=1, keepdims=True)
    click = rng.uniform(0.05, 0.6, (slots, items))
    rng = np.random.default_rng(seed)
    item = np.stack([rng.choice(items, requests, p=p) for p in logging], 1)
    place = np.broadcast_to(np.arange(slots), item.shape)
    log = {"request": np.repeat(np.arange(requests), slots),
           "rank": place.ravel() + 1,
           "reward": rng.random(item.size) < click[place, item].ravel(),
           "propensity": logging[place, item].ravel(),
           "target": target[place, item].ravel()}
    return log, float((target * click).sum())


def test_by_hand():
    found = ips(**HAND)
    assert found.value == pytest.approx((2 * 1 + 4 * 3) / 2)
    assert found.logged == 2.5
    assert found.gain == pytest.approx(4.5)
    assert found.support == 0.75
    assert found.mean_weight == pytest.approx(6.5 / 4)
    assert found.largest_weight == 4
    # Kish, per request: 2 * mean(w)^2 / mean(w^2)
    assert found.effective_size == pytest.approx(
        2 * 6.5 ** 2 / 16 / (20.25 / 4))
    assert snips(**HAND).value == pytest.approx(2 / 2.5 + 12 / 4)
    assert ips(**HAND, clip=3).value == pytest.approx((2 + 3 * 3) / 2)
    assert snips(**HAND, clip=1).value == pytest.approx(1 / 1.5 + 3)


def test_the_logging_policy_earns_what_it_earned():
    log, _ = world(0)
    assert abs(ips(**log).mean_weight - 1) > 0.01
    assert ips(**log).warning == ""  # it is off by chance only
    log["target"] = log["propensity"]
    for method in (ips, snips):
        found = method(**log, draws=50)
        assert found.value == pytest.approx(found.logged)
        assert found.gain_low == pytest.approx(0, abs=1e-12)
        assert found.gain_high == pytest.approx(0, abs=1e-12)
        assert found.effective_size == pytest.approx(2000)
        assert found.warning == ""


@pytest.mark.parametrize("method", [ips, snips])
def test_unbiased_within_monte_carlo_error(method):
    found = []
    for seed in range(150):
        log, truth = world(seed, requests=500)
        found.append(method(**log, draws=1))
    errors = np.array([estimate.value for estimate in found]) - truth
    error = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 3 * error
    # What the log earned is no estimate of it.
    naive = np.mean([estimate.logged for estimate in found])
    assert abs(naive - truth) > 10 * error


def test_intervals_hold_the_truth_as_often_as_they_say():
    inside = 0
    for seed in range(100):
        log, truth = world(seed, requests=400)
        found = snips(**log, draws=200, level=0.8, seed=seed)
        assert found.low < found.value < found.high
        inside += found.low <= truth <= found.high
    assert 68 <= inside <= 91  # binomial(100, 0.8), 0.3% either side


def test_self_normalised_knows_propensities_up_to_a_factor():
    log, _ = world(3)
    half = {**log, "propensity": log["propensity"] / 2}
    assert snips(**half, draws=1).value == pytest.approx(
        snips(**log, draws=1).value)
    assert ips(**half, draws=1).value == pytest.approx(
        2 * ips(**log, draws=1).value)
    assert "propensities are too low" in snips(**half).warning
    more = {**log, "reward": log["reward"] + 1.0}
    assert snips(**more, draws=1).value == pytest.approx(
        snips(**log, draws=1).value + 2)


def test_clipping_lowers_value_and_variance():
    plain, clipped = [], []
    for seed in range(60):
        log, truth = world(seed, 200, sharp=3.0)
        plain.append(ips(**log, draws=1).value - truth)
        clipped.append(ips(**log, draws=1, clip=1.5).value - truth)
        assert clipped[-1] <= plain[-1]
    assert np.mean(clipped) < -0.01
    assert np.std(clipped) < np.std(plain)


def test_users_with_many_requests_widen_the_interval():
    """Ten requests of a user are one draw where they are all alike."""
    reward = np.repeat(np.random.default_rng(0).random(50) < 0.5, 10)
    flat = np.full(500, 0.5)
    log = dict(request=np.arange(500), reward=reward, propensity=flat,
               target=flat)
    each = ips(**log, seed=1)
    users = ips(**log, unit=np.repeat(np.arange(50), 10), seed=1)
    ratio = (users.high - users.low) / (each.high - each.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.2)
    assert users.value == each.value


def test_grouped_units_vary_as_single_ones(monkeypatch):
    log, _ = world(5, requests=4000)
    all_units = snips(**log, seed=2)
    monkeypatch.setattr(off_policy, "_GROUPS", 500)
    monkeypatch.setattr(off_policy, "_CELLS", 5000)
    grouped = snips(**log, seed=2)
    assert grouped.value == pytest.approx(all_units.value)
    assert grouped.high - grouped.low == pytest.approx(
        all_units.high - all_units.low, rel=0.15)


def test_a_log_without_support_says_so():
    log, _ = world(1)
    log["target"][:] = 0
    nothing = snips(**log)
    assert "says nothing" in nothing.warning and nothing.support == 0
    assert np.isnan(nothing.value) and np.isnan(nothing.gain_low)
    assert "says nothing" in ips(**HAND).warning
    # A fixed logged list with 10% of exploration at its first rank, and a
    # candidate that shows one item which exploration never draws.
    drawn = np.arange(5000) % 10 == 0
    thin = ips(request=np.arange(5000), reward=np.ones(5000),
               propensity=np.where(drawn, 0.1, 0.9), target=drawn * 0.5)
    assert "50% of what the candidate would show" in thin.warning


def test_targets_of_fixed_lists():
    lists = np.array([[7, 8], [9, 7]])
    found = list_target(request=[0, 0, 0, 1, 1], rank=[1, 2, 3, 1, 2],
                        item=[7, 9, 7, 9, 7], lists=lists)
    np.testing.assert_array_equal(found, [1, 0, 0, 1, 1])


@pytest.mark.parametrize("change, message", [
    ({"propensity": [0.5, 0, 1, 1]}, r"`propensity` must lie in \(0, 1\]"),
    ({"propensity": [0.5, np.nan, 1, 1]}, "`propensity` must lie"),
    ({"target": [1, 1, 1, 1.1]}, "target=1.1"),
    ({"reward": [1, 1, 1, np.inf]}, "`reward` must be finite"),
    ({"rank": [0, 1, 2, 3]}, "rank=0"),
    ({"reward": [1, 1, 1]}, "one length"),
    ({name: [] for name in HAND}, "at least one slot"),
    ({"clip": 0}, "clip=0"), ({"level": 1}, "level=1"),
    ({"draws": 0}, "draws=0")])
def test_wrong_arrays_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        ips(**{**HAND, **change})


def test_training_weights():
    propensity = np.array([0.5, 0.1, 1.0, np.nan])
    known = np.array([2, 10, 1]) / (13 / 3)
    np.testing.assert_allclose(
        training_weights(propensity), [*known, 1], rtol=1e-6)
    np.testing.assert_allclose(
        training_weights(propensity, clip=4, self_normalise=False),
        [2, 4, 1, 7 / 3], rtol=1e-6)
    np.testing.assert_array_equal(training_weights([np.nan] * 2), [1, 1])
    assert len(training_weights([])) == 0
    with pytest.raises(ValueError, match="propensity=1.5"):
        training_weights([0.5, 1.5])


def test_weighted_labels_have_the_mean_of_all_pairs():
    """Ratings that were shown because they are high; Schnabel, section 3."""
    rng = np.random.default_rng(0)
    label = rng.integers(1, 6, 20000).astype(float)
    propensity = label / 10
    seen = rng.random(20000) < propensity
    weight = training_weights(propensity[seen])
    assert label[seen].mean() > 3.5
    assert np.mean(weight * label[seen]) == pytest.approx(3.0, abs=0.05)


def test_examination_of_a_simulated_position_bias():
    rng = np.random.default_rng(0)
    truth = 1 / np.arange(1, 7)
    rank = rng.integers(1, 7, 60000)
    explored = rng.random(60000) < 0.5
    # The model's own slots hold better items at the top.
    liked = np.where(explored, 0.4, 0.9 / rank)
    clicked = rng.random(60000) < liked * truth[rank - 1]
    found = examination(rank, clicked, explored)
    np.testing.assert_allclose(found, truth, atol=0.03)
    naive = examination(rank, clicked, np.ones(60000, bool))
    assert np.abs(naive - truth).max() > 0.1


def test_examination_by_hand():
    """Rates 0.5, 0.2, 0.4: the last two are pooled, rank 4 was not drawn."""
    rank = np.repeat([1, 2, 3, 4], [10, 10, 30, 10])
    clicked = np.r_[[1] * 5, [0] * 5, [1] * 2, [0] * 8, [1] * 12, [0] * 18,
                    [1] * 10]
    explored = rank < 4
    found = examination(rank, clicked, explored, smoothing=1e-9)
    np.testing.assert_allclose(found, [1, 0.7, 0.7, 0.7], rtol=1e-6)
    strong = examination(rank, clicked, explored, smoothing=1e9)
    np.testing.assert_allclose(strong, 1, rtol=1e-6)


@pytest.mark.parametrize("options, message", [
    ({"rank": [2, 3]}, "0 of them at rank 1"),
    ({"clicked": [0, 0]}, "0 clicks"), ({"rank": [0, 1]}, "rank=0"),
    ({"explored": [0, 0]}, "0 explored slots"),
    ({"clicked": [1]}, "one length"), ({"smoothing": 0}, "smoothing=0")])
def test_examination_names_what_is_missing(options, message):
    with pytest.raises(ValueError, match=message):
        examination(**{"rank": [1, 2], "clicked": [1, 0],
                       "explored": [1, 1], **options})
