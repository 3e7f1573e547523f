"""Which erased users does an exported version still know?

The feedback store keeps a keyed hash of each erased user. The ids that a
version knows are in the tables of its retraining, or of the first run.
"""
from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from tfrecal.data.vocabulary import id_column
from tfrecal.files import damaged
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain import models, records, versions
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop


class Unknown(ValueError):
    """It cannot be told which users a version knows."""


def loop_folder(base, loop=None) -> Path:
    """Returns the loop's folder of a base path."""
    return Path(loop) if loop else Path(f"{str(base).rstrip('/')}.loop")


def has_begun(loop) -> bool:
    """Whether a folder is that of a loop, also if its config is gone."""
    return any((Path(loop) / name).exists()
               for name in ("config.json", "name", "runs"))


def check_store(loop, store) -> None:
    """Checks that loop and store are those of the newest version.

    Nothing is checked where that version is not whole: a rollback leaves it.

    Raises:
        ValueError: they are not, or a file of the loop is damaged.
    """
    found = Loop(loop)
    try:
        run = found.served()[1]
    except ValueError:
        return
    found.check_owner(store, run)


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
    made = records.of_run(store, run).get("until", -math.inf)
    return sum(until > made for until in store.erased(users).values())


def _users(loop: Path, run: str) -> list[str]:
    if not has_begun(loop):
        raise Unknown(f"{loop} is no folder of a loop (`-o`)")
    if run:
        folder = loop / "runs" / run
        if not folder.exists():
            raise Unknown(f"{folder} is not there")
        models.check_model(folder)
        path = folder / "tables" / "users.parquet"
    else:
        folder = RetrainConfig.from_folder(loop).run
        if not Path(folder).exists():
            raise Unknown(f"{folder} is not there")
        path = RunFolder.of_run(folder).checked("data/users.parquet")
    try:
        table = pd.read_parquet(path)
        return id_column(table, "user_id").astype(str).tolist()
    except (ValueError, OSError, KeyError) as error:
        raise damaged(path, "The users that a version knows must be read",
                      f"which cannot be read: {error}",
                      "Bring it back from a copy.") from None
