"""Comparison folders: whole, or refused by the name of a file."""
from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from broken_folders import broken, killed_at, outcome

from tfrecal.compare import tables
from tfrecal.report.results import Results


def frames(seed):
    keys = {"scenario": "standard", "strategy": ["random", "vopt"],
            "seed": seed}
    return {
        "curves": pd.DataFrame({**keys, "draw": 0, "round": 1, "labels": 5,
                                "bought": 3, "rmse": [1.0, 0.5 + seed]}),
        "asked": pd.DataFrame({**keys, "round": 0, "user_id": "u",
                               "item_id": "i", "label": np.float32(4),
                               "item_labels": 1}),
        "calibration": pd.DataFrame({**keys, "labels": 5, "bin": 0.5,
                                     "observed": 0.4, "count": 7})}


def write_comparison(folder, seed=0):
    """A folder as `tfrecal compare` writes it."""
    lines = [{"scenario": "standard", "strategy": "vopt", "seed": seed}]
    folder.mkdir(parents=True)
    tables.write_config(folder, {"data": "shop", "seeds": 2 + seed})
    tables.write_run(folder / "runs/one", frames(seed), lines)
    tables.write_all(folder, frames(seed), lines)
    return folder


def read(folder):
    whole, lines = tables.read_run(folder / "runs/one")
    found = Results.of_folder(folder)
    return ([part.to_csv() for part in whole.values()], lines, found.config,
            found.curves.to_csv(), found.asked.to_csv(), found.explanations,
            found.calibration.to_csv())


def test_a_damaged_file_is_named_or_changes_nothing(tmp_path):
    whole = write_comparison(tmp_path / "whole")
    other = write_comparison(tmp_path / "other", seed=1)
    expected, refused = read(whole), set()
    for name, damage, folder in broken(whole, tmp_path / "copy", other):
        found = outcome(read, folder, name)
        if found is None:
            refused.add(name)
        else:
            assert found == expected, (name, damage)
            assert damage == "deleted" and name.endswith("sums.json"), name
    assert refused == {
        path.relative_to(whole).as_posix() for path in whole.rglob("*")
        if path.is_file()}


def test_a_folder_of_an_earlier_version_is_read(tmp_path):
    folder = write_comparison(tmp_path / "old")
    expected = read(folder)
    for path in folder.rglob("sums.json"):
        path.unlink()
    assert read(folder) == expected
    for name in ("curves.parquet", "runs/one/asked.parquet",
                 "explanations.jsonl", "config.json"):
        for _, damage, copy in broken(
                folder, tmp_path / "copy", names=[name], flips=0):
            if damage != "a byte less" or name.endswith("parquet"):
                outcome(read, copy, name)
    (folder / "config.json").write_text(json.dumps({"primary": 3}))
    with pytest.raises(ValueError, match="config.json, with primary=3"):
        Results.of_folder(folder)


def test_a_kill_while_tables_are_written_leaves_a_folder_that_is_read(
        tmp_path, monkeypatch):
    whole = write_comparison(tmp_path / "whole")
    for steps in range(1, 10):
        folder = shutil.copytree(whole, tmp_path / str(steps))
        with killed_at(steps, monkeypatch) as killed:
            tables.write_all(folder, frames(5), [])
        read(folder)
        if killed:
            tables.write_all(folder, frames(7), [])
            assert "7.5" in read(folder)[3]
    assert not killed
