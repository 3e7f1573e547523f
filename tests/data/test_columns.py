"""A user's columns: which is which, ids, times, labels."""
from __future__ import annotations

import datetime
import json
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tfrecal.data.columns import as_numbers
from tfrecal.data.interactions import Interactions


def frame(**columns):
    data = {"user_id": ["b", "a", "a"], "item_id": ["x", "x", "y"],
            "label": [5, 3, 1], "timestamp": [30, 20, 10]}
    return pd.DataFrame({**data, **columns})


def read(data, **options):
    return Interactions.from_frame(data, **options)


def test_columns_are_renamed_in_tables_too():
    raw = frame().rename(columns={"user_id": "userId", "label": "stars"})
    users = pd.DataFrame({"userId": ["a", "b"], "age": [1, 2]})
    data = read(raw, users=users,
                columns={"user_id": "userId", "label": "stars"})
    assert data.label.tolist() == [5, 3, 1]
    assert data.users.index.name == "user_id"
    assert list(data.users) == ["age"]


def test_a_renamed_column_wins_over_its_namesake():
    data = read(frame(stars=[2, 2, 2]), columns={"label": "stars"})
    assert data.label.tolist() == [2, 2, 2]


def test_known_spellings_are_suggested_and_not_guessed():
    raw = frame().rename(columns={
        "user_id": "userId", "item_id": "movieId", "label": "rating"})
    with pytest.raises(ValueError) as error:
        read(raw)
    assert "['userId', 'movieId', 'rating', 'timestamp']" in str(error.value)
    cure = re.search("`columns=(.*?)`", str(error.value))[1]
    assert len(read(raw, columns=json.loads(cure))) == 3
    words = re.search("`--columns (.*?)`", str(error.value))[1]
    assert len(read(raw, columns=dict(
        word.split("=") for word in words.split(",")))) == 3


@pytest.mark.parametrize("columns, message", [
    ({"userId": "user_id"}, "not the reverse"),
    ({"user": "user_id", "item": "user_id"}, "each once"),
    ({"label": "stars"}, r"without \['stars'\]"),
    ({"timestamp": "when"}, r"without \['when'\]")])
def test_wrong_renaming_is_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        read(frame(), columns=columns)


def test_a_column_that_is_there_twice_is_refused():
    raw = pd.concat([frame(), frame()[["label"]]], axis=1)
    with pytest.raises(ValueError, match=r"\['label'\] twice"):
        read(raw)


def test_only_frames_are_taken():
    with pytest.raises(TypeError, match="pandas DataFrame. Received: list"):
        read([("a", "x", 1)])
    with pytest.raises(TypeError, match="`items` must be a pandas"):
        read(frame(), items={"x": 1})


def test_a_frame_without_rows_is_refused():
    with pytest.raises(ValueError, match="at least one row. Received: none"):
        read(frame().iloc[:0])


@pytest.mark.parametrize("option", [
    {"bad_rows": "ignore"}, {"duplicates": "max"}, {"scale": (5, 1)},
    {"scale": (1, float("nan"))}, {"scale": 5}, {"timestamp_unit": "h"},
    {"normalise": "log"}, {"binarise": 9}])
def test_wrong_options_are_refused(option):
    name, = option
    shown = {"normalise": "method", "binarise": "threshold"}.get(name, name)
    with pytest.raises(ValueError, match=f"`{shown}` must.*Received"):
        read(frame(), **option)


@pytest.mark.parametrize("ids, strings", [
    ([7, 8, 9], ["7", "8", "9"]), ([7.0, 8.0, 9.0], ["7", "8", "9"]),
    (["7.0", "8.0", "9.0"], ["7", "8", "9"]),
    (["007", "8", "x"], ["007", "8", "x"]),
    (["7.0", "8.5", "x"], ["7", "8.5", "x"]),
    (["-1.00", "0.50", "1.0.0"], ["-1", "0.50", "1.0.0"]),
    (["\u00a0a", "b\u3000", "\x1fc"], ["a", "b", "c"]),
    (np.array([7, 8, 9], np.float16), ["7", "8", "9"]),
    ([2 ** 62 + 1, 2 ** 62 + 2, 2 ** 62 + 3],
     [str(2 ** 62 + n) for n in (1, 2, 3)]),
    (pd.array([2 ** 62 + 1, 5, 6], dtype="Int64"),
     [str(2 ** 62 + 1), "5", "6"]),
    ([Decimal(7), Decimal("8.0"), Decimal(10) ** 20],
     ["7", "8", str(10 ** 20)]),
    ([" a", "b ", "\tc\n"], ["a", "b", "c"]),
    (np.array([7, 8, 2 ** 63], np.uint64), ["7", "8", str(2 ** 63)]),
    (pd.array([7, 8, 9], dtype="Int64"), ["7", "8", "9"]),
    (pd.array(["é", "b", "c"], dtype="string"), ["é", "b", "c"]),
    (pd.Categorical(["p", "q", "r"]), ["p", "q", "r"]),
    (pd.Categorical([7, 8, 9]), ["7", "8", "9"]),
    (np.array([7, 8.0, 9], object), ["7", "8", "9"])])
