"""Outbox: a bounded queue of rows, and the threads that empty it."""
from __future__ import annotations

import collections
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable

from tfrecal.feedback.log.delivery import Delivery


class Outbox:
    """Keeps entries until a thread delivers their rows.

    One thread brings chunks to the store, or to the disk when the store
    fails. While that thread waits for the store, a second one moves all
    entries to the disk whenever `most` rows wait.

    Args:
        delivery: a `Delivery`.
        rows: makes the rows of an entry, `(table, ...) -> table, rows`.
        most, chunk, seconds: see `FeedbackLog`.
    """

    def __init__(self, delivery: Delivery, rows: Callable, most: int,
                 chunk: int, seconds: float):
        self.delivery, self.rows = delivery, rows
        self.most, self.chunk, self.seconds = most, chunk, seconds
        self._reset()
        self._start()

    @property
    def waiting(self) -> int:
        """Number of rows in memory."""
        return self._waiting

    def put(self, size: int, entry: tuple) -> None:
        """Takes an entry of `size` rows, without waiting for store or disk."""
        with self._lock:
            if self._stop.is_set():
                raise ValueError("`log` must be open. Received: a closed one.")
            if not self._threads:  # in a child
                self._start()
            if self._waiting <= 2 * self.most:
                self._queue.append((self._next, size, entry))
                self._next += 1
                self._queued += size
                self._waiting += size
                if self._queued >= self.chunk:
                    self._ready.notify()
                if self._queued >= self.most:
                    self._full.notify()
                return
        self._lose(size)

    def flush(self, timeout: float) -> bool:
        """Waits for all earlier entries; False if `timeout` seconds pass."""
        with self._lock:
            self._hurried = until = self._next
            self._ready.notify()
            return self._done.wait_for(
                lambda: self._oldest() >= until, timeout)

    def close(self, timeout: float) -> None:
        """Delivers everything and ends the threads.

        Rows that the store has not taken within `timeout` seconds go to the
        disk, and rows that the disk does not take are lost.
        """
        with self._lock:
            self._stop.set()
            self._ready.notify()
            self._full.notify()
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0, until - time.monotonic()))
        with self._lock:  # what threads took that still wait for the store
            left = [*itertools.chain(*self._taken.values()), *self._queue]
            self._taken.clear()
            self._queue.clear()
            self._queued = self._waiting = 0
        self._deliver_by(left, [self.delivery.to_disk])

    def after_fork(self) -> None:
        """Empties the queue of a forked child; its threads start later.

        The entries that waited are delivered by the parent.
        """
        closed = self._stop.is_set()
        self._reset()
        if closed:
            self._stop.set()

    def _reset(self):
        self._lock = threading.Lock()
        self._ready, self._full, self._done = (
            threading.Condition(self._lock) for _ in range(3))
        self._stop = threading.Event()
        self._queue = collections.deque()  # (number, size, entry)
        self._taken: dict[int, list] = {}  # entries that threads deliver
        self._next = self._hurried = self._queued = self._waiting = 0
        self._threads: list[threading.Thread] = []

    def _start(self):
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("feedback to store", self._to_store),
                               ("feedback to disk", self._to_disk))]
        for thread in self._threads:
            thread.start()

    def _to_store(self):
        ways = [self.delivery.to_store, self.delivery.to_disk]
        while True:
            with self._lock:
                self._ready.wait_for(self._is_ready, self.seconds)
                entries = self._take(self.chunk)
            if entries:
                self._deliver(entries, ways)
            elif self._stop.is_set():
                return
            if not self._stop.is_set():
                # New rows wait for one file of old rows at most.
                self.delivery.replay(once=bool(entries))

    def _is_ready(self) -> bool:
        return self._queued >= self.chunk or self._stop.is_set() or bool(
            self._queue) and self._queue[0][0] < self._hurried

    def _to_disk(self):
        while True:
            with self._lock:
                self._full.wait_for(
                    lambda: self._queued >= self.most or self._stop.is_set())
                if self._stop.is_set():
                    return  # the other thread and `close` do the rest
                entries = self._take(math.inf)
            self.delivery.notices.say("full", (
                f"At most {self.most} rows of feedback may wait. Received: "
                "more; they go to the disk. See what keeps the store."))
            self._deliver(entries, [self.delivery.to_disk])

    def _take(self, most: float) -> list:
        """Takes entries from the queue for this thread to deliver."""
        found, size = [], 0
        while self._queue and size < most:
            found.append(self._queue.popleft())
            size += found[-1][1]
        self._queued -= size
        if found:
            self._taken[threading.get_ident()] = found
        return found

    def _oldest(self) -> int:
        """Returns the number of the first entry that is not delivered yet."""
        firsts = [entries[0][0] for entries in self._taken.values()]
        if self._queue:
            firsts.append(self._queue[0][0])
        return min(firsts, default=self._next)

    def _deliver(self, entries, ways):
        self._deliver_by(entries, ways)
        with self._lock:
            # `close` may have delivered them meanwhile.
            if self._taken.pop(threading.get_ident(), None):
                self._waiting -= sum(size for _, size, _ in entries)
            self._done.notify_all()

    def _deliver_by(self, entries, ways):
        """Tries the ways in turn until one takes the rows.

        Once the log is closing, each way is tried once more and the rest is
        lost.
        """
        found = {}
        for _, _, entry in entries:
            table, rows = self.rows(*entry)
            found.setdefault(table, []).extend(rows)
        for table, rows in found.items():
            while True:
                last = self._stop.is_set()
                if any(way(table, rows) for way in ways):
                    break
                if last:
                    self._lose(len(rows))
                    break
                self._stop.wait(1.0)

    def _lose(self, size: int):
        self.delivery.count("lost", size)
        self.delivery.notices.say("lost", (
            "Feedback must be taken by the store or by the disk. Received: "
            f"neither took it, and {2 * self.most} rows may wait. Rows are "
            "lost: `counts` says how many."), logging.ERROR)
