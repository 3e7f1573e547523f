"""What is wrong with a table of interactions, counted, with line numbers."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

KINDS = {
    "missing_key": "`user_id` or `item_id` is empty",
    "bad_label": "`label` is not a finite number on the scale",
    "bad_timestamp": "`timestamp` is not a time",
    "bad_weight": "`weight` is not a number of 0 or more",
    "unknown_user": "`user_id` is not in the users table",
    "unknown_item": "`item_id` is not in the items table",
    "duplicate_pair": "the (user, item) pair occurs more than once"}


@dataclass
class CleaningReport:
    """What was dropped or merged and why.

    Attributes:
        rows_in, rows_kept: numbers of rows.
        counts: kind (see `KINDS`) -> number of rows.
        lines: kind -> the first line numbers, 1-based, a header included.
        notes: further steps, such as a k-core, in words.
    """

    rows_in: int = 0
    rows_kept: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    lines: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, bad: np.ndarray, lines: np.ndarray) -> None:
        """Counts the rows marked in `bad` (bool `[n]`) under a kind."""
        if bad.any():
            self.counts[kind] = self.counts.get(kind, 0) + int(bad.sum())
            first = [int(n) for n in lines[bad][:5]]
            self.lines[kind] = (self.lines.get(kind, []) + first)[:5]

    def __str__(self) -> str:
        rows = [f"{self.rows_kept:,} of {self.rows_in:,} rows kept"]
        for kind, number in self.counts.items():
            where = ", ".join(map(str, self.lines[kind]))
            more = ", ..." if number > len(self.lines[kind]) else ""
            rows.append(f"  {number:,} rows: {KINDS[kind]} "
                        f"(lines {where}{more})")
        return "\n".join(rows + [f"  {note}" for note in self.notes])

    def to_dict(self) -> dict:
        """JSON-able form."""
        return {"rows_in": self.rows_in, "rows_kept": self.rows_kept,
                "counts": self.counts, "lines": self.lines,
                "notes": self.notes}


def as_ids(column: pd.Series, name: str) -> pd.Series:
    """Ids as strings; empty where missing.

    Whole numbers become their digits, also where a reader made floats of
    them ("7.0" for 7 beside a missing value).

    Raises:
        ValueError: strings and numbers are mixed in the column.
    """
    values = column.to_numpy(object, na_value=None)
    kinds = {str if isinstance(v, str) else float for v in values
             if v is not None}
    if len(kinds) > 1:
        odd = next(v for v in values if v is not None
                   and isinstance(v, str) != isinstance(values[0], str))
        raise ValueError(
            f"`{name}` must hold one type of id. Received: strings and "
            f"numbers, for example {values[0]!r} and {odd!r}. Convert the "
            f"column with `astype(str)`.")
    if kinds == {float}:
        number = pd.to_numeric(column, errors="coerce")
        wrong = number.notna() & (number != np.floor(number))
        if wrong.any():
            raise ValueError(
                f"`{name}` must hold strings or whole numbers. Received: "
                f"{column[wrong].iloc[0]!r}.")
        whole = number.astype("Int64").astype(object)
        values = [None if v is pd.NA else str(v) for v in whole]
    return pd.Series(["" if v is None else v.strip() for v in values],
                     index=column.index, dtype=object)


def as_seconds(column: pd.Series) -> pd.Series:
    """Times as float64 seconds; NaN where they are none.

    Raises:
        ValueError: numbers too large for seconds (milliseconds?).
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        times = pd.to_datetime(column, utc=True)
    else:
        number = pd.to_numeric(column, errors="coerce")
        if number.notna().any() or column.isna().all():
            if (number > 1e11).any():
                raise ValueError(
                    "`timestamp` must be in seconds. Received: "
                    f"{number.max():.0f}, which looks like milliseconds. "
                    "Divide the column by 1000.")
            return number.astype(np.float64)
        times = pd.to_datetime(column, errors="coerce", utc=True)
    zero = pd.Timestamp(0, tz="UTC")
    return (times - zero).dt.total_seconds()


def as_table(table, name: str, ids: pd.Series) -> pd.DataFrame:
    """A users or items table, indexed by its ids.

    Args:
        table: DataFrame with the column `name` or with the ids as index;
            None makes a table without columns from `ids`.
        name: `"user_id"` or `"item_id"`.
        ids: the ids of the interactions.

    Raises:
        ValueError: an id missing or twice.
    """
    if table is None:
        known = pd.Index(sorted(set(ids) - {""}), name=name, dtype=object)
        return pd.DataFrame(index=known)
    table = table.copy()
    column = table.pop(name) if name in table else pd.Series(
        table.index, index=table.index)
    ids = as_ids(column.reset_index(drop=True), name)
    if (ids == "").any():
        raise ValueError(
            f"Every row of the {name[:-3]}s table needs a `{name}`. Received:"
            f" none in row {int(np.flatnonzero(ids == '')[0]) + 1}.")
    if ids.duplicated().any():
        raise ValueError(
            f"`{name}` must be unique in the {name[:-3]}s table. Received: "
            f"{ids[ids.duplicated()].iloc[0]!r} twice or more "
            f"({int(ids.duplicated().sum())} rows too many).")
    table.index = pd.Index(ids, name=name, dtype=object)
    return table
