"""Which erased users does an exported version still know?

The feedback store keeps a keyed hash of each erased user. The ids that a
version knows are in the tables of its retraining, or of the first run. This
module needs no TensorFlow.
"""
from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from tfrecal.data.vocabulary import id_column
from tfrecal.files import damaged
from tfrecal.retrain import records, versions
from tfrecal.retrain.config import RetrainConfig


class Unknown(ValueError):
    """It cannot be told which users a version knows."""


def loop_folder(base, loop=None) -> Path:
    """Returns the loop's folder of a base path."""
    return Path(loop) if loop else Path(f"{str(base).rstrip('/')}.loop")


def erased_users(version_folder, loop, store) -> int:
    """Returns how many erased users an exported version knows.

    Users who came back after they were erased count where the version was
    made before.

    Args:
        version_folder: the version's folder.
        loop: the loop's folder.
        store: the `FeedbackStore`.

    Raises:
        Unknown: the tables of the version are nowhere.
        ValueError: a file is damaged.
    """
    if not store.counts()["erased"]:
        return 0
    run = versions.run_of(version_folder)
    users = _users(Path(loop), run)
    return sum(until > _until(store, run)
               for until in store.erased(users).values())


def _until(store, run: str) -> float:
    if not run:
        return -math.inf
    found = store.retrainings()
    row = found[found["run_id"].astype(str) == run]
    if not len(row):
        return -math.inf
    return records.of_row(next(row.itertuples()), store.url).get(
        "until", -math.inf)


def _users(loop: Path, run: str) -> list[str]:
    if run:
        path = loop / "runs" / run / "tables" / "users.parquet"
    else:
        if not (loop / "config.json").is_file():
            raise Unknown(f"{loop} is no folder of a loop (`-o`)")
        path = Path(RetrainConfig.from_folder(loop).run) / "data" / (
            "users.parquet")
    if not path.is_file():
        raise Unknown(f"{path} is not there")
    try:
        table = pd.read_parquet(path)
        return id_column(table, "user_id").astype(str).tolist()
    except (ValueError, OSError, KeyError) as error:
        raise damaged(path, "The users that a version knows must be read",
                      f"which is damaged: {str(error).splitlines()[0]}",
                      "Bring it back from a copy.") from None
