"""Recording on the side: nothing is lost, and nothing waits for the store."""
from __future__ import annotations

import errno
import json
import logging
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from memory_store import MemoryStore

from tfrecal.feedback import FeedbackStore
from tfrecal.feedback.log import delivery, spill
from tfrecal.feedback.log.feedback_log import FeedbackLog
from tfrecal.feedback.log.spill import Spill
from tfrecal.serving.client import client as client_module
from tfrecal.serving.client.answers import Recommendations


@pytest.fixture
def store():
    found = MemoryStore()
    yield found
    found.gate.set()


@pytest.fixture
def make(store, tmp_path):
    """Makes logs that are closed at the end."""
    logs = []

    def log(**options):
        logs.append(FeedbackLog(options.pop("store", store),
                                tmp_path / "spill",
                                **{"seconds": 0.02, **options}))
        return logs[-1]

    yield log
    store.gate.set()
    for one in logs:
        try:
            one.close()
        except OSError:
            pass


def spilled(folder, pattern="*.jsonl"):
    return [json.loads(line) for path in sorted(
        (folder / "spill").glob(pattern)) for line in path.open()]


def segments(folder):
    return Spill(folder / "spill").segments()


def show(log, count, size=3, user="u"):
    return [log.shown(user, [f"i{n}" for n in range(size)])
            for _ in range(count)]


def wait_until(true, seconds=20):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_rows_of_a_list_and_of_responses(make, store, tmp_path):
    log = make(clock=lambda: 5.0)
    request = log.shown(
        "ü", ["a", "b"], scores=[1.5, float("nan")], propensities=[1, 0.25],
        strategies=["", "BALD"], model="shop", version=7)
    events = [log.response(request, "a", "click", user_id="ü"),
              log.response(request, "b", "skip", user_id="ü"),
              log.response("", "c", "rating", 4, user_id="v", time=3,
                           event_id="e")]
    log.close()
    first, second = pd.DataFrame(store.rows["shown"].values()).to_dict(
        "records")
    assert first == {
        "request_id": request, "rank": 1, "time": 5.0, "user_id": "ü",
        "item_id": "a", "score": 1.5, "propensity": 1.0, "model": "shop",
        "version": 7, "strategy": ""}
    assert second.pop("score") != second.get("score")  # NaN
    assert second["propensity"] == 0.25 and second["strategy"] == "BALD"
    assert second["rank"] == 2 and second["item_id"] == "b"
    found = [tuple(row.values()) for row in store.rows["responses"].values()]
    assert found == [(events[0], request, "ü", "a", 5.0, "click", 1.0),
                     (events[1], request, "ü", "b", 5.0, "skip", 0.0),
                     ("e", "", "v", "c", 3.0, "rating", 4.0)]
    assert len({request, *events}) == 4
    assert log.counts == {"written": 5, "spilled": 0, "rejected": 0,
                          "lost": 0, "waiting": 0}
    assert not list((tmp_path / "spill").iterdir())


def test_what_the_caller_changes_later_is_not_recorded(make, store):
    store.gate.clear()
    log, items = make(), ["a", "b"]
    log.shown("u", items)
    items[0] = "x"
    store.gate.set()
    log.close()
    assert [row["item_id"] for row in store.rows["shown"].values()] == [
        "a", "b"]


def test_written_in_batches_and_by_the_clock(make, store):
    log = make(chunk=30, seconds=60)
    show(log, 9)  # 27 rows: no batch yet
    time.sleep(0.05)
    assert store.calls == [] and log.counts["waiting"] == 27
    show(log, 1)
    wait_until(lambda: store.calls == [30])
    show(log, 1)
    assert log.flush() and store.calls == [30, 3]
    other = make(chunk=30, seconds=0.01)
    show(other, 1)
    wait_until(lambda: store.calls == [30, 3, 3])


def test_a_call_does_not_wait_for_the_store(make, store, tmp_path):
    store.gate.clear()
    log = make(most=100_000)
    show(log, 10)
    time.sleep(0.05)
    started = time.perf_counter()
    show(log, 1000)
    # Microseconds each; the limit is for busy machines.
    assert time.perf_counter() - started < 0.5
    assert log.counts["waiting"] == 3030 and not spilled(tmp_path)


