"""Finds what is wrong with tables and counts it, with line numbers."""
from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from tfrecal.checks import on_scale, shown
from tfrecal.data import kinds
from tfrecal.data.columns import as_ids, as_numbers
from tfrecal.data.tables import CURES, Table
from tfrecal.data.times import as_seconds
from tfrecal.data.vocabulary import id_column

KINDS = {
    "bad_line": "the line is no row",
    "missing_key": "`user_id` or `item_id` is empty",
    "broken_id": "an id holds a line end, as after an open quote "
    "(`quotes=False`, `--quotes none` takes quotes as letters)",
    "bad_label": "`label` is not a finite number on the scale",
    "bad_timestamp": "`timestamp` is no time (seconds or ISO 8601)",
    "bad_weight": "`weight` is not a number of 0 or more",
    "bad_list": "`list_id` names a list that several users were shown",
    "unknown_user": "`user_id` is not in the users table",
    "unknown_item": "`item_id` is not in the items table",
    "duplicate_pair": "the (user, item) pair occurs more than once",
    "user_table_bad_line": "users table: the line is no row",
    "user_table_missing_id": "users table: `user_id` is empty",
    "user_table_broken_id": "users table: `user_id` holds a line end, as "
    "after an open quote",
    "user_table_duplicate_id": "users table: `user_id` is there already",
    "item_table_bad_line": "items table: the line is no row",
    "item_table_missing_id": "items table: `item_id` is empty",
    "item_table_broken_id": "items table: `item_id` holds a line end, as "
    "after an open quote",
    "item_table_duplicate_id": "items table: `item_id` is there already"}
_SHOWN = 5
_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+$")


@dataclass
class CleaningReport:
    """What was dropped or merged and why.

    Attributes:
        rows_in, rows_kept: numbers of rows.
        counts: kind (see `KINDS`) -> number of rows.
        lines: kind -> the first line numbers, 1-based: lines of the file,
            its header included, or rows of a frame.
        notes: further steps in words, such as a k-core.
    """

    rows_in: int = 0
    rows_kept: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, bad: np.ndarray, lines: np.ndarray) -> None:
        """Counts bad rows under a kind.

        Args:
            kind: one of `KINDS`.
            bad: which rows are bad, bool `[n]`.
            lines: line number of each row, `[n]`.
        """
        if bad.any():
            self.counts[kind] = self.counts.get(kind, 0) + int(bad.sum())
            first = [int(n) for n in lines[bad][:_SHOWN]]
            self.lines[kind] = (self.lines.get(kind, []) + first)[:_SHOWN]

    def add_faults(self, kind: str, table: Table) -> None:
        """Counts the lines of a file that are no rows under a kind."""
        if table.faults:
            lines = np.array([fault[0] for fault in table.faults])
            self.add(kind, np.ones(len(lines), bool), lines)
            self.notes.append(f"{table.path}: {table.said_faults()}; mend "
                              f"these lines, {CURES}")

    def __str__(self) -> str:
        rows = [f"{self.rows_kept:,} of {self.rows_in:,} rows kept"]
        width = max([len(f"{n:,}") for n in self.counts.values()], default=0)
        for kind, number in self.counts.items():
            where = ", ".join(map(str, self.lines[kind]))
            more = ", ..." if number > len(self.lines[kind]) else ""
            rows.append(f"  {number:>{width},}  {KINDS[kind]} "
                        f"(lines {where}{more})")
        return "\n".join(rows + [f"  {note}" for note in self.notes])

    def to_dict(self) -> dict:
        """Returns a form for JSON; `CleaningReport(**form)` is its inverse."""
        return {"rows_in": self.rows_in, "rows_kept": self.rows_kept,
                "counts": dict(self.counts),
                "lines": {kind: list(n) for kind, n in self.lines.items()},
                "notes": list(self.notes)}


def check_rows(frame: pd.DataFrame, bad: np.ndarray, scale,
               timestamp_unit: str | None, report: CleaningReport,
               lines: np.ndarray):
    """Returns all columns but the ids in their types, and which rows are bad.

    A row counts under the first kind of error that it has.

    Args:
        frame: as `columns.select_columns` returns it.
        bad: rows that are refused already, bool `[n]`.
        scale: (lowest, highest) label, or None.
        timestamp_unit: unit of times that are numbers.
        report: gets the counts.
        lines: line number of each row, `[n]`.

    Returns:
        `(clean, bad)`: a typed frame of the same rows, bool `[n]`.
    """
    clean = pd.DataFrame(index=frame.index)

    def refuse(kind, wrong, name):
        nonlocal bad
        new = wrong & ~bad
        if not new.any():
            return
        report.add(kind, new, lines)
        there = new & frame[name].notna().to_numpy(bool)
        if there.any():
            report.notes.append(_first_cell(frame[name], there, lines, scale))
        bad = bad | new

    largest = np.finfo(np.float32).max
    label = as_numbers(frame["label"])
    wrong = ~(on_scale(label, scale) & (np.abs(label) <= largest))
    refuse("bad_label", wrong, "label")
    clean["label"] = np.where(wrong, 0, label).astype(np.float32)
    times = np.zeros(len(frame))
    if "timestamp" in frame:
        times = as_seconds(frame["timestamp"], timestamp_unit)
        refuse("bad_timestamp", ~np.isfinite(times), "timestamp")
        times = np.where(np.isfinite(times), times, 0)
    clean["timestamp"] = times
    if "weight" in frame:
        weight = as_numbers(frame["weight"])
        wrong = ~((weight >= 0) & (weight <= largest))
        refuse("bad_weight", wrong, "weight")
        clean["weight"] = np.where(wrong, 0, weight).astype(np.float32)
    return clean, bad


