"""Files of events (CSV, JSON lines, Parquet), read chunk by chunk."""
from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.checks import is_text
from tfrecal.data.columns import whole_to_pandas
from tfrecal.data.csv_records import TABS, CsvRecords, open_text
from tfrecal.data.tables import PARQUET
from tfrecal.feedback.store import rows

FORMATS = (".csv", *TABS, ".jsonl", *PARQUET)
_COLUMNS = list(dict.fromkeys([*rows.SHOWN, *rows.RESPONSES]))
# Short names in `columns`, as `tfrecal run` has them.
_SHORT = {"user": "user_id", "item": "item_id", "label": "value",
          "timestamp": "time"}


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


def check_there(path) -> None:
    """Raises FileNotFoundError where there is no file or folder."""
    if not Path(path).exists():
        raise FileNotFoundError("A file of feedback must be there. Received: "
                                f"{path}, which is missing. Check the path.")


class EventFile:
    """A file of lists that were shown, or of responses.

    The columns decide which: responses have an `event_id`, shown rows a
    `rank`. In a file of JSON lines, each line is judged by itself.

    Args:
        path: a file that ends in .csv (a header; commas, semicolons or
            tabs), .tsv or .tab, .jsonl, .parquet or .pq.
        columns: name in the store -> name in the file, where they differ;
            `user`, `item` and `label` are short for `user_id`, `item_id` and
            `value`, and `timestamp` is another name of `time`.
        encoding: the encoding of CSV and JSON lines.
        separator: what stands between the cells of CSV; None takes the
            comma, semicolon or tab that is most frequent in the header, in
            .tsv and .tab the tab.
        missing: cells of CSV that are missing, beside empty ones.

    Attributes:
        columns: the names of the file's columns, in the store's words.
        total: the value of `FileChunk.done` at the end of the file.
        unit: the unit of `total`.

    Raises:
        ValueError: the file has another ending or other columns, or is a
            damaged Parquet file.
    """

    def __init__(self, path, columns: dict[str, str] | None = None,
                 encoding: str = "utf-8", separator: str | None = None,
                 missing: Sequence[str] = ()):
        self.path, self.encoding = Path(path), encoding
        self._missing = list(missing)
        self._names = _by_own_name(columns or {})
        form = self.path.suffix.lower()
        check_there(self.path)
        if form not in FORMATS:
            raise ValueError(
                f"A file of feedback must end in {', '.join(FORMATS[:-1])} or "
                f"{FORMATS[-1]}. Received: {self.path.name}. Rename it, "
                "unpack it, or write it again in one of these forms.")
        self.total, self.unit = self.path.stat().st_size, "B"
        self.columns = _COLUMNS
        self._chunks = self._csv
        if form in (".csv", *TABS):
            self._records = CsvRecords(self.path, separator, encoding)
            self.columns = self._renamed(
                [name.strip() for name in self._records.header])
            self._check_columns()
        elif form != ".jsonl":
            self._chunks = self._parquet
            file = self._open_parquet()
            self.total, self.unit = file.metadata.num_rows, " rows"
            self.columns = self._renamed(file.schema_arrow.names)
            self._check_columns()
            self.columns = [name for name in self.columns if name in _COLUMNS]
        else:
            self._chunks = self._json
            open_text(self.path, encoding).close()

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

    def _renamed(self, names: list[str]) -> list[str]:
        missing = [name for name in self._names if name not in names]
        if missing:
            raise ValueError(
                "`columns` (`--columns`) must name columns of the file. "
                f"Received: {ascii(missing)}, and {self.path} has the "
                f"columns {ascii(names)}.")
        return [self._names.get(name, name) for name in names]

    @property
    def _table(self) -> str:
        return _table_of(self.columns)

    def _csv(self, size: int) -> Iterator[FileChunk]:
        for some in self._records.chunks(size):
            frame = pd.DataFrame(some.cells, columns=self.columns,
                                 index=some.lines, dtype=object)
            if self._missing:
                words = frame.apply(lambda column: column.str.strip())
                frame = frame.mask(words.isin(self._missing), "")
            yield FileChunk({self._table: frame}, some.faults, some.done)

    def _json(self, size: int) -> Iterator[FileChunk]:
        with open_text(self.path, self.encoding) as file:
            numbered = enumerate(file, start=1)
            while some := self._next_lines(numbered, size):
                found = {"shown": ([], []), "responses": ([], [])}
                faults = []
                for line, text in some:
                    if not text.strip():
                        continue
                    row = self._object(text)
                    name = "" if isinstance(row, str) else _table_of(row)
                    if not name:
                        faults.append((
                            line, row if isinstance(row, str)
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

    def _next_lines(self, numbered, size: int) -> list[tuple[int, str]]:
        try:
            return list(islice(numbered, size))
        except UnicodeError as error:  # where no line can be told
            raise ValueError(
                f"{self.path} must be text in {self.encoding}. Received: "
                f"{error}. Name its encoding (`encoding`, `--encoding`)."
            ) from error

    def _object(self, text: str) -> dict | str:
        """Returns the object of a line, or why it is none."""
        if not is_text(text):
            return f"bytes that are no {self.encoding}"
        try:
            row = json.loads(text, object_pairs_hook=self._object_of)
        except (ValueError, RecursionError) as error:
            return (f"not a JSON object: {error}"
                    if isinstance(error, _Twice) else "not a JSON object")
        return row if isinstance(row, dict) else "not a JSON object"

    def _object_of(self, pairs: list[tuple]) -> dict:
        row = dict(pairs)
        if self._names:
            pairs = [(self._names.get(name, name), value)
                     for name, value in pairs]
            row = dict(pairs)
        if len(row) < len(pairs):
            raise _Twice("a name is there twice")
        return row

    def _parquet(self, size: int) -> Iterator[FileChunk]:
        table, done = self._table, 0
        own = {new: old for old, new in self._names.items()}
        wanted = [own.get(name, name) for name in self.columns]
        batches = self._open_parquet().iter_batches(
            batch_size=size, columns=wanted)
        while True:
            with self._as_value_error():
                some = next(batches, None)
                if some is None:
                    return
                some.validate(full=True)  # bytes that are no UTF-8, too
                frame = pd.DataFrame({
                    name: _exact_column(some.column(old))
                    for name, old in zip(self.columns, wanted)})
            frame.index = np.arange(done, done + len(frame)) + 1
            done += len(frame)
            yield FileChunk({table: frame}, [], done)

    def _open_parquet(self):
        from pyarrow.parquet import ParquetFile

        with self._as_value_error():
            return ParquetFile(self.path)

    @contextlib.contextmanager
    def _as_value_error(self):
        import pyarrow

        try:
            yield
        except FileNotFoundError:
            raise
        except (pyarrow.ArrowException, OSError,
                UnicodeError) as error:
            raise ValueError(f"{self.path} must be a Parquet file. Received: "
                             f"{error}. Write it again.") from error


class _Twice(ValueError):
    """A name stands twice in a JSON object."""


def _by_own_name(columns: dict[str, str]) -> dict[str, str]:
    """Returns name in the file -> name in the store."""
    names = {old: _SHORT.get(new, new) for new, old in columns.items()}
    odd = sorted(set(names.values()) - set(_COLUMNS))
    if odd or len(set(names.values())) < len(columns):
        raise ValueError(
            "`columns` (`--columns`) must map names of the store to names of "
            f"the file, each once. Received: {columns}. Names of the store "
            f"are {', '.join([*_SHORT, *_COLUMNS])}.")
    return names


def _exact_column(column) -> pd.Series:
    """Returns a column of Arrow without a change of any value.

    pandas alone would make floats of whole numbers beside a missing one.
    """
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_timestamp(column.type) and column.type.tz:
        # The instant stays; pandas may not know the zone's name.
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    return whole_to_pandas(column)


def _table_of(columns) -> str:
    """Returns the table that has these columns, "" if there is none."""
    if "event_id" in columns:
        return "responses"
    return "shown" if "rank" in columns else ""
