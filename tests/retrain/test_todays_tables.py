"""Today's users and items tables, against those that are served."""
from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tfrecal.data.interactions import Interactions
from tfrecal.data.tables import TableFormat
from tfrecal.retrain.material import grown_table
from tfrecal.retrain.todays_tables import TablesWrong, read_today

SERVED = pd.DataFrame({
    "title": ["one", "two", "three"], "shelf": ["A1", "7", None],
    "year": [1990, 1991, 1992], "price": [1.5, np.nan, 3.0]},
    index=pd.Index(["100", "101", "102"], name="item_id"))


def tables():
    return Interactions.from_frame(
        pd.DataFrame({"user_id": ["1", "2"], "item_id": ["100", "101"],
                      "label": [1, 5], "timestamp": [1, 2]}),
        items=SERVED, users=pd.DataFrame(
            {"age": [20, 30]}, index=pd.Index(["1", "2"], name="user_id")))


def read(folder, text, **options):
    path = folder / "items.csv"
    path.write_text(text, "utf-8")
    return read_today(tables(), None, path, **options)


def test_columns_have_the_kinds_of_the_served_table(tmp_path):
    """Also where a column of the file alone would be read otherwise."""
    found = read(tmp_path, "item_id,title,shelf,year,price\n"
                 "200,1984,7,1997,2\n007,007,,1998,\n")
    assert found.items.index.tolist() == ["200", "007"]
    assert found.items["title"].tolist() == ["1984", "007"]
    assert found.items["shelf"].iloc[0] == "7"
    assert pd.isna(found.items["shelf"].iloc[1])
    grown = grown_table(SERVED, found.items)
    assert grown["year"].tolist() == [1990, 1991, 1992, 1997, 1998]
    assert grown["year"].dtype == np.int64
    assert grown["price"].iloc[3] == 2.0 and np.isnan(grown["price"].iloc[4])
    assert grown.iloc[:3].equals(SERVED)


def test_numbers_of_parquet_become_texts_and_stay_in_range(tmp_path):
    path = tmp_path / "items.parquet"
    pd.DataFrame({
        "item_id": [200, 201], "title": [2 ** 60 + 1, 7],
        "shelf": [Decimal("9007199254740993.00"), None],
        "year": [1e300, 1997.0],
        "price": pd.array([3, None], "Int64")}).to_parquet(path)
    found = read_today(tables(), None, path).items
    assert found["title"].tolist() == [str(2 ** 60 + 1), "7"]
    assert found["shelf"].tolist() == ["9007199254740993", None]
    assert found["year"].tolist() == [1e300, 1997]
    assert found["price"].dtype == np.float64
    assert found["price"].iloc[0] == 3 and np.isnan(found["price"].iloc[1])


def test_all_wrong_lines_are_named_at_once(tmp_path):
    with pytest.raises(TablesWrong) as error:
        read(tmp_path, "item_id,title,shelf,year,price\n"
             "200,a,7,1997,1\n201,b,,199?,1\n,c,,1990,1\n200,d,,1990,1\n"
             "203,e,,1990,cheap\n")
    said = str(error.value)
    assert "line 3 ('199?'): `year` must be a number" in said
    assert "line 4: `item_id` is empty" in said
    assert "line 5 ('200'): `item_id` is there already" in said
    assert "line 6 ('cheap'): `price` must be a number" in said
    assert "--items" in said and "\n" not in said


def test_the_first_lines_are_shown_and_the_others_counted(tmp_path):
    rows = "".join(f"{n},t,s,x,1\n" for n in range(200, 1200))
    with pytest.raises(TablesWrong, match="line 6 .'x'. and 995 more"):
        read(tmp_path, "item_id,title,shelf,year,price\n" + rows)


def test_wrong_rows_are_left_out_where_the_run_was_read_so(tmp_path):
    found = read(tmp_path, "item_id,title,shelf,year,price\n"
                 "200,a,7,1997,1\n201,b,,199?,1\n,c,,1990,1\n",
                 bad_rows="drop")
    assert found.items.index.tolist() == ["200"]
    assert sum(note.startswith("left out: ") for note in found.notes) == 2


def test_columns_that_are_new_or_lacking(tmp_path):
    found = read(tmp_path, "item_id,colour,year,title,shelf,price\n"
                 "200,red,1997,a,7,1\n")
    assert found.items.columns.tolist() == SERVED.columns.tolist()
    assert any("['colour'] are left out" in note for note in found.notes)
    with pytest.raises(TablesWrong, match=r"without \['year', 'price'\]"):
        read(tmp_path, "item_id,title,shelf\n200,a,7\n")
    with pytest.raises(TablesWrong, match="item_id"):
        read(tmp_path, "id,title,shelf,year,price\n200,a,7,1,1\n")


def test_a_changed_row_of_a_served_item_is_said_and_stays(tmp_path):
    found = read(tmp_path, "item_id,title,shelf,year,price\n"
                 "100,other,A1,1990,1.5\n101,two,7,1991,\n 102 ,three,,"
                 "1992,4\n200,a,7,1997,1\n")
    assert found.items.index.tolist() == ["200"]
    assert any("4 rows, of which 1 are new and 3 are served already; 2 of "
               "these have changed" in note for note in found.notes)


def test_many_new_ids_are_said_aloud(tmp_path):
    rows = "".join(f"{n},t,s,1,1\n" for n in range(200, 230))
    found = read(tmp_path, "item_id,title,shelf,year,price\n" + rows)
    assert any("most ids are new, such as '200', beside '100'" in note
               for note in found.notes)


