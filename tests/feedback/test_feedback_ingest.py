"""Files of feedback into the store."""
from __future__ import annotations

import csv
import datetime
import json
import subprocess
import sys
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feedback_stores import (  # noqa: F401
    NOW,
    clicks,
    database_url,
    shown_rows,
    store,
)
from pyarrow import parquet

from tfrecal.feedback import FeedbackStore, ingest


@pytest.fixture
def sqlite(tmp_path):
    with FeedbackStore(tmp_path / "feedback.db") as store:  # noqa: F811
        yield store


def write(frame, path):
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True,
                      double_precision=15)
    return path


def rejected_rows(result):
    with open(result.rejected_path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_forms(store, tmp_path, form):  # noqa: F811
    lists = shown_rows(5).assign(time=NOW // 1 - 60)
    path = write(lists, tmp_path / f"lists.{form}")
    events = write(clicks("abc", time=NOW // 1, extra="x"),
                   tmp_path / f"events.{form}")
    result = ingest(store, path, chunk=4, progress=False)
    assert (result.new, result.known, result.rejected) == (15, 0, 0)
    assert result.rejected_path is None
    assert ingest(store, path, chunk=7, progress=False).known == 15
    assert ingest(store, events, progress=False).new == 3
    pd.testing.assert_frame_equal(
        store.shown()[lists.columns].astype(object),
        lists.sort_values(["request_id", "rank"]).astype(object))
    assert store.responses()["event_id"].tolist() == ["a", "b", "c"]


def test_rejected_rows_of_a_csv(sqlite, tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(
        b"\xef\xbb\xbfevent_id;user_id;item_id;time;kind;value\n"
        b"a;=HYPERLINK(1);\"i\n1\";1e9;click;\n"
        b"b;=1+1;i1;-5;rating;-3\n"
        b"\n"
        b"c;u1;i1;1e9;click;1;more\n"
        b"d;\xff;i1;1e9;click;1\n"
        b"e;u2;i1;1e9;skip;0")
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.rejected) == (2, 3)
    assert result.rejected_path == tmp_path / "events.csv.rejected.csv"
    rows = rejected_rows(result)
    assert [row["line"] for row in rows] == ["4", "6", "7"]
    assert "since 1970" in rows[0]["reason"]
    assert rows[0]["user_id"] == "'=1+1" and rows[0]["value"] == "-3"
    assert rows[1]["reason"] == "7 cells under 6 columns"
    assert rows[1]["content"] == "c;u1;i1;1e9;click;1;more"
    assert rows[2]["reason"] == "bytes that are no utf-8"
    assert rows[2]["content"] == "d;\\udcff;i1;1e9;click;1"
    stored = sqlite.responses()
    assert stored["item_id"].tolist() == ["i\n1", "i1"]
    assert stored["user_id"][0] == "=HYPERLINK(1)"
    # Nothing to reject any more: the file of the last time is gone.
    path.write_text("event_id,user_id,item_id,time,kind\n")
    assert ingest(sqlite, path, progress=False).rejected_path is None
    assert not result.rejected_path.exists()


def test_json_lines_may_mix_both_tables(sqlite, tmp_path):
    lines = [json.dumps(row) for frame in (shown_rows(1), clicks("ab"))
             for row in frame.replace(np.nan, None).to_dict("records")]
    path = tmp_path / "segment.jsonl"
    path.write_text("\n".join(
        [*lines, "[1]", "", '{"event_id": ["x"], "user_id": 1}',
         '{"other": 1}', lines[0][:30]]))
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.rejected) == (5, 4)
    rows = rejected_rows(result)
    assert [row["line"] for row in rows] == ["6", "8", "9", "10"]
    assert [row["reason"] for row in rows] == [
        "not a JSON object", "event_id is no valid text or exact whole number",
        "neither `event_id` nor `rank`", "not a JSON object"]
    assert [row["content"] for row in rows] == [
        "[1]", "", '{"other": 1}', lines[0][:30]]


@pytest.mark.parametrize("lines, bad", [
    (['a,u,"i,1e9,click', "b,u,i,1e9,click"], "a"),  # too few cells
    (['a,u,i,1e9,"click', "b,u,i,1e9,click"], "a"),  # one cell to the end
    (['a,u,i,1e9,"click', 'b,"u",i,1e9,click'], "a"),
    (['a,u,i,1e9,"click', 'b,u,"i\n1",1e9,click'], "a"),
    (['a,"u,i,1e9,click', 'b,"u,i,1e9,click', "c,u,i,1e9,click"],
     "ab"),  # 5 cells
    (["a,u,i,1e9,click", 'b,u,i,1e9,"click'], "b"),
    (['a,u,i,1e9,"cl"ick', "b,u,i,1e9,click"], "a")])
def test_a_quote_that_is_not_closed_costs_one_line(
        sqlite, tmp_path, lines, bad):
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["event_id,user_id,item_id,time,kind", *lines]))
    result = ingest(sqlite, path, progress=False)
    assert [row["content"] for row in rejected_rows(result)] == [
        line for line in lines if line[0] in bad]
    assert sqlite.responses()["event_id"].tolist() == [
        line[0] for line in lines if line[0] not in bad]


