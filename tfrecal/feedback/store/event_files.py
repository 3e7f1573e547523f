"""Files of events, read in parts: CSV, JSON lines, Parquet."""
from __future__ import annotations

import csv
import dataclasses
import json
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.feedback.store import rows

FORMATS = (".csv", ".jsonl", ".parquet")
_COLUMNS = list(dict.fromkeys([*rows.SHOWN, *rows.RESPONSES]))
_UTF8 = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}


@dataclasses.dataclass
class Part:
    """Some rows of a file.

    Attributes:
        tables: frame of each table; its index is the line of a row, in
            Parquet its number from 1.
        faults: `(line, reason, content)` of lines that are no rows.
        done: bytes read so far, in Parquet rows.
    """

    tables: dict[str, pd.DataFrame]
    faults: list[tuple[int, str, str]]
    done: int


class EventFile:
    """A file of lists that were shown, or of responses.

    The columns decide which: responses have an `event_id`, shown rows a
    `rank`. JSON lines decide each for itself.

    Args:
        path: ends in .csv (a header; commas, semicolons or tabs), .jsonl or
            .parquet.

    Attributes:
        columns: of its rows.
        total: what `Part.done` comes to.
        unit: what that counts.

    Raises:
        ValueError: another ending or other columns, a damaged Parquet file.
    """

    def __init__(self, path):
        self.path = Path(path)
        form = self.path.suffix.lower()
        if form not in FORMATS:
            raise ValueError(
                "A file of feedback must end in .csv, .jsonl or .parquet. "
                f"Received: {self.path.name}.")
        self.total, self.unit = self.path.stat().st_size, "B"
        self.columns = _COLUMNS
        self._parts = {".csv": self._csv, ".jsonl": self._json,
                       ".parquet": self._parquet}[form]
        if form == ".csv":
            with open(self.path, **_UTF8) as file:
                try:
                    self.columns = next(_reader(file), [])
                except csv.Error as error:
                    raise ValueError(
                        "A CSV file must begin with a line of column names. "
                        f"Received: {self.path}: {error}.") from error
            self._check_columns()
        elif form == ".parquet":
            file = self._open_parquet()
            self.total, self.unit = file.metadata.num_rows, " rows"
            self.columns = file.schema_arrow.names
            self._check_columns()

    def parts(self, chunk: int) -> Iterator[Part]:
        """Yields the file in parts of at most `chunk` rows."""
        return self._parts(chunk)

    def _check_columns(self) -> None:
        twice = sorted({name for name in self.columns
                        if self.columns.count(name) > 1})
        if twice:
            raise ValueError("Each column of feedback must be there once. "
                             f"Received: {self.path}: columns={ascii(twice)}.")
        if not self._table:
            raise ValueError(
                "Feedback must have a column `event_id` (responses: "
                f"{', '.join(rows.RESPONSES)}) or `rank` (lists that were "
                f"shown: {', '.join(rows.SHOWN)}). Received: {self.path}: "
                f"columns={ascii(self.columns)}.")
        # The store says which column is missing.
        empty = pd.DataFrame(columns=pd.Index(self.columns, dtype=object))
        if self._table == "responses":
            rows.check_responses(empty, 0.0, None)
        else:
            rows.check_shown(empty, 0.0)

    @property
    def _table(self) -> str:
        return _table_of(self.columns)

    def _csv(self, chunk: int) -> Iterator[Part]:
        table, width = self._table, len(self.columns)
        with open(self.path, **_UTF8) as file:
            lines = _Lines(file)
            reader = _reader(file, lines)
            next(reader)
            found = _rows(reader, lines, width)
            while part := list(islice(found, chunk)):
                good = [row for row in part if len(row) == 2]
                faults = [row for row in part if len(row) == 3]
                frame = pd.DataFrame(
                    [cells for _, cells in good], columns=self.columns,
                    index=[line for line, _ in good], dtype=object)
                yield Part({table: frame}, faults, file.buffer.tell())

    def _json(self, chunk: int) -> Iterator[Part]:
        with open(self.path, **_UTF8) as file:
            numbered = enumerate(file, start=1)
            while part := list(islice(numbered, chunk)):
                found = {"shown": ([], []), "responses": ([], [])}
                faults = []
                for line, text in part:
                    if not text.strip():
                        continue
                    row = _object(text)
                    name = "" if row is None else _table_of(row)
                    if not name:
                        faults.append((
                            line, "not a JSON object" if row is None
                            else "neither `event_id` nor `rank`",
                            text.rstrip("\r\n")))
                        continue
                    found[name][0].append(line)
                    found[name][1].append(
                        [row.get(column) for column in _COLUMNS])
                yield Part(
                    {name: pd.DataFrame(cells, columns=_COLUMNS, index=lines,
                                        dtype=object)
                     for name, (lines, cells) in found.items()},
                    faults, file.buffer.tell())

    def _parquet(self, chunk: int) -> Iterator[Part]:
        table, done = self._table, 0
        for batch in self._open_parquet().iter_batches(batch_size=chunk):
            frame = batch.to_pandas()
            frame.index = np.arange(done, done + len(frame)) + 1
            done += len(frame)
            yield Part({table: frame}, [], done)

    def _open_parquet(self):
        import pyarrow
        from pyarrow.parquet import ParquetFile

        try:
            return ParquetFile(self.path)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f"{self.path} must be a Parquet file. Received: "
                             f"{error}. Write it again.") from error


def _table_of(columns) -> str:
    """The table of rows with these columns, "" if it is none."""
    if "event_id" in columns:
        return "responses"
    return "shown" if "rank" in columns else ""


def _reader(file, lines=None):
    head = file.readline()
    file.seek(0)
    # Strict, or a quote that is not closed goes on to the next one, or to
    # the end of the file, where nobody sees it.
    return csv.reader(lines or file, delimiter=max(",;\t", key=head.count),
                      strict=True)


class _Lines:
    """Lines of a file; those of the present record can be read again."""

    def __init__(self, file):
        self._file, self._again = file, deque()
        self.number, self.record = 0, []

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self.number += 1
        self.record.append(line)
        return line

    def back(self) -> None:
        """Goes back to the second line of the record."""
        self._again.extendleft(reversed(self.record[1:]))
        self.number -= len(self.record) - 1


def _rows(reader, lines: _Lines, width: int):
    """Yields `(line, cells)`, or `(line, reason, content)` of a bad one."""
    while True:
        lines.record = []
        line = lines.number + 1
        try:
            cells, reason = next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            cells, reason = [], f"not CSV: {error}"
        if cells and len(cells) != width:
            reason = f"{len(cells)} cells under {width} columns"
        if reason and len(lines.record) > 1:
            # It has swallowed the next lines; it costs no other.
            reason = "a quote that is not closed"
            lines.back()
        if reason:
            yield line, reason, lines.record[0].rstrip("\r\n")
        elif cells:
            yield line, cells


def _object(text: str) -> dict | None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