def test_a_full_queue_goes_to_the_disk_and_from_there_to_the_store(
        make, store, tmp_path, caplog):
    store.gate.clear()
    log = make(most=300, chunk=30)
    requests = set(show(log, 30))
    wait_until(lambda: log.counts["waiting"])
    for _ in range(20):
        requests.update(show(log, 30))
        wait_until(lambda: log.counts["waiting"] < 330)
    counts = log.counts
    assert counts["lost"] == counts["written"] == 0
    assert counts["spilled"] + counts["waiting"] == 63 * 30
    assert len(spilled(tmp_path)) == counts["spilled"] > 1200
    assert set(spilled(tmp_path)[0]) == set(delivery.COLUMNS["shown"])
    assert "At most 300 rows" in caplog.text
    store.gate.set()
    wait_until(lambda: len(store.rows["shown"]) == 63 * 30)
    assert {key[0] for key in store.rows["shown"]} == requests
    wait_until(lambda: not segments(tmp_path))
    log.close()
    assert log.counts["written"] == 63 * 30 and log.counts["lost"] == 0


def test_a_store_that_fails_is_left_in_peace_and_asked_again(
        make, store, tmp_path, caplog):
    store.trouble = OSError("no route")
    log = make()
    show(log, 5)
    assert log.flush() and len(spilled(tmp_path)) == 15
    log.response("r", "i", "click", user_id="u")
    assert log.flush() and len(spilled(tmp_path, "responses*.jsonl")) == 1
    assert caplog.text.count("no route") == 1
    assert log.counts["spilled"] == 16 and store.calls == []
    store.trouble = None
    log._delivery._ask_at = 0.0  # the pause is over
    wait_until(lambda: len(store.rows["shown"]) == 15
               and len(store.rows["responses"]) == 1)
    show(log, 2)
    assert log.flush() and log.counts["written"] == 22
    assert not spilled(tmp_path)


