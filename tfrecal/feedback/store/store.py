"""FeedbackStore: what was shown, what came back, what was learned of it."""
from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import sqlalchemy as sa

from tfrecal.checks import check_scale
from tfrecal.feedback.log.delivery import ERASED
from tfrecal.feedback.store import erasure, rows, schema, writing
from tfrecal.feedback.store.database import Database, is_there
from tfrecal.feedback.store.questions import QuestionTable
from tfrecal.feedback.store.retrainings import RunTable

_TABLES = {"shown": schema.shown, "responses": schema.responses}
_FLOATS = {"time", "score", "propensity", "value", "received"}


class FeedbackStore(QuestionTable, RunTable):
    """Feedback in SQLite or PostgreSQL; for many threads and processes.

    What a method has returned from is on the disk (in PostgreSQL, as its
    `synchronous_commit` says). A row is known by its
    key, `(request_id, rank)` or `event_id`. The same row again is a replay
    and only counted; another row under the same key is a contradiction: the
    first stays, the later one is rejected. Users, items and requests that
    nothing else tells of are normal: logs are late.

    Args:
        url: `sqlite:///file`, `postgresql://user:password@host/name`, or the
            path of an SQLite file, which is made.
        scale: `(lowest, highest)` rating; by default any from 0 on.
        patience: seconds for which a call goes on trying while the database
            is locked, restarts or is down.

    Raises:
        ValueError, ImportError, FeedbackUnavailable: see `Database`.

    Example:
        with FeedbackStore("feedback.db") as store:
            store.add_responses(pd.DataFrame({
                "event_id": ["e1"], "user_id": ["u7"], "item_id": ["i3"],
                "time": [time.time()], "kind": ["click"]}))
            frame = store.responses()
    """

    def __init__(self, url, scale: tuple[float, float] | None = None,
                 patience: float = 30.0):
        if scale is not None:
            check_scale(scale)
        self.scale = scale
        self._database = Database(url, patience)

    @property
    def url(self) -> str:
        """The URL without its password."""
        return self._database.name

    def __enter__(self) -> "FeedbackStore":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def add_shown(self, frame: pd.DataFrame) -> writing.Added:
        """Stores rows of lists that were shown, all of them or none.

        Args:
            frame: with `request_id`, `rank` (1 = first), `time`, `user_id`,
                `item_id`, `propensity`, and where they are known `score`,
                `model`, `version`, `strategy`; others are passed over.
        """
        return self._add(schema.shown, rows.check_shown(frame, time.time()))

    def add_responses(self, frame: pd.DataFrame) -> writing.Added:
        """Stores responses, all of them or none.

        Args:
            frame: with `event_id`, `user_id`, `item_id`, `time`, `kind`
                ("click", "rating", "purchase", "skip"), `value` (of a
                rating), and where there was a list `request_id`.
        """
        return self._add(schema.responses, rows.check_responses(
            frame, time.time(), self.scale))

    def _add(self, table, checked: rows.Checked) -> writing.Added:
        first = checked.reason.copy()

        def work(connection):
            checked.reason = first.copy()  # work may be done twice
            where, good = checked.good()
            gone, old = erasure.refused(
                connection, good["user_id"], good["time"])
            checked.reason[where[old]] = "older than what is kept"
            checked.reason[where[gone]] = ERASED
            if (gone | old).any():
                where, good = checked.good()
            if not len(where):
                return 0, 0
            new = writing.insert(connection, table, {
                **good, "received": np.full(len(where),
                                            _received(connection))})
            wrong = np.zeros(len(where), bool)
            if new < len(where):
                wrong = writing.contradicts(connection, table, good)
                keys = " and ".join(
                    column.name for column in table.primary_key)
                checked.reason[where[wrong]] = (
                    f"contradicts the row stored under its {keys}")
            return new, len(where) - new - int(wrong.sum())

        new, known = self._database.write(work)
        bad = checked.reason != ""
        if bad.any():
            self._keep_secret(checked, bad)
        return writing.Added(new, known, checked.frame[bad].assign(
            reason=checked.reason[bad]))

    def _keep_secret(self, checked, bad) -> None:
        """Rows of the erased are refused as theirs, whatever else they lack:
        then nobody keeps what is in them."""
        if "user_id" not in checked.frame:
            return
        users = [str(user) for user in
                 checked.frame["user_id"].to_numpy(object)[bad]]
        # No database holds halves of surrogate pairs.
        erased = self.erased({user for user in users if user.isprintable()})
        gone = [user in erased for user in users]
        checked.reason[np.flatnonzero(bad)[gone]] = ERASED

    def shown(self, since: float | None = None,
              until: float | None = None) -> pd.DataFrame:
        """Rows of lists with `since < received <= until`.

        Returns:
            ordered by time, request and rank, whatever the order of
            reception.
        """
        return self._whole("shown", since, until)

    def responses(self, since: float | None = None,
                  until: float | None = None) -> pd.DataFrame:
        """Responses with `since < received <= until`, by time and event."""
        return self._whole("responses", since, until)

    def chunks(self, table: str, since: float | None = None,
               until: float | None = None, chunk: int = 50_000
               ) -> Iterator[pd.DataFrame]:
        """As `shown` or `responses`, in parts; memory stays bounded.

        Args:
            table: "shown" or "responses".
            chunk: rows of a part.
        """
        if table not in _TABLES:
            raise ValueError("`table` must be 'shown' or 'responses'. "
                             f"Received: table={table!r}.")
        table = _TABLES[table]
        names = [column.name for column in table.columns]
        for part in self._database.stream(_select(table, since, until), chunk):
            yield _frame(part, names)

    def latest(self) -> float:
        """When the newest row was received; -inf where there is none.

        Rows that come later have a later `received`: what was read up to
        `until=latest()` is all that there will ever be up to then.
        """
        return self._database.read(_latest)

    def erase_user(self, user_id: str) -> dict[str, int]:
        """Deletes all that is stored of a user.

        Events of that user up to now (or up to the latest that was stored)
        are refused from now on: a file that is read again does not bring
        the user back. Later events are those of somebody who has signed up
        again, and welcome. Pools, models and exports made before are not
        touched: the next retraining leaves the user out (`erased`), and
        files of rejected rows and of spilled logs are the caller's. In an
        SQLite file the rows are overwritten; PostgreSQL frees them at its
        next VACUUM, and backups keep what they hold. Of the user remains a
        keyed hash of the id (`erasure.py`).

        Returns:
            deleted rows by table.
        """
        counts = self._database.write(lambda connection: erasure.erase_user(
            connection, str(user_id), time.time()))
        self._database.scrub()
        return counts

    def erased(self, user_ids) -> dict[str, float]:
        """The erased among users, with the time up to which they are.

        Labels from before that time must not be learned from.
        """
        return self._database.read(
            lambda connection: erasure.erased(connection, user_ids))

    def drop_before(self, limit: float) -> dict[str, int]:
        """Deletes lists, responses and questions from before a time.

        Rows from before it are refused from now on.

        Args:
            limit: seconds since the epoch, not after now.

        Returns:
            deleted rows by table.
        """
        if not limit <= time.time():
            raise ValueError(
                "`limit` must be seconds since the epoch, not after now: "
                "later feedback would be refused. Received: "
                f"limit={limit}.")
        counts = self._database.write(
            lambda connection: erasure.drop_before(connection, limit))
        self._database.scrub()
        return counts

    def counts(self, since: float | None = None) -> dict[str, int]:
        """How much there is: rows, rows no retraining has used, questions
        by state, runs, erased users.

        Args:
            since: then `later_responses` are those received after it.
        """
        def work(connection):
            def count(table, *where):
                return connection.execute(sa.select(sa.func.count())
                                          .select_from(table)
                                          .where(*where)).scalar()

            found = {name: count(table) for name, table in _TABLES.items()}
            found.update({
                f"unused_{name}": count(table, table.c.run_id.is_(None))
                for name, table in _TABLES.items()})
            found.update({
                state: count(schema.questions,
                             schema.questions.c.state == state)
                for state in schema.STATES})
            if since is not None:
                found["later_responses"] = count(
                    schema.responses, schema.responses.c.received > since)
            return {**found, "runs": count(schema.runs),
                    "erased": count(schema.erased)}

        return self._database.read(work)

    def _whole(self, name, since, until) -> pd.DataFrame:
        table = _TABLES[name]
        found = self._database.read(lambda connection: connection.execute(
            _select(table, since, until)).all())
        return _frame(found, [column.name for column in table.columns])


