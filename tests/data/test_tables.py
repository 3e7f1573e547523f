"""The one reader of tables: CSV, TSV and Parquet files."""
from __future__ import annotations

import bz2
import gzip
import lzma
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from tfrecal.data import splits
from tfrecal.data.interactions import Interactions
from tfrecal.data.tables import read_parquet

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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "gb18030"])
@pytest.mark.parametrize("header", [[], ["user_id", "item_id"]])
def test_a_byte_order_mark_is_no_part_of_a_cell(write, encoding, header):
    rows = "\"a\",x\n\"b\",y\n"
    content = rows if header else f"\"user_id\",item_id\n{rows}"
    path = write(f"\ufeff{content}".encode(encoding))
    data = Interactions.from_csv(path, encoding=encoding, header=header)
    assert data.user_ids.tolist() == ["a", "b"]


def test_a_byte_order_mark_below_the_header_is_part_of_its_cell(write):
    data = Interactions.from_csv(write("user_id,item_id\n\ufeffa,x\n"))
    assert data.user_ids.tolist() == ["\ufeffa"]


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


# ---- one kind of fault a test ---------------------------------------------
def test_an_open_quote_in_ids_is_refused_with_its_line(write):
    path = write("user_id,item_id,label\na,\"x,1\nb,y,2\nc,z\",3\nd,w,5\n")
    message = expect_refusal(path, "holds a line end.*quote")
    assert "(lines 2)" in message
    data = Interactions.from_csv(path, bad_rows="drop")
    assert data.user_ids.tolist() == ["d"]


def test_an_open_quote_in_a_table_costs_its_own_line(write):
    path = write('item_id,title\nx,"Alien\ny,Heat\nz,"Up"\nw,Brazil\n',
                 "items.csv")
    rows = write(GOOD)
    message = expect_refusal(rows, "items table: the line is no row "
                             r"\(lines 2\)", items=path)
    assert "line 2: a quote that is not closed: 'x,\"Alien'" in message
    data = Interactions.from_csv(rows, items=path, bad_rows="drop")
    assert data.items["title"].to_dict() == {
        "y": "Heat", "z": "Up", "w": "Brazil"}


def test_line_ends_in_quotes_are_told(write):
    data = Interactions.from_csv(write(GOOD), items=write(
        'item_id,title\nx,"Alien\n(1979)"\ny,Heat\n', "items.csv"))
    assert data.items["title"].tolist() == ["Alien\n(1979)", "Heat"]
    assert "1 row(s) with line ends in quotes (lines 2)" in str(data.report)


def test_words_are_no_missing_cells(write):
    rows, items = write(GOOD), write(
        "item_id,title,country,code,year,rest\n"
        "x,None,NA,01234,1999,\ny,007,null,00501,,\n", "items.csv")
    data = Interactions.from_csv(rows, items=items)
    assert data.items["title"].tolist() == ["None", "007"]
    assert data.items["country"].tolist() == ["NA", "null"]
    assert data.items["code"].tolist() == ["01234", "00501"]
    assert data.items["year"].tolist()[0] == 1999.0
    assert data.items["rest"].isna().all()
    data = Interactions.from_csv(rows, items=items, missing=["NA", "null"])
    assert data.items["country"].isna().all()
    assert data.items["title"].tolist() == ["None", "007"]


@pytest.mark.parametrize("cells, kind", [
    (["007", "1984"], "text"), (["1984", ""], "number"),
    (["1984", "Heat"], "text"), (["1.5", "-2"], "number"),
    (["1e5", "1"], "text"), (["1e-05", "1"], "number"),
    (["1234567890123456", "1"], "text"), (["+3", "1"], "text"),
    (["1,5", "2"], "text"), (["inf", "1"], "text"), (["nan", "1"], "text"),
    (["True", "False"], "text"), (["0", "-0.5"], "number")])
def test_a_column_is_numbers_if_all_cells_are(write, cells, kind):
    lines = "".join(f'{item},"{cell}"\n' for item, cell in zip("xy", cells))
    data = Interactions.from_csv(
        write(GOOD), items=write(f"item_id,c\n{lines}", "items.csv"))
    found = data.items["c"]
    assert pd.api.types.is_numeric_dtype(found.dtype) == (kind == "number")
    if kind == "text":
        assert found.tolist() == cells
    else:
        assert [value for value in found if value == value] == [
            float(cell) for cell in cells if cell]


def test_whole_numbers_of_parquet_stay_whole(tmp_path):
    frame = pd.DataFrame({
        "user_id": pd.array([2 ** 60 + 1, 2 ** 60 + 2, None], "Int64"),
        "item_id": ["x", "y", "x"], "label": [1, 2, 3]})
    frame.to_parquet(tmp_path / "r.parquet")
    data = Interactions.from_csv(tmp_path / "r.parquet", bad_rows="drop")
    assert data.user_ids.tolist() == [str(2 ** 60 + 1), str(2 ** 60 + 2)]


