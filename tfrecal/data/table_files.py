"""Tables in files: reads CSV and Parquet, writes a folder of Parquet."""
from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.files import replace_folder

META = "meta.json"


def read_csv(path, ids: list[str], read: dict | None = None):
    """Reads one CSV file, with ids as text.

    Args:
        path: path of the file, UTF-8 unless `read` says otherwise.
        ids: columns to read as text: "007" is not 7.
        read: arguments for `pandas.read_csv`.

    Returns:
        `(frame, lines)`: the rows without blank lines, and the number of
        the line on which each row starts, int64 `[n]`; the header is line 1.

    Raises:
        ValueError: the file is empty, has another encoding or uneven rows.
    """
    read = dict(read or {})
    types = read.pop("dtype", None) or {}
    if not isinstance(types, dict):
        read["dtype"] = types
    else:
        read["dtype"] = {**{name: str for name in ids}, **types}
    options = {"skip_blank_lines": False, "index_col": False, **read}
    if options.get("engine", "c") == "c":
        options.setdefault("low_memory", False)
    try:
        with warnings.catch_warnings():
            # pandas only warns when it cuts the last fields of each row.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(path, **options)
    except pd.errors.EmptyDataError as error:
        raise ValueError(
            f"A CSV file must have a header line. Received: {path}, which is "
            "empty.") from error
    except UnicodeError as error:
        raise ValueError(
            f"{path} must be text in {read.get('encoding', 'UTF-8')}. "
            f"Received: {error}. Name its encoding: "
            "`read={\"encoding\": \"latin-1\"}`.") from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise ValueError(
            f"Every line of a CSV file must have the header's fields. "
            f"Received: {path}: {error}. Check the separator "
            "(`read={\"sep\": \";\"}`) and the quotes.") from error
    lines = _lines(frame, ids, read)
    blank = frame.isna().all(axis=1).to_numpy()
    if blank.any():
        frame, lines = frame[~blank].reset_index(drop=True), lines[~blank]
    return frame, lines


def _lines(frame: pd.DataFrame, ids, read: dict) -> np.ndarray:
    """Returns the line on which each row starts, with breaks in quotes."""
    skipped = read.get("skiprows")
    first = (skipped if isinstance(skipped, int) else 0) + (
        1 if read.get("header", 0) is None else 2)
    lines = np.arange(len(frame), dtype=np.int64) + first
    for name in frame.columns:
        column = frame[name]
        if name in ids or pd.api.types.is_numeric_dtype(column.dtype):
            continue
        there = column.notna().to_numpy()
        breaks = np.zeros(len(frame), np.int64)
        breaks[there] = column[there].astype(str).str.count("\n")
        lines[1:] += np.cumsum(breaks)[:-1]
    return lines


def read_parquet(path) -> pd.DataFrame:
    """Reads one Parquet file.

    Raises:
        ValueError: the file is not Parquet, or is damaged.
    """
    import pyarrow

    try:
        return pd.read_parquet(path)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} must be a Parquet file. Received: {error}. "
                         "Read CSV files with `from_csv`.") from error


def write_folder(folder, tables: dict[str, pd.DataFrame], meta: dict,
                 overwrite: bool = False) -> None:
    """Writes `<name>.parquet` and `meta.json`, all of them or nothing.

    Args:
        folder: path of the folder.
        tables: name -> table.
        meta: what becomes `meta.json`.
        overwrite: True replaces a folder of this function.

    Raises:
        FileExistsError: the folder exists, and `overwrite` is False or it
            was not written by this function.
        ValueError: Parquet cannot hold a column.
    """
    import pyarrow

    folder = Path(folder)
    if folder.exists() and not (overwrite and (folder / META).is_file()):
        raise FileExistsError(
            f"`folder` must not exist yet. Received: folder={folder}. Choose "
            "another, or pass `overwrite=True` for a folder that "
            "`to_parquet` wrote.")
    with replace_folder(folder, overwrite) as beside:
        for name, table in tables.items():
            try:
                table.to_parquet(beside / f"{name}.parquet")
            except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError,
                    pyarrow.ArrowNotImplementedError) as error:
                raise ValueError(
                    f"Columns of `{name}` must each hold one type. Received: "
                    f"{error}. Convert the column, for example with "
                    "`astype(str)`.") from error
        (beside / META).write_text(json.dumps(meta, indent=1))


def read_folder(folder) -> tuple[dict[str, pd.DataFrame], dict]:
    """Reads what `write_folder` wrote: `(tables by name, meta)`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a file is damaged.
    """
    folder = Path(folder)
    if not (folder / META).is_file():
        raise FileNotFoundError(
            f"`folder` must be one that `Interactions.to_parquet` wrote. "
            f"Received: folder={folder}, without {META}.")
    try:
        meta = json.loads((folder / META).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / META} must hold JSON. Received: {error}."
                         " Write the folder again.") from error
    tables = {path.stem: read_parquet(path)
              for path in sorted(folder.glob("*.parquet"))}
    for table in tables.values():
        # pandas 3 reads ids back as another type than was written.
        if not isinstance(table.index, pd.RangeIndex):
            table.index = table.index.astype(object)
    return tables, meta
