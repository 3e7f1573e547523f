"""Parquet files and frames of many types for `fuzz.py`."""
from __future__ import annotations

import io
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from helpers import fuzz_mutations as parts
from helpers import strict_tables as strict
from helpers.fuzz_tables import Files, Texts
from pyarrow import parquet

from tfrecal.data.interactions import Interactions

_WHOLE = [1, 2, 3, 7, 42, 2 ** 24, 2 ** 24 + 1, 2 ** 53, 2 ** 53 + 1,
          2 ** 53 + 2, 2 ** 62 + 1, 2 ** 62, -3, 0, None]
_FLOATS = [1.0, 2.0, 3.0, 2.5, 7.0, -1.0, 2.0 ** 24, 2.0 ** 53, 2.0 ** 60,
           float("nan"), None, float("inf"), 1e300]
_SECONDS = [1_700_000_000, 1_700_000_001, 1_600_000_000, 1_712_345_678,
            1_700_000_064, 86_400 * 19_000]
_DAMAGED = (pa.ArrowException, OSError, UnicodeError)
_SAFE = (1, 2, 3, 7, 42, None)


def whole(rng, size: int, kind) -> pa.Array:
    """Returns whole numbers, as large as the type takes."""
    bits = kind.bit_width - (not pa.types.is_unsigned_integer(kind))
    low = 0 if pa.types.is_unsigned_integer(kind) else -2 ** bits
    pool = [n for n in _WHOLE if n is None or low <= n < 2 ** bits]
    if rng.random() < 0.7:
        pool = list(_SAFE)
    return pa.array([rng.choice(pool) for _ in range(size)], kind)


def floats(rng, size: int, kind) -> pa.Array:
    """Returns floats, most of them whole."""
    pool = _FLOATS if rng.random() < 0.15 else [1.0, 2.0, 3.0, 5.0, None]
    if kind == pa.float16():
        pool = [value if value is None else np.float16(min(value, 6e4))
                for value in pool]
        if rng.random() < 0.15:
            pool += [np.float16(2048), np.float16(2050)]
    return pa.array([rng.choice(pool) for _ in range(size)], kind)


def texts(rng, size: int, pool, kind=pa.string()) -> pa.Array:
    """Returns texts, some of them missing."""
    return pa.array([rng.choice([*pool, None]) for _ in range(size)], kind)


def decimals(rng, size: int) -> pa.Array:
    """Returns decimal numbers."""
    pool = [Decimal("1.00"), Decimal("2.00"), Decimal("7.00"), None,
            Decimal("9007199254740993.00")]
    if rng.random() < 0.3:
        pool.append(Decimal("2.50"))
    return pa.array([rng.choice(pool) for _ in range(size)],
                    pa.decimal128(30, 2))


def ids(rng, size: int) -> pa.Array:
    """Returns a column of ids of some type."""
    column = rng.choice([
        lambda: texts(rng, size, parts.PLAIN_IDS, rng.choice(
            [pa.string(), pa.large_string()])),
        lambda: texts(rng, size, parts.PLAIN_IDS + rng.sample(
            parts.ODD_IDS, 3)),
        lambda: whole(rng, size, rng.choice(
            [pa.int64(), pa.int64(), pa.uint64(), pa.int32(), pa.int16()])),
        lambda: floats(rng, size, rng.choice(
            [pa.float64(), pa.float32(), pa.float16()])),
        lambda: decimals(rng, size)])()
    if rng.random() < 0.2 and column.type != pa.float16():
        column = column.dictionary_encode()
    return column


def numbers(rng, size: int) -> pa.Array:
    """Returns a column of labels of some type."""
    return rng.choice([
        lambda: whole(rng, size, rng.choice(
            [pa.int64(), pa.int8(), pa.uint16()])),
        lambda: floats(rng, size, rng.choice(
            [pa.float64(), pa.float32(), pa.float16()])),
        lambda: decimals(rng, size),
        lambda: pa.array([rng.choice([True, False, None])
                          for _ in range(size)]),
        lambda: texts(rng, size, parts.PLAIN_LABELS + rng.sample(
            parts.ODD_LABELS, 2))])()


