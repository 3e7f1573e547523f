"""The linear block of a run: chosen at its end, kept, resumed, left out."""
from __future__ import annotations

import json

import pytest

from tfrecal import PoolScorer, cli, metrics, solve_ratings
from tfrecal.files import read_sealed, write_sealed
from tfrecal.model.linear_block import BlockOptions
from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs import run
from tfrecal.runs.build import restore
from tfrecal.runs.config import RunConfig


def config(**options):
    return RunConfig(**{
        "data": "shop", "encoder": "none", "rounds": 1, "batch": 300,
        "final_epochs": 1, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, run.run(config(), folder, quiet=True).attrs["test"]


def test_the_chosen_options_are_restored(finished, capsys):
    folder, test = finished
    chosen = RunFolder(folder).state["linear_block"]
    built, _ = restore(RunFolder(folder))
    assert built.model.linear_block == BlockOptions(**chosen)
    again = run.resume(folder, quiet=True)
    assert again.attrs["test"] == test


def test_a_run_that_was_killed_before_the_choice_chooses_the_same(finished):
    folder, test = finished
    path = folder / "state.json"
    state = read_sealed(path, "a state", "none")
    chosen = state.pop("linear_block")
    state.pop("test")
    (folder / "test.json").unlink()
    write_sealed(path, state)
    assert run.resume(folder, quiet=True).attrs["test"] == test
    assert RunFolder(folder).state["linear_block"] == chosen


def test_the_rating_l2_is_chosen_once_and_kept(finished, tmp_path, capsys):
    folder, test = finished
    kept = RunFolder(folder)
    chosen = json.loads((folder / "config.json").read_text())["rating_l2"]
    built, _ = restore(kept)
    for tower in (built.model.query_tower, built.model.candidate_tower):
        assert tower.rating_l2 == tower.bias_l2 == chosen
    # What is restored is solved already.
    scorer = PoolScorer.of(built.model, built.pool)
    before = scorer.predict(built.pool.user, built.pool.item)
    solve_ratings(built.model, built.pool)
    after = scorer.predict(built.pool.user, built.pool.item)
    assert metrics.rmse(before, after) < 0.2 * before.std()
    assert cli.main([
        "run", "--data", "shop", "--encoder", "none", "--rounds", "0",
        "--initial", "1", "--final-epochs", "1", "--rating-l2", "0.25",
        "--no-linear-block", "-o", str(tmp_path / "given")]) == 0
    assert "rating l2" not in capsys.readouterr().err
    assert json.loads((tmp_path / "given/config.json").read_text())[
        "rating_l2"] == 0.25


def test_given_options_and_none(tmp_path, capsys):
    options = ["--data", "shop", "--encoder", "none", "--rounds", "0",
               "--initial", "1", "--final-epochs", "1"]
    given = tmp_path / "given"
    assert cli.main(["run", *options, "--block-beta", "0.3", "--block-l2",
                     "9", "--history-decay", "0.9", "--block-rank", "16",
                     "--new-items", "2", "-o", str(given)]) == 0
    assert "linear block: beta 0.3, l2 9" in capsys.readouterr().out
    kept = RunFolder(given).state["linear_block"]
    assert kept["decay"] == 0.9 and kept["rank"] == 16
    assert kept["new_items"] == 2
    out = tmp_path / "none"
    assert cli.main(["run", *options, "--no-linear-block", "-o",
                     str(out)]) == 0
    assert "linear block" not in capsys.readouterr().out
    assert "linear_block" not in RunFolder(out).state
    assert restore(RunFolder(out))[0].model.linear_block is None
    assert json.loads((out / "config.json").read_text())[
        "linear_block"] is False


@pytest.mark.parametrize("wrong", [
    {"block_beta": -1.0}, {"block_beta": float("nan")}, {"block_l2": 0.0},
    {"block_dropout": 1.0}, {"block_text": -0.1}, {"block_rank": 0},
    {"history_decay": 0.0}, {"history_decay": 1.1}, {"new_items": -1.0},
    {"block_beta": 1e300}, {"block_popular": 1e38}, {"block_l2": 1e38},
    {"rating_l2": 0.0}, {"rating_l2": float("nan")}, {"batch_size": 0},
    {"linear_block": False, "history_decay": 0.5},
    {"linear_block": False, "new_items": 2.0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        config(**wrong)


def test_damaged_options_are_refused(finished, tmp_path):
    folder, _ = finished
    path = folder / "state.json"
    state = read_sealed(path, "a state", "none")
    try:
        write_sealed(path, {**state, "linear_block": {"beta": -1}})
        with pytest.raises(ValueError, match="state.json.*linear_block"):
            restore(RunFolder(folder))
    finally:
        write_sealed(path, state)
