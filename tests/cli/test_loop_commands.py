"""The commands of the feedback loop, and what users do wrong with them."""
from __future__ import annotations

import json
import time

import pandas as pd
import pytest

from tfrecal.feedback import FeedbackStore
from tfrecal.feedback.log.feedback_log import FeedbackLog

NOW = time.time() - 1000


@pytest.fixture
def tfrecal(command_line, monkeypatch, tmp_path):
    """Runs a command in a folder of its own: (exit code, what it said)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFRECAL_FEEDBACK", raising=False)
    return command_line


def events(path, **changes):
    rows = [{"event_id": f"e{n}", "user_id": f"u{n % 2}", "item_id": "i1",
             "time": NOW + n, "kind": "click", **changes} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_ingest_twice_erase_and_drop(tfrecal, tmp_path, monkeypatch):
    monkeypatch.setenv("TFRECAL_FEEDBACK", str(tmp_path / "feedback.db"))
    path = events(tmp_path / "events.jsonl")
    code, text = tfrecal("feedback", "ingest", path, "--quiet")
    assert code == 0 and "4" in text
    assert tfrecal("feedback", "ingest", path, "--quiet")[0] == 0
    with FeedbackStore(tmp_path / "feedback.db") as store:
        assert store.counts()["responses"] == 4
    code, text = tfrecal("feedback", "erase", "--user", "u1")
    assert code == 0 and "2 responses" in text
    code, text = tfrecal("feedback", "drop", "--days", 0.001)
    assert code == 0 and "2 responses" in text


def test_rejected_rows_are_kept_and_told(tfrecal, tmp_path):
    path = events(tmp_path / "events.jsonl", kind="like")
    code, text = tfrecal("feedback", "ingest", path, "--quiet",
                         "--feedback", tmp_path / "feedback.db")
    assert code == 1
    rejected, = tmp_path.glob("*rejected*")
    assert rejected.name in text
    assert pd.read_csv(rejected)["reason"].str.contains("kind").all()


@pytest.mark.parametrize("arguments, message", [
    (["feedback", "ingest", "none.jsonl", "--feedback", "f.db"], "none.jsonl"),
    (["feedback", "ingest", "x.jsonl"], "TFRECAL_FEEDBACK"),
    (["feedback", "erase", "--user", "u", "--feedback",
      "mysql://host/name"], "mysql"),
    (["feedback", "drop", "--days", "-3", "--feedback", "f.db"], "at least 0"),
    (["retrain"], "needs `--to`"),
    (["retrain", "--to", "models/shop"], "no `--run`, and no loop in"),
    (["retrain", "-o", "loop"], "no loop in loop (`-o`), which is missing"),
    (["retrain", "--to", "models/shop", "--run", "runs/none",
      "--feedback", "f.db"], "models/shop, which is missing"),
    (["retrain", "--to", "models/shop", "--run", "r", "--feedback",
      "postgresql://me:secret@host/name"], "must hold no password"),
    (["retrain", "--to", "m", "--run", "r", "--holdout", "2"], "holdout"),
    (["retrain", "--to", "m", "--run", "r", "--watch", "9", "--only-grow"],
     "--only-grow"),
    (["rollback", "--to", "models/none"], "models/none, which is missing"),
    (["status", "--to", "models/none"], "models/none, which is missing"),
    (["feedback"], "required")])
def test_a_users_mistake_leaves_with_2(tfrecal, arguments, message, tmp_path):
    code, text = tfrecal(*arguments)
    assert code == 2 and message in text and "Traceback" not in text
    assert "secret" not in text
    assert not (tmp_path / "models").exists()


def test_nothing_to_go_back_to(tfrecal, tmp_path):
    (tmp_path / "models" / "1").mkdir(parents=True)
    code, text = tfrecal("rollback", "--to", tmp_path / "models")
    assert code == 2 and "a version to go back to" in text
    assert (tmp_path / "models" / "1").exists()


def test_rows_that_a_log_left_are_taken_in(tfrecal, tmp_path):
    """Also those of a user who is to be erased: then they are nowhere."""
    def leave(user):
        with FeedbackLog(None, tmp_path / "spill") as log:
            log.shown(user, ["i1", "i2"])
            log.response("", "i1", "click", user_id=user, time=NOW)

    store = "--feedback", tmp_path / "feedback.db"
    leave("u1")
    code, text = tfrecal("feedback", "ingest", tmp_path / "spill", *store)
    assert code == 0 and "3 taken in, 0 rejected" in text
    assert not list((tmp_path / "spill").iterdir())
    leave("u2")
    code, text = tfrecal("feedback", "erase", "--user", "u2", *store,
                         "--spill", tmp_path / "spill")
    assert code == 0 and "2 shown" in text and "1 responses" in text
    with FeedbackLog(None, tmp_path / "spill") as log:
        log.response("", "i1", "click", user_id="u2", time=NOW)
        log.response("", "i1", "like", user_id="u2", time=NOW)
        log.response("", "i1", "like", user_id="u1", time=NOW)
    code, text = tfrecal("feedback", "ingest", tmp_path / "spill", *store)
    assert code == 1 and "3 rejected" in text
    left = "".join(path.read_text()
                   for path in (tmp_path / "spill").iterdir())
    assert "u1" in left and "u2" not in left
    with FeedbackStore(tmp_path / "feedback.db") as there:
        assert set(there.responses()["user_id"]) == {"u1"}


def test_ingest_says_what_it_understood(tfrecal, tmp_path):
    store = "--feedback", tmp_path / "feedback.db", "--quiet"
    path = tmp_path / "events.csv"
    path.write_bytes("id\twer\titem_id\tam\tkind\tvalue\n"
                     "a\tJörg\ti1\t2026-05-01\trating\t9\n".encode("cp1252"))
    options = ("--encoding", "cp1252", "--separator", "tab", "--columns",
               "event_id=id,user=wer,time=am")
    code, text = tfrecal("feedback", "ingest", path, *options, *store)
    assert code == 0 and "1 new" in text
    assert "knows no scale" in text and "--scale LOW HIGH" in text
    code, text = tfrecal("feedback", "ingest", path, *options, *store,
                         "--scale", 1, 5)
    assert code == 2 and "ratings from 9 to 9" in text
    tfrecal("feedback", "ingest", path, *options, *store, "--scale", 1, 10)
    path.write_text("event_id,user_id,item_id,time,kind,value\n"
                    "b,u,i1,2026-05-01,rating,0\nc,u,i1,2026-05-01,click,\n")
    code, text = tfrecal("feedback", "ingest", path, *store)
    assert code == 1 and "1 new, 0 known, 1 rejected" in text
    assert "1 users and 0 items that the store had never seen" in text
    assert "knows no scale" not in text
    assert "2,value is off the scale from 1 to 10" in (
        tmp_path / "events.csv.rejected.csv").read_text()


@pytest.mark.parametrize("options, message", [
    (["--columns", "user"], "pairs NAME=COLUMN"),
    (["--columns", "user=a,user=b"], "each name once"),
    (["--columns", "customer=a"], "`columns` (`--columns`)"),
    (["--encoding", "klingon"], "`encoding` (`--encoding`)"),
    (["--separator", '"'], "`separator` (`--separator`)"),
    (["--scale", 5, 1], "scale")])
def test_wrong_options_of_ingest(tfrecal, tmp_path, options, message):
    path = tmp_path / "events.csv"
    path.write_text("event_id,user_id,item_id,time,kind\n")
    code, text = tfrecal("feedback", "ingest", path, *options,
                         "--feedback", tmp_path / "feedback.db")
    assert code == 2 and message in text and "Traceback" not in text


def test_erase_cleans_the_id_and_names_what_is_left(tfrecal, tmp_path):
    store = "--feedback", tmp_path / "feedback.db"
    with FeedbackStore(tmp_path / "feedback.db") as there:
        there.ask(pd.DataFrame({"user_id": ["u 1"], "item_id": ["i"]}))
    code, text = tfrecal("feedback", "erase", "--user", " u 1\u3000", *store)
    assert code == 0 and "1 questions" in text
    assert "feedback erase --user 'u 1' --spill" in text
    code, text = tfrecal("feedback", "erase", "--user", " ", *store)
    assert code == 2 and "`--user` must be an id" in text


def test_no_file_is_taken_in_where_one_is_missing(tfrecal, tmp_path):
    (tmp_path / "e.csv").write_text(
        "event_id,request_id,user_id,item_id,time,kind\n"
        "e1,q1,1,a,1795550925,click\n")
    code, text = tfrecal("feedback", "ingest", "e.csv", "nowhere.csv",
                         "--feedback", "f.db")
    assert code == 2 and "nowhere.csv, which is missing" in text
    code, text = tfrecal("feedback", "ingest", "e.csv", "--missing", "a,-",
                         "--feedback", "f.db")
    assert code == 1 and "0 new, 0 known, 1 rejected" in text
    code, text = tfrecal("feedback", "ingest", "e.csv", "--feedback", "f.db")
    assert code == 0 and "1 new, 0 known, 0 rejected" in text
