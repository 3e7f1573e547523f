"""Records of CSV files, read strictly: no line is lost to an open quote."""
from __future__ import annotations

import bz2
import csv
import dataclasses
import gzip
import lzma
import re
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from tfrecal.checks import is_text

SEPARATORS = ",;\t"
#: Endings of files whose cells stand between tabs, unless told otherwise.
TABS = (".tsv", ".tab")
COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_BLOCK = 1_000  # lines that are parsed at once where nothing is wrong
_OPEN = "a quote that is not closed"
# What reading a damaged file raises.
UNREAD = (UnicodeError, EOFError, lzma.LZMAError, zlib.error, OSError)
_MARK = "\ufeff"  # byte-order mark
# How files of other kinds begin, read as UTF-8.
_OTHERS = {"\udcff\udcfe": "UTF-16", "\udcfe\udcff": "UTF-16",
           "\x1f\udc8b": "a gzip archive", "PK\x03\x04":
           "a ZIP archive or a workbook", "PAR1": "Parquet"}


@dataclasses.dataclass
class CsvChunk:
    """Some records of a file.

    Attributes:
        lines: the line on which each record starts; the file's first is 1.
        cells: the cells of each record, as many as there are columns.
        faults: `(line, reason, content)` for each line that is no record.
        done: number of bytes read so far.
    """

    lines: list[int]
    cells: list[list[str]]
    faults: list[tuple[int, str, str]]
    done: int


class CsvRecords:
    """The records of a CSV file, in bounded memory.

    A cell that begins with a quote ends with one, and quotes inside it are
    doubled; elsewhere a quote is text. A quote that is not closed costs its
    own line and no other. A record with too few or too many cells, with a
    NUL or with bytes that are no text in the encoding is a fault. Empty lines
    are skipped. Lines end with LF, CRLF or CR.

    Args:
        path: path of the file; .gz, .bz2 and .xz are unpacked.
        separator: what stands between cells, or "tab"; None takes the tab in
            files that end in `TABS`, else the comma, semicolon or tab that is
            most frequent in the header. Several characters, such as `::`, are
            taken as they are, and then quotes are text.
        encoding: the encoding of the text; a byte-order mark is skipped.
        header: the names of the columns, of a file without a line of them.
        quotes: False takes quotes as letters, as many TSV dumps write them.

    Attributes:
        header: the names of the columns, as they are written.
        is_utf8: whether the encoding is UTF-8.
        separator: what stands between cells.
        size: number of bytes of the file.

    Raises:
        ValueError: the file is empty, its header is no text in the encoding
            or no CSV, or the encoding is unknown.
        OSError: the file cannot be read.

    Example:
        for line, *found in CsvRecords("events.csv"):
            if len(found) == 2:
                reason, content = found
    """

    def __init__(self, path, separator: str | None = None,
                 encoding: str = "utf-8", header: Sequence[str] = (),
                 quotes: bool = True):
        self.path = Path(path)
        self.encoding, self._quotes = encoding, quotes
        if separator is None and ending(path) in TABS:
            separator = "tab"
        separator = "\t" if separator in ("tab", r"\t") else separator
        if separator == "" or set(separator or "") & set("\"\r\n\0"):
            raise ValueError(
                "`separator` (`--separator`) must be a character that stands "
                "between cells, and no quote or line break. Received: "
                f"{separator!r}.")
        self.is_utf8 = _is_utf8(encoding)
        with open_text(self.path, self.encoding) as file:
            lines = _Lines(file, self._unread)
            self.size = self.path.stat().st_size
            self.separator = separator or _guess_separator(lines)
            self._headless = bool(header)
            self.header = list(header) or self._read_header(lines)

    def chunks(self, size: int) -> Iterator[CsvChunk]:
        """Yields the records after the header, at most some `size` a chunk.
        """
        with open_text(self.path, self.encoding) as file:
            lines = _Lines(file, self._unread)
            if not self._headless:
                self._read_header(lines)
            while True:
                chunk = CsvChunk([], [], [], 0)
                ended = False
                while not ended and len(chunk.lines) + len(
                        chunk.faults) < size:
                    ended = not self._read_block(lines, chunk, size)
                chunk.done = self.size if ended else file.buffer.tell()
                if chunk.lines or chunk.faults:
                    yield chunk
                if ended:
                    return

    def __iter__(self) -> Iterator[tuple]:
        """Yields `(line, cells)` or, of a bad one, `(line, reason, content)`.
        """
        for chunk in self.chunks(_BLOCK):
            found = [*zip(chunk.lines, chunk.cells), *chunk.faults]
            yield from sorted(found, key=lambda record: record[0])

    def _unread(self, error: Exception) -> ValueError:
        if isinstance(error, UnicodeError):
            return self._not_text(str(error))
        return ValueError(
            f"{self.path} must be a file that can be read to its end. "
            f"Received: {str(error) or type(error).__name__}. Write or pack "
            "it again.")

    def _not_text(self, received: str) -> ValueError:
        return ValueError(
            f"{self.path} must be text in {self.encoding}. Received: "
            f"{received}. Save it as UTF-8, or name its encoding "
            "(`encoding`, `--encoding`).")

    def _read_header(self, lines: _Lines) -> list[str]:
        for record in self._slow_records(lines, None):
            if len(record) == 2:
                return record[1]
            line, reason, content = record
            reason = next((kind for begin, kind in _OTHERS.items()
                           if content.startswith(begin)), reason)
            if "CSV" not in reason and "quote" not in reason:
                raise self._not_text(f"{reason} in line {line}")
            raise ValueError(
                "A CSV file must begin with a line of column names. "
                f"Received: {self.path}, line {line}: {reason}.")
        raise ValueError("A CSV file must begin with a line of column names. "
                         f"Received: {self.path}, which is empty.")

    def _read_block(self, lines: _Lines, chunk: CsvChunk, size: int) -> bool:
        """Adds the records of some lines to a chunk; False at the end."""
        wanted = min(_BLOCK, size - len(chunk.lines) - len(chunk.faults))
        first = lines.number + 1
        block = lines.take(wanted)
        if not block:
            return False
        rows = self._plain_rows(block)
        if rows is not None:
            kept = range(first, first + len(block))
            if not all(rows):  # empty lines
                kept = [line for line, row in zip(kept, rows) if row]
                rows = [row for row in rows if row]
            chunk.lines.extend(kept)
            chunk.cells.extend(rows)
            return True
        last = lines.number
        lines.give_back(block)
        for record in self._slow_records(lines, len(self.header)):
            if len(record) == 2:
                chunk.lines.append(record[0])
                chunk.cells.append(record[1])
            else:
                chunk.faults.append(record)
            if lines.number >= last:
                break
        return True

    def _plain_rows(self, block: list[str]) -> list[list[str]] | None:
        """Returns the cells of lines, if each is a whole, good record."""
        text = "".join(block)
        if "\0" in text or not is_text(text):
            return None
        try:
            rows = list(self._reader(block))
        except csv.Error:
            return None
        if len(rows) != len(block) or not (
                set(map(len, rows)) <= {0, len(self.header)}):
            return None
        return rows

    def _reader(self, lines):
        if len(self.separator) > 1:
            return (line.rstrip("\r\n").split(self.separator)
                    if line.rstrip("\r\n") else [] for line in lines)
        # Without `strict`, a quote that is not closed would reach to the
        # next quote, or to the end of the file.
        return csv.reader(
            lines, strict=True, delimiter=self.separator,
            quoting=csv.QUOTE_MINIMAL if self._quotes else csv.QUOTE_NONE)

    def _slow_records(self, lines: _Lines, width: int | None):
        """Yields records one by one; `width` None is that of the header."""
        reader = self._reader(lines)
        while True:
            lines.record = []
            line = lines.number + 1
            try:
                cells, reason = next(reader), ""
            except StopIteration:
                return
            except csv.Error as error:
                cells, reason = [], f"not CSV: {error}"
                if "unexpected end" in reason:
                    reason = _OPEN
            text = "".join(lines.record)
            if not text.strip() and width != 1:
                continue
            if cells and len(cells) != (width or len(cells)):
                reason = f"{len(cells)} cells under {width} columns"
            if reason and len(lines.record) > 1:
                # The open quote has swallowed the next lines; they are read
                # again, so that no other record is lost by it.
                reason = _OPEN
                lines.give_back(lines.record[1:])
            elif "\0" in text:
                reason = "a NUL"
            elif not is_text(text):
                reason = f"bytes that are no {self.encoding}"
            if reason:
                yield line, reason, lines.record[0].rstrip("\r\n")
            elif cells:
                yield line, cells


