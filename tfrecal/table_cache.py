"""Parsed tables of a large data set, kept as Parquet in the cache."""
from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from tfrecal.assets import cache_folder
from tfrecal.files import replace_file


def cached(key: str, names: tuple[str, ...],
           make: Callable[[], tuple[pd.DataFrame, ...]]
           ) -> tuple[pd.DataFrame, ...]:
    """The tables under `key`, made at first use.

    What comes back has always been through Parquet, so that types and
    missing values are the same at the first use and later. A folder that
    cannot be written costs time, not the result.

    Args:
        key: changes whenever the tables would; a file name.
        names: of the tables.
        make: gives the tables, in the order of `names`.
    """
    path = cache_folder() / "tables" / key
    try:
        return tuple(pd.read_parquet(path / f"{n}.parquet") for n in names)
    except (OSError, ValueError):  # absent, or damaged: ArrowInvalid
        pass
    contents = {name: _to_bytes(table) for name, table in zip(names, make())}
    try:
        _store(path, contents)
    except OSError as error:
        print(f"tfrecal: {path} could not be written ({error}); the tables "
              "will be parsed again next time.", file=sys.stderr)
    return tuple(pd.read_parquet(io.BytesIO(contents[n])) for n in names)


def _to_bytes(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _store(path: Path, contents: dict[str, bytes]) -> None:
    """Writes each file beside and renames it; others may do so as well."""
    for name, content in contents.items():
        replace_file(path / f"{name}.parquet",
                     lambda beside: beside.write_bytes(content))
