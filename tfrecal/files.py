"""Files and folders that are there whole or not at all, and say so.

What is written here is private: files of 0600 in folders of 0700, as they
hold people's ids. What is to be shared passes `private=False` and follows the
umask: exports, which a server under another account reads, a report that is
written outside of its folder, encoders, and caches of texts and public data.
What is there already keeps the modes that its owner gave it.

A file that this program reads again is checked: a sealed JSON file begins
with a CRC-32 of itself (`write_sealed`), and lists the sums of the files that
belong to it (`file_sum`). Files of earlier versions have none and are read
without.
"""
from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

#: Format of sealed files; those of earlier versions had no seal.
FORMAT = 2
#: File with the sums of those of its folder; earlier versions had none.
SUMS = "sums.json"
_LONG = 300  # characters of another library's message
_OTHERS = 0o077  # the rights of group and others
_SEAL = re.compile(rb'\{"sum":"([0-9a-f]{8})",')


def replace_file(path: Path, write: Callable[[Path], object],
                 private: bool = True) -> None:
    """Writes a file beside its place, then renames it.

    A reader sees the old content or the new, even if a process dies or the
    power fails; the new content is on the disk when the call returns.

    Args:
        path: the file's path; its folder is made.
        write: called with a temporary path in the same folder.
        private: whether a new file is its owner's alone (see the module).

    Raises:
        ValueError: a folder is in its place.
    """
    path = Path(path)
    if path.is_dir():
        raise damaged(path, "A file must have a place of its own",
                      "which is a folder", "Move it away.")
    make_folder(path.parent, private)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if private:  # before anything is in it
            beside.touch(0o600)
            beside.chmod(0o600)
        write(beside)
        if path.is_file():
            beside.chmod(stat.S_IMODE(path.stat().st_mode))
        sync_file(beside)
        os.replace(beside, path)
        sync_folder(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, private: bool = True) -> None:
    """Writes bytes as `replace_file` does."""
    replace_file(path, lambda beside: beside.write_bytes(content), private)


@contextlib.contextmanager
def replace_folder(path: Path, overwrite: bool = False,
                   private: bool = True) -> Iterator[Path]:
    """Gives an empty folder to write into, which then takes its place.

    The folder is written beside its place, synced, and renamed in one step.
    A folder that is there is put aside just before and removed just after; an
    error puts it back. After a process that was killed, the next call puts it
    back.

    Args:
        path: the folder's path; the folders above it are made.
        overwrite: whether a folder that is not empty may be replaced.
        private: whether what is new in it is its owner's alone.

    Raises:
        OSError: the place is taken, and `overwrite` is False.

    Example:
        with replace_folder(path) as beside:
            (beside / "a.txt").write_text("a")
    """
    path = Path(path)
    make_folder(path.parent, private)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{_SWAP}"):
        _tidy(left, path)
    swap = Path(tempfile.mkdtemp(_SWAP, f".{path.name}.", path.parent))
    new, old = swap / "new", swap / "old"
    try:
        with filelock.FileLock(swap / ".lock"):
            new.mkdir()
            yield new
            _set_modes(new, path, private)
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


def _set_modes(new: Path, old: Path, private: bool) -> None:
    """Gives what replaces something its mode, and the rest those of new."""
    for path in (new, *new.rglob("*")):
        before = old / path.relative_to(new)
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode & ~_OTHERS if private else mode
        if before.exists():
            wanted = stat.S_IMODE(before.stat().st_mode)
        if wanted != mode:
            path.chmod(wanted)


