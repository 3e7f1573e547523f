"""Rows in: what is read, refused, dropped, and what the codes mean."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from tables import frame, read

from tfrecal.data.cleaning import KINDS, CleaningReport


def test_columns_have_their_types():
    data = read(frame(weight=[1, 2, 3], other=["p", "q", "r"]))
    assert list(data.frame) == [
        "user_id", "item_id", "label", "timestamp", "weight"]
    assert [str(t) for t in data.frame.dtypes] == [
        "object", "object", "float32", "float64", "float32"]
    assert data.frame.index.equals(pd.RangeIndex(3))
    assert len(data) == 3 and data.scale == (1.0, 5.0)
    assert data.label.tolist() == [5, 3, 1]


def test_the_users_frame_is_left_alone():
    raw = frame(user_id=[7, 8, 8])
    users = pd.DataFrame({"user_id": [7, 8], "age": [1, 2]})
    before = raw.copy(), users.copy()
    read(raw, users=users)
    pd.testing.assert_frame_equal(raw, before[0])
    pd.testing.assert_frame_equal(users, before[1])


def test_codes_are_positions_plus_one():
    users = pd.DataFrame({"age": [1, 2, 3]}, index=["b", "z", "a"])
    data = read(frame(), users=users)
    assert data.user_code.tolist() == [1, 3, 3]
    assert data.item_code.tolist() == [1, 1, 2]
    assert data.user_code.dtype == data.item_code.dtype == np.int32
    assert data.user_ids.tolist() == ["b", "z", "a"]
    assert (data.user_ids[data.user_code - 1]
            == data.frame["user_id"]).all()
    assert (data.item_ids[data.item_code - 1]
            == data.frame["item_id"]).all()


def test_unknown_ids_have_code_0():
    user, item = read(frame()).codes(["a", "nobody", None], ["y", "", "x"])
    assert user.tolist() == [1, 0, 0] and item.tolist() == [2, 0, 1]
    assert user.dtype == np.int32
    user, item = read(frame()).codes([], [])
    assert len(user) == len(item) == 0
    assert read(frame(item_id=[1, 1, 2])).codes(["a"], [2])[1] == [2]


def test_absent_times_are_0():
    data = read(frame().drop(columns="timestamp"))
    assert data.frame["timestamp"].tolist() == [0, 0, 0]


def test_other_rows_keep_tables_and_codes():
    data = read(frame())
    part = data.with_frame(data.frame.iloc[[2, 0]])
    assert part.users is data.users and part.items is data.items
    assert part.user_code.tolist() == [1, 2]
    assert part.frame.index.equals(pd.RangeIndex(2))
    mask = data.take(np.array([True, False, True]))
    assert mask.user_code.tolist() == [2, 1]
    assert mask.frame["item_id"].tolist() == ["x", "y"]
    assert data.take([]).user_code.tolist() == []
    with pytest.raises(IndexError):
        data.take([True, False])


def test_other_rows_must_fit_the_tables():
    data = read(frame())
    with pytest.raises(ValueError, match="`user_id` must be in the users "
                                         "table. Received: 'q'"):
        data.with_frame(data.frame.assign(user_id="q"))
    with pytest.raises(ValueError, match=r"without \['label'\]"):
        data.with_frame(data.frame.drop(columns="label"))


def messy():
    """Two good rows; one bad row of each kind, from line 3 on."""
    rows = [("a", "x", 5, 10, 1), ("b", "y", 1, 20, 1),
            ("", "x", 3, 30, 1), ("a", None, 3, 30, 1),
            ("b", "x", "n/a", 30, 1), ("b", "x", np.inf, 30, 1),
            ("b", "x", 9, 30, 1), ("b", "x", 3, "soon", 1),
            ("b", "x", 3, 30, -1), ("q", "x", 3, 30, 1),
            ("b", "q", 3, 30, 1), ("a", "x", 4, 40, 1)]
    raw = pd.DataFrame(rows, columns=[
        "user_id", "item_id", "label", "timestamp", "weight"])
    users = pd.DataFrame({"user_id": ["a", "b", "", "a"]})
    items = pd.DataFrame({"item_id": ["x", "y", " ", "y", None]})
    return raw, users, items


def test_one_error_names_every_kind():
    with pytest.raises(ValueError) as error:
        read(messy()[0], *messy()[1:], scale=(1, 5))
    for kind, words in KINDS.items():
        # Those of files are in test_tables, that of lists in test_lists.
        assert kind.endswith(("bad_line", "broken_id", "bad_list")) or (
            words in str(error.value))
    assert "2 of 12 rows kept" in str(error.value)
    assert "bad_rows=\"drop\"" in str(error.value)
    assert "duplicates=\"last\"" in str(error.value)


def test_dropped_rows_are_counted_with_their_lines():
    raw, users, items = messy()
    data = read(raw, users, items, scale=(1, 5), bad_rows="drop",
                duplicates="first")
    assert data.frame["label"].tolist() == [5, 1]
    assert data.users.index.tolist() == ["a", "b"]
    assert data.items.index.tolist() == ["x", "y"]
    report = data.report
    assert (report.rows_in, report.rows_kept) == (12, 2)
    assert report.lines == {
        "missing_key": [3, 4], "bad_label": [5, 6, 7],
        "bad_timestamp": [8], "bad_weight": [9], "unknown_user": [10],
        "unknown_item": [11], "duplicate_pair": [12],
        "user_table_missing_id": [3], "user_table_duplicate_id": [4],
        "item_table_missing_id": [3, 5], "item_table_duplicate_id": [4]}
    assert report.counts == {k: len(v) for k, v in report.lines.items()}
    assert sum(number for kind, number in report.counts.items()
               if "table" not in kind) == 12 - 2


def test_a_row_counts_once_however_bad_it_is():
    raw = frame(user_id=["b", None, "a"], label=[5, "bad", "bad"],
                timestamp=[1, "bad", "bad"])
    assert read(raw, bad_rows="drop").report.lines == {
        "missing_key": [2], "bad_label": [3]}


def test_duplicates_are_refused_even_where_bad_rows_are_dropped():
    raw, users, items = messy()
    with pytest.raises(ValueError, match="duplicates=") as error:
        read(raw, users, items, scale=(1, 5), bad_rows="drop")
    assert "pass `bad_rows" not in str(error.value)


def test_a_report_is_short_and_survives_json():
    data = read(pd.concat([frame(label=[5, None, None])] + [
        frame(user_id=[f"u{i}", None, "v"], item_id=f"i{i}", label=2.0)
        for i in range(9)]), bad_rows="drop")
    text = str(data.report)
    assert text.splitlines() == [
        "19 of 30 rows kept",
        "  9  `user_id` or `item_id` is empty (lines 5, 8, 11, 14, 17, ...)",
        "  2  `label` is not a finite number on the scale (lines 2, 3)"]
    back = CleaningReport(**json.loads(json.dumps(data.report.to_dict())))
    assert back == data.report


def test_tables_are_made_of_good_rows_only():
    data = read(frame(label=[5, 3, None]), bad_rows="drop")
    assert data.users.index.tolist() == ["a", "b"]
    assert data.items.index.tolist() == ["x"]


def test_no_good_row_is_refused():
    with pytest.raises(ValueError, match="at least one good row"):
        read(frame(label=None), bad_rows="drop")


@pytest.mark.parametrize("duplicates, label, time", [
    ("first", 1, 10), ("last", 5, 30), ("mean", 3, 30)])
def test_one_row_of_a_pair_stays(duplicates, label, time):
    raw = frame(user_id="a", item_id="x")
    data = read(raw, duplicates=duplicates, scale=(1, 5))
    assert data.frame[["label", "timestamp"]].values.tolist() == [
        [label, time]]
    assert data.report.counts == {"duplicate_pair": 2}
    assert f"the {duplicates} was kept" in str(data.report)


def test_ties_of_duplicates_go_by_row():
    raw = frame(user_id="a", item_id="x", timestamp=0)
    assert read(raw, duplicates="first").label == [5]
    assert read(raw, duplicates="last").label == [1]


def test_means_of_many_pairs_equal_a_plain_loop():
    rng = np.random.default_rng(0)
    raw = pd.DataFrame({
        "user_id": rng.integers(0, 9, 400).astype(str),
        "item_id": rng.integers(0, 9, 400).astype(str),
        "label": rng.integers(1, 6, 400), "weight": rng.random(400),
        "timestamp": rng.integers(0, 50, 400)})
    data = read(raw, duplicates="mean")
    assert len(data) == len(raw.drop_duplicates(["user_id", "item_id"]))
    for row in data.frame.itertuples():
        same = raw[(raw.user_id == row.user_id)
                   & (raw.item_id == row.item_id)]
        assert row.label == pytest.approx(same["label"].mean(), rel=1e-6)
        assert row.weight == pytest.approx(same["weight"].mean(), rel=1e-6)
        assert row.timestamp == same["timestamp"].max()


def test_a_bad_row_is_no_duplicate():
    raw = frame(user_id="a", item_id="x", label=[None, 2, None])
    data = read(raw, bad_rows="drop", scale=(1, 5))
    assert data.label == [2] and set(data.report.counts) == {"bad_label"}


@pytest.mark.parametrize("users, message", [
    (pd.DataFrame({"userId": ["a", "b"]}), r"column \(or an index\)"),
    (pd.DataFrame([["a", 1, 2]], columns=["user_id", "x", "x"]),
     r"\['x'\] twice"),
    (pd.DataFrame({"user_id": pd.Series(["a", 1], dtype=object)}),
     "mix of types")])
def test_wrong_tables_are_refused(users, message):
    with pytest.raises(ValueError, match=message):
        read(frame(), users=users)


# ---- other labels, fewer rows --------------------------------------------
def test_labels_become_0_and_1():
    data = read(frame(), binarise=3)
    assert data.label.tolist() == [1, 1, 0] and data.scale == (0.0, 1.0)
    assert data.label.dtype == np.float32


@pytest.mark.parametrize("threshold", [1, 5.5, float("nan")])
def test_a_threshold_that_divides_nothing_is_refused(threshold):
    with pytest.raises(ValueError, match="`threshold` must lie on the scale"):
        read(frame()).binarise(threshold)


def test_a_binarised_truth_agrees_with_the_labels(shop):
    binary = shop.binarise(4)
    assert set(np.unique(binary.truth)) == {0.0, 1.0}
    assert ((shop.truth >= 4) == (binary.truth == 1)).all(axis=None)


def test_a_core_is_reached_by_iteration():
    # c goes, then z has one row left and goes, then b has one left and goes
    raw = pd.DataFrame(
        [("a", "x"), ("a", "y"), ("d", "x"), ("d", "y"), ("b", "z"),
         ("b", "x"), ("c", "z")], columns=["user_id", "item_id"])
    users = pd.DataFrame({"age": range(5)}, index=list("dcbae"))
    core = read(raw.assign(label=1.0), users=users).k_core(2)
    assert core.users.index.tolist() == ["d", "a"]
    assert core.users["age"].tolist() == [0, 3]
    assert core.items.index.tolist() == ["x", "y"]
    assert core.user_code.tolist() == [2, 2, 1, 1]
    assert core.report.rows_kept == 4
    assert ("2-core: 4 of 7 rows, 2 of 5 users, 2 of 3 items kept (3 passes)"
            in str(core.report))


@pytest.mark.parametrize("n", [2, 5, 7])
def test_each_has_its_rows_in_a_core(shop, n):
    core = shop.k_core(n)
    for column in ("user_id", "item_id"):
        assert core.frame[column].value_counts().min() >= n
    assert core.truth.shape == (len(core.users), len(core.items))
    assert core.report is not shop.report and not shop.report.notes


@pytest.mark.parametrize("n", [0, -1, 2.5, "2", 10 ** 6])
def test_a_core_that_cannot_be_is_refused(shop, n):
    with pytest.raises((TypeError, ValueError), match="must"):
        shop.k_core(n)


def test_repr_names_rows_tables_scale_columns_and_days():
    assert repr(read(frame(weight=[1, 2, 3], timestamp=[
        0, 86_400, 86_400 * 366]))) == (
        "Interactions('interactions', 3 rows, 2 users, 2 items, labels 1 to "
        "5,\n             user_id, item_id, label, timestamp, weight; "
        "1970-01-01 to 1971-01-02)")
    assert "no times" in repr(read(frame().drop(columns="timestamp")))


def test_tables_that_are_made_hold_only_ids_of_rows_that_stay():
    raw = frame(user_id=["a", "b", "c"], item_id=["x", "x", "gone"])
    items = pd.DataFrame({"item_id": ["x", "y"]})
    data = read(raw, items=items, bad_rows="drop")
    assert data.user_ids.tolist() == ["a", "b"]
    assert data.item_ids.tolist() == ["x", "y"]
    assert data.user_code.tolist() == [1, 2]
