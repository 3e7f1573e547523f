"""Spill: keeps rows on disk until a process takes them."""
from __future__ import annotations

import fcntl
import itertools
import json
import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from tfrecal.files import make_folder, sync_folder

# Bytes after which a segment is finished and the next one begun.
_SEGMENT = 8 << 20


class Spill:
    """A folder of append-only JSONL segments, each with rows of one table.

    `<table>-<time>-<process>-<random>.jsonl` is plain JSONL. Processes may
    share the folder: a process that writes or takes a segment holds a lock on
    it (`flock`), which ends with the process, however that ends. Refused rows
    are kept in files that end with `.rejected`, which no process takes.

    Args:
        folder: a folder on a local disk; made where it is missing.

    Raises:
        ValueError: the folder cannot be made or written to.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            made = not self.folder.is_dir()
            make_folder(self.folder)
            if made:  # rows say what people did
                self.folder.chmod(0o700)
        except OSError as error:
            raise ValueError(
                "`spill` must be a folder that can be made. Received: "
                f"spill={str(folder)!r}: {error}") from error
        self._open: dict[str, int] = {}  # ending of a name -> descriptor
        self._lock = threading.Lock()

    def append(self, table: str, rows: list[dict], rejected: bool = False
               ) -> None:
        """Writes rows; returns when they are on the disk.

        Args:
            table: the name of their table.
            rows: dicts of strings, numbers and None, without NaN.
            rejected: whether they are to be kept but not to be taken.

        Raises:
            OSError: the disk does not take the rows; they may be given
                again.
        """
        content = b"".join([_encode(row) for row in rows])
        kind = f"{table}.jsonl" + (".rejected" if rejected else "")
        with self._lock:
            if kind not in self._open:
                self._open[kind] = self._new_segment(table, kind)
            place = self._open[kind]
            size = os.fstat(place).st_size
            try:
                _write_whole(place, content)
                os.fsync(place)
            except OSError:
                # The segment may end in half a line: no more may follow it.
                os.close(self._open.pop(kind))
                raise
            if size + len(content) >= _SEGMENT:
                os.close(self._open.pop(kind))

    def segments(self) -> list[Path]:
        """Returns all segments, those that others are writing too."""
        # `Path.glob` finds hidden files too. These are segments that are not
        # locked yet, so no process may take them.
        return sorted(path for path in self.folder.glob("*.jsonl")
                      if not path.name.startswith("."))

    def take(self, path: Path, chunk: int,
             deliver: Callable[[str, list[dict]], object]) -> int:
        """Hands the rows of a segment on and removes it.

        Lines that are not whole are moved to a file of refused rows. The last
        line of a process that died may be such a line.

        Args:
            path: one of `segments`.
            chunk: number of rows to hand on at a time.
            deliver: called with the table and rows. If it raises, so does
                this call, and the segment stays.

        Returns:
            The number of rows handed on; 0 where another process has the
            segment.
        """
        try:
            file = open(path, "r+b")
        except FileNotFoundError:
            return 0
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return 0
            if not path.exists():  # another took it between the two calls
                return 0
            table, count = path.name.partition("-")[0], 0
            while lines := list(itertools.islice(file, chunk)):
                rows, torn = _parse(lines)
                if rows:
                    deliver(table, rows)
                if torn:
                    self.append(table, torn, rejected=True)
                count += len(rows)
            path.unlink()
        return count

    def finish(self) -> None:
        """Ends all segments of this object, so that they can be taken."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def after_fork(self) -> None:
        """Leaves the segments to the parent, in a forked child."""
        self._lock = threading.Lock()
        # Closing them does not unlock them while the parent has them open.
        self.finish()

    def _new_segment(self, table: str, kind: str) -> int:
        name = f"{table}-{time.time_ns():020}-{os.getpid()}-" + \
            secrets.token_hex(4) + kind.removeprefix(table)
        hidden = self.folder / f".{name}"
        place = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_APPEND
                        | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            # It is locked before it can be seen; else it could be taken.
            fcntl.flock(place, fcntl.LOCK_EX)
            os.rename(hidden, self.folder / name)
            sync_folder(self.folder)
        except OSError:
            os.close(place)
            raise
        return place


def _write_whole(place: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(place, left):]


def _encode(row: dict) -> bytes:
    """Returns a row as a line of JSON.

    orjson takes a tenth of the time of `json`, which matters to a busy
    process; but only `json` writes halves of surrogate pairs, which ids may
    hold.
    """
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def _parse(lines: list[bytes]) -> tuple[list[dict], list[dict]]:
    """Returns the rows, and the lines that are none."""
    rows, torn = [], []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict):
            rows.append(row)
        else:
            torn.append({"line": line.decode("utf-8", "replace"),
                         "reason": "a line must be a whole JSON object"})
    return rows, torn
