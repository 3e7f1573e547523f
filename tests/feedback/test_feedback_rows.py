"""Which rows of feedback are refused, and why."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from feedback_stores import NOW, clicks, shown_rows

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