def make_folder(path: Path, private: bool = True) -> None:
    """Makes a folder and those above it, and syncs them to the disk.

    Args:
        path: the folder's path.
        private: whether those that are made are their owner's alone.
    """
    path = Path(path)
    if not path.is_dir():
        make_folder(path.parent, private)
        path.mkdir(0o700 if private else 0o777, exist_ok=True)
        sync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Makes files private that a library wrote into a private folder.

    Nothing is done in a folder that its owner has opened to others.
    """
    folder = Path(folder)
    if folder.is_dir() and not folder.stat().st_mode & _OTHERS:
        for path in folder.rglob("*"):
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & _OTHERS:
                path.chmod(mode & ~_OTHERS)


def open_private(path, flags: int) -> int:
    """Opens as `os.open`, for `open(opener=...)`: a new file is private."""
    return os.open(path, flags, 0o600)


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
        return filelock.FileLock(Path(folder) / ".lock", timeout=0,
                                 mode=0o600).acquire()
    except filelock.Timeout:
        raise ValueError(refusal) from None


def damaged(path, must: str, why, cure: str) -> ValueError:
    """Returns the error, in one line, of a file that cannot be used.

    Args:
        path: the file's path.
        must: what must hold of it, a sentence without its full stop.
        why: what is wrong with it, or the error that says so.
        cure: what to do.
    """
    why = " ".join(str(why).split()).rstrip(".")
    if len(why) > _LONG:
        why = why[:_LONG] + " ..."
    return ValueError(f"{must}. Received: {path}, {why}. {cure}")


def _absent(path: Path) -> str:
    """Says what is in the place of a file, if it is no file."""
    if path.is_dir():
        return "which is a folder"
    return "" if path.is_file() else "which is missing"


def _content(path, must: str, cure: str) -> bytes:
    path = Path(path)
    wrong = _absent(path)
    content = b"" if wrong else path.read_bytes()
    if not content.strip():
        raise damaged(path, must, wrong or "which is empty", cure)
    return content


def _parsed(path, content: bytes, must: str, cure: str) -> dict:
    try:
        found = json.loads(content)
    except RecursionError:
        raise damaged(path, must, "which is nested too deeply",
                      cure) from None
    except ValueError as error:
        raise damaged(path, must, f"which is no JSON: {error}",
                      cure) from None
    if not isinstance(found, dict):
        raise damaged(path, must, "which is no JSON object", cure)
    return found


def write_sealed(path, content: dict, private: bool = True,
                 indent: int | None = None) -> None:
    """Writes a JSON object that begins with a CRC-32 of the rest.

    Args:
        path: the file's path.
        content: name -> value, for JSON.
        private: see `replace_file`.
        indent: as of `json.dumps`.
    """
    text = json.dumps({"format": FORMAT, **content}, indent=indent)
    body = text[1:].encode()
    seal = b'{"sum":"%08x",' % zlib.crc32(body)
    write_bytes(path, seal + body, private)


def read_sealed(path, must: str, cure: str) -> dict:
    """Reads what `write_sealed` wrote, in this or an earlier version.

    Args:
        path: the file's path.
        must, cure: as of `damaged`.

    Returns:
        The object; with `format` if it was sealed.

    Raises:
        ValueError: the file is missing, damaged or of a later version.
    """
    content = _content(path, must, cure)
    seal = _SEAL.match(content)
    if seal and int(seal[1], 16) != zlib.crc32(content[seal.end():]):
        raise damaged(path, must, "which is damaged: its checksum differs",
                      cure)
    found = _parsed(path, content, must, cure)
    version = found.get("format", 0)
    if not isinstance(version, int) or not seal and (
            version >= FORMAT or {"sum", "files"} & found.keys()):
        raise damaged(path, must, "which is damaged: its checksum is missing",
                      cure)
    if version > FORMAT:
        raise damaged(path, must, f"of format {version}, and this version "
                      f"reads up to {FORMAT}", "Update tfrecal.")
    found.pop("sum", None)
    return found


def file_sum(path) -> list[int]:
    """Returns the size of a file and the CRC-32 of its content."""
    size = crc = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 22):
            size, crc = size + len(part), zlib.crc32(part, crc)
    return [size, crc]


def read_sums(folder) -> dict[str, list]:
    """Returns the sums that `write_sums` wrote; empty where there are none.

    Raises:
        ValueError: `sums.json` is damaged.
    """
    path = Path(folder) / SUMS
    if not path.exists():
        return {}
    must = "The checksums of a folder must be as they were written"
    cure = "Delete it: files are then checked by their form."
    found = read_sealed(path, must, cure).get("files")
    if not isinstance(found, dict):
        raise damaged(path, must, "which names no files", cure)
    return found


def write_sums(folder, sums: dict[str, list]) -> None:
    """Writes name -> sums of files in a folder, see `check_file`."""
    write_sealed(Path(folder) / SUMS, {"files": sums})


def sums_of(folder, names) -> dict[str, list]:
    """Returns name -> sums of files in a folder, for `check_file`."""
    return {name: [file_sum(Path(folder) / name)] for name in names}


def check_file(folder, name: str, sums: dict, cure: str,
               content: bool = True) -> Path:
    """Checks that a file of a folder is as it was written.

    Args:
        folder: the folder's path.
        name: the file's name in it.
        sums: name -> the sums that it may have, each `[size, crc]`: several
            where a kill may have left the file of before. A file that is not
            in it is only looked for.
        cure: what to do.
        content: whether to read it; otherwise its size counts alone.

    Returns:
        Path of the file.

    Raises:
        ValueError: it is not.
    """
    path, known = Path(folder) / name, sums.get(name)
    must = f"Every file of {folder} must be as it was written"
    wrong = _absent(path)
    if wrong:
        raise damaged(path, must, wrong, cure)
    if known is None:
        return path
    size = path.stat().st_size
    if size not in [one for one, _ in known]:
        raise damaged(path, must, f"which has {size:,} bytes where "
                      f"{known[0][0]:,} were written", cure)
    if content and file_sum(path) not in known:
        raise damaged(path, must, "whose bytes are others than were written",
                      cure)
    return path
