"""Strategies against plain NumPy, closed forms and slow loops."""
from __future__ import annotations

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
from contracts import StrategyContract, make_view

from tfrecal import acquisition
from tfrecal.acquisition import View, picking
from tfrecal.acquisition.coverage import rank_within
from tfrecal.acquisition.math import probabilities


class TestRandom(StrategyContract):
    strategy = acquisition.Random

    def test_uniform_without_a_prior(self):
        counts = np.zeros(60)
        rng = np.random.default_rng(0)
        for _ in range(600):
            counts[self.make().select(make_view(), 10, rng)] += 1
        # 100 expected each; binomial sd 9.1; five sd
        assert abs(counts - 100).max() < 46

    def test_proportional_to_the_prior(self):
        view = View(np.ones(2, np.int32), np.array([1, 2], np.int32),
                    prior=np.array([1.0, 3.0]))
        rng = np.random.default_rng(0)
        first = [self.make().select(view, 1, rng)[0] for _ in range(2000)]
        assert np.mean(first) == pytest.approx(0.75, abs=0.05)


class TestPopularity(StrategyContract):
    strategy = acquisition.Popularity

    def test_most_traffic_first(self):
        view = make_view(item_traffic=np.arange(16))
        chosen = self.make().select(view, 60, np.random.default_rng(0))
        assert (np.diff(view.item[chosen]) <= 0).all()


class CoverageContract(StrategyContract):
    side: str

    @pytest.mark.parametrize("most, prior", [
        (60, None), (2, None), (2, np.full(60, 0.7))])
    def test_equals_a_slow_loop(self, most, prior):
        view = make_view(prior=prior)
        other = "item" if self.side == "user" else "user"
        codes, others = getattr(view, self.side), getattr(view, other)
        counts = getattr(view, f"{self.side}_labelled").astype(int).copy()
        chosen = self.make(**{f"max_per_{other}": most}).select(
            view, 40, np.random.default_rng(0)).tolist()
        for place, pick in enumerate(chosen):
            # What is left, but for those that the cap forbids.
            taken = np.bincount(others[chosen[:place]], minlength=16)
            left = [row for row in range(60) if row not in chosen[:place]
                    and taken[others[row]] < most]
            assert pick in left
            assert counts[codes[pick]] == counts[codes[left]].min()
            counts[codes[pick]] += 1

    def test_prior_chooses_within_a_group(self):
        view = View(np.ones(3, np.int32), np.ones(3, np.int32),
                    user_labelled=np.zeros(2), item_labelled=np.zeros(2),
                    prior=np.array([0.2, 0.9, 0.5]))
        for seed in range(5):
            chosen = self.make().select(view, 1, np.random.default_rng(seed))
            assert chosen.tolist() == [1]


class TestUserCoverage(CoverageContract):
    strategy = acquisition.UserCoverage
    side = "user"


class TestItemCoverage(CoverageContract):
    strategy = acquisition.ItemCoverage
    side = "item"


class TestLeastConfidence(StrategyContract):
    strategy = acquisition.LeastConfidence

    def test_numbers(self):
        view = make_view(size=2, probabilities=np.array(
            [[.5, .3, .2], [.9, .1, 0]]))
        np.testing.assert_allclose(self.make().utilities(view), [.5, .1])


class TestMargin(StrategyContract):
    strategy = acquisition.Margin

    def test_numbers(self):
        view = make_view(size=2, probabilities=np.array(
            [[.3, .2, .5], [.9, .1, 0]]))
        np.testing.assert_allclose(self.make().utilities(view), [.8, .2])

    def test_one_class(self):
        view = make_view(probabilities=np.ones((60, 1)))
        with pytest.raises(ValueError, match=r"two likeliest.*\(60, 1\)"):
            self.make().utilities(view)


class TestEntropy(StrategyContract):
    strategy = acquisition.Entropy

    def test_numbers(self):
        view = make_view(size=3, probabilities=np.array(
            [[.5, .5], [1, 0], [.8, .2]]))
        by_hand = -.8 * math.log(.8) - .2 * math.log(.2)
        np.testing.assert_allclose(
            self.make().utilities(view), [math.log(2), 0, by_hand])


class TestPredictiveVariance(StrategyContract):
    strategy = acquisition.PredictiveVariance

    def test_numbers(self):
        view = make_view(size=2, samples=np.array([[1., 3], [3, 3]]))
        np.testing.assert_allclose(self.make().utilities(view), [1, 0])


