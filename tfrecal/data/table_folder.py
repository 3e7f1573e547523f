"""A folder of Parquet files: the tables of an `Interactions` as stored."""
from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from tfrecal.files import replace_folder

META = "meta.json"


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
    tables = {path.stem: _read_parquet(path)
              for path in sorted(folder.glob("*.parquet"))}
    for table in tables.values():
        # pandas 3 reads ids back as another type than was written.
        if not isinstance(table.index, pd.RangeIndex):
            table.index = table.index.astype(object)
    return tables, meta


def _read_parquet(path) -> pd.DataFrame:
    import pyarrow

    try:
        return pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} must be a Parquet file. Received: {error}. "
                         "Write the folder again.") from error
