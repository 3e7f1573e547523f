"""`tfrecal check`: what is understood of files, without TensorFlow."""
from __future__ import annotations

import subprocess
import sys

import pandas as pd
import pytest

from tfrecal.cli import main

ROWS = ("user_id,item_id,label,timestamp\n1,a,5,2026-05-01T10:00:00Z\n"
        "2,b,1,2026-05-02\n2,a,3,2026-05-03\n")
ITEMS = "item_id,title,year,shelf\na,Tee trinken,1999,007\nb,喝茶,,008\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def _write(name, content):
        (tmp_path / name).write_bytes(
            content if isinstance(content, bytes) else content.encode())
        return name
    return _write


def said(capsys, *words, code=0):
    assert main(["check", *words]) == code
    found = capsys.readouterr()
    return found.out + found.err


def test_all_that_was_understood_is_told(write, capsys):
    text = said(capsys, write("r.csv", ROWS), write("i.csv", ITEMS))
    for words in (
            "3 rows of 2 users and 2 items (75.00% of their pairs)",
            "user_id: whole numbers, such as '1'",
            "item_id: texts, such as 'a'",
            "ratings from 1 to 5 (1: 1, 3: 1, 5: 1)",
            "from 2026-05-01T10:00:00 to 2026-05-03T00:00:00 UTC",
            "2 items, 2 of them with rows",
            "title: texts, 2 different ones, such as 'Tee trinken'",
            "year: numbers from 1999 to 1999, 1 missing",
            "shelf: texts, 2 different ones, such as '007'",
            "2 of 2 items have a text", "3 of 3 rows kept",
            "tfrecal run --data r.csv --items i.csv\n",
            "tfrecal compare --data r.csv --items i.csv -o comparison"):
        assert words in text


def test_texts_that_are_cut_are_counted(write, capsys):
    long = ITEMS.replace("Tee trinken", "word " * 100)
    text = said(capsys, write("r.csv", ROWS), write("i.csv", long),
                "--max-length", "20")
    assert "1 of 2 texts pass the 20 that are read (`--max-length`)" in text
    text = said(capsys, "r.csv", "i.csv", "--encoder", "none")
    assert "tokens" not in text


def test_files_may_come_in_any_order_and_form(write, capsys, tmp_path):
    pd.DataFrame({"who": [1, 2], "what": ["a", "b"]}).to_parquet(
        tmp_path / "r.parquet")
    text = said(capsys, write("u.tsv", "who\tage\n1\t30\n2\t40\n"),
                "r.parquet", "--columns", "user=who,item=what")
    assert "clicks only, which hold no questions" in text
    assert "age: numbers from 30 to 40" in text
    assert ("tfrecal run --data r.parquet --users u.tsv --columns "
            "user=who,item=what") in text
    assert "--oracle people" in text


def test_rows_that_would_be_refused_are_named(write, capsys):
    bad = ROWS + "3,c,four,2026-05-04\n2,a,4,2026-05-05\n"
    text = said(capsys, write("r.csv", bad), code=2)
    assert "`label` is not a finite number on the scale (lines 5)" in text
    assert "occurs more than once (lines 4)" in text
    assert "pass `--bad-rows drop --duplicates last`" in text
    said(capsys, "r.csv", "--bad-rows", "drop", "--duplicates", "last")


def test_tables_can_be_checked_alone(write, capsys):
    text = said(capsys, write("i.csv", ITEMS + 'c,"open,2,1\n'), code=2)
    assert "2 items" in text and "line 4: a quote that is not closed" in text
    said(capsys, write("i.csv", ITEMS))


def test_tables_alone_tell_their_texts_and_the_cure(write, capsys):
    text = said(capsys, write("i.csv", ITEMS + "a,twice,1,1\n"), code=2)
    assert "2 of 2 items have a text" in text
    assert "Mend the rows, or pass `--bad-rows drop`." in text
    assert "tfrecal check RATINGS --items i.csv" in text


def test_commands_are_those_that_run(write, capsys):
    write("r.csv", ROWS)
    write("n.csv", "item_id,title\na,\nb,\n")
    text = said(capsys, "r.csv", "n.csv", "--max-length", "32")
    assert "no column of texts: `run` needs `--encoder none`" in text
    assert ("tfrecal run --data r.csv --items n.csv --encoder none "
            "--max-length 32\n") in text
    assert "--items n.csv --encoder none -o comparison" in text
    write("same.csv", "user_id,item_id,label\n1,a,4\n2,b,4\n")
    text = said(capsys, "same.csv")
    assert "tfrecal run --data same.csv --scale LOW HIGH\n" in text
    text = said(capsys, "same.csv", "--scale", "1", "5")
    assert "tfrecal run --data same.csv --scale 1.0 5.0\n" in text


def test_another_name_of_a_key_is_no_table(write, capsys):
    write("r.csv", ROWS.replace("user_id", "User ID"))
    text = said(capsys, "r.csv", code=2)
    assert "--columns user=User ID" in text


def test_a_name_of_header_stands_once(write, capsys):
    write("h.csv", "1,a,4\n2,b,5\n")
    text = said(capsys, "h.csv", "--header", "user_id,item_id,label,label",
                code=2)
    assert "['label'] twice" in text
    said(capsys, "h.csv", "--header", "user_id,item_id,label")


@pytest.mark.parametrize("words, message", [
    (["r.csv", "--max-length", "0"], "`max_length` must be"),
    (["r.csv", "--separator", "tab"], "the separator seems to be ','"),
    (["nowhere.csv"], "nowhere.csv, which is missing"),
    (["r.csv", "r.csv"], "looks like rows, as r.csv does"),
    (["r.csv", "--time-unit", "hours"], "`time_unit` must be"),
    (["r.csv", "--scale", "5", "1"], "`scale` must be"),
    (["r.csv", "--scale", "a", "b"], "`scale` must be a number"),
    (["r.csv", "--columns", "user"], "must be pairs NAME=COLUMN"),
    (["r.csv", "--columns", "who=user_id"], "Names are user, item"),
    (["r.csv", "--encoding", "klingon"], "must be one that Python knows"),
    (["r.csv", "--separator", '"'], "no quote or line break"),
    (["r.csv", "--quotes", "some"], "`quotes` must be"),
    (["t.csv"], "label=stars"), ([""], "a folder"), (["."], "a folder")])
def test_mistakes_are_one_line(write, capsys, words, message):
    write("r.csv", ROWS)
    write("t.csv", ROWS.replace("label", "stars"))
    text = said(capsys, *words, code=2)
    assert message in text and text.count("\n") == 1


def test_tensorflow_is_not_loaded(write, tmp_path):
    write("r.csv", ROWS)
    write("i.csv", ITEMS)
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from tfrecal.cli import main; "
         "code = main(['check', 'r.csv', 'i.csv']); "
         "sys.exit(code or 7 * ('tensorflow' in sys.modules))"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_mean_of_clicks_and_none_is_a_grade(write, capsys):
    write("r.csv", "user_id,item_id,label\n1,a,0\n1,a,1\n2,b,1\n")
    text = said(capsys, "r.csv", "--duplicates", "mean")
    assert "label: ratings from 0 to 1 (0.5: 1, 1: 1)" in text
