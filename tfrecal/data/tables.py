"""The one reader of tables: CSV, TSV and Parquet files become frames.

Cells of text files arrive as texts. A cell is missing when it is empty, holds
white space only, or is named in `TableFormat.missing`: NA, null and None are
words like others. A row without any cell is skipped, as an empty line is.
What a column is, a number or a text, is decided by the rule of
`tfrecal.data.kinds`, which sees the whole column.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data import csv_texts
from tfrecal.data.columns import whole_to_pandas, without_arrow
from tfrecal.data.csv_records import ending

PARQUET = (".parquet", ".pq")
_SHOWN = 5
#: What else may be wrong where lines are no rows.
CURES = ("or check `separator` (`--separator`), `encoding` (`--encoding`) and "
         "`quotes` (`--quotes none` takes quotes as letters)")


@dataclass(frozen=True)
class TableFormat:
    """How text files are written; Parquet files say it themselves.

    Attributes:
        encoding: name of the encoding; a byte-order mark of UTF-8 is no
            part of the text.
        separator: what stands between two cells, or "tab". By default a tab
            in files that end in .tsv or .tab, else the comma, semicolon or
            tab that is most frequent in the header. Several characters,
            such as "::", rule quotes out.
        header: names of the columns of a file without a line of them.
        missing: cells that are missing, beside empty ones.
        text: columns that are texts even if all of their cells are numbers.
        quotes: False takes quotes as letters, as many TSV dumps write them.
    """

    encoding: str = "utf-8"
    separator: str | None = None
    header: Sequence[str] = ()
    missing: Sequence[str] = ()
    text: Sequence[str] = ()
    quotes: bool = True


@dataclass
class Table:
    """A table as it was read.

    Attributes:
        frame: the columns; of a text file, texts with missing cells.
        lines: the line on which each row starts, int64 `[n]`; in Parquet and
            frames the number of the row, from 1.
        path: the file, or None for a frame.
        notes: what was noticed, in words.
        texts: whether the cells are texts of a file, whose kinds are open.
        faults: `(line, reason, content)` for each line of a text file that
            is no row: an open quote, too few or too many cells, bytes of
            another encoding.
    """

    frame: pd.DataFrame
    lines: np.ndarray
    path: Path | None = None
    notes: list[str] = field(default_factory=list)
    texts: bool = False
    faults: list[tuple[int, str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Table":
        """Returns the table of a frame, which counts its rows."""
        return cls(without_arrow(frame), np.arange(1, len(frame) + 1))

    def said_faults(self) -> str:
        """Returns what is wrong with lines of the file, in words."""
        shown = "; ".join(
            f"line {line}: {reason}: {_short(content)}"
            for line, reason, content in self.faults[:_SHOWN])
        more = len(self.faults) - _SHOWN
        return f"{shown}{f'; and {more:,} more' if more > 0 else ''}"


def _short(content: str) -> str:
    return ascii(content if len(content) <= 80 else content[:80] + "...")


def read_table(source, form: TableFormat = TableFormat()) -> Table:
    """Reads a file by its ending, or takes a frame as it is.

    Args:
        source: path of a Parquet file (.parquet, .pq) or of a text file (any
            other ending, perhaps with .gz, .bz2 or .xz), or a DataFrame.
        form: how text files are written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not what its ending says: one message with
            the path, the line and the cure.
    """
    if isinstance(source, pd.DataFrame):
        return Table.of(source)
    path = Path(str(source))
    if path.is_dir():
        raise ValueError("A table must be a file. Received: "
                         f"{path}, which is a folder. Name a file in it.")
    if not path.is_file():
        raise FileNotFoundError(f"A table must be there. Received: {path}, "
                                "which is missing. Check the path.")
    if ending(path) in PARQUET:
        return replace(Table.of(read_parquet(path)), path=path)
    return _read_text(path, form)


def _read_text(path: Path, form: TableFormat) -> Table:
    records, columns, lines, faults = csv_texts.read(
        path, form.encoding, form.separator, form.header, form.quotes)
    names = [name.strip() for name in records.header]
    notes = []
    if "" in names:
        # pandas writes its index in a column without a name.
        notes.append(f"{path.name}: {names.count('')} column(s) without a "
                     "name are left out")
    _check_once([name for name in names if name], path)
    kept = {name: place for place, name in enumerate(names) if name}
    frame = pd.DataFrame({
        name: _without_missing(columns[place], form.missing)
        for name, place in kept.items()})
    there = frame.notna().any(axis=1).to_numpy()
    if not there.all():
        frame, lines = frame[there].reset_index(drop=True), lines[there]
    broken = _broken_lines(frame, lines)
    if broken:
        notes.append(f"{path.name}: {broken}")
    return Table(frame, lines, path, notes, texts=True, faults=faults)


def _check_once(names: list[str], path: Path) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"Each column must be there once. Received: {path}: "
                         f"{twice} twice. Rename or drop one of them.")


def _without_missing(column, missing) -> pd.Series:
    """Returns texts; missing where empty, blank or named."""
    import pyarrow as pa
    import pyarrow.compute as pc

    bare = pc.utf8_trim_whitespace(column)
    words = pa.array(["", *missing], pa.string())
    gone = pc.is_in(bare, value_set=words)
    if pc.any(gone).as_py():
        column = pc.if_else(gone, pa.scalar(None, pa.string()), column)
    return column.to_pandas()


def _broken_lines(frame: pd.DataFrame, lines: np.ndarray) -> str:
    """Says which rows hold line ends, which an open quote may have taken."""
    if not (np.diff(lines) > 1).any():
        return ""
    rows = np.zeros(len(frame), bool)
    for name in frame.columns:
        rows |= frame[name].str.contains("\n", regex=False, na=False)
    if not rows.any():
        return ""
    shown = ", ".join(map(str, lines[rows][:_SHOWN].tolist()))
    more = ", ..." if rows.sum() > _SHOWN else ""
    return (f"{int(rows.sum()):,} row(s) with line ends in quotes (lines "
            f"{shown}{more}); check that no quote is left open there")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")


def read_parquet(path) -> pd.DataFrame:
    """Reads one Parquet file; whole numbers beside missing ones stay whole.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not Parquet, or is damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        _check_once(parquet.read_schema(path).names, Path(str(path)))
        table = parquet.read_table(path)
        table.validate(full=True)  # bytes that are no UTF-8, too
        frame = whole_to_pandas(table)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise ValueError(
            f"{path} must be a Parquet file. Received: "
            f"{_first_line(error)}. Give text files another ending, or "
            "write the file again.") from error
    return frame
