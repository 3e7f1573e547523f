"""Splits: every row once, what is held out stays out."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal import splits
from tfrecal.data.interactions import Interactions

SPLITS = [
    pytest.param(lambda data, seed: splits.random(data, seed=seed),
                 id="random"),
    pytest.param(lambda data, seed: splits.temporal(data), id="temporal"),
    pytest.param(lambda data, seed: splits.leave_last_n(data), id="last"),
    pytest.param(lambda data, seed: splits.cold_users(
        data, 0.2, 0.1, seed), id="cold_users"),
    pytest.param(lambda data, seed: splits.cold_items(
        data, 0.2, 0.1, seed), id="cold_items")]


def log(users="abcdefghij", items=8, seed=0, times=None):
    """Every user with every item, in mixed order."""
    frame = pd.DataFrame([(u, f"i{i}") for u in users for i in range(items)],
                         columns=["user_id", "item_id"])
    frame = frame.sample(frac=1, random_state=seed, ignore_index=True)
    rng = np.random.default_rng(seed)
    return Interactions.from_frame(frame.assign(
        label=rng.integers(1, 6, len(frame)),
        timestamp=rng.permutation(len(frame)) if times is None else times))


def pairs(data):
    return set(zip(data.frame["user_id"], data.frame["item_id"]))


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_is_in_one_part(split):
    data = log()
    parts = split(data, 0)
    assert all(len(part) for part in parts)
    together = pd.concat([part.frame for part in parts])
    order = ["user_id", "item_id"]
    pd.testing.assert_frame_equal(
        together.sort_values(order, ignore_index=True),
        data.frame.sort_values(order, ignore_index=True))


@pytest.mark.parametrize("split", SPLITS)
def test_parts_share_tables_and_codes(split):
    data = log()
    for part in split(data, 0):
        assert part.users is data.users and part.items is data.items
        assert part.scale == data.scale
        fresh = data.codes(part.frame["user_id"], part.frame["item_id"])
        np.testing.assert_array_equal(part.user_code, fresh[0])
        np.testing.assert_array_equal(part.item_code, fresh[1])
        assert part.frame.index.equals(pd.RangeIndex(len(part)))


@pytest.mark.parametrize("split", SPLITS)
def test_the_seed_decides(split, request):
    data = log()
    first, again, other = split(data, 1), split(data, 1), split(data, 2)
    for one, two in zip(first, again):
        pd.testing.assert_frame_equal(one.frame, two.frame)
    if "temporal" not in request.node.name and (
            "last" not in request.node.name):
        assert pairs(first.test) != pairs(other.test)


@pytest.mark.parametrize("split", SPLITS)
def test_no_part_leaks_into_another(split):
    train, validation, test = split(log(), 3)
    for held_out in (validation, test):
        splits.check_leakage(train.user_code, train.item_code, held_out)


@pytest.mark.parametrize("fractions, numbers", [
    ((0.8, 0.1, 0.1), (64, 8, 8)), ((0.5, 0, 0.5), (40, 0, 40)),
    ((0.7, 0.3, 0), (56, 24, 0)), ((1, 0, 0), (80, 0, 0)),
    ((0.9, 0.05, 0.05), (72, 4, 4))])
@pytest.mark.parametrize("split", [splits.random, splits.temporal])
def test_shares_are_kept(split, fractions, numbers):
    assert tuple(map(len, split(log(), fractions))) == numbers


@pytest.mark.parametrize("fractions", [
    (0.8, 0.2), (0.8, 0.1, 0.2), (0, 0.5, 0.5), (1.2, -0.1, -0.1),
    (0.8, float("nan"), 0.2), "abc", 0.8, None, ("a", "b", "c")])
@pytest.mark.parametrize("split", [splits.random, splits.temporal])
def test_wrong_shares_are_refused(split, fractions):
    with pytest.raises(ValueError, match="three shares that sum to 1"):
        split(log(), fractions)


def test_a_part_without_rows_is_refused():
    with pytest.raises(ValueError, match=r"test part.*\[1, 1, 0\]"):
        splits.random(log("a", 2), (0.98, 0.01, 0.01))


def test_time_goes_forward():
    train, validation, test = splits.temporal(log())
    times = [part.frame["timestamp"] for part in (train, validation, test)]
    assert times[0].max() < times[1].min()
    assert times[1].max() < times[2].min()


@pytest.mark.parametrize("seed", range(8))
def test_one_time_is_on_one_side(seed):
    times = np.random.default_rng(seed).integers(0, 6, 80)
    parts = splits.temporal(log(times=times), (0.6, 0.2, 0.2))
    seen = [set(part.frame["timestamp"]) for part in parts]
    assert not (seen[0] & seen[1] or seen[1] & seen[2] or seen[0] & seen[2])
    assert max(seen[0]) < min(seen[1]) and max(seen[1]) < min(seen[2])


def test_the_cut_is_the_nearest_time():
    times = np.repeat([5, 6, 7], [60, 10, 10])      # wanted: 40 and 40
    train, validation, test = splits.temporal(log(times=times), (0.5, 0, 0.5))
    assert (len(train), len(validation), len(test)) == (60, 0, 20)
    times = np.repeat([5, 6, 7], [10, 10, 60])
    assert len(splits.temporal(log(times=times), (0.5, 0, 0.5)).train) == 20


def test_each_part_gets_a_time():
    times = np.repeat([5, 6, 7], [20, 20, 40])
    parts = splits.temporal(log(times=times), (0.98, 0.01, 0.01))
    assert list(map(len, parts)) == [20, 20, 40]


def test_too_few_times_are_refused():
    with pytest.raises(ValueError, match="3 parts.*2 distinct timestamps"):
        splits.temporal(log(times=[1] * 40 + [2] * 40))
    assert len(splits.temporal(log(times=[1] * 80), (1, 0, 0)).train) == 80


def test_the_last_rows_of_each_user_are_held_out():
    data = log()
    train, validation, test = splits.leave_last_n(data, 2, 3)
    for user, rows in data.frame.groupby("user_id"):
        ordered = rows.sort_values("timestamp")["item_id"].tolist()
        for part, items in ((train, ordered[:-5]), (validation,
                            ordered[-5:-2]), (test, ordered[-2:])):
            mine = part.frame[part.frame["user_id"] == user]
            assert set(mine["item_id"]) == set(items)


def test_ties_are_left_in_row_order():
    data = log(times=np.zeros(80, int))
    last = data.frame.groupby("user_id").tail(1)
    test = splits.leave_last_n(data).test
    assert pairs(test) == set(zip(last["user_id"], last["item_id"]))


def test_users_with_few_rows_train_with_all_of_them():
    frame = pd.DataFrame({"user_id": list("aaabb"), "label": 1.0,
                          "item_id": list("xyzxy"),
                          "timestamp": range(5)})
    train, validation, test = splits.leave_last_n(
        Interactions.from_frame(frame))
    assert pairs(train) == {("a", "x"), ("b", "x"), ("b", "y")}
    assert pairs(validation) == {("a", "y")}
    assert pairs(test) == {("a", "z")}


def test_nothing_to_hold_out_is_refused():
    with pytest.raises(ValueError, match="validation part must hold"):
        splits.leave_last_n(log(items=2), 1, 1)
    assert len(splits.leave_last_n(log(items=2), 1, 0).validation) == 0


@pytest.mark.parametrize("n, validation", [
    (0, 1), (-1, 0), (1, -1), (1.5, 1), (1, 0.5), ("1", 0)])
def test_wrong_numbers_are_refused(n, validation):
    with pytest.raises((TypeError, ValueError), match="must be a whole"):
        splits.leave_last_n(log(), n, validation)


@pytest.mark.parametrize("split, column", [
    (splits.cold_users, "user_id"), (splits.cold_items, "item_id")])
def test_cold_ids_have_no_row_elsewhere(split, column):
    data = log(items=10)
    parts = split(data, 0.3, 0.2, seed=4)
    ids = [set(part.frame[column]) for part in parts]
    assert list(map(len, ids)) == [5, 2, 3]
    assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])
    assert len(parts.test) == 30 and not len(split(data).validation)


@pytest.mark.parametrize("fraction, validation", [
    (0, 0), (1, 0), (-0.1, 0), (0.5, 0.5), (0.5, -0.1),
    (float("nan"), 0), (0.5, float("nan"))])
def test_wrong_cold_shares_are_refused(fraction, validation):
    with pytest.raises(ValueError, match="`fraction` must lie between"):
        splits.cold_users(log(), fraction, validation)


@pytest.mark.parametrize("fraction, part", [(0.01, "test"), (0.99, "train")])
def test_a_cold_part_without_users_is_refused(fraction, part):
    with pytest.raises(ValueError, match=f"The {part} part"):
        splits.cold_users(log(), fraction)


def test_leakage_is_counted_and_shown():
    train, _, test = splits.random(log())
    user = np.concatenate([train.user_code, test.user_code[:5]])
    item = np.concatenate([train.item_code, test.item_code[:5]])
    first = tuple(test.frame.loc[0, ["user_id", "item_id"]])
    with pytest.raises(ValueError, match="5 of 8 held-out") as error:
        splits.check_leakage(user, item, test)
    assert str(first) in str(error.value)


def test_leakage_of_no_rows_is_none():
    _, validation, test = splits.random(log(), (0.5, 0, 0.5))
    splits.check_leakage(test.user_code, test.item_code, validation)
    splits.check_leakage([], [], test)


def test_codes_of_other_tables_are_refused():
    _, _, test = splits.random(log())
    with pytest.raises(ValueError, match=r"`item`.*\(0 to 8\).*1 to 9"):
        splits.check_leakage([1, 1], [1, 9], test)


def test_pairs_are_not_mixed_up_at_the_borders_of_the_tables():
    # user 1 with the last item and user 2 with code 0 are near in key space
    data = log("ab", 2)
    held_out = data.take([int(np.flatnonzero(
        (data.user_code == 1) & (data.item_code == 2))[0])])
    splits.check_leakage([2, 2, 2, 1], [0, 1, 2, 1], held_out)
    with pytest.raises(ValueError, match="1 of 1"):
        splits.check_leakage([1], [2], held_out)


@pytest.mark.parametrize("rows, sizes", [
    (3, [1, 1, 1]), (4, [2, 1, 1]), (9, [7, 1, 1]), (20, [16, 2, 2])])
def test_few_rows_leave_no_part_empty(rows, sizes):
    data = Interactions.from_frame(pd.DataFrame({
        "user_id": range(rows), "item_id": range(rows), "label": 1}))
    assert [len(part) for part in splits.random(data, seed=1)] == sizes
    with pytest.raises(ValueError, match="at least one row"):
        splits.random(data.take([0, 1]))
    train, validation, test = splits.random(data, (0.9, 0.0, 0.1))
    assert not len(validation) and len(train) and len(test)
