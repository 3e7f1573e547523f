"""Which rows of feedback are refused, and why."""
from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from feedback_stores import NOW, clicks, shown_rows

from tfrecal.data.columns import clean_id
from tfrecal.feedback.store import rows


@pytest.mark.parametrize("column, value, reason", [
    ("user_id", None, "no user_id"), ("item_id", "", "no item_id"),
    ("event_id", "x" * 501, "longer than 500"),
    ("user_id", "a\0b", "no valid text"),
    ("user_id", "\ud800", "no valid text"),
    ("item_id", True, "no valid text"), ("item_id", [1], "no valid"),
    pytest.param("time", NOW + 400, "in the future", id="ahead"),
    ("time", -1, "since 1970"),
    ("time", "noon", "; this is none"), ("time", None, "since 1970"),
    ("time", np.inf, "; this is none"), ("kind", "like", "kind is not"),
    ("value", 2, "value is not 1"), ("value", "x", "not a finite number"),
    ("value", 10 ** 400, "not a finite number")])
def test_refused_responses(column, value, reason):
    frame = clicks("ab").astype(object)
    frame.at[1, column] = value
    found = rows.check_responses(frame, NOW, None)
    assert found.reason[0] == "" and reason in found.reason[1]
    assert found.good()[0].tolist() == [0]


@pytest.mark.parametrize("column, value, reason", [
    ("rank", 0, "1 or more"), ("rank", 1.5, "whole"),
    ("rank", None, "1 or more"), ("propensity", 0, "(0, 1]"),
    ("propensity", 1.01, "(0, 1]"), ("propensity", None, "(0, 1]"),
    ("score", np.inf, "not a finite number"), ("version", 2.5, "whole"),
    ("request_id", None, "no request_id")])
def test_refused_lists(column, value, reason):
    frame = shown_rows(1).astype(object)
    frame.at[1, column] = value
    found = rows.check_shown(frame, NOW)
    assert found.reason[[0, 2]].tolist() == ["", ""]
    assert reason in found.reason[1]


def test_the_first_fault_is_told():
    frame = clicks("a", user_id="", kind="like", time=np.nan)
    assert rows.check_responses(frame, NOW, None).reason == ["no user_id"]


def test_datetimes_are_seconds():
    frame = clicks("ab", time=pd.to_datetime(["2001-01-02", None], utc=True))
    found = rows.check_responses(frame, NOW, None)
    assert found.good()[1]["time"].tolist() == [978393600.0]


def test_categories_and_missing_columns():
    frame = clicks("ab", user_id=pd.Categorical(["u1", None]))
    found = rows.check_responses(frame[["event_id", "user_id", "item_id",
                                        "time", "kind"]], NOW, None)
    where, columns = found.good()
    assert where.tolist() == [0]
    assert {name: values.tolist() for name, values in columns.items()} == {
        "event_id": ["a"], "request_id": [""], "user_id": ["u1"],
        "item_id": ["i1"], "time": [NOW - 50], "kind": ["click"],
        "value": [1.0]}


IDS = ["001", " 001", "001\u3000", "\u00a0x\u2003", 7, 7.0, " 7", "7.0",
       "100.0", "100.5", 2 ** 60 + 1, -3, Decimal("7"), Decimal("7.00"),
       np.float32(7), np.int8(7), np.uint64(2 ** 64 - 1)]


def test_ids_are_those_of_tables():
    frame = clicks(map(str, range(len(IDS))), user_id=pd.Series(
        IDS, dtype=object), item_id=pd.Series(IDS, dtype=object))
    where, columns = rows.check_responses(frame, NOW, None).good()
    wanted = [clean_id(int(value) if isinstance(value, Decimal) else value,
                       "user_id") for value in IDS]
    assert len(where) == len(IDS)
    assert columns["user_id"].tolist() == wanted
    assert columns["item_id"].tolist() == wanted
    assert rows.clean_ids(IDS, "user_id").tolist() == wanted
    assert "x" in wanted and wanted[:3] == ["001"] * 3


def test_ids_of_events_and_requests_lose_white_space_only():
    frame = clicks(["1.0", " 1", "1.1 ", 1, 2.0], request_id=" r1\t",
                   kind=" click ")
    _, columns = rows.check_responses(frame, NOW, None).good()
    assert columns["event_id"].tolist() == ["1.0", "1", "1.1", "1", "2"]
    assert set(columns["request_id"]) == {"r1"}
    assert set(columns["kind"]) == {"click"}


@pytest.mark.parametrize("ids", [
    pd.Series([2 ** 60 + 1, None, 2 ** 60 + 2], dtype="Int64"),
    pd.Series([2 ** 63 + 1, None, 2 ** 63 + 2], dtype="UInt64"),
    pd.Series([2 ** 60 + 1, None, 2 ** 60 + 2], dtype=object),
    pd.Series([2 ** 60 + 1, None, 2 ** 60 + 2], dtype="Int64").astype(
        "category")])