@pytest.mark.parametrize("name, separator", [
    ("r.csv", ","), ("r.csv", ";"), ("r.tsv", "\t"), ("r.txt", "\t")])
def test_the_separator_is_seen(write, name, separator):
    data = Interactions.from_csv(write(GOOD.replace(",", separator), name))
    assert data.frame["user_id"].tolist() == ["007", "8"]


@pytest.mark.parametrize("separator", ["::", "|", "tab"])
def test_the_separator_can_be_named(write, separator):
    between = "\t" if separator == "tab" else separator
    path = write(GOOD.replace(",", between), "r.dat")
    data = Interactions.from_csv(path, separator=separator)
    assert data.frame["user_id"].tolist() == ["007", "8"]


def test_quotes_can_be_letters(write):
    path = write('user_id\titem_id\tlabel\na\t"x\t1\nb\ty"\t2\n', "r.tsv")
    expect_refusal(path, r"open quote .*--quotes none.*\(lines 2\)")
    data = Interactions.from_csv(path, quotes=False)
    assert data.item_ids.tolist() == ['"x', 'y"']


@pytest.mark.parametrize("name, pack", [
    ("r.csv.gz", gzip.compress), ("r.csv.bz2", bz2.compress),
    ("r.tsv.xz", lzma.compress)])
def test_packed_files(write, name, pack):
    text = GOOD.replace(",", "\t") if ".tsv" in name else GOOD
    path = write(pack((text * 1).encode()), name)
    assert Interactions.from_csv(path).frame["user_id"].tolist() == [
        "007", "8"]
    path.write_bytes(path.read_bytes()[:-12])
    expect_refusal(path, "read to its end")


def test_clicks_have_no_label(write):
    path = write("user_id,item_id,timestamp\na,x,2026-05-01T08:00:00Z\n"
                 "a,x,2026-05-02\nb,y,2026-05-03\n")
    data = Interactions.from_csv(path)
    assert data.label.tolist() == [1, 1] and data.scale == (0, 1)
    assert "each row is a click" in str(data.report)
    assert data.frame["timestamp"].tolist() == [1777680000, 1777766400]
    expect_refusal(write("user_id,item_id,rating\na,x,1\n"),
                   r"label=rating")


def test_the_scale_is_taken_before_rows_of_a_pair_are_one(write):
    path = write("user_id,item_id,label\na,x,0\na,x,1\nb,x,1\n")
    data = Interactions.from_csv(path, duplicates="mean")
    assert data.scale == (0, 1) and data.label.tolist() == [0.5, 1]
    path = write("user_id,item_id,label\na,x,1\na,x,5\nb,x,4\n")
    assert Interactions.from_csv(path, duplicates="last").scale == (1, 5)


def test_order_within_a_second_decides_which_row_is_last(write):
    path = write("user_id,item_id,label,timestamp\na,x,1,1700000000.900\n"
                 "a,x,5,1700000000.100\na,y,3,1700000000.700\n"
                 "a,z,4,1700000000.500\n")
    data = Interactions.from_csv(path, duplicates="last")
    assert data.frame.set_index("item_id")["label"].to_dict() == {
        "x": 1, "y": 3, "z": 4}
    assert splits.leave_last_n(data, validation=0).test.frame[
        "item_id"].tolist() == ["x"]


def test_ids_with_noise_are_one(write):
    path = write("user_id,item_id,label\n001,100,5\n002 ,100.0,4\n"
                 "\u00a0003, 100,3\n")
    data = Interactions.from_csv(path)
    assert data.user_ids.tolist() == ["001", "002", "003"]
    assert data.item_ids.tolist() == ["100"]


def test_white_space_of_all_kinds_is_cut_from_categories(write):
    items = write("item_id,genres\nx,Drama\u00a0\ny,\u3000Action\n", "i.csv")
    data = Interactions.from_csv(write(GOOD), items=items)
    assert [value.strip() for value in data.items["genres"]] == [
        "Drama", "Action"]


def read_items(tmp_path, column):
    """Returns a column of an items table of Parquet."""
    path = tmp_path / "items.parquet"
    parquet.write_table(pa.table({
        "item_id": pa.array(["x", "y"][:len(column)], pa.string()),
        "size": column}), path)
    rows = pd.DataFrame({"user_id": ["a"], "item_id": ["x"], "label": [1]})
    return Interactions.from_frame(
        rows, items=read_parquet(path), bad_rows="drop").items["size"]


@pytest.mark.parametrize("column, cells", [
    (pa.array([Decimal(2 ** 53 + 1), None], pa.decimal128(38, 0)),
     [str(2 ** 53 + 1), None]),
    (pa.array([Decimal("2.50"), Decimal("1.00")]), [2.5, 1.]),
    (pa.array([-2 ** 63, 1], pa.int64()), [-2 ** 63, 1]),
    (pa.array([-2 ** 62 - 1, None], pa.int64()), [str(-2 ** 62 - 1), None]),
    (pa.array([2 ** 63 + 1, 1], pa.uint64()), [2 ** 63 + 1, 1])])