def test_pauses_grow_until_the_store_answers(store, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(delivery, "time", SimpleNamespace(
        monotonic=lambda: now[0]))
    found = delivery.Delivery(store, Spill(tmp_path / "spill"), 10)
    row = dict.fromkeys(delivery.COLUMNS["responses"], "1")
    store.trouble = OSError("down")
    asked = []
    for _ in range(200):
        before = found._ask_at
        assert not found.to_store("responses", [row])
        asked += [now[0]] if found._ask_at != before else []
        now[0] += 1
    assert [b - a for a, b in zip(asked, asked[1:])] == [
        1, 2, 4, 8, 16, 32, 60, 60]
    store.trouble, now[0] = None, 1000.0
    assert found.to_store("responses", [row])
    store.trouble = OSError("down again")
    assert not found.to_store("responses", [row])
    assert found._ask_at == now[0] + 1


def test_closing_while_the_store_is_down_or_hangs(make, store, tmp_path):
    store.trouble = OSError("down")
    log = make(seconds=60)
    show(log, 4)
    log.close()
    assert len(spilled(tmp_path)) == 12
    store.trouble = None
    store.gate.clear()
    other = make(chunk=3, seconds=60)
    show(other, 5)
    other.close(timeout=0.1)  # one batch hangs in the store
    assert len(spilled(tmp_path)) == 27 and other.counts["waiting"] == 0
    with pytest.raises(ValueError, match="`log` must be open"):
        show(other, 1)
    other.close()


def test_the_next_process_brings_what_was_spilled(make, store, tmp_path):
    code = f"""
import os, sys
from tfrecal.serving.feedback_log import FeedbackLog
class Down:
    def add_shown(self, frame): raise OSError("down")
with_signal = sys.argv[1] == "kill"
log = FeedbackLog(Down(), {str(tmp_path / "spill")!r}, seconds=0.01)
log.shown("u", ["a", "b"], request_id="r")
if with_signal:
    assert log.flush()
    os.kill(os.getpid(), 9)
"""
    for way, request in (("kill", "r"), ("exit", "r")):
        done = subprocess.run([sys.executable, "-c", code, way],
                              capture_output=True, text=True)
        assert done.returncode == (-9 if way == "kill" else 0), done.stderr
    assert len(spilled(tmp_path)) == 4  # at exit, without `close`
    log = make()
    wait_until(lambda: log.counts["written"] == 4)
    assert [*store.rows["shown"]] == [("r", 1), ("r", 2)]
    wait_until(lambda: not segments(tmp_path))


def test_without_a_store_others_bring_the_rows(
        store, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(delivery, "_OPEN", 0.05)
    folder = tmp_path / "spill"
    with FeedbackLog(None, folder, seconds=0.02) as log, \
            FeedbackLog(store, folder, seconds=0.02) as other:
        request, = show(log, 1)
        wait_until(lambda: other.counts["written"] == 3)
        assert log.counts["spilled"] == 3 == len(store.rows["shown"])
    assert {key[0] for key in store.rows["shown"]} == {request}
    assert not segments(tmp_path) and not caplog.text


def test_a_segment_that_is_being_made_is_not_taken(tmp_path, monkeypatch):
    """It has no lock yet; taken away, its maker could not show it."""
    writer, taker = Spill(tmp_path), Spill(tmp_path)
    real, seen = os.open, []

    def opened(path, *args, **options):
        place = real(path, *args, **options)
        if Path(path).name.startswith(".shown"):
            seen.extend(taker.segments())
            for path in taker.segments():
                taker.take(path, 10, lambda *rows: None)
        return place

    monkeypatch.setattr(os, "open", opened)
    writer.append("shown", [{"rank": 1}])
    assert seen == [] and len(taker.segments()) == 1


def test_torn_lines_are_set_aside(make, store, tmp_path):
    folder = tmp_path / "spill"
    folder.mkdir()
    row = dict.fromkeys(delivery.COLUMNS["responses"], "1") | {
        "time": 1, "value": 1}
    lines = [json.dumps(row | {"event_id": e}) for e in "abc"]
    (folder / "responses-0.jsonl").write_text(
        f"{lines[0]}\n{lines[1][:40]}\n[1]\n{lines[1]}\n{lines[2][:-9]}")
    (folder / "responses-1.jsonl").write_text("")
    log = make()
    wait_until(lambda: not segments(tmp_path))
    assert sorted(store.rows["responses"]) == [("a",), ("b",)]
    aside = spilled(tmp_path, "*.rejected")
    assert [row["line"] for row in aside] == [
        f"{lines[1][:40]}\n", "[1]\n", lines[2][:-9]]
    assert "whole JSON object" in aside[0]["reason"]
    assert log.counts["written"] == 2


def test_refused_rows_are_kept_with_the_reason(make, store, tmp_path, caplog):
    store.refuse = lambda row: "a later time" if row["rank"] == 2 else None
    log = make()
    log.shown("u", ["a", "b", "c"], scores=[1, 2.5, 3])
    log.close()
    (row,) = spilled(tmp_path, "shown-*.rejected")
    assert row["reason"] == "a later time" and row["item_id"] == "b"
    assert row["score"] == 2.5 and row["rank"] == 2
    assert log.counts["rejected"] == 1 and log.counts["written"] == 2
    assert "a later time" in caplog.text


def test_a_row_that_breaks_the_store_does_not_stop_the_others(
        make, store, tmp_path):
    def refuse(row):
        if row["item_id"] == "\udc80":
            raise UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogate")

    store.refuse = refuse
    log = make()
    for n in range(10):
        log.response("", "\udc80" if n == 7 else "i", "click", user_id="u")
    log.close()
    assert len(store.rows["responses"]) == 9
    (row,) = spilled(tmp_path, "*.rejected")
    assert row["item_id"] == "\udc80" and "surrogate" in row["reason"]


def test_a_file_the_store_cannot_take_does_not_keep_others_from_it(
        make, store, tmp_path):
    folder = tmp_path / "spill"
    folder.mkdir()
    row = dict.fromkeys(delivery.COLUMNS["responses"], "1") | {
        "time": 1, "value": 1}
    for n, event in enumerate(("bad", "good")):
        (folder / f"responses-{n}.jsonl").write_text(
            json.dumps(row | {"event_id": event}) + "\n")

    def refuse(row):
        if row["event_id"] == "bad":
            raise RuntimeError("a bug")

    store.refuse = refuse
    log = make(seconds=0.01)
    wait_until(lambda: log._delivery._failures)
    log._delivery._ask_at = 0.0
    # The file of the other goes once its row is in the store.
    wait_until(lambda: len(segments(tmp_path)) == 1)
    assert [row["event_id"] for row in spilled(tmp_path)] == ["bad"]
    assert ("good",) in store.rows["responses"]


def test_a_full_disk_and_no_store(make, store, tmp_path, monkeypatch, caplog):
    store.trouble = OSError("down")
    log = make(most=60, seconds=0.01)
    full = [True]
    real = os.write

    def write(place, content):
        if full[0]:
            real(place, content[:20])  # a torn line stays
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(place, content)

    monkeypatch.setattr(spill.os, "write", write)
    show(log, 100)  # 300 rows
    wait_until(lambda: "No space" in caplog.text)
    counts = log.counts
    assert counts["lost"] == 300 - 123 and counts["waiting"] == 123
    assert counts["spilled"] == 0
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    full[0] = False
    with pytest.raises(OSError, match="177 rows .* are lost"):
        log.close()
    assert log.counts["spilled"] == 123 and log.counts["waiting"] == 0
    store.trouble = None
    again = make()
    wait_until(lambda: len(store.rows["shown"]) == 123)
    again.close()


def test_lost_at_the_end(make, store, monkeypatch):
    store.trouble = OSError("down")
    log = make(seconds=60)
    monkeypatch.setattr(spill.os, "fsync", lambda place: (_ for _ in ()).throw(
        OSError(errno.EIO, "broken disk")))
    show(log, 2)
    with pytest.raises(OSError, match="6 rows"):
        log.close(timeout=5)
    assert log.counts["lost"] == 6


def test_segments_are_taken_once_and_not_while_they_are_written(tmp_path):
    one, other = Spill(tmp_path), Spill(tmp_path)
    one.append("shown", [{"a": 1}, {"a": 2}])
    (path,) = other.segments()
    found = []

    def take():
        return other.take(path, 1, lambda table, rows: found.append(rows))

    assert take() == 0 and path.exists()
    one.append("shown", [{"a": 3}])
    one.finish()

    def inner(table, rows):
        assert one.take(path, 1, lambda *_: None) == 0  # locked meanwhile
        raise KeyError("later")

    with pytest.raises(KeyError):
        other.take(path, 1, inner)
    assert take() == 3 and found == [[{"a": 1}], [{"a": 2}], [{"a": 3}]]
    assert take() == 0 and not other.segments()


def test_segments_are_finished_by_size(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "_SEGMENT", 100)
    found = Spill(tmp_path)
    for n in range(12):
        found.append("shown", [{"number": n, "text": "x" * 20}])
    paths = found.segments()
    assert len(paths) == 4
    assert [len(path.open().readlines()) for path in paths] == [3, 3, 3, 3]


def test_a_forked_child_writes_its_own_rows_only(make, store, tmp_path):
    store.trouble = OSError("down")
    log = make(seconds=60)
    show(log, 1, user="early")
    assert log.flush()  # a segment is open
    show(log, 1, user="parent")
    mark = log.new_id().partition("-")[0]
    child = os.fork()
    if child == 0:
        try:
            show(log, 1, user="child")
            assert log.new_id().partition("-")[0] != mark
            assert log.counts["waiting"] == 3
            log.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    show(log, 1, user="parent")
    assert log.flush()
    # The parent's segment is still locked: the child did not let it go.
    assert [Spill(tmp_path / "spill").take(path, 99, lambda *_: None)
            for path in segments(tmp_path)] == [0, 3]
    log.close()
    assert [row["user_id"] for row in spilled(tmp_path)] == \
        ["early"] * 3 + ["parent"] * 6


def test_with_the_feedback_store(make, tmp_path):
    pytest.importorskip("sqlalchemy")
    pytest.importorskip("alembic")
    from tfrecal.feedback.store.ingest import ingest
    from tfrecal.feedback.store.store import FeedbackStore

    down = MemoryStore()
    down.trouble = OSError("down")
    log = make(store=down)
    request = log.shown("u", ["a", "b"], scores=[0.1, None],
                        propensities=[1, 0.5], strategies=["", "BALD"],
                        model="shop", version=2)
    log.response(request, "b", "click", user_id="u", event_id="e")
    log.close()
    assert log.counts["spilled"] == 3
    with FeedbackStore(tmp_path / "feedback.db") as store:
        for path in segments(tmp_path):
            ingest(store, path, progress=False)
        other = make(store=store)  # brings the same rows again
        wait_until(lambda: not segments(tmp_path))
        other.response("", "c", "click", user_id="u", time=time.time() + 1e6)
        other.close()
        assert other.counts["written"] == 3
        assert other.counts["rejected"] == 1
        shown, responses = store.shown(), store.responses()
    assert shown["request_id"].tolist() == [request] * 2
    assert shown["item_id"].tolist() == ["a", "b"]
    assert shown["score"].isna().tolist() == [False, True]
    assert shown["propensity"].tolist() == [1, 0.5]
    assert shown["strategy"].tolist() == ["", "BALD"]
    assert responses["event_id"].tolist() == ["e"]
    (row,) = spilled(tmp_path, "*.rejected")
    assert row["item_id"] == "c" and row["reason"]


def test_many_threads(make, store):
    log = make(chunk=20)
    threads = [threading.Thread(target=show, args=(log, 40))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert len(store.rows["shown"]) == 8 * 40 * 3 == log.counts["written"]


@pytest.mark.parametrize("call, error, text", [
    (lambda log: log.shown(3, ["a"]), TypeError, "`user_id` .* Received: 3"),
    (lambda log: log.shown("u", [None]), TypeError, "`item_ids`"),
    (lambda log: log.shown("u", ["a"], scores=[1, 2]), ValueError,
     "`scores` must have one for each item. Received: 2 for 1"),
    (lambda log: log.response("r", "a", "rating", user_id="u"), ValueError,
     "`value` must be given"),
    (lambda log: log.response("r", "a", "rating", float("nan"), user_id="u"),
     ValueError, "must be finite"),
    (lambda log: log.response(None, "a", "click", user_id="u"), TypeError,
     "`request_id`")])
def test_calls_that_cannot_be(make, call, error, text):
    with pytest.raises(error, match=text):
        call(make())


def test_arguments_that_cannot_be(make, store, tmp_path):
    for name in ("most", "chunk", "seconds"):
        with pytest.raises(ValueError, match=f"`{name}` must be a positive"):
            make(**{name: 0})
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`spill` must be a folder"):
        FeedbackLog(store, tmp_path / "file" / "x")


def test_a_client_records_its_lists(make, store):
    log = make(clock=lambda: 9.0)
    shop = client_module.Recommender("localhost:1", "shop", log=log)
    shop._ranked_lists = lambda call, k, **inputs: Recommendations(
        [["a", "b"], ["c"], []], [[2.0, 1.0], [3.0], []], 4)
    found = shop.recommend([b"u", 7, "v"])
    assert len(set(found.request_ids)) == 3
    searched = shop.search(["x", "y", "z"], users=["u", "", "w"])
    assert searched.request_ids[1] == ""
    nobody = shop.search(["x", "y", "z"])
    assert nobody.request_ids == [""] * 3
    log.close()
    rows = pd.DataFrame(store.rows["shown"].values())
    assert rows["request_id"].tolist() == [
        found.request_ids[0]] * 2 + [found.request_ids[1]] + [
        searched.request_ids[0]] * 2
    assert rows["user_id"].tolist() == ["u", "u", "7", "u", "u"]
    assert rows["item_id"].tolist() == ["a", "b", "c", "a", "b"]
    assert rows["score"].tolist() == [2, 1, 3, 2, 1]
    assert (rows["model"] == "shop").all() and (rows["version"] == 4).all()
    assert (rows["propensity"] == 1).all() and (rows["strategy"] == "").all()
    shop.log = None
    assert shop.recommend([b"u", 7, "v"]).request_ids == ()


def test_what_is_spilled_is_private_and_cleaned(tmp_path, monkeypatch):
    folder = tmp_path / "logs" / "spill"
    old = os.umask(0o022)
    try:
        with FeedbackLog(None, folder) as log:
            log.shown(" u1\u00a0", ["i1 ", " i2"])
            log.response("", "\u3000i1", "click", user_id="u1 ")
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode)
            for path in folder.iterdir()} == {0o600}
    with FeedbackStore(tmp_path / "feedback.db") as store:
        delivery.take_spilled(store, folder)
        for frame in (store.shown(), store.responses()):
            assert set(frame["user_id"]) == {"u1"}
            assert set(frame["item_id"]) <= {"i1", "i2"}
