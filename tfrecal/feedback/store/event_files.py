"""Files of events (CSV, JSON lines, Parquet), read chunk by chunk."""
from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data.csv_records import CsvRecords
from tfrecal.feedback.store import rows

FORMATS = (".csv", ".jsonl", ".parquet")
_COLUMNS = list(dict.fromkeys([*rows.SHOWN, *rows.RESPONSES]))
_UTF8 = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": ""}


@dataclasses.dataclass
class FileChunk:
    """Some rows of a file.

    Attributes:
        tables: table -> frame of its rows; the frame's index is the line of
            a row, in Parquet the number of the row from 1.
        faults: `(line, reason, content)` for each line that is no row.
        done: number of bytes read so far, in Parquet of rows.
    """

    tables: dict[str, pd.DataFrame]
    faults: list[tuple[int, str, str]]
    done: int


class EventFile:
    """A file of lists that were shown, or of responses.

    The columns decide which: responses have an `event_id`, shown rows a
    `rank`. In a file of JSON lines, each line is judged by itself.

    Args:
        path: a file that ends in .csv (a header; commas, semicolons or
            tabs), .jsonl or .parquet.

    Attributes:
        columns: the names of the file's columns.
        total: the value of `FileChunk.done` at the end of the file.
        unit: the unit of `total`.

    Raises:
        ValueError: the file has another ending or other columns, or is a
            damaged Parquet file.
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
        self._chunks = {".csv": self._csv, ".jsonl": self._json,
                        ".parquet": self._parquet}[form]
        if form == ".csv":
            self._records = CsvRecords(self.path)
            self.columns = self._records.header
            self._check_columns()
        elif form == ".parquet":
            file = self._open_parquet()
            self.total, self.unit = file.metadata.num_rows, " rows"
            self.columns = file.schema_arrow.names
            self._check_columns()

    def chunks(self, size: int) -> Iterator[FileChunk]:
        """Yields the file in chunks of at most `size` rows."""
        return self._chunks(size)

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

    def _csv(self, size: int) -> Iterator[FileChunk]:
        for some in self._records.chunks(size):
            frame = pd.DataFrame(some.cells, columns=self.columns,
                                 index=some.lines, dtype=object)
            yield FileChunk({self._table: frame}, some.faults, some.done)

    def _json(self, size: int) -> Iterator[FileChunk]:
        with open(self.path, **_UTF8) as file:
            numbered = enumerate(file, start=1)
            while some := list(islice(numbered, size)):
                found = {"shown": ([], []), "responses": ([], [])}
                faults = []
                for line, text in some:
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
                yield FileChunk(
                    {name: pd.DataFrame(cells, columns=_COLUMNS, index=lines,
                                        dtype=object)
                     for name, (lines, cells) in found.items()},
                    faults, file.buffer.tell())

    def _parquet(self, size: int) -> Iterator[FileChunk]:
        table, done = self._table, 0
        for some in self._open_parquet().iter_batches(batch_size=size):
            frame = some.to_pandas()
            frame.index = np.arange(done, done + len(frame)) + 1
            done += len(frame)
            yield FileChunk({table: frame}, [], done)

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
    """Returns the table that has these columns, "" if there is none."""
    if "event_id" in columns:
        return "responses"
    return "shown" if "rank" in columns else ""


def _object(text: str) -> dict | None:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