def named_store(url=None, scale=None, made: bool = False) -> FeedbackStore:
    """The store of a URL, or else of TFRECAL_FEEDBACK in the environment.

    Args:
        url, scale: see `FeedbackStore`.
        made: whether an SQLite file must be there already.

    Raises:
        ValueError: neither names one, or it is not there.
    """
    url = url or os.environ.get("TFRECAL_FEEDBACK")
    if not url:
        raise ValueError(
            "The feedback store must be named. Received: no --feedback and "
            "no TFRECAL_FEEDBACK in the environment. Give a file, such as "
            "feedback.db, or an SQLAlchemy URL.")
    if made and not is_there(url):
        raise ValueError("The feedback store must be there. Received: "
                         f"{url}, and no such file. Check the name.")
    return FeedbackStore(url, scale)


def _select(table, since, until):
    statement = sa.select(table)
    if since is not None:
        statement = statement.where(table.c.received > since)
    if until is not None:
        statement = statement.where(table.c.received <= until)
    return statement.order_by(table.c.time, *table.primary_key)


def _frame(found, names) -> pd.DataFrame:
    frame = pd.DataFrame(found, columns=names)
    types = {name: np.float64 for name in names if name in _FLOATS}
    types.update({name: np.int64 for name in ("rank", "version")
                  if name in names})
    return frame.astype({**types, "run_id": "Int64"})


def _latest(connection) -> float:
    found = [connection.execute(sa.select(sa.func.max(
        table.c.received))).scalar() for table in _TABLES.values()]
    return max((time for time in found if time is not None),
               default=-np.inf)


def _received(connection) -> float:
    """Now, but later than every row that is there, whatever clocks do."""
    return max(time.time(), float(np.nextafter(_latest(connection), np.inf)))
