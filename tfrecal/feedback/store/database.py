"""The database behind a URL; a transaction is tried again while it is down.

The database is SQLite or PostgreSQL. There is one writer at a time (by
SQLite's own rule, or by an advisory lock in PostgreSQL). So times of
reception rise from commit to commit, writers of common keys do not deadlock,
and no row of a user comes in while that user is being erased.
"""
from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from tfrecal.feedback.store import migrations
from tfrecal.feedback.store.address import (
    FORMS,
    hide_password,
    hide_secrets,
    parse_address,
)
from tfrecal.files import make_folder

_log = logging.getLogger(__name__)

WRITERS = 5_206_372  # key of the advisory lock: any fixed number
# SQLSTATE classes and codes of PostgreSQL's passing errors: connections,
# transactions rolled back, too many clients, locks, shutdown.
_PASSING = ("08", "40", "53300", "55P03", "57P01", "57P02", "57P03")
# PostgreSQL's messages while connecting, where it gives no code.
_LASTING = ("authentication failed", "no password", "does not exist",
            "pg_hba.conf", "translate host name")
_STARTING = ("starting up", "shutting down", "accepting connections",
             "in recovery mode")
_BUGS = (sa.exc.IntegrityError, sa.exc.DataError, sa.exc.ProgrammingError,
         sa.exc.NotSupportedError)
_DENIED = "42501"


class FeedbackUnavailable(OSError):
    """The feedback database does not answer, or cannot store.

    Nothing of the transaction was stored, unless the connection was lost
    while it was committed; doing it again is safe.
    """


