"""Chooser against closed forms, and in a simulated run."""
from __future__ import annotations

import json

import numpy as np
import pytest
from contracts import StrategyContract, make_view

from tfrecal import acquisition
from tfrecal.acquisition.chooser import Chooser, exp4, posterior, reward
from tfrecal.metrics.direction import lower_is_better

NAMES = ["margin", "core_set", "random"]


class TestChooser(StrategyContract):
    strategy = Chooser
    options = {"strategies": ["margin", "core_set"], "monitor": "val_rmse"}
    batches = ("top",)

    def test_config_round_trip(self):
        made = self.make(method="exp4", floor=0.2, seed=4, max_per_user=3)
        config = json.loads(json.dumps(made.get_config()))
        again = Chooser.from_config(config)
        assert again.get_config() == config
        assert (again.method, again.max_per_user) == ("exp4", 3)


def make(**options):
    return Chooser(NAMES[:2], **{"monitor": "val_rmse", **options})


def run(chooser, rounds, effect, noise=0.02, seed=0, batch=100):
    """RMSE falls by what each strategy's labels bring."""
    rng = np.random.default_rng(seed)
    value, labelled, shares = 2.0, dict.fromkeys(NAMES, 0), []
    for number in range(rounds):
        logs = chooser.observe({"val_rmse": value}, dict(labelled))
        given = chooser.shares
        assert logs == {f"share/{name}": share
                        for name, share in zip(NAMES, given)}
        shares.append(given)
        for name, share in zip(NAMES, given):
            labelled[name] += round(batch * share)
        value -= (given @ effect + rng.normal(0, noise)) / (5 + number)
    return np.array(shares)


@pytest.mark.parametrize("method, ahead", [("thompson", 0.4), ("exp4", 0.05)])
@pytest.mark.parametrize("best, worst", [(0, 1), (1, 0)])
def test_the_better_strategy_gets_more(method, ahead, best, worst):
    effect = np.full(3, 0.4)
    effect[best], effect[worst] = 1.0, 0.2
    chances = []
    for seed in range(30):
        chooser = make(method=method, seed=seed)
        shares = run(chooser, 30, effect, seed=seed)
        assert shares[:, 2].min() >= 0.1 - 1e-9  # random's floor
        np.testing.assert_allclose(shares.sum(axis=1), 1)
        chances.append(chooser.records[-1]["chances"])
    mean = np.mean(chances, axis=0)
    assert mean[best] > mean[worst] + ahead


def test_random_is_always_an_arm():
    assert [arm.name for arm in make().strategies] == NAMES
    assert [arm.name for arm in Chooser(["random", "bald"]).strategies] == [
        "random", "bald"]
    chooser = make(floor=0.3)
    for seed in range(5):
        run(chooser, 1, np.zeros(3))
        _, arm = chooser.select_arms(
            make_view(), 20, np.random.default_rng(seed))
        assert (arm == 2).sum() >= 6


def test_the_reward_is_relative_to_the_rounds_before():
    assert reward(0.3, []) == 0.5
    assert reward(0.2, [0.2, 0.2]) == 0.5
    assert reward(0.3, [0.1]) == pytest.approx(0.5 + 0.2 / 0.3 / 2)
    assert reward(-0.3, [0.3]) == 0 and reward(0.0, [0.0]) == 0.5
    # Only five rounds count.
    assert reward(1.0, [9.0, 1, 1, 1, 1, 1]) == 0.5


def test_posterior_is_that_of_ridge_regression():
    rng = np.random.default_rng(0)
    given, rewards = rng.dirichlet(np.ones(3), 12), rng.random(12)
    mean, covariance = posterior(given, rewards)
    rows = np.concatenate([given / 0.25, np.eye(3) / 0.5])
    values = np.concatenate([rewards / 0.25, np.full(3, 0.5) / 0.5])
    np.testing.assert_allclose(
        mean, np.linalg.lstsq(rows, values, rcond=None)[0])
    np.testing.assert_allclose(covariance, np.linalg.inv(rows.T @ rows))
    mean, covariance = posterior(np.zeros((0, 3)), np.zeros(0))
    np.testing.assert_allclose(mean, 0.5)
    np.testing.assert_allclose(covariance, 0.25 * np.eye(3))


def test_exp4_by_hand():
    least = np.sqrt(np.log(2) / 40)
    bound = np.sqrt(np.log(20) / 40)
    found = exp4([[0.9, 0.1]], [0.8], np.array([[0.6, 0.4]]))
    credit = np.array([0.8 * 1.5 + bound / 0.6, 0.8 * 0.25 + bound / 0.4])
    weight = np.exp(least / 2 * credit)
    np.testing.assert_allclose(
        found, (1 - 2 * least) * weight / weight.sum() + least)
    np.testing.assert_allclose(exp4([], [], np.zeros((0, 4))), 0.25)


def test_it_says_why():
    chooser = make()
    chooser.observe({"val_rmse": 1.0}, {})
    chooser.observe({"val_rmse": 1.0}, {})  # no labels: nothing to judge
    chooser.observe({"val_rmse": 0.9}, {"margin": 60, "random": 40})
    chooser.observe({"val_rmse": 0.89}, {"margin": 60, "random": 140})
    json.dumps(chooser.records)
    first, second, third = chooser.records
    assert first["reward"] is None and "No round" in first["reason"]
    assert second["given"] == [0.6, 0.0, 0.4]
    assert second["gain"] == pytest.approx(0.1 / 100)
    assert "from 1 to 0.9 with 100 labels, the first round" in second["reason"]
    assert third["reward"] == pytest.approx(0.5 - 0.9 / 2)
    assert "less a label than in the rounds before: margin" in third["reason"]
    assert third["shares"] == chooser.shares.tolist()


@pytest.mark.parametrize("method", ["thompson", "exp4"])
def test_a_restored_chooser_goes_on_exactly(method):
    whole, part, rest = (make(method=method, seed=3) for _ in range(3))
    values = [1.0, 0.9, 0.85, 0.7, 0.69, 0.6]
    counts = [dict(zip(NAMES, (i * 30, i * i * 5, i * 10)))
              for i in range(6)]
    for value, count in zip(values, counts):
        whole.observe({"val_rmse": value}, count)
    for value, count in zip(values[:3], counts):
        part.observe({"val_rmse": value}, count)
    rest.restore(json.loads(json.dumps(part.state())))
    np.testing.assert_array_equal(rest.shares, part.shares)
    for value, count in zip(values[3:], counts[3:]):
        rest.observe({"val_rmse": value}, count)
    assert rest.records == whole.records


def test_a_missing_metric_is_named():
    chooser = make()
    with pytest.warns(UserWarning, match="`val_rmse`.*Available: loss"):
        chooser.observe({"loss": 1.0}, {})
    chooser.observe({"val_rmse": np.nan}, {})
    assert chooser.records == []


@pytest.mark.parametrize("options, message", [
    ({"method": "ucb"}, "method='ucb'"), ({"floor": 0}, "floor=0"),
    ({"mode": "up"}, "mode='up'"), ({"batch": "power"}, "must be top")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_distinct_names():
    with pytest.raises(ValueError, match=r"distinct.*\['bald', 'bald'"):
        Chooser([acquisition.BALD(), acquisition.BALD(batch="power")])


def test_which_metrics_fall():
    assert lower_is_better("val_rmse") and lower_is_better("loss")
    assert not lower_is_better("val_ndcg@10")
    assert lower_is_better("cost", "min")
    assert not lower_is_better("val_rmse", "max")
