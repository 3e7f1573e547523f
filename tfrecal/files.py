"""Files that are there whole or not at all."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import filelock


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Has a file written beside its place, then renames it.

    A reader sees the old content or the new, whatever dies and whenever; the
    new one is on the disk when the call returns.

    Args:
        path: of the file; its folder is made.
        write: called with a temporary path in the same folder.
    """
    path = Path(path)
    make_folder(path.parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        sync_file(beside)
        os.replace(beside, path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder, and those above it, so that a loss of power keeps it."""
    path = Path(path)
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Returns when the content of a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Returns when the names in a folder are on the disk.

    Without it a loss of power can undo a rename that was seen already.
    """
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Returns when all that a folder holds is on the disk."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(place) / name)
        sync_folder(Path(place))


def lock_folder(folder: Path, refusal: str):
    """A context in which no other process may lock the folder.

    Args:
        folder: is made.
        refusal: what to say where another process is at work there.

    Raises:
        ValueError: one is.
    """
    make_folder(folder)
    try:
        return filelock.FileLock(Path(folder) / ".lock", timeout=0).acquire()
    except filelock.Timeout:
        raise ValueError(refusal) from None