def test_ids_become_strings(ids, strings):
    data = read(frame(user_id=ids))
    assert data.frame["user_id"].tolist() == strings
    assert all(type(i) is str for i in data.user_ids)


def test_floats_beside_missing_ids_become_whole():
    data = read(frame(user_id=[7, None, 8]), bad_rows="drop")
    assert data.user_ids.tolist() == ["7", "8"]


def test_cut_decimals_are_told():
    data = read(frame(user_id=["7.0", "8.0", "8.0"]))
    assert "`user_id`: \".0\" cut" in str(data.report)


@pytest.mark.parametrize("ids, message", [
    (pd.Series([7, "a", "b"], dtype=object),
     r"mix of types. Received: 7 \(int\), 'a' \(str\)"),
    ([1.5, 2, 3], "whole numbers .*Received: 1.5"),
    ([2.0 ** 60, 2, 3], "a float can hold"),
    ([float("inf"), 1, 2], "Received: inf"),
    ([Decimal("Infinity"), 1, 2], "mix of types|Infinity"),
    ([Decimal("Infinity")] * 3, "Received: Decimal"),
    ([Decimal("1e999999")] * 3, "Received: Decimal"),
    ([Decimal("9007199254740993.5")] * 3, "Received: Decimal"),
    (np.array([2049, 1, 2], np.float16), "a float can hold"),
    (np.array([2 ** 24 + 2, 1, 2], np.float32), "a float can hold"),
    ([True, False, True], r"True \(bool\)"),
    (pd.Series(["a", "b\ud800", "c"], dtype=object), "UTF-8 can write"),
    (pd.Series([1, True, 2], dtype=object), r"True \(bool\)"),
    (pd.Series([["a"], ["a"], None], dtype=object), r"\['a'\] \(list\)"),
    ([b"a", b"b", b"c"], r"b'a' \(bytes\)"),
    (["a\0", "b", "c"], "zero bytes")])
def test_other_ids_are_refused(ids, message):
    with pytest.raises(ValueError, match=f"`user_id` must.*{message}"):
        read(frame(user_id=ids))


def test_tables_and_rows_treat_ids_alike():
    items = pd.DataFrame({"item_id": [1, 2], "title": ["p", "q"]})
    data = read(frame(item_id=["1.0", "2.0", "1.0"],
                      user_id=["a", "b", "c"]), items=items)
    assert data.item_code.tolist() == [1, 2, 1]


DAY = 1577836800    # 2020-01-01


@pytest.mark.parametrize("times", [
    [DAY, DAY + 1, DAY], ["2020-01-01", "2020-01-01T00:00:01Z",
                          "2020-01-01 01:00:00+01:00"],
    pd.to_datetime([DAY, DAY + 1, DAY], unit="s"),
    pd.to_datetime([DAY, DAY + 1, DAY], unit="s", utc=True).tz_convert(
        "Asia/Tokyo"),
    [str(DAY), f"{DAY + 1}.0", str(DAY)],
    [datetime.datetime(2020, 1, 1), "2020-01-01T00:00:01", DAY],
    [datetime.date(2020, 1, 1), float(DAY + 1), np.datetime64("2020-01-01")],
    pd.array(["2020-01-01", "2020-01-01T00:00:01", "2020-01-01"], "string"),
    pd.Categorical(["2020-01-01", "2020-01-01T00:00:01", "2020-01-01"])])
def test_times_become_seconds(times):
    data = read(frame(timestamp=times))
    assert data.frame["timestamp"].tolist() == [DAY, DAY + 1, DAY]


@pytest.mark.parametrize("unit, factor", [
    ("ms", 10 ** 3), ("us", 10 ** 6), ("ns", 10 ** 9)])
def test_finer_times_need_their_unit(unit, factor):
    raw = frame(timestamp=np.array([DAY, DAY + 1, DAY]) * factor)
    with pytest.raises(ValueError, match="timestamp_unit"):
        read(raw)
    data = read(raw, timestamp_unit=unit)
    assert data.frame["timestamp"].tolist() == [DAY, DAY + 1, DAY]


@pytest.mark.parametrize("times, seconds", [
    (["2026-05-01T10:00:00.900Z", "2026-05-01T10:00:00.1Z",
      "2026-05-01T10:00:00,250Z"], [.9, .1, .25]),
    ([DAY + .9, DAY + .1, DAY + .25], [.9, .1, .25]),
    ([f"{DAY}.9", f"{DAY}.1", f"{DAY}.25"], [.9, .1, .25])])
def test_order_within_a_second_is_kept(times, seconds):
    found = read(frame(timestamp=times)).frame["timestamp"]
    np.testing.assert_allclose(found % 1, seconds, atol=1e-6)


