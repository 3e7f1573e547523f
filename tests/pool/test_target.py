"""Target: who is served, and what cannot be."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal import Interactions, Pool, PoolScorer, Target, TwoTower
from tfrecal.data.query import rows_of


@pytest.fixture(scope="module")
def log():
    """Six rows: user a twice, b once, c three times."""
    return Interactions.from_frame(
        pd.DataFrame({
            "user_id": list("aabccc"), "item_id": list("xyxxyz"),
            "label": [1.0, 2, 3, 4, 5, 1]}),
        users=pd.DataFrame({"user_id": list("abcd"), "age": [15, 30, 21, 9]}),
        items=pd.DataFrame({"item_id": list("xyz"),
                            "kind": ["film", "film", "book"]}))


def test_from_pool_is_the_pool(log):
    target = Target.from_pool(Pool.from_interactions(log, 0.5))
    np.testing.assert_array_equal(target.user, log.user_code)
    np.testing.assert_array_equal(target.item, log.item_code)
    np.testing.assert_allclose(target.weight, 1 / 6)


def test_segment_of_users_and_items(log):
    target = Target.segment(log, users="age <= 21", items="kind == 'film'")
    assert list(zip(log.user_ids[target.user - 1],
                    log.item_ids[target.item - 1])) == [
        ("a", "x"), ("a", "y"), ("c", "x"), ("c", "y")]
    assert "age <= 21 and kind == 'film'" in repr(target)


@pytest.mark.parametrize("side, expected", [
    ("users", [1 / 6, 1 / 6, 1 / 3, 1 / 9, 1 / 9, 1 / 9]),
    ("items", [1 / 9, 1 / 6, 1 / 9, 1 / 9, 1 / 6, 1 / 3])])
def test_uniform(log, side, expected):
    target = Target.from_interactions(log, uniform=side)
    np.testing.assert_allclose(target.weight, expected)


def test_from_log_with_weights_and_unknown_users(log):
    shown = pd.DataFrame({"user_id": ["a", "new", "c"],
                          "item_id": ["z", "x", "x"],
                          "weight": [3.0, 9.0, 1.0]})
    with pytest.raises(ValueError, match="1 of 3 rows.*user_id='new'"):
        Target.from_log(shown, log)
    target = Target.from_log(shown, log, unknown="drop")
    np.testing.assert_allclose(target.weight, [0.75, 0.25])
    assert log.user_ids[target.user - 1].tolist() == ["a", "c"]
    with pytest.raises(ValueError, match="columns=\\['user_id'\\]"):
        Target.from_log(shown[["user_id"]], log)


@pytest.mark.parametrize("make, message", [
    (lambda log: Target([], []), "at least one pair"),
    (lambda log: Target([1], [1, 2]), "shapes"),
    (lambda log: Target([1], [1], [-1.0]), "-1.0"),
    (lambda log: Target([1, 1], [1, 2], [0.0, 0.0]), "not all 0"),
    (lambda log: Target([1], [1], [np.nan]), "finite"),
    (lambda log: Target.segment(log, users="age > 99"), "Widen the query"),
    (lambda log: Target.segment(log, users="wealth > 9"), "wealth"),
    (lambda log: Target.segment(log, users="age + 1"), "holds arithmetic"),
    (lambda log: Target.from_interactions(log, uniform="both"), "'both'")])
def test_bad_targets(log, make, message):
    with pytest.raises(ValueError, match=message):
        make(log)


@pytest.mark.parametrize("query", [
    "@log", "age.__class__", "age.map(__import__)"])
def test_a_query_does_not_reach_into_python(log, query):
    with pytest.raises(ValueError, match="A query compares columns"):
        rows_of(log.users, query)


def test_the_view_carries_the_target(log):
    pool = Pool.from_interactions(log, 0.5)
    scorer = PoolScorer(_compiled(log), pool)
    asked = pool.candidates()
    view = scorer.view(*asked, {"target"}, target=Target([2], [3]))
    assert (view.target_user, view.target_item) == ([2], [3])
    assert len(scorer.view(*asked, {"target"}).target_user) == 6
    with pytest.raises(ValueError, match="1 of 1 pairs of an unknown item"):
        scorer.view(*asked, {"target"}, target=Target([2], [4]))


def _compiled(log):
    model = TwoTower.from_interactions(log, embedding_dim=4)
    model.compile()
    return model


def test_a_target_of_pairs(log):
    pool = Pool.from_interactions(log, initial=0.5)
    pairs = pool.pairs(pool.user[:4], pool.item[:4])
    target = Target.from_pairs(pairs, [0, 1, 1, 2], name="mine")
    assert target.weight.tolist() == [0, 0.25, 0.25, 0.5]
    np.testing.assert_array_equal(target.user, pool.user[:4])
    np.testing.assert_array_equal(target.item, pool.item[:4])
    with pytest.raises(ValueError, match="unknown user in .*mine"):
        Target.from_pairs(pool.pairs([0], [1]), name="mine").check(4, 3)
