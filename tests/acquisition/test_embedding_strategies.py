"""BADGE, BatchBALD, TypiClust and ProbCover against brute force."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from contracts import StrategyContract, make_view
from scipy.spatial.distance import cdist

from tfrecal.acquisition import batch_bald, typi_clust
from tfrecal.acquisition.badge import BADGE
from tfrecal.acquisition.batch_bald import BatchBALD
from tfrecal.acquisition.clusters import cluster, embed, spread
from tfrecal.acquisition.prob_cover import ProbCover
from tfrecal.acquisition.typi_clust import TypiClust

NONE = np.zeros(0, np.int32)
UNLABELLED = {"labelled_user": NONE, "labelled_item": NONE,
              "labelled_label": NONE.astype(np.float32)}


def pairs_of(view):
    return np.concatenate([view.query_vectors[view.user],
                           view.candidate_vectors[view.item]], axis=1)


class PickByPickContract(StrategyContract):
    """What holds for strategies whose picks depend on each other."""

    batches = ("top", "power")

    def test_batches_that_make_no_sense(self):
        with pytest.raises(ValueError, match="top or power.*'softmax'"):
            self.make(batch="softmax")

    def test_options_survive(self):
        made = self.strategy(**self.changed)
        config = made.get_config()
        assert self.changed.items() <= config.items()
        assert vars(self.strategy.from_config(config)) == vars(made)

    def test_explains_each_pick(self):
        view, strategy = make_view(), self.make()
        utilities = strategy.utilities(view)
        words = strategy.explain(view, np.array([3, 1]), utilities)
        assert len(words) == 2
        for row, sentence in zip((3, 1), words):
            assert any(character.isdigit() for character in sentence)
            assert strategy.explain(
                view, np.array([row]), utilities) == [sentence]

    def test_equal_pairs_are_chosen_once(self):
        view = make_view(query_vectors=np.zeros((13, 3)),
                         candidate_vectors=np.zeros((16, 3)),
                         prior=np.repeat([1e-300, 1e300], [59, 1]))
        for batch in self.batches:
            chosen = self.make(batch=batch).select(
                view, 60, np.random.default_rng(0))
            assert sorted(chosen) == list(range(60))

    def test_cost_counts_only_on_request(self):
        view = make_view(cost=np.ones(60))
        lowest = int(self.make(batch="top").utilities(view).argmin())
        view.cost[lowest] = 1e-6
        rng = np.random.default_rng(0)
        assert self.make(batch="top").select(view, 1, rng) != [lowest]
        assert self.make(batch="top", per_cost=True).select(
            view, 1, rng) == [lowest]

    def test_power_spreads_its_first_pick(self):
        view = make_view()
        picks = {int(self.make(batch="power").select(
            view, 2, np.random.default_rng(seed))[1]) for seed in range(30)}
        assert len(picks) > 5


class TestBADGE(PickByPickContract):
    strategy = BADGE
    changed = {"residual": "samples", "batch": "top"}

    def gradients(self, view):
        mean = view.probabilities @ view.levels
        error = sum(view.probabilities[:, c] * abs(level - mean)
                    for c, level in enumerate(view.levels))
        return error[:, None] * pairs_of(view)

    def test_utilities_are_squared_lengths(self):
        view = make_view()
        np.testing.assert_allclose(
            self.make().utilities(view),
            (self.gradients(view) ** 2).sum(-1))

    def test_residual_of_samples(self):
        view = make_view()
        expected = view.samples.std(axis=0) ** 2 * (
            pairs_of(view) ** 2).sum(-1)
        np.testing.assert_allclose(
            self.make(residual="samples").utilities(view), expected,
            rtol=1e-5)

    def test_top_equals_the_brute_force_greedy(self):
        view = make_view()
        gradient = self.gradients(view)
        chosen = self.make(batch="top").select(
            view, 60, np.random.default_rng(0))
        distance = (gradient ** 2).sum(-1)
        assert chosen[0] == distance.argmax()
        distance[:] = np.inf
        for pick in chosen:
            assert distance[pick] == pytest.approx(distance.max(), abs=1e-9)
            distance = np.minimum(
                distance, ((gradient - gradient[pick]) ** 2).sum(-1))

    def test_power_draws_by_squared_distance(self):
        view = make_view(size=6)
        gradient = self.gradients(view)
        first = (gradient ** 2).sum(-1).argmax()
        distance = ((gradient - gradient[first]) ** 2).sum(-1)
        rng = np.random.default_rng(0)
        found = np.array([self.make().select(view, 2, rng)
                          for _ in range(3000)])
        assert (found[:, 0] == first).all()
        np.testing.assert_allclose(
            np.bincount(found[:, 1], minlength=6) / 3000,
            distance / distance.sum(), atol=0.04)

    def test_classes_need_their_labels(self):
        with pytest.raises(ValueError, match="`levels`.*levels=None"):
            self.make().utilities(make_view(levels=None))
        with pytest.raises(ValueError, match="residual='mean'"):
            self.make(residual="mean")


def information(passes) -> float:
    """Mutual information of labels and pass, `[passes, labels, classes]`."""
    def entropy(p):
        return -(p * np.log(p)).sum()
    count, size, classes = passes.shape
    joint = np.array([
        [np.prod([passes[k, i, c] for i, c in enumerate(labels)])
         for labels in itertools.product(range(classes), repeat=size)]
        for k in range(count)])
    return entropy(joint.mean(axis=0)) - np.mean([entropy(p) for p in joint])


class TestBatchBALD(PickByPickContract):
    strategy = BatchBALD
    changed = {"candidates": 7, "configurations": 50}

    def test_equals_the_brute_force_greedy(self, monkeypatch):
        # Small blocks, so that most candidates are never evaluated anew.
        monkeypatch.setattr(batch_bald, "_TILE", 2)
        view = make_view(size=20)
        chosen = self.make().select(view, 3, np.random.default_rng(0))
        for place, pick in enumerate(chosen):
            gain = {row: information(view.sample_probabilities[
                :, [*chosen[:place], row]]) for row in range(20)
                if row not in chosen[:place]}
            assert pick == max(gain, key=gain.get)

    def test_gains_of_exact_and_drawn_configurations(self):
        passes = make_view(size=6).sample_probabilities.transpose(1, 0, 2)
        exact = batch_bald._Joint(5, 1000, np.random.default_rng(0))
        drawn = batch_bald._Joint(5, 40_000, np.random.default_rng(0))
        drawn._draw_configurations()
        late = batch_bald._Joint(5, 64, np.random.default_rng(0))
        for joint, picks in ((exact, 3), (drawn, 3), (late, 4)):
            for pick in range(picks):
                joint.add(passes[pick])
        assert len(exact.chance) == 64 and len(late.chance) == 60
        by_hand = [information(passes[[0, 1, 2, row]].transpose(1, 0, 2))
                   - information(passes[:3].transpose(1, 0, 2))
                   for row in (3, 4, 5)]
        np.testing.assert_allclose(
            exact.gains(passes[3:]), by_hand, atol=1e-12)
        np.testing.assert_allclose(drawn.gains(passes[3:]), by_hand, atol=.01)

    def test_does_not_ask_twice_for_the_same_bit(self):
        bits = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 0, 1]]) * .98 + .01
        bits[2] = bits[2] * .98 + .01  # less sure, so that BALD is lower
        passes = np.stack([bits, 1 - bits], axis=-1).transpose(1, 0, 2)
        view = make_view(size=3, sample_probabilities=passes)
        assert self.make().utilities(view).argmin() == 2
        for seed in range(4):
            chosen = self.make().select(view, 2, np.random.default_rng(seed))
            assert sorted(chosen)[1] == 2

    def test_passes_that_never_err(self):
        passes = np.eye(4)[np.random.default_rng(0).integers(0, 4, (5, 60))]
        view = make_view(sample_probabilities=passes)
        for configurations in (1, 1000):
            chosen = self.make(configurations=configurations).select(
                view, 60, np.random.default_rng(0))
            assert sorted(chosen) == list(range(60))

    def test_candidates_are_those_of_highest_bald(self):
        view = make_view()
        chosen = self.make(candidates=1).select(
            view, 5, np.random.default_rng(0))
        best = np.argsort(-self.make().utilities(view))
        assert set(chosen) <= set(best[:10])

    @pytest.mark.parametrize("option", ["candidates", "configurations"])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"`{option}`.*{option}=0"):
            self.make(**{option: 0})


def three_groups():
    """40, 15 and 5 pairs far from each other; a label in the largest."""
    rng = np.random.default_rng(0)
    vectors = np.repeat([[0, 0], [0, 50], [0, 0], [50, 0]], [1, 8, 3, 1],
                        axis=0) + rng.normal(size=(13, 2))
    user = np.repeat(np.arange(1, 13), 5)
    view = make_view(user=user, item=np.tile(np.arange(1, 6), 12),
                     query_vectors=vectors, labelled_user=np.array([2]),
                     labelled_item=np.array([9]),
                     labelled_label=np.ones(1, np.float32),
                     candidate_vectors=rng.normal(size=(16, 2)))
    return view, np.repeat([0, 1, 2], [40, 15, 5])


class TestTypiClust(PickByPickContract):
    strategy = TypiClust
    changed = {"neighbours": 3, "max_clusters": 9}

    @pytest.mark.parametrize("neighbours", [1, 20, 100])
    def test_utilities_are_typicalities(self, neighbours):
        view = make_view()
        apart = np.sort(cdist(pairs_of(view), pairs_of(view)), axis=1)
        np.testing.assert_allclose(
            self.make(neighbours=neighbours).utilities(view),
            1 / (apart[:, 1:neighbours + 1].mean(axis=1) + 1e-5), rtol=1e-6)

    def test_cells_miss_few_neighbours(self, monkeypatch):
        view = make_view(size=1000, users=40, items=50)
        exact = self.make().utilities(view)
        monkeypatch.setattr(typi_clust, "_EXACT", 400)
        found = self.make().utilities(view)
        assert (found <= exact * (1 + 1e-9)).all() and (found < exact).any()
        assert np.corrcoef(found, exact)[0, 1] > 0.8

    def test_typical_pairs_of_the_largest_groups_without_label(self):
        view, group = three_groups()
        strategy = self.make(neighbours=4)
        typical = strategy.utilities(view)
        best = [np.flatnonzero(group == g)[typical[group == g].argmax()]
                for g in range(3)]
        for seed in range(5):
            rng = np.random.default_rng(seed)
            assert strategy.select(view, 2, rng).tolist() == best[1:]
        # Three clusters hold it all, so further picks go round them.
        strategy.max_clusters = 3
        chosen = strategy.select(view, 6, np.random.default_rng(0))
        assert group[chosen].tolist() == [1, 2, 0, 1, 2, 0]

    def test_without_labels(self):
        chosen = self.make().select(
            make_view(**UNLABELLED), 10, np.random.default_rng(0))
        assert len(set(chosen)) == 10

    @pytest.mark.parametrize("option", ["neighbours", "max_clusters"])
    def test_bad_options(self, option):
        with pytest.raises(ValueError, match=f"`{option}`.*{option}=0"):
            self.make(**{option: 0})


class TestProbCover(PickByPickContract):
    strategy = ProbCover
    changed = {"delta": 0.5, "purity": 0.9, "clusters": 3, "candidates": 10}

    @pytest.mark.parametrize("fields", [{}, UNLABELLED])
    def test_equals_the_brute_force_greedy(self, fields):
        view, delta = make_view(**fields), 2.2
        pairs = pairs_of(view)
        near = cdist(pairs, pairs) <= delta
        labelled = embed(view, view.labelled_user, view.labelled_item)
        covered = (cdist(pairs, labelled) <= delta).any(axis=1)
        assert 0 < covered.sum() < 60 or len(labelled) == 0
        strategy = self.make(delta=delta)
        np.testing.assert_allclose(
            strategy.utilities(view), (near & ~covered).sum(axis=1) / 60)
        chosen = strategy.select(view, 25, np.random.default_rng(0))
        left = np.ones(60, bool)
        for pick in chosen:
            gain = (near & ~covered).sum(axis=1)
            assert gain[pick] == gain[left].max()
            left[pick] = False
            covered |= near[pick]
        assert covered.all()

    @pytest.mark.parametrize("purity", [0.5, 0.9, 0.95])
    def test_radius_is_the_largest_that_is_pure(self, purity):
        view = make_view()
        found = cluster(view, view.user, view.item, 4,
                        np.random.default_rng(0))
        apart = cdist(pairs_of(view), pairs_of(view))

        def pure(delta):
            alien = (apart <= delta) & (found[:, None] != found)
            return 1 - alien.any(axis=1).mean()
        radius = self.make(clusters=4, purity=purity).radius(view)
        assert pure(radius * (1 - 1e-6)) >= purity > pure(radius * (1 + 1e-6))

    def test_more_than_are_compared(self):
        view = make_view(prior=np.ones(60))
        strategy = self.make(candidates=10, max_per_item=2)
        chosen = strategy.select(view, 25, np.random.default_rng(0))
        assert len(set(chosen)) == 25
        assert np.bincount(view.item[chosen]).max() == 2
        view.prior[7] = 1e9  # always among the ten
        assert all(strategy.select(view, 1, np.random.default_rng(seed)) == [7]
                   for seed in range(10))

    def test_vectors_that_are_not_finite(self):
        view = make_view()
        view.candidate_vectors[view.item[3]] = np.nan
        with pytest.raises(ValueError, match="of 60 pairs with NaN"):
            self.make(delta=1.0).select(view, 5, np.random.default_rng(0))

    @pytest.mark.parametrize("options, message", [
        ({"delta": 0}, "delta=0"), ({"purity": 1}, "purity=1"),
        ({"clusters": 1}, "clusters=1"), ({"candidates": 0}, "candidates=0")])
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            self.make(**options)


def test_clusters_find_far_groups(monkeypatch):
    view, group = three_groups()
    for sample in (20_000, 30):
        monkeypatch.setattr("tfrecal.acquisition.clusters._SAMPLE", sample)
        monkeypatch.setattr("tfrecal.acquisition.clusters._TILE", 7)
        found = cluster(view, view.user, view.item, 3,
                        np.random.default_rng(1))
        assert len(set(zip(found, group))) == 3


def test_spread():
    assert spread(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert spread(101, 3).tolist() == [0, 50, 100]
    assert len(spread(0, 3)) == 0