class _Lines:
    """Iterates over a file's lines; some can be read again."""

    def __init__(self, file, unread):
        self._file, self._again, self._unread = file, deque(), unread
        self.number, self.record = 0, []
        # Of other encodings than UTF-8, Python leaves the mark in the text.
        first = self.take(1)
        self.give_back([line.removeprefix(_MARK) for line in first])

    def __iter__(self):
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._read()
        self.number += 1
        self.record.append(line)
        return line

    def take(self, most: int) -> list[str]:
        """Returns the next lines, at most `most`."""
        found = [self._again.popleft()
                 for _ in range(min(most, len(self._again)))]
        try:
            found.extend(islice(self._file, most - len(found)))
        except UNREAD as error:
            raise self._unread(error) from error
        self.number += len(found)
        return found

    def give_back(self, lines: list[str]) -> None:
        """Makes the lines that were read last the next ones again."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)

    def _read(self) -> str:
        try:
            return next(self._file)
        except UNREAD as error:
            raise self._unread(error) from error


def _guess_separator(lines: _Lines) -> str:
    head: list[str] = []
    while found := lines.take(1):
        head += found
        if found[0].strip():
            break
    lines.give_back(head)
    bare = re.sub('"[^"]*"', "", "".join(head))
    return max(SEPARATORS, key=bare.count)


def ending(path) -> str:
    """Returns the ending of a file's name, that of .gz and the like cut."""
    found = [part.lower() for part in Path(str(path)).suffixes]
    if found and found[-1] in COMPRESSED:
        found.pop()
    return found[-1] if found else ""


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


def open_text(path, encoding: str):
    """Opens a text file so that the line of a bad byte can be named.

    A byte that is no text becomes half of a surrogate pair (see `is_text`).
    Ends of lines stay as they are, and a byte-order mark of UTF-8 is skipped.

    Raises:
        ValueError: the encoding is unknown.
        OSError: the file cannot be read.
    """
    unpack = COMPRESSED.get(Path(path).suffix.lower(), open)
    try:
        return unpack(path, mode="rt", newline="", errors="surrogateescape",
                      encoding="utf-8-sig" if _is_utf8(encoding) else encoding)
    except LookupError as error:
        raise ValueError(
            "`encoding` (`--encoding`) must be one that Python knows, such as "
            "utf-8, cp1252, utf-16 or gb18030. Received: "
            f"encoding={encoding!r}.") from error
