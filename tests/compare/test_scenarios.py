"""Scenarios: who is known, who may be asked, who is served."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.compare import scenarios
from tfrecal.data.query import rows_of
from tfrecal.pool.pool import LABELLED, UNLABELLED


@pytest.fixture(scope="module", params=scenarios.names())
def problem(request, shop):
    query = "age <= 30"
    made = scenarios.get(request.param).make(shop, 3, query)
    made.name, made.query = request.param, query
    return made


def test_held_out_rows_are_not_in_the_pool(problem):
    for part in (problem.validation, problem.test):
        problem.pool.check_leakage(part)
        assert len(part)


def test_every_pair_of_the_pool_has_an_answer(problem):
    pool, answers = problem.pool, problem.answers
    np.testing.assert_array_equal(pool.user, answers.user_code)
    np.testing.assert_array_equal(pool.item, answers.item_code)
    known = pool.state == LABELLED
    assert 0 < known.sum() < len(pool)
    np.testing.assert_array_equal(pool.label[known], answers.label[known])


def test_the_target_is_the_audience_of_the_test(problem, shop):
    served = np.isin(problem.test.user_code, problem.target.user)
    # Of a log so small, some users are in no target.
    assert served.mean() > 0.65
    if problem.name == "segment":
        inside = np.r_[False, rows_of(shop.users, problem.query)]
        assert inside[problem.test.user_code].all()
        assert inside[problem.target.user].all()
        assert not inside[problem.pool.user].all()


@pytest.mark.parametrize("name, column", [
    ("cold_users", "user"), ("cold_items", "item"), ("new_users", "user"),
    ("new_items", "item")])
def test_cold_ones_have_no_label_at_first(name, column, shop):
    made = scenarios.get(name).make(shop, 1)
    codes = getattr(made.pool, column)
    cold = np.unique(getattr(made.target, column))
    known = made.pool.state == LABELLED
    assert not np.isin(codes[known], cold).any()
    assert np.isin(getattr(made.test, f"{column}_code"), cold).all()
    others = codes[made.pool.state == UNLABELLED]
    # Only the new ones may be asked where the others are well known.
    assert np.isin(others, cold).all() == name.startswith("new")


def test_a_redundant_log_is_that_of_the_busiest(shop):
    made = scenarios.get("redundant").make(shop, 1)
    plain = scenarios.get("standard").make(shop, 1)

    def share(pool):
        number = np.sort(np.bincount(pool.user))[::-1]
        return number[:len(shop.users) // 10].sum() / number.sum()

    assert share(made.pool) > 2 * share(plain.pool)
    total = np.bincount(made.target.user, made.target.weight)
    np.testing.assert_allclose(total[total > 0], total.max())


def test_seeds_differ_and_repeat(shop):
    one, again, other = (scenarios.get("cold_users").make(shop, seed)
                         for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.pool.state, again.pool.state)
    assert len(one.pool) != len(other.pool) or (
        one.pool.state != other.pool.state).any()


def test_bad_scenarios(shop):
    with pytest.raises(ValueError, match="must be one of standard"):
        scenarios.get("usual")
    with pytest.raises(ValueError, match="query on the users table"):
        scenarios.get("segment").make(shop, 0)


def test_few_rows_begin_with_a_label(shop):
    for name in ("standard", "redundant", "item_averaged"):
        pool = scenarios.get(name).make(shop.take(range(40)), 0).pool
        assert pool.counts["labelled"] == 1
