"""The plan of a run: relative numbers, positives only, what is refused."""
from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tfrecal.data.interactions import Interactions
from tfrecal.data.splits import Split
from tfrecal.runs.build import first_pool
from tfrecal.runs.config import RunConfig
from tfrecal.runs.plan import Plan


def log(rows, labels=(1, 2, 3, 4, 5), users=500):
    """A log of so many distinct pairs, whose labels repeat."""
    n = np.arange(rows)
    return Interactions.from_frame(pd.DataFrame({
        "user_id": n % users, "item_id": n // users,
        "label": np.resize(np.array(labels, float), rows)}))


def plan(rows, labels=(1, 2, 3, 4, 5), **options) -> Plan:
    data = log(rows, labels)
    return Plan.of(RunConfig(encoder="none", **options),
                   Split(data, data.take([0]), data.take([1])))


def test_the_demo_buys_8000_a_round_as_it_always_did():
    """Of the 80,000 pairs that train of MovieLens-100K."""
    found = plan(80_000)
    assert found.config == RunConfig(encoder="none", batch=8000,
                                     batch_size=1024)
    assert found.lines == ["6 rounds of 8,000 out of 80,000 pairs, 4,000 "
                           "labelled first, 2 more epochs"]


@pytest.mark.parametrize("rows, options, batch", [
    (6614, {}, 661), (6614, {"batch": 400}, 400), (100, {"rounds": 3}, 20),
    # What is left is less than 60% of the pool.
    (100, {"initial": 0.7}, 5), (100, {"initial": 97}, 1),
    (10, {"rounds": 20}, 1), (3, {}, 1)])
def test_a_batch_is_relative_to_the_pool(rows, options, batch):
    found = plan(rows, **options)
    assert found.config.batch == batch
    again = Plan.of(found.config, Split(*[log(rows)] * 3))
    assert again.config == found.config and again.lines == found.lines


@pytest.mark.parametrize("rows, options, line", [
    (100, {"batch": 60}, "the pool holds only 95 labels to buy: 2 rounds"),
    (100, {"batch": 5, "budget": 12.0},
     "the budget of 12 pays for only 12 labels to buy: 3 rounds"),
    (100, {"initial": 99}, "the pool holds only 1 label to buy: 1 round"),
    (100, {"batch": 5, "budget": 12.0, "cost": 3.0},
     "the budget of 12 pays for only 4 labels to buy: 1 round"),
    (100, {"rounds": 0}, "5 of 100 pairs labelled, nothing is bought: 2 "
     "epochs"),
    (100, {"rounds": 0}, "--initial 1 trains on all pairs"),
    (100, {"initial": 1.0}, "100 of 100 pairs labelled, nothing is bought: 2 "
     "more epochs"),
    (100, {"oracle": "people"}, "all 100 pairs are labelled: 8 epochs; "
     "people are asked with `tfrecal acquire` afterwards")])
def test_what_cannot_be_bought_is_said(rows, options, line):
    assert line in str(plan(rows, **options)).splitlines()


@pytest.mark.parametrize("labels, options, message", [
    ((1, 5), {"budget": 0.5}, "`--budget`"),
    ((1, 5), {"initial": 100.0}, "initial=100"),
    ((1, 5), {"losses": "retrieval", "strategy": "margin"}, "`--losses`"),
    ((0,), {}, "learns from positives"),
    ((1, 5), {"target_users": "age > 3"}, "no column 'age'")])
def test_what_makes_no_sense_is_refused(labels, options, message):
    with pytest.raises(ValueError, match=message):
        plan(100, labels, **options)


def test_positives_only_hold_no_questions():
    found = plan(100, (1,), weights="rating=0.5,search=0.2")
    config = found.config
    assert (config.rounds, config.epochs, config.initial) == (0, 8, 1.0)
    assert (config.losses, config.weights) == (
        "retrieval,search", "search=0.2")
    assert config.decay_epochs == 2
    said = str(found)
    assert "nothing to ask" in said and "--oracle people" in said
    assert "tfrecal feedback" in said
    again = Plan.of(config, Split(*[log(100, (1,))] * 3))
    assert again.config == config and not again.notes


