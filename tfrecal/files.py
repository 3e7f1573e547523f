"""Writes files and folders so that they are there whole or not at all."""
from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place, then renames it.

    A reader sees the old content or the new, even if a process dies or the
    power fails; the new content is on the disk when the call returns.

    Args:
        path: the file's path; its folder is made.
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


@contextlib.contextmanager
def replace_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """Gives an empty folder to write into, which then takes its place.

    The folder is written beside its place, synced, and renamed in one step.
    A folder that is there is put aside just before and removed just after; an
    error puts it back. After a process that was killed, the next call puts it
    back.

    Args:
        path: the folder's path; the folders above it are made.
        overwrite: whether a folder that is not empty may be replaced.

    Raises:
        OSError: the place is taken, and `overwrite` is False.

    Example:
        with replace_folder(path) as beside:
            (beside / "a.txt").write_text("a")
    """
    path = Path(path)
    make_folder(path.parent)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_SWAP}"):
        _tidy(left, path)
    swap = Path(tempfile.mkdtemp(_SWAP, f".{path.name}.", path.parent))
    new, old = swap / "new", swap / "old"
    try:
        with filelock.FileLock(swap / ".lock"):
            new.mkdir()
            yield new
            sync_tree(new)
            if overwrite and path.exists():
                os.rename(path, old)
            os.rename(new, path)
            sync_folder(path.parent)
    finally:
        _remove(swap, path)


# Suffix of the folder that holds a new folder, the one before and a lock.
_SWAP = ".swap"


def _tidy(left: Path, path: Path) -> None:
    """Undoes what a killed process began; leaves that of a living one."""
    if not {"new", "old"} & {one.name for one in left.iterdir()}:
        return  # it has just begun
    try:
        with filelock.FileLock(left / ".lock", timeout=0):
            _remove(left, path)
    except filelock.Timeout:
        pass


def _remove(swap: Path, path: Path) -> None:
    if not path.exists() and (swap / "old").exists():
        os.rename(swap / "old", path)
    shutil.rmtree(swap, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, and syncs them to the disk."""
    path = Path(path)
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Syncs a file: its content is on the disk when the call returns."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Syncs a folder: its names are on the disk when the call returns.

    Without it, a loss of power can undo a rename that was already seen.
    """
    if os.name == "nt":  # a folder cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Syncs all files and folders in a folder."""
    for place, _, names in os.walk(folder):
        for name in names:
            sync_file(Path(place) / name)
        sync_folder(Path(place))


def lock_folder(folder: Path, refusal: str):
    """Gives a context in which no other process may lock the folder.

    Args:
        folder: the folder; made where it is missing.
        refusal: the message of the error.

    Raises:
        ValueError: another process holds the lock.
    """
    make_folder(folder)
    try:
        return filelock.FileLock(Path(folder) / ".lock", timeout=0).acquire()
    except filelock.Timeout:
        raise ValueError(refusal) from None
