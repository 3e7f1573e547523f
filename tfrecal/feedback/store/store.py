"""FeedbackStore: what was shown, what came back, and what has used it."""
from __future__ import annotations

import os
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import sqlalchemy as sa

from tfrecal.checks import check_scale
from tfrecal.feedback.log.delivery import ERASED
from tfrecal.feedback.store import erasure, ratings, rows, schema, writing
from tfrecal.feedback.store.address import hide_password, parse_address
from tfrecal.feedback.store.database import Database, is_there
from tfrecal.feedback.store.questions import QuestionTable
from tfrecal.feedback.store.retrainings import RetrainingTable

_TABLES = {"shown": schema.shown, "responses": schema.responses}
_FLOATS = {"time", "score", "propensity", "value", "received"}


class FeedbackStore(QuestionTable, RetrainingTable):
    """Feedback in SQLite or PostgreSQL, for many threads and processes.

    When a method returns, what it wrote is on the disk (in PostgreSQL, as
    `synchronous_commit` says). A row is known by its key, `(request_id,
    rank)` or `event_id`. The same row again is a replay and is only counted.
    Another row under the same key is a contradiction: the first row stays and
    the later one is rejected. A row may name users, items and requests that
    no other row names, because logs may come late.

    Ids of users and items are cleaned as in tables (`clean_id`), everywhere
    that a method takes one: white space around them is cut, and 7 and 7.0
    become "7". Ids of events and requests lose white space only. Numbers that
    a float has rounded are refused. Times are seconds or ISO 8601, each cell
    by itself; times without a zone are in UTC, and times before 1990 are
    refused, because dates such as 20260501, years and days of a spreadsheet
    lie there.

    Args:
        url: `sqlite:///file`, `postgresql://user:password@host/name`, or the
            path of an SQLite file, which is made.
        scale: `(lowest, highest)` rating, which the database keeps for later;
            by default the one that it was given last, or any rating from 0
            on.
        patience: seconds for which a call tries again while the database is
            locked, restarts or is down.

    Raises:
        ValueError: a stored rating lies off the scale; also see `Database`.
        ImportError, FeedbackUnavailable: see `Database`.

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
        self._database = Database(url, patience)
        self.scale = self._database.read(ratings.kept_scale)
        if scale is not None and tuple(map(float, scale)) != self.scale:
            try:
                self._database.write(
                    lambda connection: ratings.keep_scale(connection, scale))
            except ValueError:
                self.close()
                raise
            self.scale = tuple(map(float, scale))

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
            frame: has `request_id`, `rank` (1 = first), `time`, `user_id`,
                `item_id`, `propensity`, and where they are known `score`,
                `model`, `version`, `strategy`; other columns are ignored.

        Returns:
            What became of the rows.
        """
        return self._add(schema.shown, rows.check_shown(frame, time.time()))

    def add_responses(self, frame: pd.DataFrame) -> writing.Added:
        """Stores responses, all of them or none.

        Args:
            frame: has `event_id`, `user_id`, `item_id`, `time`, `kind`
                ("click", "rating", "purchase", "skip"), `value` (for a
                rating), and `request_id` where a list was shown.

        Returns:
            What became of the rows.
        """
        return self._add(schema.responses, rows.check_responses(
            frame, time.time(), self.scale))

    def _add(self, table, checked: rows.Checked) -> writing.Added:
        first = checked.reason.copy()

        def work(connection):
            checked.reason = first.copy()  # `work` may run twice
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
        """Refuses rows of erased users as such, whatever else they lack.

        Then their content is kept nowhere.
        """
        if "user_id" not in checked.frame:
            return
        users = checked.ids("user_id")[bad]
        # No database holds halves of surrogate pairs.
        erased = self.erased({user for user in users if user.isprintable()})
        gone = [user in erased for user in users]
        checked.reason[np.flatnonzero(bad)[gone]] = ERASED

    def shown(self, since: float | None = None,
              until: float | None = None) -> pd.DataFrame:
        """Returns rows of lists with `since < received <= until`.

        Returns:
            Rows ordered by time, request and rank, whatever the order in
            which they were received.
        """
        return self._read_all("shown", since, until)

    def responses(self, since: float | None = None,
                  until: float | None = None) -> pd.DataFrame:
        """Returns responses with `since < received <= until`.

        Returns:
            Rows ordered by time and event.
        """
        return self._read_all("responses", since, until)

    def chunks(self, table: str, since: float | None = None,
               until: float | None = None, chunk: int = 50_000
               ) -> Iterator[pd.DataFrame]:
        """Yields what `shown` or `responses` returns, in bounded memory.

        Args:
            table: "shown" or "responses".
            since, until: as in `shown`.
            chunk: number of rows of a frame.
        """
        if table not in _TABLES:
            raise ValueError("`table` must be 'shown' or 'responses'. "
                             f"Received: table={table!r}.")
        table = _TABLES[table]
        names = [column.name for column in table.columns]
        for part in self._database.stream(_select(table, since, until), chunk):
            yield _frame(part, names)

    def latest(self) -> float:
        """Returns when the newest row was received; -inf without any row.

        Rows that come later have a later `received`. So what is read with
        `until=latest()` never gets further rows.
        """
        return self._database.read(_latest)

    def erase_user(self, user_id: str) -> dict[str, int]:
        """Deletes all that is stored of a user.

        Events of that user up to now (or up to the latest that was stored)
        are refused from now on, so a file that is read again does not bring
        the user back. Later events are accepted: the user has signed up
        again. Pools, models and exports that were made before are not
        touched; the next retraining leaves the user out (`erased`). Files of
        rejected rows and of spilled logs are left to the caller. An SQLite
        file is written anew without the rows (VACUUM). PostgreSQL is told to
        VACUUM; its write-ahead log, replicas and backups keep what they hold.
        Only a keyed hash of the user's id remains (`erasure.py`).

        Args:
            user_id: the user's id, as in logs: white space around it is cut.

        Returns:
            The number of deleted rows by table.

        Raises:
            ValueError: the id is empty.
            FeedbackUnavailable: besides the usual, another process still
                reads an SQLite file as it was: the rows are deleted, and
                their bytes go when the user is erased again.
        """
        user_id = rows.clean_ids([user_id], "user_id")[0]
        if not user_id:
            raise ValueError("`user_id` must be an id. Received: an empty "
                             "one.")
        counts = self._database.write(lambda connection: erasure.erase_user(
            connection, user_id, time.time()))
        self._database.scrub(erasure.CHANGED)
        return counts

    def erased(self, user_ids) -> dict[str, float]:
        """Returns the erased among users -> the time up to which they are.

        The keys are the users as given; they are compared without white
        space around them. Labels from before that time must not be learned
        from.
        """
        return self._database.read(
            lambda connection: erasure.erased(connection, user_ids))

    def drop_before(self, limit: float) -> dict[str, int]:
        """Deletes lists, responses and questions from before a time.

        Rows from before that time are refused from now on.

        Args:
            limit: seconds since the epoch, not after now.

        Returns:
            The number of deleted rows by table.
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

    def first_seen(self, since: float) -> dict[str, int]:
        """Counts users and items of whom nothing is known from before.

        Args:
            since: what was received later is asked about.

        Returns:
            The number of `users` and `items` of lists and responses received
            after `since` that stand in none received until then.
        """
        def distinct(column, later: bool):
            return sa.union(*(sa.select(table.c[column]).where(
                (table.c.received > since) if later
                else (table.c.received <= since))
                for table in _TABLES.values()))

        def work(connection):
            return {name: connection.execute(
                sa.select(sa.func.count()).select_from(sa.except_(
                    distinct(column, True).subquery().select(),
                    distinct(column, False).subquery().select()).subquery())
            ).scalar() for name, column in (
                ("users", "user_id"), ("items", "item_id"))}

        return self._database.read(work)

    def counts(self, since: float | None = None) -> dict[str, int]:
        """Counts what the store holds.

        Args:
            since: seconds since the epoch, or None; with it, the counts have
                `later_responses`, those received after it.

        Returns:
            The number of rows, of rows that no retraining has used, of
            questions by state, of retrainings (`runs`) and of erased users.
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

    def _read_all(self, name, since, until) -> pd.DataFrame:
        table = _TABLES[name]
        found = self._database.read(lambda connection: connection.execute(
            _select(table, since, until)).all())
        return _frame(found, [column.name for column in table.columns])


def named_store(url=None, scale=None, made: bool = False) -> FeedbackStore:
    """Opens the store of a URL, or of TFRECAL_FEEDBACK in the environment.

    Args:
        url, scale: see `FeedbackStore`.
        made: whether an SQLite file must be there already.

    Raises:
        ValueError: neither names a store, or the file is not there.
    """
    url = url or os.environ.get("TFRECAL_FEEDBACK")
    if not url:
        raise ValueError(
            "The feedback store must be named. Received: no --feedback and "
            "no TFRECAL_FEEDBACK in the environment. Give a file, such as "
            "feedback.db, or an SQLAlchemy URL.")
    if made and not is_there(url):
        raise ValueError("The feedback store must be there. Received: "
                         f"{hide_password(parse_address(url))}, and no such "
                         "file. Check the name.")
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
    """Returns the time now, or one later than every row's if clocks lag."""
    return max(time.time(), float(np.nextafter(_latest(connection), np.inf)))