@pytest.mark.parametrize("content, said", [
    (b"", "empty"), (b"item_id,title,shelf,year,price\n200,\"a\n", "line 2"),
    (b"item_id,item_id,title,shelf,year,price\n", "twice"),
    (b"item_id,title,shelf,year,price\n200,\xff,7,1,1\n", "line 2"),
    (b"PAR1 and no more", "items"), (b"\0\0\0", "items")])
def test_files_that_are_no_table(tmp_path, content, said):
    (tmp_path / "items.csv").write_bytes(content)
    with pytest.raises(TablesWrong, match=said):
        read_today(tables(), None, tmp_path / "items.csv")


def test_both_files_are_named(tmp_path):
    (tmp_path / "users.csv").write_text("user_id,age\n3,old\n")
    (tmp_path / "items.csv").write_text("item_id,title,shelf,year,price\n"
                                        "9,a,b,?,1\n")
    with pytest.raises(TablesWrong) as error:
        read_today(tables(), tmp_path / "users.csv", tmp_path / "items.csv")
    assert "('old')" in str(error.value) and "('?')" in str(error.value)
    with pytest.raises(TablesWrong, match="--users.*none.csv, which is miss"):
        read_today(tables(), tmp_path / "none.csv")


def test_an_erased_user_gets_todays_row_and_no_other(tmp_path):
    (tmp_path / "users.csv").write_text("user_id,age\n1,21\n2,31\n")
    found = read_today(tables(), tmp_path / "users.csv", forget={"1"})
    assert found.users["age"].to_dict() == {"1": 21}


def test_truth_and_times_of_a_served_parquet_file(tmp_path):
    """Runs of earlier versions hold such columns."""
    served = Interactions.from_frame(
        pd.DataFrame({"user_id": ["1"], "item_id": ["x"], "label": [1],
                      "timestamp": [1]}), items=pd.DataFrame(
            {"new": [True], "made": pd.to_datetime(["2026-01-02"])},
            index=pd.Index(["x"], name="item_id")))
    path = tmp_path / "items.csv"
    path.write_text("item_id,new,made\ny,False,2026-05-06\nz,true,\n")
    found = read_today(served, None, path).items
    assert found["new"].tolist() == [False, True]
    assert found["made"].iloc[0] == pd.Timestamp("2026-05-06")
    path.write_text("item_id,new,made\ny,maybe,2026-05-06\nz,true,then\n")
    with pytest.raises(TablesWrong, match="line 2 .'maybe'.*line 3 .'then'"):
        read_today(served, None, path)


def test_files_are_read_as_those_of_the_run(tmp_path):
    """In another encoding, with other names of ids and other line ends."""
    text = ("nr;price;year;shelf;title\r\n"
            " 200 ;NA;1997;7;B\xfccher\r\n201.0;2,5;1998;;x\r\n")
    (tmp_path / "items.csv").write_bytes(text.encode("latin-1"))
    options = {"form": TableFormat("latin-1", ";", missing=("NA",)),
               "columns": {"item_id": "nr"}}
    with pytest.raises(TablesWrong, match="line 3 .'2,5'.: `price` must be"):
        read_today(tables(), None, tmp_path / "items.csv", **options)
    (tmp_path / "items.csv").write_bytes(
        text.replace("2,5", "2.5").encode("latin-1"))
    found = read_today(tables(), None, tmp_path / "items.csv",
                       **options).items
    assert found.index.tolist() == ["200", "201"]
    assert found["title"].tolist() == ["B\xfccher", "x"]
    assert found["shelf"].iloc[0] == "7" and np.isnan(found["price"].iloc[0])
    frame = pd.DataFrame({
        "item_id": [200, 201], "title": ["B\xfccher", "x"],
        "shelf": [7.0, np.nan], "year": [1997, 1998], "price": [None, 2.5]})
    frame.to_parquet(tmp_path / "items.parquet")
    for source in (frame, tmp_path / "items.parquet"):
        also = read_today(tables(), None, source).items
        assert also["shelf"].iloc[0] == "7"
        assert also.astype(object).fillna("").equals(
            found.astype(object).fillna(""))


@pytest.mark.parametrize("lines, said", [
    ("200,a,7,1997\n", "line 2"), ("200,a,7,1997,1,2\n", "line 2"),
    ("200,\"a,7,1997,1\n201,b,7,1998,1\n", "line 2")])
def test_lines_that_are_no_rows(tmp_path, lines, said):
    text = f"item_id,title,shelf,year,price\n{lines}300,c,,1999,1\n"
    with pytest.raises(TablesWrong, match=said):
        read(tmp_path, text)
    found = read(tmp_path, text, bad_rows="drop")
    assert "300" in found.items.index and "200" not in found.items.index
    assert any(said in note for note in found.notes)


def test_ids_with_line_ends_and_files_without_rows(tmp_path):
    head = "item_id,title,shelf,year,price\n"
    with pytest.raises(TablesWrong, match="line 2 .*holds a line end"):
        read(tmp_path, head + '"20\n0",a,7,1997,1\n')
    with pytest.raises(TablesWrong, match="items.csv: there is no row"):
        read(tmp_path, head)
    found = read(tmp_path, "\ufeff" + head + "101,two,7,1991,\n")
    assert not len(found.items)
    assert "2 that are served are not in it, and stay" in found.notes[0]
