"""Frames of any objects of Python, for `fuzz.py`."""
from __future__ import annotations

import datetime
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
from helpers import fuzz_mutations as parts
from helpers import strict_tables as strict
from helpers.fuzz_tables import alike

from tfrecal.data import overview
from tfrecal.data.interactions import Interactions

_PLAIN = [[1, 2, 3, 7.0, None, 2 ** 60 + 1], ["u1", "i1", "3", "7", "007"]]
_OBJECTS = [
    True, 2.5, float("nan"), float("inf"), 10 ** 400, Decimal("NaN"),
    Decimal("Infinity"), Decimal("1e999999"), Decimal("7.0"), b"x", "\ud800",
    "\0", "a\nb", [], ["a", "b"], {"a"}, {}, object(), 1j, pd.NA, pd.NaT,
    np.int64(7), np.float32(0.1), np.float16(2049), np.bool_(True),
    np.array([1]), np.array(1), np.datetime64("2024-05-01"),
    np.datetime64("NaT"), pd.Timestamp("2024-05-01", tz="UTC"),
    datetime.date(2024, 5, 1), datetime.datetime(9999, 1, 1),
    datetime.time(1), datetime.timedelta(1), pd.Period("2024-05"),
    pd.Interval(0, 1), range(3), len, type, float, Fraction(1, 3), "2024-05-01"]


@dataclass
class Objects:
    """Frames of objects of Python, by table and column."""

    tables: dict[str, dict[str, list]]
    options: dict

    def smaller(self):
        """Yields the same with fewer rows or columns."""
        for name, table in self.tables.items():
            for place in range(len(next(iter(table.values()), []))):
                yield Objects({**self.tables, name: {
                    one: cells[:place] + cells[place + 1:]
                    for one, cells in table.items()}}, self.options)
            for column in table:
                yield Objects({**self.tables, name: {
                    one: cells for one, cells in table.items()
                    if one != column}}, self.options)


class ObjectFrames:
    """`Interactions.from_frame` of any objects: refused, or made texts."""

    name, share = "objects", 1

    def make(self, rng) -> Objects:
        """Returns frames whose cells are of several types."""
        odd = rng.choice([0, 0.1, 0.3])
        tables = {}
        for kind, names in (("rows", ["user_id", "item_id", "label",
                                      "timestamp"]),
                            ("items", ["item_id", "title", "year"])):
            size = rng.randint(1, 5)
            tables[kind] = {name: [
                parts.some(rng, plain, _OBJECTS, odd * (name != "item_id"))
                for _ in range(size)] for name in names
                for plain in [rng.choice(_PLAIN)]
                if name.endswith("_id") or rng.random() < 0.6}
        if rng.random() < 0.5:
            del tables["items"]
        return Objects(tables, {"bad_rows": "drop", "duplicates": "last"})

    def take(self, case: Objects, folder: Path) -> list:
        """Returns ids and labels, and writes and describes what was read."""
        frames = {name: pd.DataFrame({
            one: pd.Series(cells, dtype=object)
            for one, cells in table.items()})
            for name, table in case.tables.items()}
        found = Interactions.from_frame(frames.pop("rows"), **frames,
                                        **case.options)
        overview.rows_in_words(found)
        overview.table_in_words(found.items, "items")
        return list(zip(*(found.frame[name].tolist() for name in (
            "user_id", "item_id", "label", "timestamp"))))

    def expect(self, case: Objects) -> list | None:
        """Returns the rows by the rules, where all cells are plain."""
        cells = [cell for table in case.tables.values()
                 for column in table.values() for cell in column]
        if not all(any(cell is one for one in sum(_PLAIN, []))
                   for cell in cells):
            return None
        tables = {name: strict.Strict(table, 0, False)
                  for name, table in case.tables.items()}
        found = strict.tables_of(tables["rows"], None, tables.get("items"),
                                 **case.options)
        return [row[:4] for row in found["rows"]]

    def differs(self, got: list, wanted: list | None) -> str:
        """Says what differs; "" if nothing does."""
        return "" if wanted is None or alike(got, wanted) else (
            f"{got} for {wanted}")
