"""Feedback in trouble: bad files, full disks, kills, what users mistype."""
from __future__ import annotations

import contextlib
import csv
import datetime
import gzip
import os
import shutil
import signal
import sqlite3
import threading

import pandas as pd
import postgres
import pytest
from feedback_stores import (  # noqa: F401
    NOW,
    clicks,
    database_url,
    postgres_server,
    shown_rows,
    store,
)

from tfrecal.feedback import FeedbackStore, FeedbackUnavailable, ingest
from tfrecal.feedback.labels import feedback_labels
from tfrecal.oracles import Answers, Questions
from tfrecal.oracles.question_files import write_questions
from tfrecal.pool.journal import Journal

resource = pytest.importorskip("resource")  # not in Windows
HEADER = "event_id,user_id,item_id,time,kind\n"


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A database without rows; a copy takes less time than a new one."""
    path = tmp_path_factory.mktemp("empty") / "feedback.db"
    FeedbackStore(path).close()
    return path


@pytest.fixture
def tfrecal(empty, command_line, monkeypatch, tmp_path):
    """Runs a command in a folder of its own: (exit code, what it said)."""
    shutil.copy(empty, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFRECAL_FEEDBACK", "feedback.db")
    return command_line


@contextlib.contextmanager
def largest_file(size):
    """No file grows above so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def events(path, number, **changes):
    """A file of JSON lines, a click a line."""
    clicks([f"e{n}" for n in range(number)], **changes).to_json(
        path, orient="records", lines=True)
    return path


def rejected_rows(path):
    with open(f"{path}.rejected.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name, content, parts", [
    pytest.param("e.csv", gzip.compress(b"event_id,user_id\n", mtime=0),
                 ["e.csv", "a gzip archive"], id="gzip"),
    ("e.csv.gz", b"", ["end in .csv, .tsv", "e.csv.gz"]),
    ("e.csv", (HEADER + "a,u,i,5,click").encode("utf-16"),
     ["UTF-16", "--encoding"]),
    ("e.csv", HEADER.replace(",", "|").encode(), ["'event_id|user_id|"]),
    ("e.csv", HEADER.replace("time", "kind").encode(), ["['kind']", "once"]),
    ("e.parquet", HEADER.encode(), ["e.parquet", "Write it again"])])
def test_a_file_of_something_else(tfrecal, tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    code, text = tfrecal("feedback", "ingest", name, "--quiet")
    assert code == 2 and text.startswith("tfrecal: ")
    assert text[:-1].isprintable() and text.endswith("\n")
    for part in parts:
        assert part in text
    assert not list(tmp_path.glob("*.rejected.csv"))


@pytest.mark.parametrize("line, reason", [
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": NaN, '
     '"kind": "click"}', "since 1970"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": true, '
     '"kind": "click"}', "time must be seconds since 1970 (UTC), such as"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     '"9999-12-31", "kind": "click"}', "time is in the future"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     '"now", "kind": "click"}', "this is none"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": 1e999, '
     '"kind": "click"}', "this is none"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     + "9" * 400 + ', "kind": "click"}', "this is none"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     + "9" * 5000 + ', "kind": "click"}', "not a JSON object"),
    ('{"event_id": "x", "user_id": {"id": "u"}, "item_id": "i", "time": 1e9, '
     '"kind": "click"}', "user_id is no valid text"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     '1700000000000, "kind": "click"}', "this looks like milliseconds"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     '1.7e18, "kind": "click"}', "this looks like nanoseconds"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": '
     '4e9, "kind": "click"}', "in the future"),
    ('{"event_id": "x", "event_id": "y", "user_id": "u", "item_id": "i", '
     '"time": 1e9, "kind": "click"}', "a name is there twice"),
    ('{"event_id": "x", "user_id": "u", "item_id": "i", "time": 1e9, '
     '"kind": "rating", "value": -1}', "off the scale from 0"),
    ('{"user": "u", "event": "click"}', "neither `event_id` nor `rank`"),
    ('[{"event_id": "x"}]', "not a JSON object"),
    ('{"event_id": "x", "user', "not a JSON object"),
    ("[" * 100_000, "not a JSON object"), ("\0" * 50, "not a JSON object")])
