"""A folder of Parquet files out and in."""
from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tfrecal.data import table_folder
from tfrecal.data.interactions import Interactions


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
                         (table_folder.json, "dumps")):
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
