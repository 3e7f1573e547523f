"""The command line on made-up and on real data, as a user would start it."""
from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tfrecal import cli


def test_run_on_the_shop(tmp_path, capsys):
    folder = tmp_path / "run"
    code = cli.main([
        "run", "--data", "shop", "--encoder", "none", "--strategy", "margin",
        "--rounds", "2", "--batch", "300", "--final-epochs", "1",
        "-o", str(folder)])
    out = capsys.readouterr().out.splitlines()
    assert code == 0 and len(out) == 7
    assert out[-3].startswith("linear block: beta")
    assert "val NDCG@10" in out[0] and out[-2].startswith("test part (600 ")
    assert out[-1].startswith(
        "600 labels (600 spent) and 2 epochs of training brought on the "
        "validation part: NDCG@10")
    history = pd.read_csv(folder / "history.csv")
    # A row speaks of one moment: labels trained on, and what they had cost.
    assert history["cost"].tolist() == [0, 300, 600]
    assert history["acquired_cost"].tolist() == [300, 300, 0]
    assert history["rows"].diff().dropna().tolist() == [300, 300]
    asked = pd.read_parquet(folder / "acquisitions.parquet")
    assert len(asked) == 600
    assert not asked.duplicated(["user_id", "item_id"]).any()
    assert json.loads((folder / "config.json").read_text())["seed"] == 0
    assert cli.main(["run", "-o", str(folder)]) == 2


def test_run_on_three_csv_files(shop, tmp_path, capsys):
    for name in ("frame", "users", "items"):
        getattr(shop, name).to_csv(
            tmp_path / f"{name}.csv", index=name != "frame")
    code = cli.main([
        "run", "--data", str(tmp_path / "frame.csv"),
        "--users", str(tmp_path / "users.csv"),
        "--items", str(tmp_path / "items.csv"), "--encoder", "none",
        "--rounds", "1", "--batch", "50", "-o", str(tmp_path / "run")])
    assert code == 0
    assert "50 labels" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["--data", "nowhere.csv"], "`data` must be"),
    (["--batch", "0"], "`batch` must be"),
    (["--budget", "0"], "`budget` must be"),
    (["--data", "shop", "--encoder", "none", "--strategy", "x"], "margin")])
def test_a_users_mistake_leaves_with_2(arguments, message, tmp_path, capsys):
    code = cli.main(["run", *arguments, "-o", str(tmp_path / "run")])
    assert code == 2 and message in capsys.readouterr().err


def test_an_unknown_config_name_is_refused(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"sede": 1}))
    assert cli.main(["run", "--config", str(path)]) == 2
    assert "sede" in capsys.readouterr().err


def test_datasets_and_doctor(capsys):
    assert cli.main(["datasets"]) == 0
    assert "ml-100k" in capsys.readouterr().out
    assert cli.main(["doctor"]) == 0


@pytest.mark.large
def test_minilm_is_fine_tuned_on_movielens(tmp_path):
    command = [sys.executable, "-m", "tfrecal", "run", "--initial",
               "0.02", "--batch", "1000", "--rounds", "2",
               "--final-epochs", "1", "-o", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True,
                          timeout=900)
    assert done.returncode == 0, done.stderr
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert history["rows"].tolist() == [1600, 2600, 3600]
    assert np.isfinite(history["val_ndcg@10"]).all()
    assert history["val_rmse"].iloc[-1] < history["val_rmse"].iloc[0]
