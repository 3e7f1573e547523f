"""Delivery: brings rows into a feedback store, or else onto the disk."""
from __future__ import annotations

import json
import math
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.feedback.log.spill import Spill
from tfrecal.feedback.log.throttled_log import Notices

COLUMNS = {
    "shown": ("request_id", "rank", "time", "user_id", "item_id", "score",
              "propensity", "model", "version", "strategy"),
    "responses": ("event_id", "request_id", "user_id", "item_id", "time",
                  "kind", "value")}
# The store rejects rows for this reason if they must not be kept anywhere.
ERASED = "the user was erased"
_NUMBERS = ("time", "score", "propensity", "value")
_OPEN = 10.0  # seconds after which others may take a segment
_LONGEST_PAUSE = 60.0  # seconds until a store that failed is asked again


class Delivery:
    """Gives rows to the store, or to the disk while the store fails.

    After each failure the pause until the store is asked again grows.

    Args:
        store: the `store` of a `FeedbackLog`.
        spill: a `Spill`.
        chunk: number of rows that are handed to the store at a time.

    Attributes:
        counts: number of rows, by what became of them.
        notices: the `Notices` that tell what goes wrong.
    """

    def __init__(self, store, spill: Spill, chunk: int):
        self.store, self.spill, self.chunk = store, spill, chunk
        self._lock = threading.Lock()
        self._reset()

    def to_store(self, table: str, rows: list[dict]) -> bool:
        """Gives rows to the store; False where it fails or is in a pause."""
        if self.store is None or time.monotonic() < self._ask_at:
            return False
        try:
            self._write(table, rows)
        except Exception as error:  # whatever a database may raise
            self._failed(error)
            return False
        self._pause, self._ask_at = 1.0, 0.0
        return True

    def to_disk(self, table: str, rows: list[dict]) -> bool:
        """Gives rows to the disk; False where it does not take them."""
        try:
            self.spill.append(table, rows)
        except OSError as error:
            self.notices.say("disk", (
                "Feedback must be written to the disk where the store does "
                f"not take it. Received: {error!r} Free space; until then "
                "rows wait in memory."))
            return False
        self.count("spilled", len(rows))
        return True

    def replay(self, once: bool) -> None:
        """Brings spilled rows into the store, if that answers.

        Without a store it finishes the segments, so that others take them.

        Args:
            once: whether to bring one segment and not all.
        """
        if time.monotonic() < self._ask_at:
            return
        if self.store is None:  # another process takes them
            self.spill.finish()
            self._ask_at = time.monotonic() + _OPEN
            return
        paths = self.spill.segments()
        if not paths:
            return
        self.spill.finish()
        # A segment that the store refuses must not hold up the others.
        paths.sort(key=lambda path: self._failures.get(path.name, 0))
        for path in paths:
            try:
                taken = self.spill.take(path, self.chunk, self._write)
            except Exception as error:
                self._failures[path.name] = \
                    self._failures.get(path.name, 0) + 1
                self._failed(error)
                return
            self._pause = 1.0
            if taken and once:
                return

    def count(self, what: str, rows: int) -> None:
        with self._lock:
            self.counts[what] += rows

    def after_fork(self) -> None:
        """Gives a forked child its own counts and locks."""
        self._lock = threading.Lock()
        self.spill.after_fork()
        self._reset()

    def _reset(self):
        self.counts = dict.fromkeys(
            ("written", "spilled", "rejected", "lost"), 0)
        self._pause, self._ask_at = 1.0, 0.0
        self._failures: dict[str, int] = {}
        self.notices = Notices(__name__)

    def _write(self, table: str, rows: list[dict]) -> None:
        """Writes rows into the store; sets aside rows that it cannot take."""
        try:
            frame = _frame(table, rows)
            added = getattr(self.store, f"add_{table}")(frame)
        except (TypeError, ValueError) as error:
            # The data are at fault, not the connection: find the row.
            if len(rows) == 1:
                self._reject(table, [{**rows[0], "reason": str(error)}])
                return
            middle = len(rows) // 2
            self._write(table, rows[:middle])
            self._write(table, rows[middle:])
            return
        refused = json.loads(added.rejected.to_json(
            orient="records", double_precision=15))
        self.count("written", len(rows) - len(refused))
        kept = [row for row in refused if row.get("reason") != ERASED]
        self.count("rejected", len(refused) - len(kept))
        if kept:
            self._reject(table, kept)

    def _reject(self, table: str, rows: list[dict]) -> None:
        self.spill.append(table, [_plain(row) for row in rows], rejected=True)
        self.count("rejected", len(rows))
        self.notices.say("rejected", (
            f"The feedback store must take all rows. Received: {len(rows)} "
            f"that it refused, the first because {rows[0]['reason']} They "
            f"are in {self.spill.folder}/*.rejected; see `counts`."))

    def _failed(self, error: Exception) -> None:
        self._ask_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self.notices.say("store", (
            f"The feedback store must answer. Received: {error!r} Rows go "
            f"to {self.spill.folder} until it does."))


def take_spilled(store, folder, chunk: int = 5000) -> dict[str, int]:
    """Brings the rows that logs have left in a folder into a store.

    A segment that a process is still writing stays: a log without a store
    lets it be taken after about ten seconds.

    Args:
        store: the `store` of a `FeedbackLog`.
        folder: the `spill` of logs.
        chunk: number of rows that are handed to the store at a time.

    Returns:
        The number of rows `written` (replayed ones too) and `rejected`;
        rejected rows are in `*.rejected` of the folder.

    Raises:
        ValueError: there is no such folder.
        OSError: the store does not answer; nothing is lost.
    """
    if not Path(folder).is_dir():
        raise ValueError("The folder of spilled logs must exist. Received: "
                         f"{folder}. Give the `spill` of a FeedbackLog.")
    strangers = [path.name for path in Path(folder).glob("[!.]*")
                 if path.name.partition("-")[0] not in COLUMNS]
    if strangers:
        raise ValueError(
            "The folder of spilled logs must hold nothing else. Received: "
            f"{folder} with {', '.join(sorted(strangers)[:3])}. Give the "
            "files of events by their names.")
    delivery = Delivery(store, Spill(folder), chunk)
    for path in delivery.spill.segments():
        delivery.spill.take(path, chunk, delivery._write)
    delivery.spill.finish()
    return {name: delivery.counts[name] for name in ("written", "rejected")}


def _frame(table: str, rows: list[dict]):
    columns = {name: [row.get(name) for row in rows]
               for name in COLUMNS[table]}
    for name in _NUMBERS:
        if name in columns:  # None is NaN
            columns[name] = np.array(columns[name], float)
    return pd.DataFrame(columns)


def _plain(row: dict) -> dict:
    """Returns a row, which may hold anything, as values of JSON."""
    return {key: value if value is None or isinstance(value, (str, int))
            or isinstance(value, float) and math.isfinite(value)
            else repr(value) for key, value in row.items()}