def times(rng, size: int) -> pa.Array:
    """Returns a column of times of some type."""
    some = [rng.choice([*_SECONDS, rng.choice([None, *_SECONDS])])
            for _ in range(size)]
    unit, per = rng.choice([("s", 1), ("ms", 10 ** 3), ("us", 10 ** 6),
                            ("ns", 10 ** 9)])
    part = rng.choice([0, 0, rng.randrange(per)])
    return rng.choice([
        lambda: pa.array([one and one * per + part for one in some],
                         pa.timestamp(unit, rng.choice(
                             [None, "UTC", "Europe/Berlin", "+05:30"]))),
        lambda: pa.array([one and one // 86_400 for one in some],
                         pa.int32()).cast(pa.date32()),
        lambda: pa.array(some, pa.int64()),
        lambda: pa.array([one and one * per for one in some], pa.int64()),
        lambda: pa.array([one and float(one) for one in some],
                         rng.choice([pa.float64(), pa.float32()])),
        lambda: texts(rng, size, parts.ISO_TIMES + rng.sample(
            parts.ODD_TIMES, 2))])()


def values(rng, size: int) -> pa.Array:
    """Returns a column of a users or items table."""
    kind = rng.randrange(6)
    if kind == 0:
        return pa.array([rng.choice([["a", "b"], ["a"], [], None])
                         for _ in range(size)], pa.list_(pa.string()))
    return (texts(rng, size, parts.TITLES) if kind == 1 else
            times(rng, size) if kind == 2 else
            ids(rng, size) if kind == 3 else numbers(rng, size))


class Parquet(Texts):
    """`Interactions.from_csv` of Parquet files."""

    name, share = "parquet", 3
    damaged = 0.1  # share of files with changed bytes

    def make(self, rng) -> Files:
        """Returns a file of rows, perhaps with one of items."""
        options = self._options(rng)
        size = rng.randint(1, 8)
        columns = {"user_id": ids(rng, size), "item_id": ids(rng, size)}
        for name, share, column in (("label", 0.7, numbers),
                                    ("timestamp", 0.6, times),
                                    ("weight", 0.15, numbers)):
            if rng.random() < share:
                columns[name] = column(rng, size)
        if "label" not in columns:
            options.pop("scale", None)
        tables = {"rows.parquet": columns}
        if rng.random() < 0.5:
            size = rng.randint(1, 8)
            tables["items.parquet"] = {
                "item_id": columns["item_id"].unique() if rng.random() < 0.6
                and columns["item_id"].type != pa.float16()
                else ids(rng, size)}
            size = len(tables["items.parquet"]["item_id"])
            for name in ("title", "year"):
                tables["items.parquet"][name] = values(rng, size)
        return self._files(rng, tables, options)

    def _files(self, rng, tables, options) -> Files:
        content = {}
        for name, columns in tables.items():
            data = io.BytesIO()
            try:
                parquet.write_table(pa.table(columns), data)
            except pa.ArrowException:  # no Parquet holds such a type
                columns = {one: column.cast(pa.float32())
                           if column.type == pa.float16() else column
                           for one, column in columns.items()}
                parquet.write_table(pa.table(columns), data)
            content[name] = data.getvalue()
            if rng.random() < self.damaged:
                content[name] = parts.mutated(rng, content[name], parts.BYTES)
        return ParquetFiles(content, options)

    def _strict(self, name, data, form) -> strict.Strict:
        return strict.read_parquet(data)


@dataclass
class ParquetFiles(Files):
    """Files of Parquet, which are shown and made smaller by rows."""

    def smaller(self):
        """Yields the same with fewer rows or columns."""
        for name, data in self.content.items():
            try:
                table = parquet.read_table(io.BytesIO(data))
            except _DAMAGED:
                continue
            for place in range(table.num_rows):
                yield self._with(name, pa.concat_tables(
                    [table.slice(0, place), table.slice(place + 1)]))
            for column in table.column_names:
                yield self._with(name, table.drop_columns([column]))

    def _with(self, name, table) -> "ParquetFiles":
        data = io.BytesIO()
        parquet.write_table(table, data)
        return ParquetFiles({**self.content, name: data.getvalue()},
                            self.options)

    def __str__(self) -> str:
        shown = []
        for name, data in self.content.items():
            try:
                table = parquet.read_table(io.BytesIO(data))
                shown.append(f"{name} " + ", ".join(
                    f"{one}: {column.type} {column.to_pylist()}"
                    for one, column in zip(table.column_names,
                                           table.columns)))
            except _DAMAGED as error:
                shown.append(f"{name} {error}")
        return "; ".join([*shown, str(self.options)])


class Frames(Parquet):
    """`Interactions.from_frame` of frames in types of pandas."""

    name, share = "frames", 1.5
    damaged = 0

    def _files(self, rng, tables, options) -> Files:
        files = super()._files(rng, tables, options)
        files.options["types"] = rng.choice(["numpy", "arrow", "nullable"])
        return files

    def take(self, files: Files, folder: Path) -> Interactions:
        """Returns what the package makes of frames."""
        options = dict(files.options)
        kind = options.pop("types", "numpy")
        frames = {name.split(".")[0]: _frame(data, kind)
                  for name, data in files.content.items()}
        return Interactions.from_frame(frames.pop("rows"), **frames,
                                       **options)

    def expect(self, files: Files) -> dict:
        """Returns what the rules make of the same values."""
        options = {name: value for name, value in files.options.items()
                   if name != "types"}
        return super().expect(Files(files.content, options))


def _frame(data: bytes, kind: str) -> pd.DataFrame:
    table = parquet.read_table(io.BytesIO(data))
    if kind == "arrow":
        return table.to_pandas(types_mapper=pd.ArrowDtype)
    if kind == "nullable":
        return table.to_pandas(types_mapper=_NULLABLE.get)
    return table.to_pandas(integer_object_nulls=True)


_NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(),
             pa.float32(): pd.Float32Dtype(), pa.bool_(): pd.BooleanDtype(),
             pa.uint64(): pd.UInt64Dtype(), pa.int8(): pd.Int8Dtype(),
             pa.string(): pd.StringDtype()}
