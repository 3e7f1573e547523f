"""The one reader of tables: CSV, TSV and Parquet files."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal.data.interactions import Interactions

GOOD = "user_id,item_id,label,timestamp\n007,x,5,10\n8,y,3,20\n"


@pytest.fixture
def write(tmp_path):
    def _write(content, name="ratings.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes)
                         else content.encode())
        return path
    return _write


def expect_refusal(path, message, **options):
    with pytest.raises(ValueError, match=message) as error:
        Interactions.from_csv(path, **options)
    return str(error.value)


def test_ids_are_read_as_text(write):
    data = Interactions.from_csv(write(GOOD))
    assert data.frame["user_id"].tolist() == ["007", "8"]
    assert data.name == "ratings"


def test_three_files(write):
    data = Interactions.from_csv(
        write("userId;movieId;stars\n1;10;5\n02;20;3\n"),
        users=write("userId;age\n02;30\n1;40\n", "users.csv"),
        items=write("movieId;title\n10;Heat\n20;\"Ran; part 2\"\n",
                    "items.csv"),
        columns={"user_id": "userId", "item_id": "movieId",
                 "label": "stars"})
    assert data.user_ids.tolist() == ["02", "1"]
    assert data.user_code.tolist() == [2, 1]
    assert data.users["age"].tolist() == [30, 40]
    assert data.items["title"].tolist() == ["Heat", "Ran; part 2"]


def test_tables_may_be_frames(write):
    data = Interactions.from_csv(
        write(GOOD), items=pd.DataFrame({"item_id": ["y", "x"]}))
    assert data.item_code.tolist() == [2, 1]


def test_a_byte_order_mark_is_no_part_of_a_name(write):
    path = write(b"\xef\xbb\xbf" + GOOD.encode())
    assert len(Interactions.from_csv(path)) == 2


@pytest.mark.parametrize("content, lines", [
    (GOOD + "9,z,bad,30\n", [4]),
    (GOOD + "\n\n9,z,bad,30\n\n", [6]),
    (GOOD.replace("\n", "\r\n") + "9,z,bad,30\r\n", [4]),
    ("user_id,item_id,label,note\na,x,1,\"one\ntwo\nthree\"\n"
     "b,x,bad,\nc,x,2,\"\n\"\nd,x,bad,\n", [5, 8])])
def test_lines_are_those_of_the_file(write, content, lines):
    path = write(content)
    data = Interactions.from_csv(path, bad_rows="drop")
    assert data.report.lines == {"bad_label": lines}
    assert len(data) == 2
    raw = path.read_text().split("\n")
    assert all("bad" in raw[line - 1] for line in lines)


def test_lines_without_a_header(write):
    path = write("a,x,1\nb,y,bad\n")
    data = Interactions.from_csv(path, bad_rows="drop", header=[
        "user_id", "item_id", "label"])
    assert data.report.lines == {"bad_label": [2]}


def test_missing_cells_are_reported(write):
    message = expect_refusal(
        write(GOOD + ",z,3,1\n \t,z,3,1\n9,z,,1\n9,q\n"),
        "2 of 6 rows kept")
    assert "`user_id` or `item_id` is empty (lines 4, 5)" in message
    assert "scale (lines 6)" in message and "no row (lines 7)" in message


@pytest.mark.parametrize("content, message", [
    ("", "must begin with a line of column names. Received: .*empty"),
    ("\n\n", "must begin"),
    ("user_id,item_id,label\n", "at least one row"),
    ("user_id,label\na,1\n", r"without \['item_id'\]"),
    (GOOD.replace(",", "|"), r"separator seems to be '|'"),
    (GOOD.replace(",", "::"), "--separator '::'"),
    (GOOD + "9,z,3,1,extra\n", "line 4: 5 cells under 4 columns"),
    ("user_id,item_id,label\na,x,3,extra\nb,y,3,extra\n", "line 2: 4 cells"),
    (GOOD.encode("utf-16"), "must be text in utf-8. Received: UTF-16"),
    (GOOD.encode() + b"\xe9t\xe9,z,3,1\n", "line 4: bytes that are no utf-8"),
    (GOOD + '9,"z,3,1\n', "line 4: a quote that is not closed"),
    (GOOD + '9,"z,3,1\n7,q,"2",1\n', "line 4: a quote that is not closed"),
    ("user_id,item_id,label,label\na,x,1,2\n", r"\['label'\] twice"),
    (b"\x00\x01\x02\x03" * 50, "a NUL")])
def test_a_wrong_file_has_one_clear_error(write, content, message):
    expect_refusal(write(content), message)


def test_another_encoding_can_be_named(write):
    path = write((GOOD + "\xe9t\xe9,z,3,1\n").encode("latin-1"))
    data = Interactions.from_csv(path, encoding="latin-1")
    assert data.frame["user_id"].tolist()[-1] == "\xe9t\xe9"


def test_columns_can_be_named_as_texts(write):
    data = Interactions.from_csv(
        write(GOOD), items=write("item_id,zip,age\nx,10,1\ny,20,2\n",
                                 "items.csv"), text=["zip"])
    assert data.items["zip"].tolist() == ["10", "20"]
    assert data.items["age"].tolist() == [1, 2]
    assert data.frame["user_id"].tolist() == ["007", "8"]


def test_an_absent_file_is_named(tmp_path):
    for read in (Interactions.from_csv, Interactions.from_parquet):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            read(tmp_path / "nowhere")


def test_lines_of_tables_count_their_header(write):
    message = expect_refusal(
        write(GOOD), "Interactions must be clean",
        items=write("item_id,title\nx,a\ny,b\nx,c\n", "items.csv"))
    assert "items table: `item_id` is there already (lines 4)" in message


def test_parquet_files(tmp_path):
    frame = pd.DataFrame({"user_id": [7, 8], "item_id": ["x", "y"],
                          "label": [5.0, np.nan]})
    frame.to_parquet(tmp_path / "r.parquet")
    pd.DataFrame({"age": [1, 2]}, index=pd.Index(
        [8, 7], name="user_id")).to_parquet(tmp_path / "u.parquet")
    data = Interactions.from_parquet(
        tmp_path / "r.parquet", tmp_path / "u.parquet", bad_rows="drop")
    assert data.user_code.tolist() == [2] and data.name == "r"
    assert data.report.lines == {"bad_label": [2]}


def test_what_is_not_parquet_is_expect_refusal(write, tmp_path):
    with pytest.raises(ValueError, match="must be a Parquet file"):
        Interactions.from_parquet(write(GOOD))
    pd.DataFrame({"a": range(1000)}).to_parquet(tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    with pytest.raises(ValueError, match="must be a Parquet file"):
        Interactions.from_parquet(write(whole[:-100], "cut.parquet"))
