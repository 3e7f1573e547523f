"""Files of a comparison folder, each with a checksum that is checked."""
from __future__ import annotations

import json
import zlib
from pathlib import Path

import pandas as pd

from tfrecal.checks import read_json, shown
from tfrecal.files import (
    check_file,
    damaged,
    file_sum,
    read_sums,
    replace_folder,
    sums_of,
    write_bytes,
    write_sums,
)
from tfrecal.pool import run_files
from tfrecal.pool.run_files import parquet, read_lines

_LINES = "explanations.jsonl"
_KEYS = {"scenario": "OSTU", "strategy": "OSTU", "seed": "iu"}
# Columns that every table has, and the kinds of their dtypes.
TABLES = {
    "curves": {**_KEYS, "draw": "iu", "round": "iuf", "labels": "iuf",
               "bought": "iuf"},
    "asked": {**_KEYS, "round": "iuf", "user_id": "OSTU", "item_id": "OSTU",
              "label": "iuf", "item_labels": "iuf"},
    "calibration": {**_KEYS, "bin": "f", "observed": "f", "count": "iuf"}}
_GATHER = ("`tfrecal compare -o {0}` writes it anew from the folders of the "
           "runs.")
_CONFIG = ("Bring it back from a backup; if you changed it on purpose, delete "
           "{0}/sums.json.")
_RUN = "Delete the folder {0}: `tfrecal compare` does this run again."


def read_config(folder) -> dict | None:
    """Returns `config.json` of a comparison; None where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    folder = Path(folder)
    cure = _CONFIG.format(folder)
    sums = read_sums(folder)
    path = folder / "config.json"
    if "config.json" not in sums and not path.exists():
        return None
    check_file(folder, "config.json", sums, cure)
    found = read_json(path, "The config of a comparison", cure)
    if not isinstance(found.get("primary") or {}, dict):
        raise damaged(path, "`primary` must name a metric for each scenario",
                      f"with primary={shown(found['primary'])}", cure)
    return found


def write_config(folder, config: dict) -> None:
    """Writes `config.json`, and its sum before."""
    _write(Path(folder), {"config.json": json.dumps(
        config, indent=1).encode()})


def read_table(folder, name: str, needed: bool = True):
    """Returns a table of all runs.

    Args:
        folder: the comparison folder.
        name: one of `TABLES`.
        needed: whether it must be there; otherwise None is returned.

    Raises:
        ValueError: the file is missing or damaged.
    """
    folder, file, sums = Path(folder), f"{name}.parquet", read_sums(folder)
    if not needed and file not in sums and not (folder / file).exists():
        return None
    return _table(folder, file, name, sums, _GATHER.format(folder))


def read_explanations(folder) -> list[dict]:
    """Returns the lines of `explanations.jsonl` of all runs.

    Raises:
        ValueError: the file is damaged.
    """
    return _lines(Path(folder), read_sums(folder), _GATHER.format(folder))


def write_all(folder, tables: dict[str, pd.DataFrame],
              lines: list[dict]) -> None:
    """Writes the tables and explanations of all runs."""
    _write(Path(folder), _contents(tables, lines))


def write_run(folder, tables: dict[str, pd.DataFrame],
              lines: list[dict]) -> None:
    """Writes the folder of one run, whole or not at all."""
    with replace_folder(folder) as beside:
        contents = _contents(tables, lines)
        for name, content in contents.items():
            (beside / name).write_bytes(content)
        write_sums(beside, sums_of(beside, contents))


def read_run(folder) -> tuple[dict[str, pd.DataFrame], list[dict]]:
    """Returns what `write_run` wrote.

    Raises:
        ValueError: a file is missing or damaged.
    """
    folder = Path(folder)
    cure, sums = _RUN.format(folder), read_sums(folder)
    return ({name: _table(folder, f"{name}.parquet", name, sums, cure)
             for name in TABLES}, _lines(folder, sums, cure))


def _contents(tables, lines) -> dict[str, bytes]:
    return {**{f"{name}.parquet": parquet(table)
               for name, table in tables.items()},
            _LINES: "".join(json.dumps(line) + "\n"
                            for line in lines).encode()}


def _table(folder, file, name, sums, cure) -> pd.DataFrame:
    return run_files.read_table(
        check_file(folder, file, sums, cure), TABLES[name],
        f"The {name} of a comparison must be a table of Parquet", cure)


def _lines(folder, sums, cure) -> list[dict]:
    if _LINES in sums:
        check_file(folder, _LINES, sums, cure)
    return read_lines(folder / _LINES, cure)


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    """Writes files; their sums come first, beside those of before.

    So a kill in between leaves files that the sums know.
    """
    sums = read_sums(folder)
    for name, content in contents.items():
        path = folder / name
        before = [file_sum(path)] if path.is_file() else []
        known = sums.get(name, before)
        sums[name] = [[len(content), zlib.crc32(content)],
                      *(one for one in before if one in known)]
    write_sums(folder, sums)
    for name, content in contents.items():
        write_bytes(folder / name, content)