def _first_cell(column: pd.Series, bad, lines, scale) -> str:
    """Returns in words what stands in the first bad cell."""
    place = np.flatnonzero(bad)[0]
    cell = column.iloc[place]
    words = f"`{column.name}` in line {lines[place]} is {shown(cell)}"
    if isinstance(cell, str) and _COMMA.match(cell.strip()):
        return f"{words}: numbers have a point, not a comma"
    if column.name == "label" and scale is not None:
        return f"{words}; the scale is {scale[0]:g} to {scale[1]:g}"
    return words


def merge_duplicates(clean: pd.DataFrame, pair: np.ndarray,
                     bad: np.ndarray, duplicates: str,
                     report: CleaningReport, lines: np.ndarray):
    """Keeps one row of each pair; bad rows take no part.

    Args:
        clean, bad: as `check_rows` returns them.
        pair: number of each row's (user, item) pair, int64 `[n]`.
        duplicates: `"raise"` only counts; `"first"` and `"last"` keep the
            first or last row by time (then by row); `"mean"` keeps the last
            with the mean label and weight of all; `"highest"` keeps the
            last of those with the highest label: a click wins over a show.
        report, lines: as in `check_rows`.

    Returns:
        `(clean, extra)`: bool `[n]` marks the rows that are too many.
    """
    good = np.flatnonzero(~bad)
    good = good[pd.Series(pair[good]).duplicated(keep=False).to_numpy()]
    by = [clean["timestamp"].to_numpy()[good]]
    if duplicates == "highest":
        by.append(clean["label"].to_numpy()[good])
    order = good[np.lexsort((*by, pair[good]))]
    starts = np.diff(pair[order], prepend=-1) != 0
    ends = np.append(starts[1:], True)[:len(order)]
    last = duplicates in ("last", "mean", "highest")
    extra = np.zeros(len(clean), bool)
    extra[order[~(ends if last else starts)]] = True
    if not extra.any():
        return clean, extra
    report.add("duplicate_pair", extra, lines)
    if duplicates == "mean":
        group = np.cumsum(starts) - 1
        for name in [c for c in ("label", "weight") if c in clean]:
            values = clean[name].to_numpy(copy=True)
            mean = (np.bincount(group, values[order]) / np.bincount(group))
            values[order] = mean[group]
            clean = clean.assign(**{name: values})
    if duplicates != "raise":
        report.notes.append(
            f"of pairs that occur more than once, the {duplicates} was kept")
    return clean, extra


def as_table(table: Table | None, name: str, ids, report: CleaningReport,
             text=()) -> pd.DataFrame:
    """Returns a users or items table, indexed by its ids.

    Rows without an id, and all but the first row of an id, are counted in
    the report and left out.

    Args:
        table: a table with the column `name`, or with the ids as index;
            None makes a table without columns from `ids`.
        name: `"user_id"` or `"item_id"`.
        ids: the distinct ids of the interactions.
        report: gets the counts and notes.
        text: columns that are texts, whatever their cells hold.

    Raises:
        TypeError: the table is no DataFrame.
        ValueError: there are no ids, a column is there twice or missing, or
            ids are of mixed types.
    """
    if table is None:
        return pd.DataFrame(
            index=pd.Index(sorted(ids), name=name, dtype=object))
    kind = name[:-3]
    if not isinstance(table.frame, pd.DataFrame):
        raise TypeError(f"`{kind}s` must be a pandas DataFrame. Received: "
                        f"{type(table.frame).__name__}.")
    frame = table.frame.copy()
    frame.columns = [str(c) for c in frame.columns]
    if frame.columns.has_duplicates:
        twice = list(frame.columns[frame.columns.duplicated()])
        raise ValueError(f"Columns of the {kind}s table must be unique. "
                         f"Received: {twice} twice. Rename one of them.")
    column = id_column(frame, name).reset_index(drop=True)
    frame = frame.drop(columns=name, errors="ignore")
    frame = kinds.typed(frame, text) if table.texts else kinds.plain(frame)
    report.notes.extend(table.notes)
    report.add_faults(f"{kind}_table_bad_line", table)
    found = as_ids(column, name, report.notes)
    empty = (found == "").to_numpy(bool)
    report.add(f"{kind}_table_missing_id", empty, table.lines)
    broken = broken_ids(found)
    report.add(f"{kind}_table_broken_id", broken, table.lines)
    empty = empty | broken
    twice = found.duplicated().to_numpy() & ~empty
    report.add(f"{kind}_table_duplicate_id", twice, table.lines)
    frame.index = pd.Index(found, name=name, dtype=object)
    return frame[~(empty | twice)]


def broken_ids(ids) -> np.ndarray:
    """Returns which ids hold a line end, as after an open quote, bool `[n]`.
    """
    return np.fromiter(("\n" in text or "\r" in text for text in ids), bool,
                       len(ids))
