"""A run is judged by its validation part, and once, at the end, by its test."""
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from tfrecal import cli, splits
from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.run_folder import RunFolder
from tfrecal.report.results import Results
from tfrecal.runs import build, run
from tfrecal.runs.config import RunConfig
from tfrecal.runs.tuning import auto

CONFIG = RunConfig(data="shop", encoder="none", strategy="margin", rounds=1,
                   batch=50, final_epochs=1, initial=0.2, batch_size=128,
                   rating_l2=0.08)


class Closed:
    """A part of the data that may not be looked at before `open` is set."""

    def __init__(self, part):
        self._part = part
        self.open = False

    def __getattr__(self, name):
        assert self.open, f"{name} of the test part was read"
        return getattr(self._part, name)

    def __len__(self):
        assert self.open, "the test part was counted"
        return len(self._part)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that may look at its test part when `fit` has ended."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    closed = []

    def load_split(config, data=None):
        split = real_load(config, data)
        closed.append(Closed(split.test))
        return split._replace(test=closed[-1])

    def fit(self, *args, **options):
        history = real_fit(self, *args, **options)
        closed[-1].open = True
        return history

    real_load, real_fit = run.load_split, TwoTower.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "load_split", load_split)
        patch.setattr(TwoTower, "fit", fit)
        run.run(CONFIG, folder, quiet=True)
    assert closed[-1].open
    return folder


def test_the_test_part_is_judged_by_the_finished_model(finished):
    made, _ = build.restore(RunFolder(finished))
    judge = EvaluateRetrieval(made.pool, made.split.test,
                              seen=made.split.validation, part="test")
    wanted = judge.evaluate(made.model)
    found = json.loads((finished / "test.json").read_text())
    assert found.pop("rows") == len(made.split.test)
    assert found.pop("users") == judge.counts["users"] > 0
    assert found == {f"test_{name}": value for name, value in wanted.items()
                     if np.isfinite(value)}
    # That an export names.
    assert RunFolder(finished).metrics == found


@pytest.mark.large
def test_each_round_is_judged_by_the_validation_part(finished):
    history = pd.read_csv(finished / "history.csv")
    assert history["part"].eq("validation").all()
    assert not [name for name in history if name.startswith("test_")]
    made = build.build(CONFIG)
    made.model.fit(made.pool.sequence(CONFIG.batch_size, CONFIG.seed),
                   epochs=1, verbose=0, callbacks=build.training_callbacks(
                       CONFIG, made.model, made.pool))
    # Pairs of the test part are as any others: they are not masked.
    wanted = EvaluateRetrieval(
        made.pool, made.split.validation).evaluate(made.model)
    for name in ("ndcg@10", "rmse", "recall@10"):
        assert history[f"val_{name}"][0] == pytest.approx(wanted[name])


@pytest.mark.large  # two runs
def test_a_kill_before_the_end_leaves_no_figures_of_the_test(
        finished, tmp_path, interrupt):
    # Two epochs; the test part.
    interrupt((EvaluateRetrieval, "evaluate"), 3, lambda: run.run(
        CONFIG, tmp_path / "run", quiet=True))
    folder = RunFolder(tmp_path / "run")
    assert folder.state["finished"] and not folder.test
    assert all(name.startswith("val_") for name in folder.metrics)
    run.resume(folder.path, quiet=True)
    assert (folder / "test.json").read_bytes() == (
        finished / "test.json").read_bytes()


def test_a_finished_run_says_it_again_and_measures_nothing(
        finished, capsys, monkeypatch):
    before = (finished / "test.json").read_bytes()
    monkeypatch.setattr(EvaluateRetrieval, "evaluate", None)
    assert cli.main(["run", "--resume", str(finished)]) == 0
    line, last = capsys.readouterr().out.splitlines()
    test = json.loads(before)
    figures = (f"NDCG@10 {test['test_ndcg@10']:.4f}, "
               f"RMSE {test['test_rmse']:.4f}")
    assert line == f"test part (600 rows, {test['users']} users): {figures}"
    assert f"; at the end on the test part: {figures}." in last
    assert (finished / "test.json").read_bytes() == before


@pytest.fixture
def earlier(finished, tmp_path):
    """A folder of before: `val_...` was of the test part."""
    for name in ("config.json", "state.json", "acquisitions.parquet",
                 RunFolder(finished).state["pool"], "history.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((finished / name).read_bytes())
    history = pd.read_csv(tmp_path / "history.csv").drop(columns="part")
    history["cost"] += history.pop("acquired_cost")
    history.to_csv(tmp_path / "history.csv", index=False)
    state = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({
        name: value for name, value in state.items()
        if name not in ("sum", "format", "files", "history", "test")}))
    return tmp_path


def test_a_folder_of_an_earlier_version_is_read(earlier, finished):
    old, new = Results.of_folder(earlier), Results.of_folder(finished)
    assert (old.part, new.part) == ("test", "validation")
    assert not old.test and set(new.test) == {
        "ndcg@10", "rmse", "recall@10", "coverage@10"}
    pd.testing.assert_frame_equal(old.curves, new.curves)
    metrics = RunFolder(earlier).metrics
    assert metrics["test_rmse"] == old.curves["rmse"].iloc[-1]
    assert not [name for name in metrics if name.startswith("val_")]
    said = run.verdict(pd.read_csv(earlier / "history.csv"))
    assert said.startswith("50 labels (50 spent) and 1 epoch of training "
                           "brought on the test part: ")


def test_a_run_that_began_with_an_earlier_version(earlier):
    """Figures of the two parts are not subtracted from each other."""
    history = pd.read_csv(earlier / "history.csv")
    rows = [history[:1].assign(epoch=n, rows=100 + n) for n in range(3)]
    for n, one in enumerate(rows):
        one["val_rmse"], one["cost"] = 1.0 - n / 10, 5.0
    rows[1]["part"] = rows[2]["part"] = "validation"
    mixed = pd.concat(rows, ignore_index=True)
    assert run.verdict(mixed).startswith(
        "2 labels (5 spent) and 1 epoch of training brought on the "
        "validation part: NDCG@10")
    assert "RMSE 0.9000 -> 0.8000 (-0.1000)" in run.verdict(mixed)
    mixed.to_csv(earlier / "history.csv", index=False)
    assert RunFolder(earlier).metrics["val_rmse"] == 0.8
    curve = Results.of_folder(earlier).curves["rmse"]
    np.testing.assert_array_equal(curve, [np.nan, 0.9, 0.8])


@pytest.mark.large
def test_tuning_is_chosen_without_the_test_part(shop, tiny_bert_folder):
    split = splits.random(shop, seed=0)
    config = dataclasses.replace(
        CONFIG, encoder=str(tiny_bert_folder), tuning="auto")
    choice = auto.choose(config, split._replace(test=None),
                         tried=("frozen",), epochs=1)
    assert choice.config.tuning == "frozen" and choice.why