class TestBALD(StrategyContract):
    strategy = acquisition.BALD

    def test_sure_passes_that_disagree(self):
        passes = np.array([[[1., 0], [.5, .5], [.9, .1]],
                           [[0., 1], [.5, .5], [.9, .1]]])
        found = self.make().utilities(
            make_view(size=3, sample_probabilities=passes))
        np.testing.assert_allclose(found, [math.log(2), 0, 0], atol=1e-12)

    def test_is_the_mean_divergence_from_the_marginal(self):
        view = make_view()
        passes = view.sample_probabilities
        marginal = passes.mean(axis=0)
        divergence = (passes * np.log(passes / marginal)).sum(-1).mean(0)
        np.testing.assert_allclose(
            self.make().utilities(view), divergence, rtol=1e-6)


def embedded(view, user, item):
    return np.concatenate([view.query_vectors[user],
                           view.candidate_vectors[item]], axis=1)


class TestCoreSet(StrategyContract):
    strategy = acquisition.CoreSet
    batches = ("top", "power")

    @pytest.mark.parametrize("users, items", [(12, 15), (40, 6), (6, 40)])
    def test_equals_the_brute_force_greedy(self, users, items):
        view = make_view(users=users, items=items)
        pairs = embedded(view, view.user, view.item)
        centres = embedded(view, view.labelled_user, view.labelled_item)
        distance = ((pairs[:, None] - centres) ** 2).sum(-1).min(axis=1)
        np.testing.assert_allclose(
            self.make().utilities(view), distance, atol=1e-9)
        chosen = self.make().select(view, 60, np.random.default_rng(0))
        for pick in chosen:
            # Pairs of one user or item often tie exactly, so the distance
            # is compared and not the row.
            assert distance[pick] == pytest.approx(distance.max(), abs=1e-9)
            distance = np.minimum(
                distance, ((pairs - pairs[pick]) ** 2).sum(-1))

    def test_small_blocks_change_nothing(self, monkeypatch):
        view = make_view()
        whole = self.make().utilities(view)
        monkeypatch.setattr("tfrecal.acquisition.math.nearest._CELLS", 50)
        np.testing.assert_allclose(
            self.make().utilities(view), whole, atol=1e-9)

    def test_without_labels_starts_anywhere(self):
        none = np.zeros(0, np.int32)
        view = make_view(labelled_user=none, labelled_item=none,
                         labelled_label=none.astype(np.float32))
        starts = set()
        for seed in range(20):
            first, second = self.make().select(
                view, 2, np.random.default_rng(seed))
            pairs = embedded(view, view.user, view.item)
            far = ((pairs - pairs[first]) ** 2).sum(-1)
            assert second == far.argmax()
            starts.add(int(first))
        assert len(starts) > 5

    @pytest.mark.parametrize("batch", ["top", "power"])
    def test_never_chooses_a_pair_twice(self, batch):
        none = np.zeros(0, np.int32)
        for prior in (np.ones(60), np.repeat([1e-300, 1e300], [59, 1])):
            view = make_view(labelled_user=none, labelled_item=none,
                             labelled_label=none,
                             query_vectors=np.zeros((13, 3)), prior=prior)
            chosen = self.make(batch=batch).select(
                view, 60, np.random.default_rng(0))
            assert sorted(chosen) == list(range(60))
        view.candidate_vectors[3] = np.nan
        with pytest.raises(ValueError, match="`candidate_vectors`.*1 that"):
            self.make(batch=batch).select(view, 9, np.random.default_rng(0))

    def test_power_is_k_means_plus_plus_seeding(self):
        view = make_view(size=6)
        rng = np.random.default_rng(0)
        first = [self.make(batch="power").select(view, 1, rng)[0]
                 for _ in range(3000)]
        distance = self.make().utilities(view)
        np.testing.assert_allclose(
            np.bincount(first, minlength=6) / 3000,
            distance / distance.sum(), atol=0.04)

    def test_batches_that_make_no_sense(self):
        with pytest.raises(ValueError, match="top or power"):
            self.make(batch="softmax")

    def test_many_labelled_pairs_in_blocks(self):
        view = make_view(size=20_000, users=500, items=800, labelled=5_000)
        chosen = self.make().select(view, 200, np.random.default_rng(0))
        assert len(np.unique(chosen)) == 200


def test_every_name_has_a_contract():
    for path in Path(__file__).parent.glob("test_*strategies.py"):
        importlib.import_module(path.stem)

    def below(cls):
        return {cls}.union(*map(below, cls.__subclasses__()))

    tested = {cls.strategy.name for cls in below(StrategyContract)
              if hasattr(cls, "strategy")}
    assert tested >= set(acquisition.names())


