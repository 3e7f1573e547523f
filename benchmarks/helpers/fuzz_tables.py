"""Text files of tables for `fuzz.py`, and how values are compared."""
from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from helpers import fuzz_mutations as parts
from helpers import strict_tables as strict
from helpers.strict_reader import iso_of

from tfrecal.data.interactions import Interactions

_CLOSE = 2.5e-7  # seconds: to what a time is told


@dataclass
class Files:
    """Some files, and how they are to be read."""

    content: dict[str, bytes]
    options: dict = field(default_factory=dict)

    def smaller(self):
        """Yields the same with less in one of the files."""
        for name, data in self.content.items():
            unpack, pack = bytes, bytes
            if name.endswith(".gz"):
                unpack, pack = gzip.decompress, gzip.compress
            with contextlib.suppress(OSError, EOFError, zlib.error):
                for less in parts.shorter(unpack(data)):
                    yield replace(self, content={
                        **self.content, name: pack(less)})
        for option in self.options:
            yield replace(self, options={
                name: value for name, value in self.options.items()
                if name != option})

    def __str__(self) -> str:
        shown = []
        for name, data in self.content.items():
            with contextlib.suppress(OSError, EOFError, zlib.error):
                if name.endswith(".gz"):
                    data = gzip.decompress(data)
            shown.append(f"{name} {data[:300]}"
                         + f"... {len(data):,} bytes" * (len(data) > 300))
        return "; ".join([*shown, str(self.options)])

    def write(self, folder: Path) -> dict[str, Path]:
        """Writes the files; returns their paths by rows, users, items."""
        for name, data in self.content.items():
            (folder / name).write_bytes(data)
        return {name.split(".")[0]: folder / name for name in self.content}


class Texts:
    """`Interactions.from_csv` of text files."""

    name, share = "csv", 9

    def make(self, rng) -> Files:
        """Returns files of rows, perhaps with one of items or users."""
        form = self._form(rng)
        options = {**form, **self._options(rng)}
        ending = rng.choice([".csv", ".csv", ".csv", ".txt", ".csv.gz", ".tsv"])
        if ending == ".tsv":
            options.pop("separator", None)
        separator = options.get("separator") or (
            "\t" if ending == ".tsv" else rng.choice(",,;\t"))
        encoding = options.get("encoding", "utf-8")
        odd = rng.choice([0, 0.03, 0.1, 0.3])
        content = {f"rows{ending}": self._rows(rng, odd, separator, options)}
        for kind in ("items", "users"):
            if rng.random() < (0.35 if kind == "items" else 0.1):
                content[f"{kind}{ending}"] = self._table(
                    rng, odd, separator, kind[:-1], options)
        if rng.random() < 0.1:
            name = f"rows{ending}"
            names, _, content[name] = content[name].partition("\n")
            options["header"] = parts.names_in(names, separator)
        return Files({name: self._bytes(rng, text, encoding, name)
                      for name, text in content.items()}, options)

    def _form(self, rng) -> dict:
        form = {}
        if rng.random() < 0.3:
            form["encoding"] = rng.choice(
                ["latin-1", "cp1252", "utf-16", "utf-16-le", "gb18030"])
        if rng.random() < 0.2:
            form["separator"] = rng.choice([",", ";", "\t", "::", "|"])
        if rng.random() < 0.1:
            form["quotes"] = False
        if rng.random() < 0.2:
            form["missing"] = ["NA", "null"]
        if rng.random() < 0.1:
            form["text"] = ["year"]
        return form

    def _options(self, rng) -> dict:
        options = {}
        if rng.random() < 0.8:
            options["bad_rows"] = "drop"
        if rng.random() < 0.8:
            options["duplicates"] = rng.choice(["first", "last", "mean"])
        if rng.random() < 0.3:
            options["scale"] = rng.choice([(1, 5), (0, 5), (-1.5, 10)])
        if rng.random() < 0.1:
            options["timestamp_unit"] = rng.choice(
                ["s", *parts.OTHER_TIMES])
        return options

    def _rows(self, rng, odd, separator, options) -> str:
        names = ["user_id", "item_id"]
        names += [name for name, share in (
            ("label", 0.8), ("timestamp", 0.6), ("weight", 0.15),
            ("other", 0.1)) if rng.random() < share]
        unit = options.get("timestamp_unit")
        times = parts.OTHER_TIMES.get(unit, rng.choice(
            [parts.PLAIN_TIMES, parts.ISO_TIMES,
             parts.PLAIN_TIMES + parts.ISO_TIMES] * 10
            + [*parts.OTHER_TIMES.values()]))
        pools = {"user_id": (parts.PLAIN_IDS, parts.ODD_IDS),
                 "item_id": (parts.PLAIN_IDS, parts.ODD_IDS),
                 "label": (parts.PLAIN_LABELS, parts.ODD_LABELS),
                 "timestamp": (times, parts.ODD_TIMES),
                 "weight": (parts.PLAIN_LABELS, parts.ODD_LABELS),
                 "other": (parts.TITLES, parts.TITLES)}
        rng.shuffle(names)
        rows = [[parts.some(rng, *pools[name], odd) for name in names]
                for _ in range(rng.randint(1, 9) if rng.random() < 0.98 else 0)]
        if "label" not in names and rng.random() < 0.9:
            options.pop("scale", None)
        if rng.random() < 0.1:
            options["columns"] = {"user": "who"}
            names = ["who" if name == "user_id" else name for name in names]
        if rng.random() < 0.02:
            names = [rng.choice([*names, "", " user_id", "x"])
                     for _ in names]
        if rng.random() < 0.005 and rows:
            rows[0][0] = "x" * 100_000
        return parts.mutated_text(rng, parts.written(
            rng, names, rows, separator))

    def _table(self, rng, odd, separator, kind, options) -> str:
        names = [f"{kind}_id", "title", "year"]
        ids = parts.PLAIN_IDS[:]
        rng.shuffle(ids)
        rows = [[parts.some(rng, [one], parts.ODD_IDS, odd),
                 rng.choice(parts.TITLES), rng.choice(parts.YEARS)]
                for one in ids[:rng.randint(2, 8)]]
        return parts.mutated_text(rng, parts.written(
            rng, names, rows, separator))

    def _bytes(self, rng, text, encoding, name) -> bytes:
        data = text.encode(encoding, "replace")
        if encoding in ("utf-8", "utf-16-le") and rng.random() < 0.1:
            data = "\ufeff".encode(encoding) + data
        if rng.random() < 0.3:
            data = parts.mutated(rng, data, parts.BYTES)
        if name.endswith(".gz"):
            data = gzip.compress(data, 1, mtime=0)
            if rng.random() < 0.1:
                data = parts.mutated(rng, data, parts.BYTES)
        return data

    def take(self, files: Files, folder: Path) -> Interactions:
        """Returns what the package reads."""
        paths = files.write(folder)
        return Interactions.from_csv(paths.pop("rows"), **paths,
                                     **files.options)

    def expect(self, files: Files) -> dict:
        """Returns what the rules read."""
        options = dict(files.options)
        form = {name: options.pop(name) for name in (
            "encoding", "separator", "quotes", "missing")
            if name in options}
        header = options.pop("header", ())
        tables = {kind: self._strict(name, data, {
            **form, "header": header if kind == "rows" else ()})
            for name, data in files.content.items()
            for kind in [name.split(".")[0]]}
        return strict.tables_of(tables["rows"], tables.get("users"),
                                tables.get("items"), **options)

    def _strict(self, name, data, form) -> strict.Strict:
        return strict.read_text(data, name, **form)

    def differs(self, got: Interactions, wanted: dict) -> str:
        """Says what differs; "" if nothing does."""
        names = ["user_id", "item_id", "label", "timestamp", "weight"]
        rows = list(zip(*(
            got.frame[name].tolist() if name in got.frame
            else [None] * len(got) for name in names)))
        if not alike(rows, wanted["rows"]):
            return f"rows {rows} for {wanted['rows']}"
        if not alike(got.scale, [float(x) for x in wanted["scale"]]):
            return f"scale {got.scale} for {wanted['scale']}"
        for kind in ("users", "items"):
            table = as_dict(getattr(got, kind))
            if not alike(table, wanted[kind]):
                return f"{kind} {table} for {wanted[kind]}"
        return ""