def test_large_ids_are_exact(ids):
    found = rows.check_responses(clicks("abc", user_id=ids), NOW, None)
    assert found.good()[1]["user_id"].tolist() == [
        str(ids[0]), str(ids[2])]


@pytest.mark.parametrize("dtype, exact", [
    ("float64", 2 ** 53), ("float32", 2 ** 24), ("Float32", 2 ** 24),
    ("float16", 2 ** 11)])
def test_floats_that_round_are_no_ids(dtype, exact):
    ids = pd.Series([exact - 1, exact, 1.5]).astype(dtype)
    columns = [ids]
    if dtype != "float16":  # pandas has no categories of them
        columns.append(ids.astype("category"))
    if dtype != "Float32":  # pandas makes Python's own floats of them
        columns.append(pd.Series(list(ids.to_numpy()), dtype=object))
    for column in columns:
        found = rows.check_responses(clicks("abc", item_id=column), NOW, None)
        assert found.reason[0] == ""
        assert all("exact whole number" in text for text in found.reason[1:])


def test_what_pandas_would_take_for_one_is_no_id():
    frame = clicks("abcd", user_id=pd.Series(
        [1, True, np.True_, Decimal("NaN")], dtype=object))
    reason = rows.check_responses(frame, NOW, None).reason
    assert reason[0] == "" and reason[3] == "no user_id"
    assert "no valid" in reason[1] and "no valid" in reason[2]


TIMES = [1e9, "1e9", " 1000000000 ", "2001-09-09T01:46:40Z",
         "2001-09-09T01:46:40", "2001-09-09 03:46:40+02:00",
         "20010909T014640Z", Decimal(10 ** 9),
         datetime.datetime(2001, 9, 9, 1, 46, 40),
         datetime.datetime(2001, 9, 9, 1, 46, 40, tzinfo=datetime.timezone.utc),
         pd.Timestamp("2001-09-09T03:46:40+02:00"),
         np.datetime64("2001-09-09T01:46:40")]


def test_each_time_is_read_by_what_it_is():
    frame = clicks(map(str, range(len(TIMES))),
                   time=pd.Series(TIMES, dtype=object))
    found = rows.check_responses(frame, NOW, None)
    assert found.reason.tolist() == [""] * len(TIMES)
    assert set(found.good()[1]["time"]) == {1e9}
    # Fractions stay, in every form.
    texts = pd.Series(["2001-09-09T01:46:40.25", "1000000000.25"])
    for column in (texts, texts.astype("category"), texts.astype("string")):
        _, columns = rows.check_responses(
            clicks("ab", time=column), NOW, None).good()
        assert columns["time"].tolist() == [1e9 + 0.25] * 2


@pytest.mark.parametrize("time, reason", [
    (NOW * 1e3, "milliseconds"), (str(int(NOW * 1e3)), "milliseconds"),
    (NOW * 1e6, "microseconds"), (NOW * 1e9, "nanoseconds"),
    (20260501, "a date without dashes"), ("20260501", "a date without"),
    (2026, "a year"), ("2026", "a year"), (46143.5, "of a spreadsheet"),
    (29_000_000, "before 1990"), ("1969-12-31", "before 1990"), (0, "before"),
    ("9999-12-31", ""), ("yesterday", "this is none"), ("now", "is none"),
    ("today", "this is none"), ("1_000_000_000", "this is none"),
    ("2026-13-01", "this is none"), ("01/05/2026", "this is none"),
    (True, "this is none"), ([1e9], "this is none"), ("", "this is none"),
    (datetime.date(9999, 12, 31), ""), (datetime.time(3), "this is none"),
    (pd.Timedelta(5), "this is none")], ids=lambda _: "")
def test_times_of_other_kinds(time, reason):
    frame = clicks("ab", time=pd.Series([NOW, time], dtype=object))
    found = rows.check_responses(frame, NOW, None).reason
    assert found[0] == "" and found[1] and reason in found[1]


@pytest.mark.parametrize("time, reason", [
    (np.float32([NOW, NOW]), "time is float32, which rounds seconds; write "
     "float64"), ([True, False], "this is none"),
    (pd.to_timedelta([NOW, NOW], unit="s"), "this is none")])
def test_columns_that_are_no_times(time, reason):
    found = rows.check_responses(clicks("ab", time=time), NOW, None).reason
    assert all(reason in text for text in found)


def test_flags_are_no_values():
    frame = clicks("ab", kind="rating", value=[True, True])
    assert all("value is not a finite number" in reason for reason in
               rows.check_responses(frame, NOW, None).reason)
    blank = clicks("ab", value=pd.Series([" ", ""], dtype=object))
    assert rows.check_responses(blank, NOW, None).good()[1][
        "value"].tolist() == [1, 1]