def test_get():
    made = acquisition.get("bald", batch="power", max_per_user=5)
    assert isinstance(made, acquisition.BALD)
    assert (made.batch, made.max_per_user) == ("power", 5)
    assert acquisition.get(made) is made
    with pytest.raises(ValueError, match="core_set.*'coreset'"):
        acquisition.get("coreset")


@pytest.mark.parametrize("fields, message", [
    ({"item": np.ones(59, int)}, r"`item`.*n=60.*\(59,\)"),
    ({"mean": np.ones((60, 1))}, r"`mean` must be \[n\]"),
    ({"samples": np.ones((60, 5))}, r"`samples` must be \[p, n\]"),
    ({"cost": np.ones(9)}, "`cost`"), ({"prior": 1.0}, "`prior`"),
    ({"labelled_user": None}, r"`labelled_label`.*\(\) and \(20,\)"),
    ({"user": np.zeros(60, int)}, "`user` .*codes 0 to 0"),
    ({"user_labelled": np.ones(12)}, "`user` .* to 12, .* length 12"),
    ({"item_traffic": np.ones(9)}, "`item` .* length 9"),
    ({"labelled_item": np.full(20, 16)}, "`labelled_item` .* length 16")])
def test_a_view_that_does_not_fit_together(fields, message):
    with pytest.raises(ValueError, match=message):
        make_view(**fields)


@pytest.mark.parametrize("options, message", [
    ({"batch": "best"}, "batch='best'"), ({"temperature": 0}, "temperature=0"),
    ({"max_per_user": 0}, "max_per_user=0"),
    ({"max_per_item": -1}, "max_per_item=-1")])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        acquisition.Entropy(**options)


class Given(acquisition.Strategy):
    """Utilities are the predicted labels."""

    needs = frozenset({"mean"})

    def utilities(self, view):
        return np.asarray(view.mean, np.float64)


def test_top_is_sorted_and_ties_are_broken_by_the_seed():
    view = make_view(mean=np.repeat([1.0, 3.0, 2.0], 20))
    choices = [Given().select(view, 25, np.random.default_rng(seed)).tolist()
               for seed in range(3)]
    for chosen in choices:
        assert sorted(chosen[:20]) == list(range(20, 40))
        assert all(40 <= row < 60 for row in chosen[20:])
    assert choices[0] != choices[1] != choices[2]


@pytest.mark.parametrize("batch, temperature, weights", [
    ("power", 1.0, [1, 2, 5]), ("power", 0.5, [1, 4, 25]),
    ("softmax", 2.0, np.exp([.5, 1, 2.5])),
    ("softrank", 1.0, [1 / 3, 1 / 2, 1]),
    ("softrank", 0.5, [1 / 9, 1 / 4, 1])])
def test_stochastic_batches_have_the_published_chances(
        batch, temperature, weights):
    view = View(np.ones(3, np.int32), np.arange(1, 4, dtype=np.int32),
                mean=np.array([1.0, 2.0, 5.0]))
    strategy = Given(batch=batch, temperature=temperature)
    rng = np.random.default_rng(0)
    first = [strategy.select(view, 1, rng)[0] for _ in range(4000)]
    np.testing.assert_allclose(
        np.bincount(first, minlength=3) / 4000,
        np.array(weights) / np.sum(weights), atol=0.03)


def test_prior_multiplies_the_scaled_utility():
    view = View(np.ones(3, np.int32), np.arange(1, 4, dtype=np.int32),
                mean=np.array([-10.0, -5.0, 0.0]),
                prior=np.array([2.9, 3.0, 1.0]))
    chosen = Given().select(view, 3, np.random.default_rng(0))
    assert chosen.tolist() == [1, 2, 0]  # 2/3 * 3, 1 * 1, 1/3 * 2.9
    view.prior[0] = 6.1
    assert Given().select(view, 1, np.random.default_rng(0)).tolist() == [0]


def test_cost_counts_only_on_request():
    view = View(np.ones(3, np.int32), np.arange(1, 4, dtype=np.int32),
                mean=np.array([0.0, 6.0, 10.0]),
                cost=np.array([1.0, 1.0, 2.0]))
    rng = np.random.default_rng(0)
    assert Given().select(view, 1, rng).tolist() == [2]
    assert Given(per_cost=True).select(view, 1, rng).tolist() == [1]
    view.cost = None
    with pytest.raises(ValueError, match="per_cost=True"):
        Given(per_cost=True).select(view, 1, rng)
    view.cost = np.zeros(3)
    with pytest.raises(ValueError, match="`cost` must be .*> 0"):
        Given(per_cost=True).select(view, 1, rng)


