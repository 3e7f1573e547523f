"""Files of feedback for `fuzz.py`: CSV, JSON lines and Parquet."""
from __future__ import annotations

import io
import json
import math
import re
import sqlite3
import time
from pathlib import Path

import pyarrow as pa
from helpers import fuzz_mutations as parts
from helpers import fuzz_parquet as columns
from helpers import strict_tables as strict
from helpers.fuzz_tables import Files, alike
from helpers.strict_reader import (
    Refused,
    cell_of,
    id_of,
    iso_of,
    number_of,
    records,
)
from pyarrow import parquet

from tfrecal.feedback import FeedbackStore, ingest

_SCALE = (1.0, 5.0)
_NAMES = {"responses": ["event_id", "user_id", "item_id", "time", "kind",
                        "value", "request_id"],
          "shown": ["request_id", "rank", "time", "user_id", "item_id",
                    "propensity", "score", "model", "version", "strategy"]}
_NEEDED = {"responses": 5, "shown": 6}  # the first of them
_KINDS = {"click": 1.0, "purchase": 1.0, "skip": 0.0, "rating": None}
_IDS = ("user_id", "item_id")
_EARLY, _AHEAD = 631_152_000, 300
_EVENTS = ["e1", "e2", "e3", "e4", "e5", "e6", "e7"]
_ODD = ["", " ", "NA", "nan", "x" * 501, "\x00", "e1 ", "1.0", "true", "like",
        "\ufeff", "\ud800", 7, 7.0, 7.5, True, None, 2 ** 60 + 1, 1e300,
        float("nan"), float("inf"), -1, 0, [], {}, 10 ** 400, "1e400", "6",
        "1_0", "\u0663", "0", "=1", 2 ** 53 + 1.0]
_POOLS = {
    "event_id": _EVENTS, "request_id": ["r1", "r2", "", "7"],
    "user_id": parts.PLAIN_IDS, "item_id": parts.PLAIN_IDS,
    "time": [*parts.PLAIN_TIMES, *parts.ISO_TIMES[:6], 1.7e9, 1_700_000_001],
    "kind": ["click", "skip", "purchase"], "value": ["", None],
    "rank": ["1", "2", 3, 4.0], "propensity": ["1", "0.5", 0.25, 1],
    "score": ["", "1.5", -2, None], "model": ["shop", ""],
    "version": ["7", 7, "", None], "strategy": ["", "vopt"]}


