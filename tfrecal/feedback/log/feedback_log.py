"""FeedbackLog: records what was shown and what came back."""
from __future__ import annotations

import atexit
import itertools
import logging
import math
import os
import secrets
import time as clocks
import weakref
from collections.abc import Callable, Sequence

from tfrecal import checks
from tfrecal.feedback.log.delivery import COLUMNS, Delivery
from tfrecal.feedback.log.outbox import Outbox
from tfrecal.feedback.log.spill import Spill

_log = logging.getLogger(__name__)
_living: weakref.WeakSet[FeedbackLog] = weakref.WeakSet()


class FeedbackLog:
    """Takes rows in microseconds; threads bring them to a feedback store.

    Where the store fails, or where `most` rows wait for it, rows go to JSONL
    files in `spill`. From there they go into the store when it is back, by
    this process or by the next one that is given the folder (`tfrecal
    feedback ingest` reads the files too). A row may reach the store twice;
    the store knows it by its key. Rows that the store refuses are kept in
    `*.rejected`.

    Rows are lost in two cases. A process that is killed loses the rows that
    waited in memory: those of about `seconds`, or up to `most` rows while the
    store does not answer; `flush` returns when no earlier row waits. Where
    neither the store nor the disk takes anything, rows beyond twice `most`
    are dropped: they are counted as `lost` and logged as an error, and
    `close` raises.

    The log is closed by `close`, by `with`, or when the interpreter exits,
    but not by a signal that has no handler. A forked child starts with an
    empty queue.

    Args:
        store: has `add_shown` and `add_responses`, which take a DataFrame
            and return something with a frame `rejected`; an OSError says
            that it cannot be reached. None leaves all rows in `spill`, for
            a log of another process or `tfrecal feedback ingest`: a busy
            process then does far less work, and needs no access to the
            database.
        spill: a folder on a local disk; processes may share it.
        most: number of rows that may wait in memory.
        chunk: number of rows that are written at a time. A few large chunks
            keep the interpreter busy for less time than many small ones.
        seconds: time after which waiting rows are written even if they are
            fewer than `chunk`.
        clock: returns seconds since the epoch.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> with FeedbackLog(FeedbackStore("sqlite:///shop.db"),
        ...                  "spill") as log:
        ...     shop = Recommender("localhost:8500", log=log)
        ...     found = shop.recommend(["user 7"])
        ...     log.response(found.request_ids[0], found.item_ids[0][0],
        ...                  "click", user_id="user 7")
    """

    def __init__(self, store, spill, most: int = 10_000, chunk: int = 5000,
                 seconds: float = 1.0,
                 clock: Callable[[], float] = clocks.time):
        checks.positive(most=most, chunk=chunk, seconds=seconds)
        self.most, self.chunk, self.seconds = most, chunk, seconds
        self.clock = clock
        self._delivery = Delivery(store, Spill(spill), chunk)
        self._outbox = Outbox(
            self._delivery, _rows_of_entry, most, chunk, seconds)
        self._open = True
        self._number_ids()
        _living.add(self)

    def shown(self, user_id: str, item_ids: Sequence[str], *,
              scores: Sequence[float] | None = None,
              propensities: Sequence[float] | None = None,
              strategies: Sequence[str] | None = None, model: str = "",
              version: int = 0, request_id: str | None = None) -> str:
        """Records a list that a user is shown, the first item first.

        Args:
            user_id: a string.
            item_ids: strings.
            scores: the items' scores; None or NaN where there are none.
            propensities: the probability with which each item got to its
                rank; None for 1.
            strategies: names of the strategies that wanted the pairs, "" for
                the model's own items.
            model, version: what ranked the items.
            request_id: the list's id; None makes one.

        Returns:
            The request id, which responses name.

        Raises:
            TypeError: ids that are no strings.
            ValueError: lists of different lengths.
        """
        _require_texts(user_id=[user_id], item_ids=item_ids, model=[model],
                       strategies=strategies or ())
        for name, values in (("scores", scores), ("strategies", strategies),
                             ("propensities", propensities)):
            if values is not None and len(values) != len(item_ids):
                raise ValueError(
                    f"`{name}` must have one for each item. Received: "
                    f"{len(values)} for {len(item_ids)} items.")
        request_id = request_id or self.new_id()
        # Copies: what the caller does with its lists is not recorded.
        self._outbox.put(len(item_ids), (
            "shown", request_id, self.clock(), user_id, tuple(item_ids),
            _floats(scores), _floats(propensities),
            None if strategies is None else tuple(strategies), model,
            int(version)))
        return request_id

    def response(self, request_id: str, item_id: str, kind: str,
                 value: float | None = None, *, user_id: str,
                 event_id: str | None = None,
                 time: float | None = None) -> str:
        """Records what a user did with an item.

        Args:
            request_id: the id of the list that showed it, "" for no list.
            item_id: a string.
            kind: "click", "rating", "purchase" or "skip".
            value: the rating, for kind "rating"; otherwise it may be None,
                which stands for 0 for a skip and 1 for the other kinds.
            user_id: a string.
            event_id: the event's id; None makes one. A caller that may
                report an event twice must give the same id both times.
            time: seconds since the epoch; now when None.

        Returns:
            The event id.

        Raises:
            TypeError: ids that are no strings.
            ValueError: a rating without a value, or not finite.
        """
        _require_texts(request_id=[request_id], user_id=[user_id],
                       item_id=[item_id], kind=[kind])
        if value is None:
            if kind == "rating":
                raise ValueError("`value` must be given for a rating. "
                                 "Received: value=None.")
            value = 0.0 if kind == "skip" else 1.0
        time = self.clock() if time is None else time
        if not (math.isfinite(value) and math.isfinite(time)):
            raise ValueError("`value` and `time` must be finite. Received: "
                             f"value={value}, time={time}.")
        event_id = event_id or self.new_id()
        self._outbox.put(1, (
            "responses", event_id, request_id, user_id, item_id, float(time),
            kind, float(value)))
        return event_id

    def new_id(self) -> str:
        """Returns an id that no other list or event of any process has."""
        return f"{self._mark}{next(self._numbers):x}"

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of rows, by what became of them.

        They were `written` into the store (replayed ones too), `spilled` to
        the disk, `rejected` by the store or `lost`, or are `waiting` in
        memory.
        """
        return {**self._delivery.counts, "waiting": self._outbox.waiting}

    def flush(self, timeout: float = 10.0) -> bool:
        """Waits until all earlier rows are in the store or on the disk.

        Args:
            timeout: seconds.

        Returns:
            Whether they were in time.
        """
        return self._outbox.flush(timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Delivers the rows that wait and ends the threads.

        Args:
            timeout: seconds to wait for the store; rows that it has not
                taken by then go to the disk.

        Raises:
            OSError: rows were lost since the start.
        """
        if not self._open:
            return
        self._open = False
        self._outbox.close(timeout)
        self._delivery.spill.finish()
        lost = self._delivery.counts["lost"]
        if lost:
            raise OSError(
                f"All feedback must be kept. Received: {lost} rows that "
                "neither the store nor the disk took; they are lost. Free "
                "space on the disk and see that the store can be reached.")

    def __enter__(self) -> FeedbackLog:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _number_ids(self):
        # Random bytes are read once: a system call for each list would cost
        # more than everything else that the log does for a list.
        self._mark = f"{secrets.token_hex(12)}-"
        self._numbers = itertools.count(1)

    def _after_fork(self):
        self._number_ids()
        self._delivery.after_fork()
        self._outbox.after_fork()