def as_dict(table) -> dict:
    """Returns a frame as id -> column -> value."""
    columns = {str(name): table[name].tolist() for name in table.columns}
    return {key: {name: cells[place] for name, cells in columns.items()}
            for place, key in enumerate(table.index.tolist())}


def alike(got, wanted) -> bool:
    """Whether values are the same; missing ones are alike."""
    if isinstance(wanted, dict):
        return isinstance(got, dict) and set(got) == set(wanted) and all(
            alike(got[key], value) for key, value in wanted.items())
    if isinstance(wanted, (list, tuple)):
        got = got.tolist() if hasattr(got, "tolist") else got
        return isinstance(got, (list, tuple)) and len(got) == len(
            wanted) and all(map(alike, got, wanted))
    if is_missing(wanted) or is_missing(got):
        return is_missing(wanted) and is_missing(got)
    if isinstance(wanted, strict.Time):
        time = got
        if hasattr(got, "as_unit"):  # `timestamp()` rounds
            time = got.as_unit("ns").value / 10 ** 9
        elif hasattr(got, "timetuple"):
            time = iso_of(got)
        return abs(time - wanted) <= _CLOSE * max(1, abs(wanted) / 1.7e9)
    if isinstance(wanted, Decimal):
        if isinstance(got, str):
            return Decimal(got) == wanted
        return got == (int if wanted % 1 == 0 else float)(wanted)
    if isinstance(wanted, str) or isinstance(got, str):
        return isinstance(got, str) and got == str(wanted)
    if got == wanted:
        return True
    return isinstance(wanted, float) and isinstance(got, float) and (
        abs(got - wanted) <= 1.2e-7 * abs(wanted))


def is_missing(value) -> bool:
    """Whether a value is missing in Python, NumPy or pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)