def test_people_may_be_asked_beside_positives_only():
    """They bring negatives, which the rating loss then learns."""
    config = plan(100, (1,), oracle="people").config
    assert "rating" in config.loss_names and config.epochs == 8


def test_an_oracle_of_ones_own_may_answer_otherwise_than_positives():
    data = log(100, (1,))
    found = Plan.of(RunConfig(encoder="none"), Split(data, data, data),
                    asks=True)
    assert found.config == RunConfig(encoder="none", batch=10,
                                     batch_size=128)
    assert not found.notes


def test_batches_of_a_short_log_are_smaller():
    """Eight steps an epoch; a size that is given stays."""
    assert [plan(rows).config.batch_size for rows in (
        20, 2_000, 4_800, 8_191, 8_192, 1_000_000)] == [
        128, 128, 512, 512, 1024, 1024]
    assert plan(20, batch_size=64).config.batch_size == 64


def test_a_small_share_of_a_small_pool_is_a_label():
    data = log(7)
    config = RunConfig(encoder="none", initial=0.01)
    pool = first_pool(config, Split(data, data, data))
    assert pool.counts["labelled"] == 1


def test_a_budget_that_is_no_limit():
    assert not plan(100, budget=1e308, cost=1e-308).notes


def test_notes_are_said_with_quiet_too(capsys):
    plan(100, batch=60).say(quiet=True)
    assert capsys.readouterr().err == (
        "the pool holds only 95 labels to buy: 2 rounds\n")


def test_without_an_epoch_there_is_no_run():
    with pytest.raises(ValueError, match="--final-epochs"):
        dataclasses.replace(RunConfig(), rounds=0, final_epochs=0)


ROWS = [f"u{n % 9},i{n % 7},{n % 2}" for n in range(60)]


@pytest.mark.parametrize("command", ["run", "compare", "tune"])
@pytest.mark.parametrize("rows, options, said", [
    (["u,,3"], [], "lines 2"), (["u,i,1", "u,j,0"], [], "at least one row"),
    ([f"u{n},i,4" for n in range(30)], [], "Labels must differ"),
    (ROWS, ["--data", ""], "`data` must be"),
    (ROWS, ["--bad-rows", "x"], "bad_rows='x'")])
def test_wrong_data_are_found_before_tensorflow_loads(
        command, rows, options, said, tmp_path):
    refused(tmp_path, rows, [command, *options], said)


@pytest.mark.parametrize("rows, options, said", [
    (["u,i,1", "v,j,1", "w,k,1"], ["compare"], "tfrecal acquire"),
    (ROWS, ["compare", "--scenarios", "segment"], "segment"),
    (ROWS, ["compare", "--rounds", "50"], "50 rounds"),
    (ROWS, ["run", "--test", ""], "`test` must be"),
    (ROWS, ["run", "--test", "own.csv"], "in one part only"),
    (ROWS, ["run", "--budget", "0.5"], "`budget` must pay"),
    (ROWS, ["tune", "--objective", "rmse"], "labels 0 and 1"),
    (ROWS, ["tune", "--trials", "0"], "trials=0"),
    (ROWS, ["tune", "--split", "temporal"], "distinct timestamps")])
def test_what_makes_no_sense_is_found_before_tensorflow_loads(
        rows, options, said, tmp_path):
    refused(tmp_path, rows, options, said)


def refused(folder, rows, options, said):
    (folder / "own.csv").write_text(
        "\n".join(["user_id,item_id,label", *rows]) + "\n")
    program = ("import sys; from tfrecal import cli; code = cli.main("
               "sys.argv[1:]); assert 'tensorflow' not in sys.modules; "
               "sys.exit(code)")
    command, *others = options
    done = subprocess.run(
        [sys.executable, "-c", program, command, "-o", "new", "--data",
         "own.csv", *others], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr
    assert [path.name for path in folder.iterdir()] == ["own.csv"]


def test_an_encoder_needs_texts_before_anything_is_trained():
    data = log(100)
    items = pd.DataFrame({"title": [None]}, index=data.items.index)
    data = Interactions.from_frame(data.frame, items=items)
    split = Split(data, data.take([0]), data.take([1]))
    with pytest.raises(ValueError, match="--encoder none"):
        Plan.of(RunConfig(), split)
    Plan.of(RunConfig(encoder="none"), split)