def _require_texts(**values) -> None:
    for name, texts in values.items():
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"`{name}` must be of strings. Received: "
                                f"{text!r:.100}.")


def _floats(values) -> tuple | None:
    """Returns a copy as floats, with None for values that are not finite."""
    if values is None:
        return None
    values = values.tolist() if hasattr(values, "tolist") else values
    return tuple([float(value) if value is not None and math.isfinite(value)
                  else None for value in values])


def _rows_of_entry(table: str, *entry) -> tuple[str, list[dict]]:
    """Returns the table and the rows of an entry of the outbox."""
    if table == "responses":
        return table, [dict(zip(COLUMNS[table], entry))]
    (request_id, time, user_id, item_ids, scores, propensities, strategies,
     model, version) = entry
    size = len(item_ids)
    return table, [
        {"request_id": request_id, "rank": rank, "time": time,
         "user_id": user_id, "item_id": item_id, "score": score,
         "propensity": propensity, "model": model, "version": version,
         "strategy": strategy}
        for rank, (item_id, score, propensity, strategy) in enumerate(zip(
            item_ids, scores or [None] * size, propensities or [1.0] * size,
            strategies or [""] * size), 1)]


def _close_all():
    for log in list(_living):
        try:
            log.close()
        except OSError as error:
            _log.error("%s", error)


def _in_child():
    for log in list(_living):
        log._after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_in_child)
