"""Spill: rows on disk until something takes them."""
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

from tfrecal.files import sync_folder

# Bytes after which a segment is finished and the next one begun.
_SEGMENT = 8 << 20


class Spill:
    """A folder of append-only JSONL segments, each with rows of one table.

    `<table>-<time>-<process>-<random>.jsonl` is plain JSONL. Processes may
    share the folder: whoever writes or takes a segment holds a lock on it
    (`flock`), which ends with the process, however it ends. What is refused
    is kept in files that end with `.rejected`, which nobody takes.

    Args:
        folder: made when it is missing; on a local disk.

    Raises:
        ValueError: a folder that cannot be.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                "`spill` must be a folder that can be made. Received: "
                f"spill={str(folder)!r}: {error}") from error
        self._open: dict[str, int] = {}  # ending of a name -> descriptor
        self._lock = threading.Lock()

    def append(self, table: str, rows: list[dict], rejected: bool = False
               ) -> None:
        """Returns when the rows are on the disk.

        Args:
            table: what they are rows of.
            rows: of strings, numbers and None; no NaN.
            rejected: they are to be kept, but not to be taken.

        Raises:
            OSError: the disk does not take them; they may be given again.
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
                # Half a line may be there, and nothing may come after it.
                os.close(self._open.pop(kind))
                raise
            if size + len(content) >= _SEGMENT:
                os.close(self._open.pop(kind))

    def segments(self) -> list[Path]:
        """What there is to take, and what others write just now."""
        # `Path.glob` finds hidden files too: a segment that is about to be
        # seen, which nobody may take yet.
        return sorted(path for path in self.folder.glob("*.jsonl")
                      if not path.name.startswith("."))

    def take(self, path: Path, batch: int,
             deliver: Callable[[str, list[dict]], object]) -> int:
        """Hands the rows of a segment on and removes it.

        Lines that are not whole, as the last one of a process that died may
        be, are moved to a file of refused rows.

        Args:
            path: one of `segments`.
            batch: rows to hand on at a time.
            deliver: called with the table and rows. What it raises ends
                this, and the segment stays.

        Returns:
            Rows handed on; 0 where another has the segment.
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
            while lines := list(itertools.islice(file, batch)):
                rows, torn = _parse(lines)
                if rows:
                    deliver(table, rows)
                if torn:
                    self.append(table, torn, rejected=True)
                count += len(rows)
            path.unlink()
        return count

    def finish(self) -> None:
        """Lets all segments that this object writes be taken."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def after_fork(self) -> None:
        """In a child: the segments stay the parent's."""
        self._lock = threading.Lock()
        # Closing is no unlocking while the parent has them open.
        self.finish()

    def _new_segment(self, table: str, kind: str) -> int:
        name = f"{table}-{time.time_ns():020}-{os.getpid()}-" + \
            secrets.token_hex(4) + kind.removeprefix(table)
        hidden = self.folder / f".{name}"
        place = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_APPEND
                        | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            # Locked before it can be seen, or it could be taken too soon.
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
    """A line. A busy process pays for each, and `json` takes ten times as
    long; but it writes halves of surrogate pairs, which ids may hold."""
    try:
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return json.dumps(row, allow_nan=False).encode() + b"\n"


def _parse(lines: list[bytes]) -> tuple[list[dict], list[dict]]:
    """Rows, and what is none."""
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