def test_large_numbers_of_tables_are_exact(tmp_path, column, cells):
    found = read_items(tmp_path, column)
    assert [None if pd.isna(cell) else cell for cell in found] == cells


def test_whole_numbers_that_are_all_missing(tmp_path):
    assert read_items(tmp_path, pa.array([None, None], pa.int64())
                      ).isna().all()


def test_a_table_of_whole_numbers_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="items table"):
        read_items(tmp_path, pa.array([], pa.uint16()))


def test_frames_of_arrow_types_are_read_as_parquet_files(tmp_path):
    raw = pa.table({
        "user_id": pa.array([2 ** 60 + 1, 2 ** 60 + 2, None]),
        "item_id": pa.array(["a", "b", "c"]),
        "label": pa.array([Decimal("1.5"), Decimal("2.5"), None]),
        "timestamp": pa.array([19_000, 19_001, None], pa.int32()).cast(
            pa.date32())})
    data = Interactions.from_frame(
        raw.to_pandas(types_mapper=pd.ArrowDtype), bad_rows="drop")
    assert data.user_ids.tolist() == [str(2 ** 60 + 1), str(2 ** 60 + 2)]
    assert data.label.tolist() == [1.5, 2.5]
    assert data.frame["timestamp"].tolist() == [
        19_000 * 86_400, 19_001 * 86_400]


def test_a_parquet_file_with_damaged_names_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"user_id": ["a"], "item_id": ["b"]}), path,
                        store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"user_id", b"user_i\xc3"))
    expect_refusal(path, "rows.parquet must be a Parquet file")


def test_bytes_of_parquet_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    parquet.write_table(
        pa.table({"user_id": ["axxb"], "item_id": ["b"]}), path,
        compression="none", use_dictionary=False, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"axxb", b"a\x80xb"))
    expect_refusal(path, "rows.parquet must be a Parquet file.*UTF8")


@pytest.mark.parametrize("content, message", [
    ("user_id,item_id,label\n", "at least one row"),
    ("user_id,item_id,label\n1,a,x\n2,b,3\n", "must be clean"),
    ("userId,item_id,label\n1,a,3\n", "need the columns"),
    ("user_id,item_id,timestamp\n1,a,2026\n2,b,2025\n", "like years"),
    ("user_id,item_id,label\n1,a,x\n", "at least one good row")])
def test_a_refused_file_is_named(tmp_path, content, message):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        Interactions.from_csv(path, bad_rows="drop" if "good" in message
                              else "raise")
    assert str(path) in str(error.value)


def test_a_refused_table_is_named_and_not_the_rows(tmp_path):
    (tmp_path / "rows.csv").write_text("user_id,item_id\n1,a\n")
    (tmp_path / "items.csv").write_text("isbn,title\na,A\n")
    with pytest.raises(ValueError, match="item_id") as error:
        Interactions.from_csv(tmp_path / "rows.csv",
                              items=tmp_path / "items.csv")
    assert "items.csv" in str(error.value)
    assert "rows.csv" not in str(error.value)


@pytest.mark.parametrize("row, options, words", [
    ("1;a;4,5;2026-05-01", {}, "`label` in line 3 is '4,5': numbers have a "
     "point, not a comma"),
    ("1;a;9;2026-05-01", {"scale": (1, 5)}, "`label` in line 3 is '9'; the "
     "scale is 1 to 5"),
    ("1;a;4;01.05.2026", {}, "`timestamp` in line 3 is '01.05.2026'")])
def test_a_refused_cell_is_shown(write, row, options, words):
    path = write("user_id;item_id;label;timestamp\n"
                 f"2;b;3;2026-05-02\n{row}\n")
    with pytest.raises(ValueError) as error:
        Interactions.from_csv(path, **options)
    assert words in str(error.value)


def test_a_name_that_stands_twice_in_parquet_is_named(tmp_path):
    table = pa.table([pa.array(["u"]), pa.array(["a"]), pa.array(["b"])],
                     names=["user_id", "item_id", "item_id"])
    parquet.write_table(table, tmp_path / "r.parquet")
    with pytest.raises(ValueError, match="'item_id'. twice"):
        Interactions.from_parquet(tmp_path / "r.parquet")


def test_a_text_that_is_no_column_is_refused(write):
    rows = write("user_id,item_id,label\n1,a,3\n2,b,4\n")
    items = write("item_id,zip\na,123\nb,456\n", "items.csv")
    with pytest.raises(ValueError, match="`--text`.*'zipp'.*'zip'"):
        Interactions.from_csv(rows, items=items, text=["zipp"])
    data = Interactions.from_csv(rows, items=items, text=["zip", "item_id"])
    assert data.items["zip"].tolist() == ["123", "456"]
