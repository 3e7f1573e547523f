"""Of which retraining is an exported version?"""
from __future__ import annotations

from tfrecal.export.manifest import read_manifest
from tfrecal.files import damaged


def run_of(folder) -> str:
    """Returns the `run_id` of a version's retraining, "" of the first run.

    Raises:
        ValueError: a file of the version is missing or damaged.
    """
    found = read_manifest(folder).get("run", "")
    if not is_run(found):
        raise damaged(
            folder, "A version of a loop must be the export of a retraining",
            f"whose manifest holds run={found[:60]!r}",
            "Go back to another (`tfrecal rollback`), or export the run anew "
            "(`tfrecal export`).")
    return found


def is_run(value) -> bool:
    """Whether a value names a retraining, or with "" the first run."""
    return isinstance(value, str) and (value == "" or (
        value.isascii() and value.isdecimal()))