def test_caps_equal_a_slow_loop():
    rng = np.random.default_rng(0)
    user, item = rng.integers(1, 40, (2, 5000))
    order = rng.permutation(5000)
    expected, users, items = [], {}, {}
    for row in order.tolist():
        u, i = user[row], item[row]
        if users.get(u, 0) < 3 and items.get(i, 0) < 2:
            users[u], items[i] = users.get(u, 0) + 1, items.get(i, 0) + 1
            expected.append(row)
    for n in (10, 5000):
        found = picking.capped(order, n, [(user, 3), (item, 2)])
        assert found.tolist() == expected[:n]


def test_caps_that_cannot_be_filled():
    rng = np.random.default_rng(0)
    view = View(rng.integers(1, 1000, 100_000), np.full(100_000, 7),
                mean=rng.random(100_000))
    strategy = Given(max_per_user=1, max_per_item=5)
    assert len(strategy.select(view, 1000, rng)) == 5


def test_rank_within():
    codes = np.array([5, 5, 2, 5, 2])
    order = np.array([3, 4, 0, 2, 1])
    assert rank_within(codes, order).tolist() == [1, 2, 1, 0, 0]


def test_ordinal_by_numeric_integration():
    found = probabilities.ordinal(
        np.array([[2.2], [4.9]]), 0.8, np.array([1.0, 2, 3, 5]))
    grid = np.linspace(-10, 15, 250_001)
    for mean, row in zip((2.2, 4.9), found[:, 0]):
        density = np.exp(-((grid - mean) / 0.8) ** 2 / 2)
        level = np.digitize(grid, [1.5, 2.5, 4.0])
        share = np.bincount(level, density) / density.sum()
        np.testing.assert_allclose(row, share, atol=1e-4)
    assert found.shape == (2, 1, 4)


def test_fit_sigma():
    assert probabilities.fit_sigma([1, 5, 3], [2, 4, np.nan]) == 1
    assert probabilities.fit_sigma([1, 2], [1, 2]) == 0.05
    with pytest.raises(ValueError, match="none usable"):
        probabilities.fit_sigma([], [])
    with pytest.raises(ValueError, match="2 labels, 1 predictions"):
        probabilities.fit_sigma([1, 2], [1])


def test_temperature_is_found_again():
    rng = np.random.default_rng(0)
    true = rng.normal(size=40_000) * 2
    label = rng.random(40_000) < 1 / (1 + np.exp(-true))
    assert probabilities.fit_temperature(label, 3 * true) == pytest.approx(
        3, rel=0.05)
    both = probabilities.binary(np.array([[0.0, 3.0]]), 3.0)
    assert both.shape == (1, 2, 2)
    np.testing.assert_allclose(both[0, :, 1], [.5, 1 / (1 + math.exp(-1))])
    np.testing.assert_allclose(both.sum(-1), 1)
    with pytest.raises(ValueError, match="Use `ordinal`"):
        probabilities.fit_temperature([1, 5], [0, 0])
    with pytest.raises(ValueError, match="temperature=0"):
        probabilities.binary(0.0, 0)


@pytest.mark.parametrize("sigma, levels, message", [
    (0, [1, 2], "sigma=0"), (1, [2, 1], "levels"), (1, [], "levels"),
    (1, [1, 1], "levels")])
def test_ordinal_refuses(sigma, levels, message):
    with pytest.raises(ValueError, match=message):
        probabilities.ordinal([1.0], sigma, levels)


@pytest.mark.parametrize("strategy, text", [
    (acquisition.get("random"), "Random()"),
    (acquisition.get("power_bald"), "PowerBALD()"),
    (acquisition.get("epig", most=8, batch="top"),
     "EPIG(batch='top', most=8)"),
    (acquisition.get("bald", quotas=[
        acquisition.Quota([-1, 0, 1], at_most={1: 0.5})]),
     "BALD(quotas=[Quota(3 item codes, at_most={1: 0.5}, at_least={})])"),
    (acquisition.get("epsilon_greedy", epsilon=0.2, max_per_user=3),
     "EpsilonGreedy(epsilon=0.2, max_per_user=3)"),
    (acquisition.get("mixture", strategies=["random", acquisition.get(
        "vopt", components=3)], per_cost=True),
     "Mixture(per_cost=True, shares=[0.5, 0.5], "
     "strategies=[Random(), VOpt(components=3)])"),
    (acquisition.get("stages", stages=[(500, "random"), (None, "bald")]),
     "Stages(stages=[(500, Random()), (None, BALD())])"),
    (acquisition.get("chooser", strategies=["bald"]),
     "Chooser(strategies=[BALD(), Random()])")])
def test_repr_is_the_name_and_what_is_not_the_default(strategy, text):
    assert repr(strategy) == text
