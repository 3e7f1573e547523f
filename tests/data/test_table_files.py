"""CSV and Parquet files in, a folder out."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tfrecal.data import table_files
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
                 "label": "stars"}, read={"sep": ";"})
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
    data = Interactions.from_csv(path, bad_rows="drop", read={
        "header": None, "names": ["user_id", "item_id", "label"]})
    assert data.report.lines == {"bad_label": [2]}


def test_missing_cells_are_reported(write):
    message = expect_refusal(
        write(GOOD + ",z,3,1\nnan,z,3,1\n9,z,,1\n9,q\n"),
        "2 of 6 rows kept")
    assert "(lines 4, 5)" in message and "(lines 6, 7)" in message


@pytest.mark.parametrize("content, message", [
    ("", "must have a header line. Received: .*empty"),
    ("\n\n", "must have"),
    ("user_id,item_id,label\n", "at least one row"),
    ("user_id,label\na,1\n", r"without \['item_id'\]"),
    (GOOD.replace(",", ";"), r"separator seems to be ';'"),
    (GOOD.replace(",", "\t"), r"separator seems to be '\\t'"),
    (GOOD.replace(",", "::"), r"'::'.*python"),
    (GOOD + "9,z,3,1,extra\n", "header's fields.*line 4"),
    ("user_id,item_id,label\na,x,3,extra\nb,y,3,extra\n",
     "header's fields"),
    (GOOD.encode("utf-16"), "must be text in UTF-8"),
    (GOOD.encode() + b"\xe9t\xe9,z,3,1\n", "must be text in UTF-8.*latin-1"),
    (GOOD + '9,"z,3,1\n', "header's fields"),
    (b"\x00\x01\x02\x03" * 50, "Interactions need the columns")])
def test_a_wrong_file_has_one_clear_error(write, content, message):
    expect_refusal(write(content), message)


def test_another_encoding_can_be_named(write):
    path = write((GOOD + "\xe9t\xe9,z,3,1\n").encode("latin-1"))
    data = Interactions.from_csv(path, read={"encoding": "latin-1"})
    assert data.frame["user_id"].tolist()[-1] == "\xe9t\xe9"


def test_types_of_the_user_are_added(write):
    data = Interactions.from_csv(
        write(GOOD), items=write("item_id,zip\nx,01\ny,02\n", "items.csv"),
        read={"dtype": {"zip": str}})
    assert data.items["zip"].tolist() == ["01", "02"]
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


# ---- folders -------------------------------------------------------------
@pytest.mark.parametrize("change", [
    lambda data: data, lambda data: data.binarise(4),
    lambda data: data.normalise("z_score"), lambda data: data.k_core(9)])
def test_a_folder_comes_back_whole(tmp_path, shop, change):
    data = change(shop)
    data.to_parquet(tmp_path / "shop")
    back = Interactions.load(tmp_path / "shop")
    assert back.fingerprint() == data.fingerprint()
    assert (back.name, back.scale, back.report) == (
        data.name, data.scale, data.report)
    pd.testing.assert_frame_equal(back.frame, data.frame)
    pd.testing.assert_frame_equal(
        back.truth, data.truth, check_index_type=False,
        check_column_type=False)
    np.testing.assert_array_equal(back.user_code, data.user_code)
    assert all(type(i) is str for i in back.item_ids)
    if data.scaling is not None:
        np.testing.assert_array_equal(
            back.scaling.invert(back.frame["user_id"], back.label),
            data.scaling.invert(data.frame["user_id"], data.label))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shop"]


def test_a_table_of_ids_only_and_lists_come_back(tmp_path):
    items = pd.DataFrame({"item_id": ["x", "y"], "genres": [["a"], []]})
    data = Interactions.from_frame(pd.DataFrame({
        "user_id": ["a", "b"], "item_id": ["x", "y"], "label": [1, 2]}),
        items=items)
    data.to_parquet(tmp_path / "d")
    back = Interactions.load(tmp_path / "d")
    assert back.fingerprint() == data.fingerprint()
    assert back.users.index.tolist() == ["a", "b"] and back.truth is None
    assert (back.users.index.name, back.items.index.name) == (
        "user_id", "item_id")
    assert back.codes(["b"], ["y"]) == (2, 2)


def test_a_folder_is_not_overwritten_unasked(tmp_path, shop):
    shop.to_parquet(tmp_path / "d")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        shop.to_parquet(tmp_path / "d")
    shop.binarise(4).to_parquet(tmp_path / "d", overwrite=True)
    assert Interactions.load(tmp_path / "d").scale == (0.0, 1.0)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="must not exist yet"):
        shop.to_parquet(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_failed_write_leaves_the_old_folder(tmp_path, shop, monkeypatch):
    shop.to_parquet(tmp_path / "d")
    before = shop.fingerprint()

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for target, name in ((pd.DataFrame, "to_parquet"),
                         (table_files.json, "dumps")):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, full_disk)
            with pytest.raises(OSError, match="No space left"):
                shop.to_parquet(tmp_path / "d", overwrite=True)
        assert Interactions.load(tmp_path / "d").fingerprint() == before
        assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_a_column_that_parquet_cannot_hold_is_named(tmp_path):
    items = pd.DataFrame({"item_id": ["x", "y"], "odd": [1, "b"]})
    data = Interactions.from_frame(pd.DataFrame({
        "user_id": ["a", "b"], "item_id": ["x", "y"], "label": [1, 2]}),
        items=items)
    with pytest.raises(ValueError, match="(?s)`items` must each.*odd"):
        data.to_parquet(tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_wrong_folders_are_expect_refusal(tmp_path, shop):
    with pytest.raises(FileNotFoundError, match="without meta.json"):
        Interactions.load(tmp_path)
    shop.to_parquet(tmp_path / "d")
    meta = tmp_path / "d" / "meta.json"
    assert json.loads(meta.read_text())["format"] == 1
    meta.write_text(meta.read_text()[:-20])
    with pytest.raises(ValueError, match="must hold JSON"):
        Interactions.load(tmp_path / "d")