def test_one_bad_line_costs_no_other(tfrecal, tmp_path, line, reason):
    path = events(tmp_path / "e.jsonl", 2)
    good = path.read_text().splitlines()
    path.write_text("\n".join([good[0], line, good[1]]))
    code, text = tfrecal("feedback", "ingest", "e.jsonl", "--quiet")
    assert code == 1 and "2 new, 0 known, 1 rejected" in text
    row, = rejected_rows(path)
    assert row["line"] == "2" and reason in row["reason"]


@pytest.mark.parametrize("column, cells", [
    ("user_id", [{"a": 1}, {"a": 2}]), ("user_id", [b"\xff\0", b"x"]),
    ("item_id", [["i1"], []]), ("time", [[5], [6]]),
    ("time", [datetime.datetime(2199, 1, 1)] * 2)])
def test_parquet_columns_of_other_types(tfrecal, tmp_path, column, cells):
    path = tmp_path / "e.parquet"
    clicks("ab").assign(**{column: cells}).to_parquet(path)
    code, text = tfrecal("feedback", "ingest", "e.parquet", "--quiet")
    assert code == 1 and "0 new, 0 known, 2 rejected" in text
    assert all(column in row["reason"] for row in rejected_rows(path))


def test_half_a_parquet_file(tfrecal, tmp_path):
    path = tmp_path / "e.parquet"
    clicks([f"e{n}" for n in range(2000)]).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-2000])
    code, text = tfrecal("feedback", "ingest", "e.parquet", "--quiet")
    assert code == 2 and "must be a Parquet file" in text
    with FeedbackStore(tmp_path / "feedback.db") as store:  # noqa: F811
        assert store.counts()["responses"] == 0


def test_times_of_other_zones_are_seconds(tfrecal, tmp_path):
    zone = datetime.timezone(datetime.timedelta(hours=3))
    clicks("a").assign(time=[datetime.datetime(2001, 1, 1, 4, tzinfo=zone)]
                       ).to_parquet(tmp_path / "e.parquet")
    assert tfrecal("feedback", "ingest", "e.parquet", "--quiet")[0] == 0
    with FeedbackStore(tmp_path / "feedback.db") as store:  # noqa: F811
        assert store.responses()["time"].tolist() == [978_310_800.0]


