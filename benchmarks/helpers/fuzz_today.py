"""Today's tables of items for `fuzz.py`: read in the kinds of those served."""
from __future__ import annotations

import io
import math
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
from helpers import fuzz_mutations as parts
from helpers import fuzz_parquet as columns
from helpers import strict_tables as strict
from helpers.fuzz_tables import Files, alike, as_dict
from helpers.strict_reader import Refused, id_of, number_of
from pyarrow import parquet

from tfrecal.data.interactions import Interactions
from tfrecal.retrain.todays_tables import read_today

_SERVED = ["i1", "i2", "007"]


class Today:
    """`tfrecal.retrain.todays_tables.read_today` of a file of items."""

    name, share = "today", 2

    def make(self, rng) -> Files:
        """Returns a file of items, most of them with the served columns."""
        names = ["item_id", "title", "year"] + ["more"] * (rng.random() < 0.2)
        size = rng.randint(1, 6)
        rng.shuffle(names)
        options = {"bad_rows": rng.choice(["raise", "drop", "drop"])}
        if rng.random() < 0.3:
            data = io.BytesIO()
            parquet.write_table(pa.table({
                name: columns.ids(rng, size) if name == "item_id" else
                rng.choice([columns.numbers, columns.ids])(rng, size)
                for name in names}), data)
            return columns.ParquetFiles(
                {"items.parquet": data.getvalue()}, options)
        odd = rng.choice([0, 0.05, 0.2])
        pools = {"item_id": (parts.PLAIN_IDS, parts.ODD_IDS),
                 "title": (parts.TITLES, parts.TITLES),
                 "year": (parts.YEARS, parts.TITLES),
                 "more": (parts.TITLES, parts.TITLES)}
        text = parts.mutated_text(rng, parts.written(rng, names, [
            [parts.some(rng, *pools[name], odd) for name in names]
            for _ in range(size)], ","))
        return Files({"items.csv": text.encode()}, options)

    def take(self, files: Files, folder: Path) -> dict:
        """Returns the new rows, as the package reads them."""
        path = files.write(folder)["items"]
        found = as_dict(read_today(_served(), items=path,
                                   **files.options).items)
        return {key: {**row, "year": float(row["year"])}
                for key, row in found.items()}

    def expect(self, files: Files) -> dict:
        """Returns the new rows by the rules."""
        (name, data), = files.content.items()
        found = (strict.read_parquet(data) if name.endswith("parquet")
                 else strict.read_text(data, name))
        if not {"item_id", "title", "year"} <= set(found.columns):
            raise Refused("the columns")
        exact = found.exact.get("item_id", 2 ** 53)
        bad, seen, kept = found.faults or not len(found), set(), {}
        for key, title, year in zip(*(found.columns[name] for name in (
                "item_id", "title", "year"))):
            key = id_of(key, exact)
            number = math.nan if year is None else number_of(year)
            wrong = not key or key in seen or "\n" in key or "\r" in key or (
                year is not None and year == year
                and not math.isfinite(number))
            seen.add(key)
            bad += wrong
            if not wrong and key not in _SERVED:
                kept[key] = {"title": _text(title), "year": number}
        if bad and files.options.get("bad_rows") != "drop":
            raise Refused("bad rows")
        return kept

    def differs(self, got: dict, wanted: dict) -> str:
        """Says what differs; "" if nothing does."""
        return "" if alike(got, wanted) else f"{got} for {wanted}"


def _text(value) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, (float, Decimal)) and math.isinf(value):
        return ""
    if isinstance(value, (float, Decimal)) and value % 1 == 0:
        return str(int(value))
    return str(value)


def _served() -> Interactions:
    return Interactions.from_frame(
        pd.DataFrame({"user_id": ["a"], "item_id": ["i1"], "label": [1]}),
        items=pd.DataFrame({"item_id": _SERVED, "title": ["x", "y", "1984"],
                            "year": [1999, 2001, 2020]}))