class Feedback:
    """`tfrecal.feedback.ingest` into SQLite."""

    name, share = "feedback", 4

    def __init__(self):
        self._stores: dict[Path, tuple] = {}

    def make(self, rng) -> Files:
        """Returns a file of responses or of lists that were shown."""
        table = rng.choice(["responses", "responses", "shown"])
        form = rng.choice(["csv", "csv", "jsonl", "jsonl", "parquet"])
        names = [name for place, name in enumerate(_NAMES[table])
                 if place < _NEEDED[table] or rng.random() < 0.7]
        odd = rng.choice([0, 0.03, 0.1])
        rows = [self._row(rng, names, odd)
                for _ in range(rng.randint(0, 8))]
        options = {"chunk": rng.choice([1, 2, 3, 50])}
        if rng.random() < 0.1:
            options["columns"] = {"user": "who"}
            names = ["who" if name == "user_id" else name for name in names]
        if form == "parquet":
            return self._parquet(rng, names, rows, options)
        if form == "jsonl":
            lines = [json.dumps(dict(zip(names, row)), ensure_ascii=(
                rng.random() < 0.5)) for row in rows]
            text = "\n".join(lines)
        else:
            options["separator"] = rng.choice([None, None, ",", ";", "\t"])
            text = parts.written(rng, names, [
                ["" if cell is None else str(cell) for cell in row]
                for row in rows], options["separator"] or rng.choice(",;\t"))
        if rng.random() < 0.2:
            options["encoding"] = rng.choice(["latin-1", "utf-16"])
        text = parts.mutated_text(rng, text)
        encoding = options.get("encoding", "utf-8")
        data = text.encode(encoding, "surrogatepass"
                           if encoding != "latin-1" else "replace")
        if rng.random() < 0.3:
            data = parts.mutated(rng, data, parts.BYTES)
        return Files({f"events.{form}": data}, options)

    def _row(self, rng, names, odd) -> list:
        row = {name: rng.choice(_POOLS[name]) for name in names}
        if row.get("kind") and "value" in row and rng.random() < 0.5:
            row["kind"], row["value"] = "rating", rng.choice(
                [1, "3", 2.5, "5"])
        for name in names:
            if rng.random() < odd:
                row[name] = rng.choice(parts.ODD_TIMES if name == "time"
                                       and rng.random() < 0.7 else
                                       parts.ODD_IDS + _ODD * 2)
        return list(row.values())

    def _parquet(self, rng, names, rows, options) -> Files:
        size, made = len(rows), {}
        for place, name in enumerate(names):
            if name in ("user_id", "item_id", "who", "event_id"):
                made[name] = columns.ids(rng, size)
            elif name == "time":
                made[name] = columns.times(rng, size)
            elif name in ("rank", "propensity", "score", "version", "value"):
                made[name] = columns.numbers(rng, size)
            else:
                made[name] = pa.array([str(row[place] or "").replace(
                    "\ud800", "") for row in rows])
        data = io.BytesIO()
        parquet.write_table(pa.table(made), data)
        data = data.getvalue()
        if rng.random() < 0.1:
            data = parts.mutated(rng, data, parts.BYTES)
        return columns.ParquetFiles({"events.parquet": data}, options)

    def take(self, files: Files, folder: Path) -> dict:
        """Returns what the database holds after the file."""
        if folder not in self._stores:
            path = folder / "feedback.db"
            self._stores[folder] = FeedbackStore(
                path, scale=_SCALE), sqlite3.connect(
                    path, isolation_level=None)
        store, database = self._stores[folder]
        for table in _NAMES:
            database.execute(f"DELETE FROM {table}")
        path = files.write(folder)["events"]
        result = ingest(store, path, progress=False, **files.options)
        found = {table: sorted(database.execute(
            f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr)
            for table, names in _NAMES.items()}
        return {**found, "new": result.new, "refused": result.rejected}

    def expect(self, files: Files) -> dict:
        """Returns what the rules store."""
        (name, data), = files.content.items()
        options = {**files.options}
        options.pop("chunk", None)
        own = {{"user": "user_id"}[new]: old for new, old in options.pop(
            "columns", {}).items()}
        rows, faults, exact = _READERS[name.split(".")[-1]](
            data, own, **options)
        found: dict[str, dict] = {"responses": {}, "shown": {}}
        refused = faults
        for row in rows:
            table = "responses" if "event_id" in row else "shown"
            stored = _stored(row, table, exact)
            if stored is None:
                refused += 1
                continue
            key = stored[:1] if table == "responses" else stored[:2]
            first = found[table].setdefault(key, stored)
            refused += first != stored
        kept = {table: sorted(some.values(), key=repr)
                for table, some in found.items()}
        return {**kept, "new": sum(map(len, kept.values())),
                "refused": refused}

    def differs(self, got: dict, wanted: dict) -> str:
        """Says what differs; "" if nothing does."""
        return "" if alike(got, wanted) else f"{got} for {wanted}"


def _table_of(names) -> str:
    table = "responses" if "event_id" in names else "shown"
    needed = _NAMES[table][:_NEEDED[table]]
    if len(set(names)) < len(names) or not set(needed) <= set(names):
        raise Refused("the columns")
    return table


def _renamed(names, own: dict) -> list[str]:
    if not set(own.values()) <= set(names):
        raise Refused("a column is missing")
    return [{old: new for new, old in own.items()}.get(name, name)
            for name in names]


def _of_csv(data: bytes, own, separator=None, encoding="utf-8"):
    names, rows = records(data, encoding, separator)
    names = _renamed([name.strip() for name in names], own)
    _table_of(names)
    return [dict(zip(names, row)) for _, row in rows if row is not None], sum(
        row is None for _, row in rows), {}


def _of_json(data: bytes, own, encoding="utf-8"):
    try:
        text = data.decode("utf-8-sig" if encoding == "utf-8" else encoding,
                           "surrogateescape")
    except UnicodeError:
        raise Refused("the encoding") from None
    rows, faults = [], 0
    for line in re.split("\r\n|\n|\r", text):
        if not line.strip():
            continue
        try:
            line.encode()
            row = json.loads(line, object_pairs_hook=lambda pairs: _once([
                (name, value) for name, value in zip(_known(
                    [name for name, _ in pairs], own),
                    [value for _, value in pairs])]))
            if not isinstance(row, dict) or not {"event_id", "rank"} & set(
                    row):
                raise ValueError
            rows.append(row)
        except (ValueError, RecursionError):
            faults += 1
    return rows, faults, {}


def _known(names, own) -> list[str]:
    return [{old: new for new, old in own.items()}.get(name, name)
            for name in names]


def _once(pairs) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError
    return row


def _of_parquet(data: bytes, own):
    found = strict.read_parquet(data)
    names = _renamed(list(found.columns), own)
    _table_of(names)
    exact = dict(zip(_renamed(list(found.columns), own), (
        found.exact.get(name, 2 ** 53) for name in found.columns)))
    return [dict(zip(names, row)) for row in zip(
        *found.columns.values())], 0, exact


_READERS = {"csv": _of_csv, "jsonl": _of_json, "parquet": _of_parquet}


def _stored(row: dict, table: str, exact: dict) -> tuple | None:
    """Returns a row as the database keeps it; None where it is refused."""
    try:
        found = {name: _text(row.get(name), name, exact)
                 for name in _NAMES[table] if name in (
                     "event_id", "request_id", "user_id", "item_id", "kind",
                     "model", "strategy")}
        found["time"] = _time(row.get("time"), exact.get("time", 2 ** 53))
        found.update({name: _number(row.get(name)) for name in (
            "rank", "propensity", "score", "version", "value")
            if name in _NAMES[table]})
        needed = ["user_id", "item_id"]
        needed += ["event_id", "kind"] if table == "responses" else [
            "request_id"]
        if not all(found[name] for name in needed):
            return None
        (_response if table == "responses" else _list)(found)
    except (Refused, OverflowError):
        return None
    return tuple(found[name] for name in _NAMES[table])


def _response(found: dict) -> None:
    if found["kind"] not in _KINDS:
        raise Refused("the kind")
    given = _KINDS[found["kind"]]
    if found["value"] is None:
        found["value"] = given
    value = found["value"]
    if value is None or given not in (None, value) or given is None and not (
            _SCALE[0] <= value <= _SCALE[1]):
        raise Refused("the value")


def _list(found: dict) -> None:
    if found["version"] is None:
        found["version"] = 0
    for name, low, high in (("rank", 1, 2 ** 31 - 1),
                            ("version", -2 ** 53, 2 ** 53)):
        value = found[name]
        if value is None or value % 1 or not low <= value <= high:
            raise Refused(name)
    propensity = found["propensity"]
    if propensity is None or not 0 < propensity <= 1:
        raise Refused("propensity")


def _text(value, name: str, exact: dict) -> str:
    if isinstance(value, str) and name not in _IDS:
        text = value.strip()
    else:
        text = id_of(value, exact.get(name, 2 ** 53))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Refused("no text") from None
    if "\0" in text or len(text) > 500:
        raise Refused("no text that is kept")
    return text


def _time(value, exact) -> float:
    if exact < 2 ** 53:
        raise Refused("times that are rounded")
    found = float(value) if isinstance(value, strict.Time) else number_of(
        value, booleans=False)
    if not math.isfinite(found):
        found = iso_of(value)
    if not _EARLY <= found <= time.time() + _AHEAD:
        raise Refused("the time")
    return found


def _number(value) -> float | None:
    if value is None or isinstance(value, float) and math.isnan(value) or (
            isinstance(value, str) and cell_of(value) is None):
        return None
    found = number_of(value, booleans=False)
    if not math.isfinite(found):
        raise Refused("no number")
    return found
