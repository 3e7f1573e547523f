"""The fingerprint of a data set: content in, nothing else."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tables import frame, read

# Of `full()`, found with pandas 2.2.3 and with pandas 3.1.1.
FINGERPRINT = (
    "c3a46ad31148d7b50a55d505a7c73e66"
    "843bdfb77684b1085a7d2bf5f3d2ab1f")


def full(**columns):
    items = pd.DataFrame({
        "title": ["Heat", None], "year": [1995.0, np.nan],
        "genres": [["a", "b"], []],
        "seen": pd.to_datetime(["2020-01-01", None])}, index=["x", "y"])
    return read(frame(**columns), items=items, name="full")


def test_the_fingerprint_is_the_same_everywhere():
    assert full().fingerprint() == FINGERPRINT


def test_missing_values_and_widths_of_types_do_not_matter():
    data = full()
    items = data.items.assign(
        title=pd.array(["Heat", pd.NA], "string"),
        year=pd.array([1995, pd.NA], "Int64"),
        seen=data.items["seen"].astype("datetime64[s]").astype(
            "datetime64[ms]"),
        genres=[("a", "b"), np.array([])])
    assert read(frame(), items=items).fingerprint() == FINGERPRINT
    items = data.items.assign(year=np.array([1995, -np.nan]))
    assert read(frame(), items=items).fingerprint() == FINGERPRINT


@pytest.mark.parametrize("change", [
    {"label": [5, 3, 2]}, {"timestamp": [30, 20, 11]},
    {"user_id": ["b", "a", "c"]}, {"item_id": ["x", "y", "x"],
                                   "user_id": ["b", "a", "c"]},
    {"weight": [1, 1, 2]}])
def test_other_rows_have_another_fingerprint(change):
    assert full(**change).fingerprint() != FINGERPRINT


@pytest.mark.parametrize("title", [["Hea", "t"], ["", "Heat"], [None, None],
                                   ["Heat", ""]])
def test_another_table_has_another_fingerprint(title):
    data = full()
    items = data.items.assign(title=title)
    assert read(frame(), items=items).fingerprint() != FINGERPRINT
    other = read(frame(), items=items.rename(columns={"title": "name"}))
    assert other.fingerprint() != read(
        frame(), items=items).fingerprint()
