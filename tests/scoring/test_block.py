"""The linear block beside the trained vectors of a scorer."""
from __future__ import annotations

import numpy as np
import pytest
from plain_towers import make_towers

from tfrecal import datasets, splits
from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.model.linear_block import BlockOptions
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer


@pytest.fixture(params=["ours", "plain"])
def made(request, shop):
    split = splits.random(shop, seed=0)
    pool = Pool.from_interactions(split.train, initial=0.5, seed=0)
    model = (TwoTower.from_interactions(split.train, embedding_dim=4,
                                        linear_block=None)
             if request.param == "ours" else make_towers(split.train, 0, 3.0))
    return split, pool, model


def test_it_stands_beside_the_trained_vectors(made):
    _, pool, model = made
    scorer = PoolScorer(model, pool)
    trained = scorer.vectors("retrieval")
    model.linear_block = BlockOptions(rank=8, beta=0.5)
    both = scorer.vectors("retrieval")
    width = trained[0].shape[1]
    spreads = []
    for part in (slice(width), slice(width, None)):
        query, candidate = (one[1:, part] for one in both)
        spreads.append(np.sqrt(np.mean(np.var(query @ candidate.T, axis=1))))
    for one, other in zip(both, trained):
        np.testing.assert_array_equal(one[:, :width], other)
        assert one.shape[1] == width + 8
    assert spreads[1] == pytest.approx(0.5 * spreads[0], rel=0.05)
    assert scorer.vectors("rating")[0].shape[1] == scorer.trained_vectors(
        "rating")[0].shape[1]
    model.linear_block = BlockOptions(beta=0)
    np.testing.assert_array_equal(scorer.vectors("retrieval")[0], trained[0])


def test_it_is_solved_anew_when_labels_arrive(made):
    split, pool, model = made
    model.linear_block = BlockOptions(rank=8)
    scorer = PoolScorer(model, pool)
    before = scorer.linear_block()
    assert scorer.linear_block().solved is before.solved
    rows = np.flatnonzero(pool.state == 0)[:300]
    tickets = pool.ask(pool.user[rows], pool.item[rows], 1, "test")
    pool.answer(tickets, np.full(len(rows), 5.0), np.zeros(len(rows), bool),
                np.zeros(len(rows)))
    after = scorer.linear_block()
    assert after.solved is not before.solved
    assert not np.allclose(after.queries, before.queries)


def test_lists_are_better_with_it():
    """Towers that were not trained know nothing; the block does."""
    split = splits.random(datasets.load("shop"), seed=0)
    pool = Pool.from_interactions(split.train, initial=1.0, seed=0)
    model = TwoTower.from_interactions(split.train, embedding_dim=4,
                                       linear_block=None)
    judge = EvaluateRetrieval(pool, split.test)
    before = judge.evaluate(model)["ndcg@10"]
    model.linear_block = BlockOptions()
    assert judge.evaluate(model)["ndcg@10"] > before + 0.02


@pytest.mark.parametrize("each", [0, 0.5])
def test_texts_that_are_all_equal_say_nothing(made, each):
    _, pool, model = made
    model.linear_block = BlockOptions(rank=8)
    model.item_texts = lambda: None
    without = PoolScorer(model, pool).linear_block()
    equal = np.full((pool.item_vocabulary.size, 4), each, np.float32)
    equal[0] = 0
    model.item_texts = lambda: equal
    found = PoolScorer(model, pool).linear_block()
    np.testing.assert_allclose(
        found.queries @ found.candidates.T,
        without.queries @ without.candidates.T, atol=1e-4)


@pytest.mark.parametrize("texts", [
    lambda rows: np.zeros((rows - 1, 5)), lambda rows: np.zeros(rows),
    lambda rows: np.full((rows, 5), np.nan)])
def test_texts_of_other_items_are_refused(made, texts):
    _, pool, model = made
    model.linear_block = BlockOptions(rank=8)
    model.item_texts = lambda: texts(pool.item_vocabulary.size)
    with pytest.raises(ValueError, match="finite vectors of the pool's"):
        PoolScorer(model, pool).vectors("retrieval")


def test_something_else_of_that_name_is_refused(made):
    _, pool, model = made
    model.linear_block = 0.5
    with pytest.raises(TypeError, match="BlockOptions.*float"):
        PoolScorer(model, pool).vectors("retrieval")