FORMULAS = ["=1+1", "+1+1", "-cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "＝1"]


def test_no_formula_in_any_csv(tfrecal, tmp_path):
    path = tmp_path / "e.csv"
    clicks(FORMULAS, user_id=FORMULAS, kind="like", **{"=cmd": FORMULAS}
           ).to_csv(path, index=False)
    assert tfrecal("feedback", "ingest", "e.csv", "--quiet")[0] == 1
    (tmp_path / "e.jsonl").write_text("\n".join(FORMULAS))
    assert tfrecal("feedback", "ingest", "e.jsonl", "--quiet")[0] == 1
    ids = [*FORMULAS]
    sheet = write_questions(
        tmp_path / "q.csv", Questions(range(len(ids)), ids, ids),
        pd.DataFrame({"=x": FORMULAS}, index=ids))
    for found in (f"{path}.rejected.csv", tmp_path / "e.jsonl.rejected.csv",
                  sheet):
        with open(found, newline="", encoding="utf-8-sig") as file:
            cells = [cell for row in csv.reader(file) for cell in row]
        assert len(cells) > 3 * len(FORMULAS)
        assert not [cell for cell in cells
                    if cell.startswith(tuple("=+-@\t\r＝"))]


@pytest.mark.parametrize("arguments, message", [
    (["feedback", "drop", "--days", "nan"], "days=nan"),
    (["feedback", "ingest", "e.jsonl", "--scale", "5", "1"], "scale="),
    (["feedback", "ingest", "e.jsonl", "--scale", "nan", "1"], "scale="),
    (["feedback", "ingest", "none.csv"], "none.csv"),
    (["feedback", "ingest", "e.jsonl", "--feedback", "e.jsonl"],
     "not a database"),
    (["feedback", "ingest", "e.jsonl", "--feedback", "/proc/none/f.db"],
     "can be read and written"),
    (["feedback", "erase", "--user", "u", "--feedback",
      "postgresql://me:secret@127.0.0.1:1/x"], "me:***@127.0.0.1:1/x"),
    (["feedback", "erase", "--user", "u", "--feedback", "http://x"],
     "path of an SQLite file")])
def test_a_users_mistake_is_one_line(tfrecal, tmp_path, arguments, message):
    content = events(tmp_path / "e.jsonl", 20).read_bytes()
    code, text = tfrecal(*arguments)
    assert code == 2 and message in text
    assert text.startswith("tfrecal: ") and text.count("\n") == 1
    assert "secret" not in text
    assert (tmp_path / "e.jsonl").read_bytes() == content


def test_a_schema_of_another_version(tfrecal, tmp_path):
    events(tmp_path / "e.jsonl", 2)
    assert tfrecal("feedback", "ingest", "e.jsonl", "--quiet")[0] == 0
    with contextlib.closing(sqlite3.connect("feedback.db")) as raw, raw:
        raw.execute("UPDATE tfrecal_schema SET version_num = '9999'")
    code, text = tfrecal("feedback", "ingest", "e.jsonl", "--quiet")
    assert code == 2 and "update this one" in text and text.count("\n") == 1


def test_erasing_somebody_unknown(tfrecal):
    code, text = tfrecal("feedback", "erase", "--user", "'; DROP TABLE shown")
    assert code == 0
    first, second, *places = text.splitlines()
    assert first == "deleted: 0 shown, 0 responses, 0 questions"
    assert "not reached" in second and len(places) == 7
    for command in ("rm FILE.rejected.csv", "tfrecal retrain", "rm -r BASE/",
                    "--user ''\"'\"'; DROP TABLE shown' --spill"):
        assert any(command in place for place in places)


def test_replays_of_a_batch_change_nothing(tfrecal, tmp_path):
    events(tmp_path / "e.jsonl", 30)
    for told in ("30 new, 0 known", "0 new, 30 known", "0 new, 30 known"):
        assert told in tfrecal(
            "feedback", "ingest", "e.jsonl", "--quiet")[1]
    events(tmp_path / "e.jsonl", 31, item_id="other")
    code, text = tfrecal("feedback", "ingest", "e.jsonl", "--quiet")
    assert code == 1 and "1 new, 0 known, 30 rejected" in text
    assert all("contradicts" in row["reason"]
               for row in rejected_rows(tmp_path / "e.jsonl"))


def test_a_response_comes_before_its_list(store):  # noqa: F811
    lists = shown_rows(1, first=0)
    store.add_responses(clicks("a", user_id="u0", item_id="i1"))
    propensity = []
    for _ in range(2):
        found, counts = feedback_labels(
            store.responses(), store.shown(), (0, 1), now=NOW)
        propensity.append((counts["responses_without_a_list"], dict(zip(
            found["item_id"], found["propensity"].fillna(-1)))["i1"]))
        store.add_shown(lists)
    assert propensity == [(1, -1.0), (0, 1.0)]


def test_erased_in_the_middle_of_an_ingest(
        store, tmp_path, monkeypatch):  # noqa: F811
    path = events(tmp_path / "e.jsonl", 12, user_id=["u0", "u1"] * 6)
    add, parts = store.add_responses, []

    def adds(frame):
        parts.append(len(frame))
        if len(parts) == 3:
            assert store.erase_user("u1")["responses"] == 4
        return add(frame)

    monkeypatch.setattr(store, "add_responses", adds)
    found = ingest(store, path, chunk=4, progress=False)
    assert (found.new, found.rejected) == (10, 2)
    assert set(store.responses()["user_id"]) == {"u0"}
    rows = rejected_rows(path)
    assert [row["line"] for row in rows] == ["10", "12"]
    assert {row["reason"] for row in rows} == {"the user was erased"}
    # Nothing else of them: neither the user nor what the user did.
    assert not any(row[name] for row in rows for name in row
                   if name not in ("line", "reason"))


def test_exclusively_locked(tmp_path):
    FeedbackStore(tmp_path / "feedback.db").close()
    other = sqlite3.connect(tmp_path / "feedback.db", isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(FeedbackUnavailable, match="locked.*free it"):
        FeedbackStore(tmp_path / "feedback.db", patience=0.2)
    other.close()
    with FeedbackStore(tmp_path / "feedback.db", patience=0.2) as store:  # noqa: F811,E501
        assert store.add_responses(clicks("a")).new == 1


def test_no_room_for_the_database(tmp_path):
    path = events(tmp_path / "e.jsonl", 3000)
    with FeedbackStore(tmp_path / "feedback.db") as store:  # noqa: F811
        with largest_file(200_000), pytest.raises(
                FeedbackUnavailable, match="give it room"):
            ingest(store, path, chunk=500, progress=False)
        stored = store.counts()["responses"]
        assert 0 < stored < 3000 and stored % 500 == 0
        found = ingest(store, path, chunk=500, progress=False)
        assert (found.new, found.known) == (3000 - stored, stored)


def test_no_room_for_the_rejected_rows(tfrecal, tmp_path):
    path = events(tmp_path / "e.jsonl", 1500, kind="like")
    before = sorted(os.listdir(tmp_path))
    with largest_file(60_000):
        code, text = tfrecal("feedback", "ingest", path, "--quiet")
    assert code == 2 and "File too large" in text
    assert sorted(os.listdir(tmp_path)) == before  # nor half a file
    code, text = tfrecal("feedback", "ingest", path, "--quiet")
    assert code == 1 and len(rejected_rows(path)) == 1500


def test_no_room_for_the_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.asked(Questions(range(50), ["u"] * 50, ["i"] * 50), ["a"] * 50)
    content = path.read_bytes()
    answers = Answers(range(50), [4.0] * 50, [False] * 50, [1.0] * 50)
    with largest_file(len(content) + 20), pytest.raises(
            OSError, match="could not be written.*mend this and resume"):
        journal.answered(answers)
    assert len(Journal(path)) == 1  # a half line is none
    Journal(path).answered(answers)
    assert path.read_bytes().startswith(content)
    assert Journal(path).answers_at(1)[0].ticket.tolist() == list(range(50))


def test_lines_of_another_runs_journal(tmp_path):
    for name, pair in (("a", "u"), ("b", "v")):
        journal = Journal(tmp_path / name)
        journal.asked(Questions([0], [pair], ["i"]), ["random"])
        journal.answered(Answers([0], [4.0], [False], [1.0]))
    mixed = (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes()
    (tmp_path / "a").write_bytes(mixed)
    with pytest.raises(ValueError, match="line 3 of 4 is damaged"):
        Journal(tmp_path / "a")


def test_ctrl_c_in_an_ingest(tfrecal, tmp_path, monkeypatch):
    path = events(tmp_path / "e.jsonl", 10)

    def interrupted(store, frame):  # noqa: F811
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FeedbackStore, "add_responses", interrupted)
        code, text = tfrecal("feedback", "ingest", path, "--quiet")
    assert code == 130 and text.startswith("tfrecal: interrupted")
    assert "10 new" in tfrecal("feedback", "ingest", path, "--quiet")[1]


def test_killed_in_an_ingest(database_url, tmp_path):  # noqa: F811
    path = events(tmp_path / "e.jsonl", 10)
    child = os.fork()
    if child == 0:
        try:
            with FeedbackStore(database_url) as store:  # noqa: F811
                add, parts = store.add_responses, []

                def adds(frame):
                    parts.append(add(frame))
                    if len(parts) == 3:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return parts[-1]

                store.add_responses = adds
                ingest(store, path, chunk=3, progress=False)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert sorted(os.listdir(tmp_path))[0] == "e.jsonl"
    with FeedbackStore(database_url) as store:
        assert store.counts()["responses"] == 9
        found = ingest(store, path, chunk=3, progress=False)
        assert (found.new, found.known, found.rejected) == (1, 9, 0)


@pytest.mark.large
def test_restarted_in_an_ingest(postgres_server, tmp_path):  # noqa: F811
    if isinstance(postgres_server, postgres.GivenPostgres):
        pytest.skip("a server that was given is not restarted")
    path = events(tmp_path / "e.jsonl", 40)
    with FeedbackStore(postgres_server.new_database()) as store:  # noqa: F811
        add, parts = store.add_responses, []

        def adds(frame):
            parts.append(len(frame))
            if len(parts) == 5:  # the connection is a dead one then
                postgres_server.stop()
                timer = threading.Timer(0.3, postgres_server.start)
                timer.start()
                found = add(frame)
                timer.join()
                return found
            return add(frame)

        store.add_responses = adds
        found = ingest(store, path, chunk=4, progress=False)
        assert (found.new, found.known, found.rejected) == (40, 0, 0)
        assert set(store.responses()["event_id"]) == {
            f"e{n}" for n in range(40)}
