"""Databases that are down, full, locked, restarted, of another schema."""
from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import stat
import struct
import sys
import threading
import time

import postgres
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from feedback_stores import (  # noqa: F401
    clicks,
    database_url,
    postgres_server,
    shown_rows,
    store,
)

from tfrecal.feedback import FeedbackStore, FeedbackUnavailable
from tfrecal.feedback.store import migrations, schema
from tfrecal.feedback.store.database import WRITERS

FOLDER, HEAD = migrations.FOLDER, schema.HEAD


@pytest.mark.parametrize("url", [
    "postgresql://u:secret@host:port/name", "mysql://u:secret@host/name",
    "://secret", "sqlite://", "sqlite:///:memory:"])
def test_other_urls(url):
    with pytest.raises(ValueError, match="sqlite:///file") as error:
        FeedbackStore(url)
    assert "secret" not in str(error.value)


def test_no_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ImportError, match=r"\.\[postgres\]"):
        FeedbackStore("postgresql://localhost/name")


def test_no_server_at_the_address():
    begun = time.monotonic()
    with pytest.raises(FeedbackUnavailable) as error:
        FeedbackStore("postgresql://me:secret@127.0.0.1:1/x?sslkey=secret")
    assert time.monotonic() - begun < 5
    assert "me:***@127.0.0.1:1/x:" in str(error.value)
    assert "secret" not in str(error.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "notes.db").write_text("notes, longer than a header" * 99)
    with pytest.raises(FeedbackUnavailable, match="not a database"):
        FeedbackStore(tmp_path / "notes.db")
    with pytest.raises(FeedbackUnavailable, match="directory"):
        FeedbackStore(tmp_path)


def test_a_new_file_is_private(tmp_path):
    path = tmp_path / "deep" / "feedback.db"
    with FeedbackStore(path) as store:  # noqa: F811
        store.add_responses(clicks("a"))
        found = {file.name: stat.S_IMODE(file.stat().st_mode)
                 for file in path.parent.iterdir()}
    assert found and set(found.values()) == {0o600}


