"""Which rows and tables the written rules make of files, for `fuzz.py`."""
from __future__ import annotations

import gzip
import io
import math
from array import array
from dataclasses import dataclass, field

from helpers.strict_reader import (
    FIRST,
    FLOAT32,
    Refused,
    cell_of,
    column_of,
    id_of,
    number_of,
    records,
    times_of,
)

_NAMES = {"user": "user_id", "item": "item_id", "time": "timestamp"}


@dataclass
class Strict:
    """A file as the rules read it.

    Attributes:
        columns: name -> cells; texts of text files, values of Parquet.
        faults: number of lines that are no rows.
        texts: whether the cells are texts, whose kinds are open.
        exact: name -> up to where its floats are exact.
    """

    columns: dict[str, list]
    faults: int = 0
    texts: bool = True
    exact: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def read_text(data: bytes, name: str, missing=(), **form) -> Strict:
    """Reads a text file; see `records`."""
    if name.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, ValueError, gzip.zlib.error):
            raise Refused("the archive") from None
    if ".tsv" in name:
        form = {"separator": "\t", **form}
    names, rows = records(data, **form)
    names = [one.strip() for one in names]
    kept = [one for one in names if one]
    if len(set(kept)) < len(kept):
        raise Refused("a column is there twice")
    cells = [[cell_of(cell, missing) for cell, one in zip(row, names) if one]
             for _, row in rows if row is not None]
    cells = [row for row in cells if set(row) != {None}]
    columns = {one: [row[place] for row in cells]
               for place, one in enumerate(kept)}
    return Strict(columns, sum(row is None for _, row in rows))


def read_parquet(data: bytes) -> Strict:
    """Reads a Parquet file by pyarrow, value by value."""
    import pyarrow as pa
    from pyarrow import parquet, types

    try:
        table = parquet.read_table(io.BytesIO(data))
        columns = [_values(column) for column in table.columns]
    except (pa.ArrowException, OSError, UnicodeError):
        raise Refused("the Parquet file") from None
    if len(set(table.column_names)) < table.num_columns:
        raise Refused("a column is there twice")
    exact = {name: 2 ** 11 if types.is_float16(kind) else 2 ** 24
             for name, kind in zip(table.column_names, table.schema.types)
             if types.is_float16(kind) or types.is_float32(kind)}
    return Strict(dict(zip(table.column_names, columns)), 0, False, exact)


def _values(column) -> list:
    from pyarrow import types

    if types.is_timestamp(column.type):
        per = {"s": 1, "ms": 10 ** 3, "us": 10 ** 6, "ns": 10 ** 9}
        return [None if one.value is None else
                Time(one.value / per[column.type.unit]) for one in column]
    return column.to_pylist()


class Time(float):
    """Seconds of a time that is no number."""


def tables_of(rows: Strict, users: Strict | None, items: Strict | None, *,
              columns=None, bad_rows="raise", duplicates=None, scale=None,
              timestamp_unit=None, text=()) -> dict:
    """Returns what `Interactions` must hold.

    Returns:
        `rows`, lists `[user, item, label, time, weight]`; `scale`;
        `users` and `items`, id -> column -> value.

    Raises:
        Refused: the rules refuse the files.
    """
    given = {_NAMES.get(new, new): old for new, old in (columns or {}).items()}
    found = {name: rows.columns.get(given.get(name, name)) for name in (
        "user_id", "item_id", "label", "timestamp", "weight")}
    if found["user_id"] is None or found["item_id"] is None or any(
            found[name] is None for name in given):
        raise Refused("a column is missing")
    if not len(rows):
        raise Refused("no rows")
    if found["label"] is None and scale is not None and scale[1] != 1:
        raise Refused("clicks on a scale that does not end in 1")
    duplicates = duplicates or ("last" if found["label"] is None else "raise")
    table, bad = _rows(rows, found, given, scale, timestamp_unit)
    made, dropped = {}, bool(rows.faults)
    for key, one, place in (("users", users, 0), ("items", items, 1)):
        name = f"{key[:-1]}_id"
        if one is None:
            made[key] = {row[place]: {} for row, wrong in zip(table, bad)
                         if not wrong}
        else:
            made[key], some = _table(one, given.get(name, name), name, text)
            dropped |= some
        bad = [wrong or row[place] not in made[key]
               for row, wrong in zip(table, bad)]
    if bad_rows == "raise" and (dropped or any(bad)):
        raise Refused("bad rows")
    good = [row for row, wrong in zip(table, bad) if not wrong]
    if not good:
        raise Refused("no good row")
    labels = [row[2] for row in good]
    if scale is None:
        scale = (0, 1) if set(labels) <= {0, 1} else (min(labels),
                                                      max(labels))
    return {"rows": _merged(good, duplicates), "scale": tuple(scale), **made}