class Database:
    """A feedback database of the present schema.

    Args:
        url: `sqlite:///file`, `postgresql://user:password@host/name`, or the
            path of an SQLite file, which is made.
        patience: seconds for which a transaction is tried again while the
            database is locked, restarts or is down.

    Raises:
        ValueError: the URL is invalid or names another kind of database, or
            the database has a schema that this tfrecal does not know.
        ImportError: the driver is not installed.
        FeedbackUnavailable: the database cannot be opened.
    """

    def __init__(self, url, patience: float = 30.0):
        self.url = parse_address(url)
        self.patience = patience
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = self._make_engine()
        self._pid = os.getpid()
        self._told = False  # that the server is awaited
        self.write(migrations.upgrade, opening=True)

    @property
    def name(self) -> str:
        """The URL without its password."""
        return hide_password(self.url)

    def read(self, work: Callable):
        """Runs `work(connection)` in a transaction that reads one snapshot.

        Args:
            work: may run more than once.

        Returns:
            What `work` returns.
        """
        return self._transact(work, writing=False)

    def write(self, work: Callable, opening: bool = False):
        """Runs `work(connection)` in a transaction, as the only writer.

        Args:
            work: may run more than once; its effects are stored once.
            opening: whether the database is just being opened; a wrong
                address then fails at once.

        Returns:
            What `work` returns; its effects are on the disk then.
        """
        return self._transact(work, writing=True, opening=opening)

    def stream(self, statement, chunk: int):
        """Yields lists of at most `chunk` rows of one snapshot.

        An interruption in the middle is an error, because only the caller
        knows which rows came.
        """
        try:
            with self._connect(writing=False) as connection:
                found = connection.execution_options(
                    yield_per=chunk).execute(statement)
                yield from found.partitions()
        except sa.exc.DBAPIError as error:
            raise self._error(error) from error

    def scrub(self, tables=()) -> None:
        """Overwrites what was deleted.

        An SQLite file gets an empty journal, which otherwise keeps deleted
        rows while nobody else reads the database.

        Args:
            tables: names of the tables whose rows were erased: an SQLite
                file is written anew, because its pages keep parts of rows
                that were moved; PostgreSQL frees the rows of these tables.

        Raises:
            FeedbackUnavailable: `tables` are named, and another process
                holds the database for longer than `patience`.
        """
        if not self.sqlite:
            if tables:
                self._vacuum(tables)
            return
        with self._connect(writing=False) as connection:
            raw = connection.connection.driver_connection
            try:
                if tables:
                    raw.execute("VACUUM")
                busy, *_ = raw.execute(
                    "PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.OperationalError as error:
                busy = str(error)
        if busy and tables:
            raise FeedbackUnavailable(
                "An SQLite file must be written anew before what was deleted "
                f"is in none of its bytes. Received: {self.name}, which "
                "another process reads"
                + (f" ({busy})" if isinstance(busy, str) else "")
                + ". The rows are deleted; do the same again when it has "
                "ended.")

    def _vacuum(self, tables) -> None:
        try:
            with self._connect(writing=True).execution_options(
                    isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM " + ", ".join(tables))
        except sa.exc.DBAPIError as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._engine.dispose()

    def _transact(self, work, writing: bool, opening: bool = False):
        deadline = time.monotonic() + self.patience
        pause = 0.05
        while True:
            try:
                with self._connect(writing) as connection:
                    with connection.begin():
                        if writing and not self.sqlite:
                            connection.execute(sa.select(
                                sa.func.pg_advisory_xact_lock(WRITERS)))
                        return work(connection)
            except sa.exc.DBAPIError as error:
                if opening and not self.sqlite and _state(error) is None and (
                        isinstance(error, sa.exc.ProgrammingError)):
                    # psycopg itself refuses an option of the URL.
                    said = str(error.orig).strip().split("\n")[0]
                    raise ValueError(
                        f"{FORMS} Received: {self.name} with options that "
                        "the driver does not take: "
                        f"{hide_secrets(self.url, said)}.") from None
                late = time.monotonic() + pause > deadline
                if late or not self._passes(error, opening):
                    raise self._error(error) from error
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _connect(self, writing: bool):
        if self._pid != os.getpid():
            # Two processes must not talk over one connection.
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        options = {"tfrecal_writing": writing}
        if not self.sqlite and not writing:
            options["isolation_level"] = "REPEATABLE READ"
        return self._engine.connect().execution_options(**options)

    def _error(self, error) -> Exception:
        """Returns the exception that a caller gets for a driver's error."""
        if isinstance(error, _BUGS) and _state(error) != _DENIED:
            return error
        said = hide_secrets(
            self.url, str(error.orig).strip().split("\n")[0])
        return FeedbackUnavailable(
            "The feedback database must answer and take rows. Received: "
            f"{self.name}: {said}. Start it, free it or give it room, then "
            "do the same again: nothing is stored twice.")

    def _passes(self, error, opening: bool) -> bool:
        """Whether the same transaction may succeed when tried again."""
        said, state = str(error.orig).lower(), _state(error)
        if self.sqlite:
            return "locked" in said or "busy" in said
        if state is not None:
            return state.startswith(_PASSING)
        if any(text in said for text in _STARTING):
            if opening and not self._told:
                self._told = True
                _log.warning(
                    "The feedback database %s does not take connections yet; "
                    "waiting for it, for %g s at most.", self.name,
                    self.patience)
            return True
        # A wrong address must be noticed before `patience` is over.
        return (not opening and isinstance(error, sa.exc.OperationalError)
                and not any(text in said for text in _LASTING))

    def _make_engine(self):
        if self.sqlite:
            _make_private(Path(self.url.database))
            engine = sa.create_engine(
                self.url, connect_args={"timeout": self.patience})
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
            return engine
        limit = f"{round(1000 * self.patience) or 1}ms"  # 0 is none
        try:
            engine = sa.create_engine(
                self.url, paramstyle="format",
                connect_args={"connect_timeout": math.ceil(self.patience)})
        except ImportError as error:
            raise ImportError(
                "Feedback in PostgreSQL needs psycopg: "
                "pip install '.[postgres]'.") from error

        @sa.event.listens_for(engine, "connect")
        def prepare(connection, record):
            connection.execute("SELECT set_config('lock_timeout', %s, false)",
                               [limit])
            connection.commit()

        return engine


def is_there(url) -> bool:
    """Whether the file of an SQLite database exists; True for others."""
    url = parse_address(url)
    return (url.get_backend_name() != "sqlite"
            or Path(url.database).is_file())


def _make_private(path: Path) -> None:
    """Makes the file of a new database, readable by its owner only."""
    try:
        make_folder(path.parent)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise FeedbackUnavailable(
            "The feedback database must be a file that can be read and "
            f"written. Received: {path}: {error.strerror}.") from error


def _prepare_sqlite(connection, record) -> None:
    # SQLAlchemy begins transactions (`_begin_sqlite`); sqlite3 would begin
    # some too late.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    # NORMAL would lose the last commits when the power goes.
    connection.execute("PRAGMA synchronous=FULL")
    # Deleted rows are overwritten with zeros.
    connection.execute("PRAGMA secure_delete=ON")


def _begin_sqlite(connection) -> None:
    writing = connection.get_execution_options()["tfrecal_writing"]
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _state(error) -> str | None:
    return getattr(error.orig, "sqlstate", None)