@pytest.mark.parametrize("numbers, unit, first", [
    ([20260501, 20260502, 20251231], "date", 1777593600),
    ([2026, 2025, 1999], "year", 1767225600),
    ([46143, 46143.5, 44000], "excel", 1777593600)])
def test_other_numbers_of_time_need_their_unit(numbers, unit, first):
    for column in (numbers, [str(number) for number in numbers]):
        raw = frame(timestamp=column)
        with pytest.raises(ValueError, match=f"--time-unit {unit}"):
            read(raw)
        data = read(raw, timestamp_unit=unit)
        assert data.frame["timestamp"][0] == first
        assert read(raw, timestamp_unit="s").frame["timestamp"].tolist() == (
            numbers)


@pytest.mark.parametrize("numbers, shown", [
    ([202605, 202606, 202512], "2026-05,"),
    ([20260501103000, 20260502235959, 20251231000000],
     "2026-05-01T10:30:00,")])
def test_numbers_of_no_unit_are_refused_with_what_to_write(numbers, shown):
    for column in (numbers, [str(number) for number in numbers]):
        with pytest.raises(ValueError, match=f"such as {shown}"):
            read(frame(timestamp=column))


def test_numbers_that_are_no_months_are_seconds():
    assert read(frame(timestamp=[202600, 202650, 202699])).frame[
        "timestamp"].tolist() == [202600, 202650, 202699]


def test_seconds_are_no_milliseconds():
    with pytest.raises(ValueError, match="--time-unit s"):
        read(frame(timestamp=[DAY, DAY + 1, DAY]), timestamp_unit="ms")


def test_small_counters_are_times():
    data = read(frame(timestamp=[30, 20, 10]))
    assert data.frame["timestamp"].tolist() == [30, 20, 10]


def test_times_that_fall_together_are_refused():
    with pytest.raises(ValueError, match="exact.*float32"):
        read(frame(timestamp=np.array([DAY, DAY + 1, DAY], np.float32)))


@pytest.mark.parametrize("time", [
    "2020-01-01T00:00:59.25+000", "2020-01-01T00:00:59.25+0000x",
    "9999-12-31", "9999-12-31T23:59:59Z", "2020-02-30", "0000-01-01",
    None, "soon", "01/02/2020", float("inf"), 1e15])
def test_what_is_no_time_is_a_bad_row(time):
    raw = frame(timestamp=pd.Series([1, time, 3], dtype=object))
    assert read(raw, bad_rows="drop").report.lines == {"bad_timestamp": [2]}


def test_a_cell_with_nanoseconds_costs_no_far_year():
    found = read(frame(timestamp=[
        "2020-01-01T10:00:00.123456789Z", "5138-11-16", "0001-01-01"]))
    assert found.frame["timestamp"].tolist() == [
        DAY + 36_000 + .123456789, 99_999_964_800, -62_135_596_800]


def test_the_order_of_day_and_month_is_not_guessed():
    raw = frame(timestamp=["2020-01-01", "01/02/2020", "2020-01-03"])
    assert read(raw, bad_rows="drop").report.lines == {"bad_timestamp": [2]}


@pytest.mark.parametrize("labels, scale", [
    ([5, 3, 1], (1, 5)), ([1, 0, 0], (0, 1)), ([1, 1, 1], (0, 1)),
    ([True, False, True], (0, 1)), (["4", "2.5", "3"], (2.5, 4)),
    ([-1, 0, 1], (-1, 1)), ([4, 4, 4], (4, 4))])
def test_the_scale_is_that_of_the_labels(labels, scale):
    assert read(frame(label=labels)).scale == scale


@pytest.mark.parametrize("label", [
    np.nan, np.inf, -np.inf, "five", "4,5", 1e39, 0.5, 5.01, None,
    pd.Timestamp("2020-01-01")])
def test_labels_off_the_scale_are_bad_rows(label):
    raw = frame(label=pd.Series([5, label, 1], dtype=object))
    with pytest.raises(ValueError, match=r"`label` is not.*\(lines 2\)"):
        read(raw, scale=(1, 5))


@pytest.mark.filterwarnings("error")
def test_numbers_of_any_type_are_read_to_the_largest():
    values = [1.7e308, 10 ** 308, np.int8(-128), np.float32(2), True, "1e308",
              Decimal("2.5")]
    found = as_numbers(pd.Series(values, dtype=object))
    assert found.tolist() == [1.7e308, 1e308, -128, 2, 1, 1e308, 2.5]
    wrong = [float("inf"), 10 ** 400, -10 ** 400, "1_0", None, [],
             Decimal("nan")]
    assert np.isnan(as_numbers(pd.Series(wrong, dtype=object))).all()


def test_times_are_no_labels():
    with pytest.raises(ValueError, match="3  `label` is not"):
        read(frame(label=pd.to_datetime(["2020-01-01"] * 3)))
