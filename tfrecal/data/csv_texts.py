"""Text files of cells, strictly: columns of texts with line numbers.

Files without quotes go through Arrow's reader, which is fast and refuses
uneven rows. All else, and all that Arrow refuses, goes through the records of
`tfrecal.data.csv_records`, which know the line of each fault.
"""
from __future__ import annotations

import io
from itertools import chain
from pathlib import Path

import numpy as np

from tfrecal.data.csv_records import COMPRESSED, UNREAD, CsvRecords

_MARK = b"\xef\xbb\xbf"  # byte-order mark


def read(path: Path, encoding: str, separator: str | None, header=(),
         quotes: bool = True):
    """Reads a file of text.

    Args:
        path, encoding, separator, header, quotes: see `CsvRecords`.

    Returns:
        `(records, columns, lines, faults)`: the `CsvRecords`, an Arrow array
        of strings for each of its columns, the line on which each row
        starts, int64 `[n]`, and `(line, reason, content)` for each line that
        is no row.

    Raises:
        ValueError: the file is empty or has another encoding.
    """
    records = CsvRecords(path, separator, encoding, header, quotes)
    found = _quick(records, bool(header), quotes)
    return records, *(_slow(records) if found is None else found)


def _quick(records: CsvRecords, headless: bool, quotes: bool):
    """Reads rows that stand on a line each, or returns None."""
    import pyarrow as pa
    from pyarrow import csv

    body = _utf8(records)
    if body is None or b"\0" in body or quotes and b'"' in body:
        return None
    body = body.removeprefix(_MARK).rstrip(b"\r\n")
    if (b"\n\n" in body or b"\n\r" in body or body[:1] in (b"\n", b"\r")
            or body.count(b"\r") != body.count(b"\r\n")):
        return None  # empty lines, or other ends of lines
    separator = records.separator
    if len(separator) > 1:
        letter = next((c for c in "\x1f\x1e\x1d\x1c"
                       if c.encode() not in body), None)
        if letter is None:
            return None
        body = body.replace(separator.encode(), letter.encode())
        separator = letter
    if not headless:
        first, _, body = body.partition(b"\n")
        if first.decode().rstrip("\r").split(separator) != records.header:
            return None
    numbers = [str(place) for place in range(len(records.header))]
    if not body:
        return [pa.array([], pa.string())] * len(numbers), np.zeros(
            0, np.int64), []
    if body.startswith(_MARK):
        return None  # Arrow would skip it, and it is part of a cell
    try:
        table = csv.read_csv(
            io.BytesIO(body), csv.ReadOptions(column_names=numbers),
            csv.ParseOptions(delimiter=separator, quote_char=False,
                             ignore_empty_lines=False),
            csv.ConvertOptions(
                column_types={name: pa.string() for name in numbers},
                strings_can_be_null=False, check_utf8=False))
    except pa.ArrowInvalid:
        return None  # `_slow` says why
    lines = np.arange(len(table)) + (1 if headless else 2)
    return [table[name].combine_chunks() for name in numbers], lines, []


def _utf8(records: CsvRecords) -> bytes | None:
    """Returns the bytes of a file in UTF-8, or None if they are no text."""
    unpack = COMPRESSED.get(records.path.suffix.lower(), open)
    try:
        with unpack(records.path, mode="rb") as file:
            data = file.read()
        if records.is_utf8:
            if not data.isascii():
                data.decode()
            return data
        return data.decode(records.encoding).removeprefix("\ufeff").encode()
    except UNREAD:
        return None  # `_slow` says why


def _slow(records: CsvRecords):
    """Reads all rows, and tells which lines are none."""
    import pyarrow as pa

    rows, lines, faults = [], [], []
    for chunk in records.chunks(10_000):
        rows += chunk.cells
        lines += chunk.lines
        faults += chunk.faults
    width = len(records.header)
    flat = np.array(list(chain.from_iterable(rows)) + [None], object)[:-1]
    flat = flat.reshape(len(rows), width)
    return [pa.array(flat[:, place], pa.string())
            for place in range(width)], np.array(lines, np.int64), sorted(
                faults)