def _rows(rows: Strict, found: dict, given: dict, scale, unit):
    """Returns rows, and whether each is bad."""
    ids = [[id_of(value, rows.exact.get(given.get(name, name), 2 ** 53))
            for value in found[name]] for name in ("user_id", "item_id")]
    size = len(ids[0])
    label = [1.0] * size if found["label"] is None else list(
        map(number_of, found["label"]))
    times = [0.0] * size
    if found["timestamp"] is not None:
        times = _times(found["timestamp"], unit, rows.exact.get(
            given.get("timestamp", "timestamp"), math.inf))
    weight = [None] * size if found["weight"] is None else list(
        map(number_of, found["weight"]))
    low, high = scale or (-math.inf, math.inf)
    table = list(zip(*ids, label, times, weight))
    bad = [not (user and item and _one_line(user) and _one_line(item)
                and low <= value <= high and abs(value) <= FLOAT32
                and math.isfinite(time)
                and (heavy is None or 0 <= heavy <= FLOAT32))
           for user, item, value, time, heavy in table]
    return [row if wrong else (
        *row[:2], _float32(row[2]), row[3],
        None if row[4] is None else _float32(row[4]))
        for row, wrong in zip(table, bad)], bad


def _times(values: list, unit, exact) -> list[float]:
    numbers = [abs(value) for value in values if isinstance(value, float)
               and not isinstance(value, Time) and value == value]
    if max(numbers, default=0) >= exact:
        raise Refused("times that are not exact")
    if any(isinstance(value, Time) for value in values):
        return [math.nan if value is None or not FIRST <= value <= 1e11
                else float(value) for value in values]
    return times_of(values, unit)


def _one_line(text: str) -> bool:
    return "\n" not in text and "\r" not in text


def _float32(value: float) -> float:
    return array("f", [value])[0]


def _table(one: Strict, own: str, name: str, text) -> tuple[dict, bool]:
    """Returns a users or items table, and whether rows were left out."""
    key = name if name in one.columns else own
    if key not in one.columns:
        raise Refused("a table without ids")
    ids = [id_of(value, one.exact.get(key, 2 ** 53))
           for value in one.columns[key]]
    columns = {
        column: column_of(cells) if one.texts and column not in text
        else cells for column, cells in one.columns.items() if column != key}
    table, dropped = {}, bool(one.faults)
    for place, found in enumerate(ids):
        if not found or not _one_line(found) or found in table:
            dropped = True
            continue
        table[found] = {column: cells[place]
                        for column, cells in columns.items()}
    return table, dropped


def _merged(rows: list, duplicates: str) -> list:
    """Returns one row of each pair, in their order."""
    pairs: dict[tuple, list[int]] = {}
    for place, row in enumerate(rows):
        pairs.setdefault(row[:2], []).append(place)
    if duplicates == "raise":
        if len(pairs) < len(rows):
            raise Refused("duplicates")
        return rows
    kept = {}
    for places in pairs.values():
        ordered = sorted(places, key=lambda place: rows[place][3])
        one = ordered[0 if duplicates == "first" else -1]
        row = rows[one]
        if duplicates == "mean" and len(places) > 1:
            means = [None if row[n] is None else sum(
                rows[place][n] for place in places) / len(places)
                for n in (2, 4)]
            row = (*row[:2], means[0], row[3], means[1])
        kept[one] = row
    return [kept[place] for place in sorted(kept)]
