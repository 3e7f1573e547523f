"""A real PostgreSQL for tests, started where its programs are installed."""
from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def why_not() -> str | None:
    """Why there is no PostgreSQL here; None where there is one."""
    if os.environ.get("TFRECAL_TEST_POSTGRES"):
        return None
    if _program("initdb") is None or _program("postgres") is None:
        return "no programs of PostgreSQL (initdb, postgres), and no URL in " \
               "TFRECAL_TEST_POSTGRES"
    if os.getuid() == 0 and _account() is None:
        return "PostgreSQL refuses to run as root, and there is no other user"
    return None


class Postgres:
    """A server of its own, in a temporary folder, on a port of loopback.

    Example:
        with Postgres() as server:
            store = FeedbackStore(server.new_database())
            server.restart()
    """

    def __enter__(self) -> "Postgres":
        self._folder = Path(tempfile.mkdtemp(prefix="tfrecal-postgres-"))
        self._data = self._folder / "data"
        self._log = open(self._folder / "log", "ab")
        self._process, self._made = None, 0
        self._user = {}
        if os.getuid() == 0:
            account = _account()
            self._user = {"user": account.pw_uid, "group": account.pw_gid,
                          "extra_groups": []}
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        # No sync only here: the making of an empty cluster.
        subprocess.run(
            [_program("initdb"), "-D", self._data, "-U", "tfrecal", "-A",
             "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, stdout=self._log, stderr=self._log, cwd="/",
            **self._user)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        if self._process is not None:
            self.stop()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        self._process = subprocess.Popen(
            [_program("postgres"), "-D", self._data, "-p", str(self.port),
             "-h", "127.0.0.1", "-k", self._folder],
            stdout=self._log, stderr=self._log, cwd="/", **self._user)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(Exception), self._connect():
                return
            if self._process.poll() is not None or (
                    time.monotonic() > deadline):
                raise RuntimeError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops it as a crash does: connections are cut, nothing is tidied.

        What it acknowledged it must have on the disk.
        """
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._made += 1
        with self._connect() as connection:
            connection.execute(_named("CREATE DATABASE {}",
                                      f"test_{self._made}"))
        return (f"postgresql://tfrecal:secret@127.0.0.1:{self.port}"
                f"/test_{self._made}")

    def _connect(self):
        import psycopg

        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="tfrecal",
            dbname="postgres", autocommit=True)


class GivenPostgres:
    """The server that TFRECAL_TEST_POSTGRES names; its user makes schemas."""

    def __init__(self):
        self.url = os.environ["TFRECAL_TEST_POSTGRES"]
        self._schemas = []

    def __enter__(self) -> "GivenPostgres":
        return self

    def __exit__(self, *error) -> None:
        for name in self._schemas:
            self._execute(_named("DROP SCHEMA {} CASCADE", name))

    def new_database(self) -> str:
        """A URL that finds only an empty schema of the server."""
        name = f"tfrecal_test_{os.getpid()}_{len(self._schemas)}"
        self._execute(_named("CREATE SCHEMA {}", name))
        self._schemas.append(name)
        mark = "&" if "?" in self.url else "?"
        return f"{self.url}{mark}options=-csearch_path%3D{name}"

    def _execute(self, statement) -> None:
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


def server():
    """The server that tests use: a given one, or one of their own."""
    given = os.environ.get("TFRECAL_TEST_POSTGRES")
    return GivenPostgres() if given else Postgres()


def _named(statement: str, name: str):
    from psycopg.sql import SQL, Identifier

    return SQL(statement).format(Identifier(name))


def _program(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join(
        [*map(str, places), os.environ.get("PATH", "")]))


def _account():
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None
