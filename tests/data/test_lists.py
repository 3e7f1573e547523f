"""Rows that were shown together: read, cleaned, split, stored."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal import splits
from tfrecal.cli.main import main
from tfrecal.data import overview
from tfrecal.data.interactions import Interactions


def log(users=12, lists=10, size=6, seed=0):
    """Lists of each user over 200 items, one row of each clicked."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        items = rng.permutation(200)[:lists * size].reshape(lists, size)
        for number, shown in enumerate(items):
            rows += [(f"u{user}", f"i{item}", float(place == 0),
                      rng.integers(1e6), f"{user}-{number}")
                     for place, item in enumerate(shown)]
    frame = pd.DataFrame(rows, columns=[
        "user_id", "item_id", "label", "timestamp", "list_id"])
    return frame.sample(frac=1, random_state=seed, ignore_index=True)


def test_lists_are_read_by_name_or_named(tmp_path):
    frame = log()
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.rename(columns={"list_id": "impression_id"}).to_csv(
        tmp_path / "b.csv", index=False)
    data = Interactions.from_csv(tmp_path / "a.csv")
    assert data.frame["list_id"].tolist() == frame["list_id"].tolist()
    codes = pd.factorize(frame["list_id"])[0] + 1
    assert data.list_code.tolist() == codes.tolist()
    named = Interactions.from_csv(tmp_path / "b.csv",
                                  columns={"list": "impression_id"})
    assert named.fingerprint() == data.fingerprint()
    other = Interactions.from_frame(frame.assign(
        list_id=frame["list_id"].where(frame.index > 0)))
    assert other.fingerprint() != data.fingerprint()
    without = Interactions.from_frame(frame.drop(columns="list_id"))
    assert without.list_code is None


def test_a_row_may_be_in_no_list():
    frame = log().assign(list_id=lambda f: np.where(
        np.arange(len(f)) % 4, f["list_id"], None))
    data = Interactions.from_frame(frame)
    assert (data.list_code == 0).tolist() == [
        row % 4 == 0 for row in range(len(frame))]
    assert data.frame["list_id"][0] == ""


def test_a_click_wins_over_a_show():
    rows = [("a", "x", 1, 10, "p"), ("a", "x", 0, 20, "q"),
            ("a", "y", 0, 10, "p"), ("a", "y", 0, 20, "q"),
            ("a", "z", 0, 10, "p"), ("a", "z", 1, 20, "q")]
    data = Interactions.from_frame(pd.DataFrame(rows, columns=[
        "user_id", "item_id", "label", "timestamp", "list_id"]))
    assert data.frame[["item_id", "label", "list_id"]].values.tolist() == [
        ["x", 1, "p"], ["y", 0, "q"], ["z", 1, "q"]]
    assert data.report.counts == {"duplicate_pair": 3}
    assert (data.report.rows_in, data.report.rows_kept) == (6, 3)
    assert "the highest was kept" in str(data.report)


def test_a_list_has_one_user():
    frame = pd.DataFrame({
        "user_id": ["a", "a", "b", "b", "b"], "item_id": list("xyxyz"),
        "label": [1, 0, 0, 1, 1], "list_id": ["p", "p", "p", "q", ""]})
    with pytest.raises(ValueError, match="several users were shown") as error:
        Interactions.from_frame(frame)
    assert "lines 1, 2, 3" in str(error.value)
    data = Interactions.from_frame(frame, bad_rows="drop")
    assert data.report.counts == {"bad_list": 3}
    assert data.frame["list_id"].tolist() == ["q", ""]


def test_stored_lists_come_back(tmp_path):
    data = Interactions.from_frame(log())
    data.to_parquet(tmp_path / "folder")
    again = Interactions.load(tmp_path / "folder")
    pd.testing.assert_frame_equal(again.frame, data.frame)
    data.frame.to_parquet(tmp_path / "rows.parquet")
    read = Interactions.from_parquet(tmp_path / "rows.parquet")
    assert read.fingerprint() == data.fingerprint() == again.fingerprint()


@pytest.mark.parametrize("cut", [
    lambda data: splits.random(data, seed=1), splits.temporal,
    splits.leave_last_n, lambda data: splits.cold_users(data, 0.2, 0.2)])
def test_a_list_stays_in_one_part(cut):
    data = Interactions.from_frame(log())
    parts = cut(data)
    lists = [set(part.frame["list_id"]) for part in parts]
    assert all(lists)
    assert sum(map(len, lists)) == len(set().union(*lists)) == 120
    assert sum(map(len, parts)) == len(data)


def test_shares_of_a_random_split_count_lists():
    parts = splits.random(Interactions.from_frame(log()))
    assert [len(set(part.frame["list_id"])) for part in parts] == [
        96, 12, 12]


def test_the_last_lists_of_a_user_are_left_out():
    frame = log()
    data = Interactions.from_frame(frame)
    parts = splits.leave_last_n(data, n=2, validation=1)
    latest = frame.groupby(["user_id", "list_id"])["timestamp"].max()
    for user, times in latest.groupby("user_id"):
        order = times.sort_values().index.get_level_values("list_id")
        for part, expected in zip(parts, (order[:-3], order[-3:-2],
                                          order[-2:])):
            own = part.frame[part.frame["user_id"] == user]
            assert set(own["list_id"]) == set(expected)


def test_parts_of_ones_own_may_lack_lists():
    data = Interactions.from_frame(log())
    train, _, test = splits.random(data)
    plain = test.with_frame(test.frame.drop(columns="list_id"))
    parts = splits.parts_of(splits.with_parts(train, test=plain))
    assert parts.train.list_code.tolist() == train.list_code.tolist()
    assert not parts.test.list_code.any()


def test_the_overview_counts_lists():
    rows = [("a", "x", 1, "p"), ("a", "y", 0, "p"), ("a", "z", 0, "q"),
            ("a", "w", 0, "q"), ("b", "x", 1, "r"), ("b", "y", 1, "")]
    data = Interactions.from_frame(pd.DataFrame(rows, columns=[
        "user_id", "item_id", "label", "list_id"]))
    assert overview.rows_in_words(data)[-1] == (
        "list_id: 3 lists of 2 rows in the median, the largest of 2; 1 with "
        "rows clicked and not clicked, 1 without a click, 1 of one row; 1 "
        "rows in no list")


def test_check_tells_of_lists(tmp_path, capsys):
    frame = log()
    frame.loc[0, "list_id"] = next(
        one for one in frame["list_id"]
        if not one.startswith(frame["user_id"][0][1:] + "-"))
    again = frame[frame["label"] == 0].iloc[[1]].assign(list_id="later")
    path = tmp_path / "shown.csv"
    pd.concat([frame, again]).rename(
        columns={"list_id": "impression"}).to_csv(path, index=False)
    assert main(["check", str(path), "--columns", "list=impression"]) == 2
    said = capsys.readouterr()
    assert "list_id: 120 lists" in said.out
    assert "--bad-rows drop" in said.err
    assert "--duplicates" not in said.err
    assert main(["check", str(path), "--columns", "list=impression",
                 "--bad-rows", "drop"]) == 0