def test_what_is_acknowledged_is_synced(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:  # noqa: F811
        assert store._database.read(lambda connection: [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")]) == ["wal", 2]


def test_a_full_disk_leaves_nothing_half_written(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:  # noqa: F811
        store.add_shown(shown_rows(3))
        store._database.write(lambda connection: connection.exec_driver_sql(
            "PRAGMA max_page_count=40"))
        with pytest.raises(FeedbackUnavailable, match="full.*give it room"):
            store.add_shown(shown_rows(2000))
        assert store.counts()["shown"] == 9
        store._database.write(lambda connection: connection.exec_driver_sql(
            "PRAGMA max_page_count=10000"))
        assert store.add_shown(shown_rows(2000)).new == 5991


def test_a_locked_database(database_url):  # noqa: F811
    with FeedbackStore(database_url, patience=0.4) as store:  # noqa: F811
        other = _lock(database_url)
        with pytest.raises(FeedbackUnavailable):
            store.add_responses(clicks("a"))
        assert store.counts()["responses"] == 0  # readers go on
        timer = threading.Timer(0.2, other.close)
        timer.start()
        assert store.add_responses(clicks("a")).new == 1
        timer.join()


def _lock(url):
    if url.startswith("sqlite"):
        other = sqlite3.connect(
            url.removeprefix("sqlite:///"), isolation_level=None,
            check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        return other
    import psycopg

    other = psycopg.connect(url)
    other.execute("SELECT pg_advisory_lock(%s)", [WRITERS])
    return other


def test_restarted_in_the_middle(postgres_server):  # noqa: F811
    if isinstance(postgres_server, postgres.GivenPostgres):
        pytest.skip("a server that was given is not restarted")
    url, told = postgres_server.new_database(), []
    with (FeedbackStore(url) as store,  # noqa: F811
          FeedbackStore(url, patience=0.1) as hasty):
        begun = threading.Event()

        def write():
            for n in range(100):
                told.append(store.add_responses(clicks([f"e{n}"])))
                if len(told) == 30:
                    begun.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert begun.wait(20)
        postgres_server.stop()
        try:
            with pytest.raises(FeedbackUnavailable, match="127.0.0.1"):
                hasty.add_responses(clicks(["x"]))
        finally:
            postgres_server.start()
        writer.join()
        # A commit whose answer was lost is told as known.
        assert sum(added.new + added.known for added in told) == 100
        assert store.counts()["responses"] == 100
        assert hasty.add_responses(clicks(["x"])).new == 1


class TestMigrations:
    def test_they_make_the_tables_of_the_schema(self, store):  # noqa: F811
        def differences(connection):
            context = MigrationContext.configure(connection, opts={
                "version_table": schema.VERSION_TABLE,
                "compare_type": True})
            return compare_metadata(context, schema.metadata)

        assert store._database.read(differences) == []

    def test_head_is_the_last(self):
        config = Config()
        config.set_main_option("script_location", str(migrations.FOLDER))
        script = ScriptDirectory.from_config(config)
        assert script.get_current_head() == schema.HEAD

    def test_a_newer_schema_is_refused(self, tmp_path):
        path = tmp_path / "feedback.db"
        FeedbackStore(path).close()
        _execute(path, "UPDATE tfrecal_schema SET version_num = '9999'")
        with pytest.raises(ValueError, match="Received: 9999.*update this"):
            FeedbackStore(path)

    def test_somebody_elses_tables_are_left_alone(self, tmp_path):
        path = tmp_path / "feedback.db"
        _execute(path, "CREATE TABLE runs (x)")
        with pytest.raises(ValueError, match="tables runs of somebody else"):
            FeedbackStore(path)

    @pytest.mark.parametrize("database", ["sqlite", "postgres"])
    def test_an_older_one_is_upgraded(
            self, database, tmp_path, request, monkeypatch):
        url = tmp_path / "feedback.db"
        if database == "postgres":
            url = request.getfixturevalue("postgres_server").new_database()
        with FeedbackStore(url) as store:  # noqa: F811
            store.add_responses(clicks("ab"))
        _later(tmp_path, monkeypatch, "raise RuntimeError('broken')")
        with pytest.raises(RuntimeError):
            FeedbackStore(url)
        _later(tmp_path, monkeypatch, "pass")
        stores = []
        threads = [threading.Thread(
            target=lambda: stores.append(FeedbackStore(url)))
            for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stores) == 3
        added = stores[0]._database.read(
            lambda connection: connection.execute(sa.text(
                "SELECT sum(later) FROM responses")).scalar())
        assert added == 10
        for store in stores:
            store.close()
        monkeypatch.undo()
        with pytest.raises(ValueError, match="Received: later"):
            FeedbackStore(url)


def _later(tmp_path, monkeypatch, end):
    """A tfrecal with one revision more."""
    folder = tmp_path / "migrations"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FOLDER, folder,
                    ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "later.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision, down_revision = 'later', '{HEAD}'\n"
        "def upgrade():\n"
        "    op.add_column('responses', sa.Column(\n"
        "        'later', sa.Integer, server_default='5'))\n"
        f"    {end}\n")
    monkeypatch.setattr(migrations, "FOLDER", folder)
    monkeypatch.setattr(schema, "HEAD", "later")


def _execute(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


class _Starting(threading.Thread):
    """A PostgreSQL that says `said` to the first callers, then another's."""

    def __init__(self, port: int, times: int, said: str, state: str):
        super().__init__(daemon=True)
        self.target, self.times = port, times
        self.error = b"".join(
            part.encode() + b"\0" for part in (
                "SFATAL", "VFATAL", f"C{state}", f"M{said}")) + b"\0"
        self.calls = 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            self.calls += 1
            if self.calls > self.times:
                server = socket.create_connection(("127.0.0.1", self.target))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pipe, args=pair,
                                     daemon=True).start()
                continue
            while True:  # requests of encryption come first
                size, code = struct.unpack("!ii", client.recv(8))
                if code not in (80877103, 80877104):
                    break
                client.sendall(b"N")
            client.recv(size - 8)
            client.sendall(b"E" + struct.pack("!i", 4 + len(self.error))
                           + self.error)
            client.close()

    @staticmethod
    def _pipe(source, sink):
        with contextlib.suppress(OSError):
            while content := source.recv(65536):
                sink.sendall(content)
            sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("said", [
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "the database system is in recovery mode"])
def test_a_server_that_starts_is_waited_for(postgres_server, said,  # noqa: F811,E501
                                            caplog):
    url = sa.make_url(postgres_server.new_database())
    server = _Starting(url.port, 3, said, "57P03")
    server.start()
    with FeedbackStore(url.set(port=server.port, host="127.0.0.1")
                       .render_as_string(False), patience=20) as store:  # noqa: F811,E501
        assert store.counts()["responses"] == 0
    server.socket.close()
    assert server.calls > 3
    assert sum("does not take connections yet" in text
               for text in caplog.messages) == 1


def test_it_is_waited_for_with_a_bound():
    server = _Starting(0, 10 ** 6, "the database system is starting up",
                       "57P03")
    server.start()
    began = time.monotonic()
    with pytest.raises(FeedbackUnavailable, match="is starting up"):
        FeedbackStore(f"postgresql://u:secret@127.0.0.1:{server.port}/x",
                      patience=1.0)
    server.socket.close()
    assert 0.5 < time.monotonic() - began < 10


@pytest.mark.parametrize("said, state", [
    ('password authentication failed for user "u"', "28P01"),
    ('database "x" does not exist', "3D000")])
def test_a_wrong_password_is_not_waited_for(said, state):
    server = _Starting(0, 10 ** 6, said, state)
    server.start()
    with pytest.raises(FeedbackUnavailable, match=said):
        FeedbackStore(f"postgresql://u:secret@127.0.0.1:{server.port}/x",
                      patience=30)
    server.socket.close()
    assert server.calls == 1