@pytest.mark.parametrize("form, unit", [
    ("csv", "B/s"), ("jsonl", "B/s"), ("parquet", " rows/s")])
def test_the_bar_says_what_it_counts(sqlite, tmp_path, capsys, form, unit):
    path = write(clicks("abc"), tmp_path / f"events.{form}")
    ingest(sqlite, path)
    told = capsys.readouterr().err
    assert unit in told and "it/s" not in told and "100%" in told


def test_numbers_of_parquet_ids(sqlite, tmp_path):
    path = tmp_path / "events.parquet"
    clicks([1, 2, 3], user_id=[7, None, 9]).to_parquet(path)
    result = ingest(sqlite, path, progress=False)
    assert sqlite.responses()["user_id"].tolist() == ["7", "9"]
    assert [row["line"] for row in rejected_rows(result)] == ["2"]


def test_interrupted_and_begun_again(store, tmp_path, monkeypatch):  # noqa: F811,E501
    path = write(clicks([f"e{n}" for n in range(10)] + ["e0"]),
                 tmp_path / "events.csv")
    add, calls = store.add_responses, []

    def interrupted(frame):
        calls.append(len(frame))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return add(frame)

    monkeypatch.setattr(store, "add_responses", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ingest(store, path, chunk=4, progress=False)
    assert sorted(p.name for p in tmp_path.glob("events*")) == ["events.csv"]
    assert store.counts()["responses"] == 8
    result = ingest(store, path, chunk=4, progress=False)
    assert (result.new, result.known) == (2, 9)
    assert store.counts()["responses"] == 10


@pytest.mark.parametrize("name, content, message", [
    ("events.txt", b"", "must end in"),
    ("events.csv", b"", "which is empty"),
    ("events.csv", b"a,b\n1,2\n", "`event_id`"),
    ("events.csv", "event_id,kind\n".encode("utf-16"), "UTF-16"),
    ("events.csv", b"event_id,user_id,item_id\n", "without time, kind"),
    ("events.csv", b"user,event\n", "event_id, request_id, .*, kind, value"),
    ("lists.csv", b"user,event\n", "request_id, rank, .*, propensity"),
    ("lists.csv", b"request_id,rank\n", "without time"),
    ("events.csv", b"event_id,event_id\n", "once"),
    ("events.csv", b"PAR1\0\0", "Parquet in line 1"),
    ("events.parquet", b"PAR1", "Parquet"),
    ("events.parquet", b"", "Parquet")])
def test_other_files(sqlite, tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        ingest(sqlite, path, progress=False)


def test_an_encoding_that_is_not_that_of_the_file(sqlite, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes("{}\n".encode("utf-16") + b"\x00\xd8\x31\x00\n")
    with pytest.raises(ValueError, match="events.jsonl must be text in utf"):
        ingest(sqlite, path, progress=False, encoding="utf-16")
    assert ingest(sqlite, path, progress=False).rejected > 0


def test_no_file(sqlite, tmp_path):
    with pytest.raises(FileNotFoundError):
        ingest(sqlite, tmp_path / "events.csv", progress=False)
    path = write(clicks("a"), tmp_path / "events.csv")
    with pytest.raises(ValueError, match="`rejected`"):
        ingest(sqlite, path, rejected=path, progress=False)
    assert path.stat().st_size > 0


HEAD = "event_id,user_id,item_id,time,kind\n"


def test_one_bad_byte_is_one_rejected_row(sqlite, tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes(HEAD.encode() + b"e1,u1,i1,1e9,click\n"
                     b"e2,u2,i2,17955509\xff5.1,click\n"
                     b"e3,u3,i3,1e9,click\n")
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.rejected) == (2, 1)
    row, = rejected_rows(result)
    assert row["line"] == "3" and "no utf-8" in row["reason"]
    path = tmp_path / "events.jsonl"
    row = b'{"event_id": "%s", "user_id": "u", "item_id": "i", "time": 1e9, '
    row += b'"kind": "click"}'
    path.write_bytes(b"\n".join([row % b"f1", row % b"f\xff", row % b"f3"]))
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.rejected) == (2, 1)
    assert rejected_rows(result)[0]["line"] == "2"


@pytest.mark.parametrize("name", ["time", "value", "user_id", "kind"])
def test_half_a_surrogate_pair_is_one_rejected_row(sqlite, tmp_path, name):
    rows = clicks("ab", time=NOW // 1).assign(value=1.0).to_dict("records")
    rows[1][name] = "\ud80e"
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.rejected) == (1, 1)
    assert name in rejected_rows(result)[0]["reason"]


def test_a_file_that_is_no_utf_16_is_named(sqlite, tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"{}")
    with pytest.raises(ValueError, match="events.jsonl must be text in utf-16"
                       ". Received: .*BOM"):
        ingest(sqlite, path, encoding="utf-16", progress=False)


def test_names_encodings_and_separators(sqlite, tmp_path):
    path = tmp_path / "events.csv"
    path.write_bytes("id|kunde|item_id|wann|kind|sterne\n"
                     "e1|Jürgen|i1|2026-05-01|rating|4\n".encode("cp1252"))
    names = {"event_id": "id", "user": "kunde", "time": "wann",
             "label": "sterne"}
    result = ingest(sqlite, path, progress=False, columns=names,
                    encoding="cp1252", separator="|")
    assert (result.new, result.ratings) == (1, 1)
    stored = sqlite.responses()
    assert stored["user_id"].tolist() == ["Jürgen"]
    assert stored["time"].tolist() == [1_777_593_600.0]
    frame = clicks("ab", time=1e9).rename(columns={"user_id": "kunde"})
    for form in ("parquet", "jsonl"):
        path = write(frame, tmp_path / f"more.{form}")
        result = ingest(sqlite, path, progress=False,
                        columns={"user_id": "kunde"})
        assert result.new + result.known == 2
    for columns, message in (
            ({"user": "nobody"}, "must name columns of the file"),
            ({"user": "kunde", "user_id": "kunde"}, "each once"),
            ({"customer": "kunde"}, "names of the store")):
        with pytest.raises(ValueError, match=message):
            ingest(sqlite, tmp_path / "more.parquet", progress=False,
                   columns=columns)


def test_a_file_with_its_header_twice(sqlite, tmp_path):
    path = tmp_path / "events.csv"
    line = "e1, u1 ,i1,1e9,click\n"
    path.write_text(HEAD.replace(",", " , ") + line + HEAD + line)
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.known, result.rejected) == (1, 1, 1)
    assert sqlite.responses()["user_id"].tolist() == ["u1"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_parquet_types_are_exact(sqlite, tmp_path, chunk):
    users = pa.array([2 ** 60 + 1, None, 2 ** 60 + 2, 7])
    table = pa.table({
        "event_id": pa.array([10, 11, 12, 13], pa.int8()),
        "user_id": users, "kind": pa.array(["click"] * 4).dictionary_encode(),
        "item_id": pa.array([2 ** 63 + 1, 2 ** 63, 2 ** 64 - 1, 7],
                            pa.uint64()),
        "time": pa.array([10 ** 18 + 1] * 4, pa.timestamp("ns", "Mars/City")),
        "value": pa.array([Decimal("1.0")] * 4), "extra": pa.array(
            [{"a": 1}] * 4)})
    path = tmp_path / "events.parquet"
    parquet.write_table(table, path)
    result = ingest(sqlite, path, chunk=chunk, progress=False)
    assert (result.new, result.rejected) == (3, 1)
    stored = sqlite.responses()
    assert stored["user_id"].tolist() == [
        str(2 ** 60 + 1), str(2 ** 60 + 2), "7"]
    assert stored["item_id"].tolist() == [
        str(2 ** 63 + 1), str(2 ** 64 - 1), "7"]
    assert set(stored["time"]) == {1e9}
    assert rejected_rows(result)[0]["reason"] == "no user_id"


@pytest.mark.parametrize("column, values, reason", [
    ("time", pa.array([1.7e9], pa.float32()), "rounds seconds"),
    ("user_id", pa.array([2.0 ** 24], pa.float32()), "exact whole number"),
    ("user_id", pa.array([True]), "no valid text"),
    ("time", pa.array([5], pa.duration("s")), "this is none"),
    ("time", pa.array([datetime.date(9999, 12, 31)]), "time"),
    ("user_id", pa.array([b"u"]), "no valid text")])
def test_parquet_types_that_are_refused(
        sqlite, tmp_path, column, values, reason):
    cells = {"event_id": ["a"], "user_id": ["u"], "item_id": ["i"],
             "time": [1e9], "kind": ["click"]}
    path = tmp_path / "events.parquet"
    parquet.write_table(pa.table({**cells, column: values}), path)
    result = ingest(sqlite, path, progress=False)
    assert (result.new, result.rejected) == (0, 1)
    assert reason in rejected_rows(result)[0]["reason"]


def test_bytes_of_parquet_that_are_no_text_are_refused(sqlite, tmp_path):
    path = tmp_path / "events.parquet"
    parquet.write_table(pa.Table.from_pandas(clicks(["axxb"])), path,
                        compression="none", use_dictionary=False,
                        write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"axxb", b"a\x80xb"))
    with pytest.raises(ValueError, match="must be a Parquet.*UTF8"):
        ingest(sqlite, path, progress=False)


def test_strangers_are_counted(store, tmp_path):  # noqa: F811
    path = write(clicks("ab", user_id=["u1", "u2"], item_id=["i1", "i1"]),
                 tmp_path / "events.csv")
    result = ingest(store, path, progress=False)
    assert (result.new_users, result.new_items) == (None, None)
    write(clicks("abcd", user_id=["u1", "u2", " u2", "u3"],
                 item_id=["i1", "i1", "i1", "i9"]), path)
    result = ingest(store, path, progress=False)
    assert (result.new, result.new_users, result.new_items) == (2, 1, 1)


def test_a_broken_line_of_an_erased_user_is_not_kept(sqlite, tmp_path):
    sqlite.erase_user("gone")
    path = tmp_path / "events.csv"
    path.write_text(HEAD + "a, gone,i,1e9,click,more\nb,u,i,1e9,click,more\n")
    result = ingest(sqlite, path, progress=False)
    assert [row["content"] for row in rejected_rows(result)] == [
        "", "b,u,i,1e9,click,more"]


@pytest.mark.large
def test_killed_in_ingest_and_in_erase(tmp_path):
    path = tmp_path / "events.csv"
    size = 60_000
    clicks(range(size), user_id=[f"unforgettable{n % 9}" for n in
                                 range(size)]).to_csv(path, index=False)
    database = tmp_path / "store" / "feedback.db"
    database.parent.mkdir()
    code = """
import sys
from tfrecal.feedback import FeedbackStore, ingest
with FeedbackStore(sys.argv[1]) as store:
    print("begun", flush=True)
    if sys.argv[2] == "ingest":
        ingest(store, sys.argv[3], chunk=2000, progress=False)
    else:
        for user in range(9):
            store.erase_user(f"unforgettable{user}")
"""

    def run(action, seconds):
        with subprocess.Popen(
                [sys.executable, "-c", code, database, action, path],
                stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "begun\n"
            if seconds is not None:
                time.sleep(seconds)
                process.kill()
        return process.returncode

    killed = [run("ingest", 0.07 * n) for n in range(1, 5)]
    assert killed.count(-9) > 1
    assert run("ingest", None) == 0
    with FeedbackStore(database) as opened:
        assert opened.counts()["responses"] == size
        assert ingest(opened, path, progress=False).known == size
    killed = [run("erase", 0.05 * n) for n in range(1, 5)]
    assert killed.count(-9) > 1
    assert run("erase", None) == 0
    with FeedbackStore(database) as opened:
        assert opened.counts()["responses"] == 0
    for file in database.parent.iterdir():
        assert b"unforgettable" not in file.read_bytes()


EVENTS = "event_id\trequest_id\tuser_id\titem_id\tat\tkind\tvalue\n"


@pytest.mark.parametrize("name", ["events.tsv", "events.tab", "EVENTS.TSV"])
def test_tabs_by_the_ending(sqlite, tmp_path, name):
    path = tmp_path / name
    path.write_text(EVENTS + f"e1\tq,1;2\t7\ta,b\t{NOW // 1}\tclick\t\n")
    result = ingest(sqlite, path, progress=False,
                    columns={"timestamp": "at"})
    assert (result.new, result.rejected) == (1, 0)


def test_named_cells_are_missing(sqlite, tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text(EVENTS + "".join(
        f"{event}\tq1\t{user}\ta\t{NOW // 1}\tclick\t{value}\n"
        for event, user, value in (("e1", "1", " NA "), ("e2", "-", ""),
                                   ("e3", "NA-7", "NA"))))
    result = ingest(sqlite, path, progress=False, columns={"time": "at"},
                    missing=["NA", "-"])
    assert result.new == 2
    assert [(row["line"], row["event_id"]) for row in rejected_rows(
        result)] == [("3", "e2")]


def test_parquet_by_its_short_ending(sqlite, tmp_path):
    clicks("ab", time=NOW // 1).to_parquet(tmp_path / "events.pq")
    assert ingest(sqlite, tmp_path / "events.pq", progress=False).new == 2


def test_a_missing_file_is_called_missing(sqlite, tmp_path):
    for ending in ("csv", "jsonl", "parquet", "txt"):
        with pytest.raises(FileNotFoundError, match="which is missing"):
            ingest(sqlite, tmp_path / f"nowhere.{ending}", progress=False)
