"""Delivery: rows into a feedback store, or onto the disk until it is back."""
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
# The reason of the store for rows that must not be kept anywhere.
ERASED = "the user was erased"
_NUMBERS = ("time", "score", "propensity", "value")
_OPEN = 10.0  # seconds after which others may take a segment
_LONGEST_PAUSE = 60.0  # seconds until a store that failed is asked again


class Delivery:
    """Asks the store, after failures with growing pauses; else the disk.

    Args:
        store: as of `FeedbackLog`.
        spill: a `Spill`.
        batch: rows that are handed to the store at a time.

    Attributes:
        counts: rows by what became of them.
        notices: of what goes wrong.
    """

    def __init__(self, store, spill: Spill, batch: int):
        self.store, self.spill, self.batch = store, spill, batch
        self._lock = threading.Lock()
        self._begin()

    def to_store(self, table: str, rows: list[dict]) -> bool:
        """Whether the store answered; no while it is left in peace."""
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
        """Whether the disk took the rows."""
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
        """Brings spilled rows into the store, if that answers; without a
        store, lets others do so.

        Args:
            once: one segment, not all.
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
        # One that the store does not take must not keep others from it.
        paths.sort(key=lambda path: self._failures.get(path.name, 0))
        for path in paths:
            try:
                taken = self.spill.take(path, self.batch, self._write)
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
        """In a child: its own counts and locks."""
        self._lock = threading.Lock()
        self.spill.after_fork()
        self._begin()

    def _begin(self):
        self.counts = dict.fromkeys(
            ("written", "spilled", "rejected", "lost"), 0)
        self._pause, self._ask_at = 1.0, 0.0
        self._failures: dict[str, int] = {}
        self.notices = Notices(__name__)

    def _write(self, table: str, rows: list[dict]) -> None:
        """Into the store; rows that it cannot take are set aside."""
        try:
            frame = _frame(table, rows)
            added = getattr(self.store, f"add_{table}")(frame)
        except (TypeError, ValueError) as error:
            # Of the data, not of the connection: find the row.
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


def take_spilled(store, folder, batch: int = 5000) -> dict[str, int]:
    """Brings what logs have left in a folder into a store.

    A segment that a process writes just now stays: a log without a store
    lets it be taken after about ten seconds.

    Args:
        store: as of `FeedbackLog`.
        folder: the `spill` of logs.
        batch: rows that are handed to the store at a time.

    Returns:
        rows that were `written` (replayed ones too) and `rejected`, which
        are in `*.rejected` of the folder.

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
    delivery = Delivery(store, Spill(folder), batch)
    for path in delivery.spill.segments():
        delivery.spill.take(path, batch, delivery._write)
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
    """What JSON can hold, of a row that may hold anything."""
    return {key: value if value is None or isinstance(value, (str, int))
            or isinstance(value, float) and math.isfinite(value)
            else repr(value) for key, value in row.items()}
