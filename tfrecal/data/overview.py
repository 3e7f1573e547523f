"""Overview: what was understood of a user's tables, in words."""
from __future__ import annotations

import numpy as np
import pandas as pd

from tfrecal.data import cells
from tfrecal.data.interactions import Interactions

_MANY = 20  # distinct labels that are no longer called grades


def rows_in_words(data: Interactions) -> list[str]:
    """Returns lines on the rows: size, ids, labels and times."""
    users, items = (np.unique(codes) for codes in (
        data.user_code, data.item_code))
    size = len(users) * len(items)
    return [
        f"{len(data):,} rows of {len(users):,} users and {len(items):,} items"
        f" ({len(data) / size:.2%} of their pairs)",
        *(f"{name}: {_ids_in_words(ids)}" for name, ids in (
            ("user_id", data.user_ids), ("item_id", data.item_ids))),
        f"label: {labels_in_words(data)}",
        f"timestamp: {_times_in_words(data.frame['timestamp'].to_numpy())}",
        *_rows_each(data), *_lists_in_words(data)]


def is_clicks(data: Interactions) -> bool:
    """Whether all labels are alike, so that nothing can be asked."""
    return bool(data.label.min() == data.label.max())


def labels_in_words(data: Interactions) -> str:
    """Returns what the labels are: clicks, 0 and 1, grades or numbers."""
    label = data.label
    low, high = data.scale
    if is_clicks(data):
        return f"{label[0]:g} in each row: " + (
            "clicks only, which hold no questions" if (low, high) == (0, 1)
            else "name their scale (`--scale 1 5`)")
    found, counts = np.unique(label, return_counts=True)
    if np.array_equal(found, (0, 1)):
        return f"0 and 1, {(label > 0).mean():.0%} of them 1"
    shown = ", ".join(f"{value:g}: {count:,}" for value, count
                      in zip(found, counts)) if len(found) <= _MANY else (
        f"{len(found):,} different ones, median {np.median(label):g}")
    return f"ratings from {low:g} to {high:g} ({shown})"


def table_in_words(table: pd.DataFrame, kind: str,
                   used: np.ndarray | None = None) -> list[str]:
    """Returns lines on a users or items table and each of its columns.

    Args:
        table: the table as `Interactions` has it.
        kind: `"users"` or `"items"`.
        used: codes that occur in the rows, if there are rows.
    """
    lines = [f"{len(table):,} {kind}" + (
        "" if used is None else
        f", {len(np.unique(used)):,} of them with rows")]
    for name in table.columns:
        lines.append(f"{name}: {_column_in_words(table[name], str(name))}")
    return lines


def _ids_in_words(ids) -> str:
    texts = pd.Series(ids, dtype=object)
    whole = texts.str.fullmatch(r"-?(0|[1-9][0-9]*)").to_numpy(bool)
    digits = texts.str.fullmatch(r"[0-9]+").to_numpy(bool)
    kind = "texts"
    if whole.all():
        kind = "whole numbers"
    elif digits.all():
        kind = "digits with leading zeros"
    elif whole.any():
        kind = f"texts, {int(whole.sum()):,} of them whole numbers"
    return f"{kind}, such as {ascii(ids[0])}"


def _times_in_words(times: np.ndarray) -> str:
    if not times.any():
        return "none"
    first, last = (str(np.datetime64(int(time // 1), "s"))
                   for time in (times.min(), times.max()))
    parts = " with parts of seconds" if (times % 1 != 0).any() else ""
    return f"from {first} to {last} UTC{parts}"


def _rows_each(data: Interactions) -> list[str]:
    lines = []
    for kind, code in (("a user", data.user_code),
                       ("an item", data.item_code)):
        counts = np.bincount(code)[1:]
        counts = counts[counts > 0]
        lines.append(f"rows of {kind}: median {np.median(counts):g}, largest "
                     f"{counts.max():,}, {int((counts == 1).sum()):,} with "
                     "one only")
    return lines


def _lists_in_words(data: Interactions) -> list[str]:
    if data.list_code is None:
        return []
    rows = np.bincount(data.list_code)
    clicks = np.bincount(data.list_code, data.label > data.scale[0])
    alone, rows, clicks = rows[0], rows[1:], clicks[1:]
    if not len(rows):
        return ["list_id: no row is in a list"]
    teach = (clicks > 0) & (clicks < rows)
    return [f"list_id: {len(rows):,} lists of {np.median(rows):g} rows in the "
            f"median, the largest of {rows.max():,}; {int(teach.sum()):,} "
            f"with rows clicked and not clicked, {int((clicks == 0).sum()):,}"
            f" without a click, {int((rows == 1).sum()):,} of one row; "
            f"{alone:,} rows in no list"]


def _column_in_words(column: pd.Series, name: str) -> str:
    there = column.dropna()
    missing = len(column) - len(there)
    gone = f", {missing:,} missing" if missing else ""
    if not len(there):
        return "empty"
    try:
        if cells.is_numeric(there):
            values = cells.numbers_of(there, name)
            return f"numbers from {values.min():g} to {values.max():g}{gone}"
        if there.map(cells.is_many).any():
            return f"lists of values{gone}"
        texts = there.map(cells.text_of)
    except ValueError as error:
        return f"not usable: {error}"
    return (f"texts, {texts.nunique():,} different ones, such as "
            f"{ascii(texts.iloc[0][:40])}{gone}")
