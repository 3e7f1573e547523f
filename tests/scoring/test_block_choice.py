"""Options of the linear block are chosen on validation rows."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from plain_towers import make_towers

from tfrecal import (
    BlockOptions,
    Interactions,
    choose_linear_block,
    datasets,
    splits,
)
from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.model import linear_block
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring import block_choice


@pytest.fixture(scope="module")
def split():
    return splits.random(
        datasets.load("shop", users=120, items=60, ratings=4000), seed=0)


@pytest.fixture(scope="module")
def pool(split):
    return Pool.from_interactions(split.train, initial=1.0, seed=0)


def untrained(split, **options):
    return TwoTower.from_interactions(split.train, embedding_dim=4, **options)


def test_the_choice_is_what_the_judge_measures(split, pool):
    model = untrained(split)
    model.compile()
    model.fit(pool.sequence(256), verbose=0)
    choice = choose_linear_block(model, pool, split.validation)
    assert model.linear_block == choice.options
    judge = EvaluateRetrieval(pool, split.validation)
    assert judge.evaluate(model)["ndcg@10"] == pytest.approx(choice.ndcg)
    model.linear_block = None
    assert judge.evaluate(model)["ndcg@10"] == pytest.approx(choice.without)
    assert choice.ndcg > choice.without + 0.02
    assert choice.users == len(np.unique(split.validation.user_code[
        split.validation.label >= pool.positive]))
    for text in (f"{choice.ndcg:.4f}", f"{choice.tried} tries", "beta"):
        assert text in str(choice)


def test_a_choice_is_at_least_as_good_as_the_defaults(split, pool):
    model = untrained(split)
    defaults = EvaluateRetrieval(pool, split.validation).evaluate(
        model)["ndcg@10"]
    assert choose_linear_block(
        model, pool, split.validation).ndcg >= defaults


def test_given_options_stay(split, pool):
    given = {"l2": 2.0, "decay": 0.7, "beta": 1.1, "rank": 8, "popular": 0.5}
    model = untrained(split, linear_block=BlockOptions(**given))
    choice = choose_linear_block(model, pool, split.validation, fixed=given)
    for name, value in given.items():
        assert getattr(choice.options, name) == value
    # Without texts, there is nothing left to choose.
    assert choice.tried == 1


def test_wrong_arguments_are_refused(split, pool):
    model = untrained(split)
    for wrong in ("decya", ["beta", "new"]):
        with pytest.raises(ValueError, match="`fixed` must be one of beta"):
            choose_linear_block(model, pool, split.validation, fixed=wrong)
    with pytest.raises(ValueError, match="pairs"):
        choose_linear_block(model, pool, split.train)
    with pytest.raises(TypeError, match="BlockOptions.*dict"):
        untrained(split, linear_block={"beta": 1.0})


def test_a_pool_without_labels_keeps_the_defaults(split):
    choice = choose_linear_block(
        untrained(split), Pool.from_interactions(split.train, initial=0),
        split.validation)
    assert choice.options == BlockOptions() and not choice.users


def test_one_name_is_no_list_of_letters(split, pool):
    model = untrained(split, linear_block=BlockOptions(beta=0.01))
    assert choose_linear_block(model, pool, split.validation,
                               fixed="beta").options.beta == 0.01


def test_steps_that_cannot_be_taken_end_a_climb(split, pool, monkeypatch):
    def solvable(history, options, texts=None, seed=0):
        if options.l2 != 1e6:
            raise linear_block.Unsolvable("no")
        return linear_block.regress(history, options, texts, seed)

    monkeypatch.setattr(block_choice, "regress", solvable)
    model = untrained(split, linear_block=BlockOptions(beta=1e6, l2=1e6))
    found = choose_linear_block(model, pool, split.validation).options
    assert found.l2 == 1e6 and found.beta <= 1e6


def test_the_same_seed_chooses_the_same(split, pool, monkeypatch):
    monkeypatch.setattr(block_choice, "_USERS", 40)
    found = [choose_linear_block(untrained(split), pool, split.validation,
                                 seed=3) for _ in range(2)]
    assert replace(found[0], seconds=0) == replace(found[1], seconds=0)
    assert found[0].users == 40


def test_a_large_catalogue_is_solved_once(split, pool, monkeypatch):
    monkeypatch.setattr(block_choice, "EXACT", 10)
    solved = []
    regress = block_choice.regress
    monkeypatch.setattr(
        block_choice, "regress",
        lambda *rest: solved.append(1) or regress(*rest))
    choice = choose_linear_block(untrained(split), pool, split.validation)
    assert len(solved) == 1 and choice.tried > 2
    assert choice.options.l2 == BlockOptions().l2


def test_order_is_told_by_a_split_in_time():
    """The next item is next to the last one, whatever came before."""
    rng = np.random.default_rng(0)
    start = rng.integers(0, 40, 200)
    walk = (start[:, np.newaxis] + np.cumsum(
        rng.integers(1, 3, (200, 14)), axis=1)) % 40
    rows = pd.DataFrame({
        "user_id": np.repeat(np.arange(200), 14).astype(str),
        "item_id": walk.ravel().astype(str), "label": 1.0,
        "timestamp": np.tile(np.arange(14.0), 200)}).drop_duplicates(
            ["user_id", "item_id"])
    parts = splits.leave_last_n(Interactions.from_frame(rows, scale=(0, 1)))
    pool = Pool.from_interactions(parts.train, initial=1.0)
    choice = choose_linear_block(untrained(parts), pool, parts.validation)
    assert choice.options.decay < 1


def test_rows_without_times_have_no_order(split):
    frame = split.train.frame.assign(timestamp=0.0)
    pool = Pool.from_interactions(
        split.train.with_frame(frame), initial=1.0)
    fixed = {"beta", "l2", "popular"}
    assert choose_linear_block(untrained(split), pool, split.validation,
                               fixed=fixed).tried == 1


def test_rows_without_a_positive_change_nothing(split, pool):
    bad = split.validation.take(split.validation.label < 2)
    model = untrained(split)
    choice = choose_linear_block(model, pool, bad)
    assert model.linear_block == choice.options == BlockOptions()
    assert not choice.users and "defaults" in str(choice)


def test_labels_that_are_all_equal_are_no_fault(split):
    """Nothing is positive, or everything is: the block is there or not."""
    for value in (1.0, 5.0):
        frame = split.train.frame.assign(label=np.float32(value))
        train = split.train.with_frame(frame)
        pool = Pool.from_interactions(train, initial=1.0)
        choice = choose_linear_block(
            untrained(split), pool, split.validation)
        assert np.isfinite(choice.ndcg)


def test_what_most_like_counts_where_it_tells():
    """Everybody takes the first items; who took one of them says nothing."""
    rng = np.random.default_rng(0)
    often = 0.7 / np.arange(1, 41) ** 0.7
    user, item = np.nonzero(rng.random((300, 40)) < often)
    rows = pd.DataFrame({"user_id": user.astype(str),
                         "item_id": item.astype(str), "label": 1.0})
    parts = splits.random(Interactions.from_frame(rows, scale=(0, 1)))
    pool = Pool.from_interactions(parts.train, initial=1.0)
    model = untrained(parts)
    model.compile()
    model.fit(pool.sequence(256), epochs=8, verbose=0)
    assert choose_linear_block(
        model, pool, parts.validation).options.popular >= 1


def test_towers_of_a_users_own_get_a_block(split, pool):
    model = make_towers(split.train, 0, 3.0)
    choice = choose_linear_block(model, pool, split.validation)
    assert model.linear_block == choice.options and choice.tried > 1
