"""Tests that every strategy, every oracle and every data set passes.

A new one subclasses the contract, names itself and its arguments. That of
encoders needs TensorFlow and stands in `encoder_contract.py`.
"""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from tfrecal.acquisition import View
from tfrecal.data import Interactions, default_template
from tfrecal.oracles import Answers, Questions

_OPTIONAL = ("mean", "samples", "probabilities", "sample_probabilities",
             "query_vectors", "candidate_vectors", "user_labelled",
             "item_labelled", "user_traffic", "item_traffic", "rateability",
             "target_user", "target_item", "target_weight")
_TOGETHER = {
    "vectors": ("query_vectors", "candidate_vectors"),
    "target": ("target_user", "target_item", "target_weight"),
    "labelled_user": ("labelled_user", "labelled_item", "labelled_label"),
    "labelled_label": ("labelled_user", "labelled_item", "labelled_label")}


def make_view(seed=0, size=60, users=12, items=15, labelled=20, **fields):
    """A view with every field that strategies read, of random numbers."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(users * items, size + labelled, replace=False)
    user = (pairs // items + 1).astype(np.int32)
    item = (pairs % items + 1).astype(np.int32)
    passes = rng.dirichlet(np.ones(4), (5, size))
    made = {
        "user": user[:size], "item": item[:size],
        "labelled_user": user[size:], "labelled_item": item[size:],
        "user_labelled": np.bincount(user[size:], minlength=users + 1),
        "item_labelled": np.bincount(item[size:], minlength=items + 1),
        "user_traffic": rng.random(users + 1),
        "item_traffic": rng.random(items + 1),
        "mean": rng.random(size).astype(np.float32),
        "samples": rng.random((5, size)).astype(np.float32),
        "labelled_label": rng.integers(1, 6, labelled).astype(np.float32),
        "target_user": rng.integers(1, users + 1, 30).astype(np.int32),
        "target_item": rng.integers(1, items + 1, 30).astype(np.int32),
        "target_weight": rng.dirichlet(np.ones(30)),
        "probabilities": passes.mean(axis=0), "sample_probabilities": passes,
        "levels": np.arange(1.0, 5.0), "rateability": rng.random(size),
        "query_vectors": rng.normal(size=(users + 1, 3)),
        "candidate_vectors": rng.normal(size=(items + 1, 3))}
    return View(**{**made, **fields})


class StrategyContract:
    """What holds for every `Strategy`; a subclass sets `strategy`."""

    strategy: type
    options: dict = {}
    batches = ("top", "power", "softmax", "softrank")

    def make(self, **options):
        return self.strategy(**{**self.options, **options})

    def test_utilities(self):
        utilities = self.make().utilities(make_view())
        assert utilities.shape == (60,) and utilities.dtype == np.float64
        assert np.isfinite(utilities).all()

    def test_reads_only_what_it_needs(self):
        strategy = self.make()
        unread = [name for name in _OPTIONAL if name not in strategy.needs
                  and not (name.endswith("vectors")
                           and "vectors" in strategy.needs)
                  and not (name.startswith("target")
                           and "target" in strategy.needs)]
        view = make_view(**dict.fromkeys(unread))
        chosen = strategy.select(view, 5, np.random.default_rng(0))
        assert len(chosen) == 5

    def test_missing_need(self):
        # Fields that belong together are missing together.
        for need in self.make().needs:
            missing = _TOGETHER.get(need, (need,))
            with pytest.raises(ValueError, match=(
                    f"`{self.strategy.name}` reads `.*PoolScorer")):
                self.make().select(make_view(**dict.fromkeys(missing)), 5,
                                   np.random.default_rng(0))

    def test_explains_each_choice(self):
        view, strategy = make_view(), self.make()
        utilities = strategy.utilities(view)
        chosen = strategy.select(view, 4, np.random.default_rng(0))
        why = strategy.explain(view, chosen, utilities)
        assert len(why) == 4 and all(len(text) > 15 for text in why)

    def test_chooses_distinct_candidates(self):
        for batch in self.batches:
            chosen = self.make(batch=batch).select(
                make_view(), 25, np.random.default_rng(1))
            assert chosen.dtype == np.int64
            assert len(chosen) == len(set(chosen.tolist())) == 25
            assert 0 <= chosen.min() and chosen.max() < 60

    def test_same_seed_same_choice(self):
        for batch in self.batches:
            first, second = (self.make(batch=batch).select(
                make_view(), 10, np.random.default_rng(3)) for _ in range(2))
            np.testing.assert_array_equal(first, second)

    def test_more_than_there_are(self):
        chosen = self.make().select(
            make_view(), 1000, np.random.default_rng(0))
        assert sorted(chosen.tolist()) == list(range(60))

    def test_no_candidates(self):
        chosen = self.make().select(
            make_view(size=0), 5, np.random.default_rng(0))
        assert chosen.dtype == np.int64 and len(chosen) == 0

    def test_caps(self):
        view = make_view()
        for batch in self.batches:
            chosen = self.make(
                batch=batch, max_per_user=2, max_per_item=1).select(
                    view, 60, np.random.default_rng(0))
            assert np.bincount(view.user[chosen]).max() <= 2
            assert np.bincount(view.item[chosen]).max() == 1
            full_user = np.bincount(view.user[chosen], minlength=13) >= 2
            full_item = np.bincount(view.item[chosen], minlength=16) >= 1
            # Fewer than asked for only because nothing else is allowed.
            assert (full_user[view.user] | full_item[view.item]).all()

    def test_prior_of_zero_is_never_chosen(self):
        prior = np.random.default_rng(0).random(60)
        prior[::3] = 0
        for batch in self.batches:
            chosen = self.make(batch=batch).select(
                make_view(prior=prior), 60, np.random.default_rng(0))
            assert sorted(chosen) == np.flatnonzero(prior).tolist()
        assert not len(self.make().select(
            make_view(prior=np.zeros(60)), 5, np.random.default_rng(0)))

    def test_prior_can_lift_any_pair(self):
        strategy, prior = self.make(batch="top"), np.ones(60)
        lowest = int(strategy.utilities(make_view()).argmin())
        same = [strategy.select(view, 60, np.random.default_rng(0)).tolist()
                for view in (make_view(), make_view(prior=prior))]
        assert same[0] == same[1]
        prior[lowest] = 1e6
        assert strategy.select(make_view(prior=prior), 1,
                               np.random.default_rng(0)) == [lowest]

    @pytest.mark.parametrize("prior", [
        -np.ones(60), np.ones(59), np.full(60, np.nan), np.full(60, np.inf)])
    def test_bad_prior(self, prior):
        with pytest.raises(ValueError, match="`prior`"):
            self.make().select(
                make_view(prior=prior), 5, np.random.default_rng(0))

    @pytest.mark.parametrize("n, error", [
        (0, ValueError), (-1, ValueError), (2.5, TypeError), ("5", TypeError)])
    def test_bad_number(self, n, error):
        with pytest.raises(error, match=f"n={n!r}"):
            self.make().select(make_view(), n, np.random.default_rng(0))

    def test_utilities_that_are_not_finite(self):
        utilities = np.zeros(60)
        utilities[7] = np.nan
        with pytest.raises(ValueError, match="1 that are NaN"):
            self.make().select(
                make_view(), 5, np.random.default_rng(0), utilities)

    def test_config_round_trip(self):
        made = self.make(max_per_user=3, batch=self.batches[-1],
                         temperature=0.5)
        config = json.loads(json.dumps(made.get_config()))
        again = self.strategy.from_config(config)
        assert vars(again) == vars(made)
        assert again.max_per_user == 3 and again.temperature == 0.5


class OracleContract:
    """What holds for every `Oracle`.

    A subclass writes `make(tmp_path)`, an oracle that can label the pairs of
    `questions()`; one with late answers writes `let_answer` too.
    """

    def make(self, tmp_path):
        raise NotImplementedError

    def let_answer(self, oracle, tmp_path):
        """Makes the answers to all open questions arrive."""

    def questions(self):
        return Questions([4, 5, 9], ["a", "a", "b"], ["x", "y", "x"], 1)

    def test_answers_each_question_once(self, tmp_path):
        oracle = self.make(tmp_path)
        assert len(oracle.answers()) == 0
        oracle.ask(self.questions())
        self.let_answer(oracle, tmp_path)
        answers = oracle.answers()
        assert isinstance(answers, Answers)
        assert sorted(answers.ticket.tolist()) == [4, 5, 9]
        assert len(oracle.answers()) == 0

    def test_asking_again_is_not_asking_twice(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        oracle.ask(self.questions())
        self.let_answer(oracle, tmp_path)
        assert len(oracle.answers()) == 3

    def test_a_ticket_stands_for_one_pair(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        with pytest.raises(ValueError, match="ticket=5"):
            oracle.ask(Questions([5], ["b"], ["x"]))

    def test_asking_nothing(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(Questions([], [], []))
        assert len(oracle.answers()) == 0

    def test_state_carries_open_questions(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        state = json.loads(json.dumps(oracle.state()))
        self.let_answer(oracle, tmp_path)
        first = oracle.answers()
        again = self.make(tmp_path)
        again.restore(state)
        second = again.answers()
        for name in ("ticket", "label", "declined", "cost"):
            np.testing.assert_array_equal(
                getattr(first, name), getattr(second, name))
        after = self.make(tmp_path)
        after.restore(json.loads(json.dumps(again.state())))
        assert len(after.answers()) == 0

    def test_expected_cost(self, tmp_path):
        cost = self.make(tmp_path).expected_cost(
            np.array(["a", "b"], object), np.array(["x", "x"], object))
        assert np.shape(cost) == (2,) and (np.asarray(cost) >= 0).all()


class DataSetContract:
    """What holds for every reader of a data set.

    A subclass sets `reader` and the `scale` that it declares, and writes
    `files(folder)`: tiny files in the form of the real ones, and what the
    reader is called with, in a list.
    """

    reader: staticmethod
    scale: tuple[float, float] = (1.0, 5.0)

    def files(self, folder) -> list:
        raise NotImplementedError

    def read(self, folder, **options) -> Interactions:
        folder.mkdir()
        return self.reader(*self.files(folder), **options)

    def test_rows(self, tmp_path):
        """The declared scale, not the labels that occur; rows by time."""
        data = self.read(tmp_path / "one")
        assert isinstance(data, Interactions) and len(data) and data.name
        assert data.scale == self.scale
        assert (data.label >= data.scale[0]).all()
        assert (data.label <= data.scale[1]).all()
        if "timestamp" in data.frame:
            assert data.frame["timestamp"].is_monotonic_increasing
        assert not data.frame.duplicated(["user_id", "item_id"]).any()

    def test_tables(self, tmp_path):
        """Ids are texts without blanks around; each row's are known."""
        data = self.read(tmp_path / "one")
        for table, codes in ((data.users, data.user_code),
                             (data.items, data.item_code)):
            assert table.index.is_unique and codes.all()
            assert all(isinstance(name, str) and name == name.strip() != ""
                       for name in table.index)

    def test_texts(self, tmp_path):
        """Every item has a text that an encoder can read."""
        items = self.read(tmp_path / "one").items
        texts = list(default_template(items)(items))
        assert len(texts) == len(items)
        assert all("&amp;" not in text and text for text in texts)

    def test_cells_are_values_or_missing(self, tmp_path):
        data = self.read(tmp_path / "one")
        for table in (data.users, data.items):
            cells = pd.Series(table.to_numpy(object).ravel(), dtype=object)
            assert not cells.isin(["NULL", "N/A", "nan", "None"]).any()

    def test_same_files_same_data(self, tmp_path):
        one, other = (self.read(tmp_path / name) for name in "ab")
        assert one.fingerprint() == other.fingerprint()
        for name in ("frame", "users", "items"):
            assert_frame_equal(getattr(one, name), getattr(other, name))

    def test_options_of_interactions(self, tmp_path):
        data = self.read(tmp_path / "one")
        halves = float(np.unique(data.label)[-1])
        found = self.read(tmp_path / "two", binarise=halves, name="halves")
        assert found.scale == (0.0, 1.0) and found.name == "halves"
        np.testing.assert_array_equal(found.label, data.label >= halves)
