"""Commands on folders that break: right results, or one line with a name."""
from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from broken_folders import broken, older

from tfrecal import cli
from tfrecal.pool.run_folder import RunFolder

pytestmark = pytest.mark.large  # each command builds a model


@pytest.fixture(scope="module")
def runs(shop, tmp_path_factory):
    """Two finished runs on own files."""
    place = tmp_path_factory.mktemp("runs")
    shop.frame.to_csv(place / "ratings.csv", index=False)
    for seed in (0, 1):
        assert cli.main(list(map(str, [
            "run", "--data", place / "ratings.csv", "--encoder", "none",
            "--rounds", 2, "--batch", 20, "--final-epochs", 1, "--seed", seed,
            "--quiet", "-o", place / str(seed)]))) == 0
    return place / "0", place / "1"


# Others are tried in `tests/pool`, without a command around.
_DAMAGES = ("half", "empty", "a folder", "of another")


def results(folder):
    folder = RunFolder(folder)
    return (folder.history().to_csv(), folder.acquisitions().to_csv(),
            folder.test)


def answered(code, said, folder, name, damage):
    """Returns whether it went well; asserts that it did not end badly."""
    if code == 0:
        return True
    lines = [line for line in said.splitlines()
             if line.startswith("tfrecal: ")]
    assert code == 2 and len(lines) == 1, (name, damage, said)
    if name != "sums.json" or damage != "of another":
        assert str(folder) in lines[0] and Path(name).stem in lines[0], (
            name, damage, said)
    return False


@pytest.mark.parametrize("arguments", [
    ["run", "--quiet", "--resume", "FOLDER"],
    ["export", "--run", "FOLDER", "--to", "EXPORT", "--index", "exact"],
    ["acquire", "--run", "FOLDER", "--to", "EXPORT.csv", "--batch", "3"],
    ["report", "FOLDER"]], ids=lambda arguments: arguments[0])
def test_a_damaged_run(arguments, runs, tmp_path, command_line):
    whole, other = runs
    expected, state = results(whole), RunFolder(whole).state
    names = ["config.json", "state.json", "journal.jsonl", "sums.json",
             state["pool"], f"weights/{state['checkpoint']}.index",
             f"weights/{state['checkpoint']}.data-00000-of-00001",
             "data/interactions.parquet", "data/meta.json"]
    if arguments[0] != "export":  # a slow one, which reads none of these
        names += ["history.csv", "test.json", "acquisitions.parquet",
                  "weights/checkpoint"]
    went = set()
    for name, damage, folder in broken(
            whole, tmp_path / "run", other, names, flips=0):
        if damage not in _DAMAGES:
            continue
        export = tmp_path / "export" / f"{name.replace('/', '_')}{damage}"
        code, said = command_line(*(
            {"FOLDER": folder, "EXPORT": export, "EXPORT.csv":
             f"{export}.csv"}.get(word, word) for word in arguments))
        if answered(code, said, folder, name, damage):
            went.add(name)
            if arguments[0] == "run":
                assert results(folder) == expected, (name, damage)
                pd.read_csv(folder / "history.csv")
    assert "state.json" not in went and "config.json" not in went
    assert state["pool"] not in went


def test_weights_of_an_older_run_are_named(runs, tmp_path, command_line):
    old = older(shutil.copytree(runs[0], tmp_path / "old"))
    data, = (old / "weights").glob(
        f"{RunFolder(old).state['checkpoint']}.data*")
    for name, damage, folder in broken(
            old, tmp_path / "run", runs[1], [f"weights/{data.name}"], flips=0):
        code, said = command_line("acquire", "--run", folder, "--to",
                                  tmp_path / "asked.csv")
        # Weights of another run of the same shape are told by sums alone.
        assert code == 2 or damage == "of another", (damage, said)
        answered(code, said, folder, name, damage)
        (tmp_path / "asked.csv").unlink(missing_ok=True)


def test_a_damaged_export(runs, tmp_path, command_line):
    code, _ = command_line("export", "--run", runs[0], "--to",
                           tmp_path / "model", "--index", "exact")
    assert code == 0
    for name, damage, folder in broken(
            tmp_path / "model" / "1", tmp_path / "copy" / "1",
            names=["saved_model.pb", "assets.extra/tfrecal.json"], flips=0):
        code, said = command_line(
            "status", "--to", folder.parent, "--feedback",
            tmp_path / "feedback.db")
        assert code == 2 and str(folder / name) in said, (name, damage, said)
