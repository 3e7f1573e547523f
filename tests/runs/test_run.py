"""Runs that are interrupted and go on, and people who answer."""
from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from run_ends import end

from tfrecal import cli, datasets
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs import run
from tfrecal.runs.config import RunConfig

pytestmark = pytest.mark.large  # a minute and a half


@pytest.fixture(scope="module")
def config(tiny_bert_folder):
    return RunConfig(
        data="shop", encoder=str(tiny_bert_folder), strategy="bald",
        initial=0.1, batch=100, rounds=3, final_epochs=1, batch_size=128,
        dropout=0.1)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    run.run(config, folder, quiet=True)
    return folder


@pytest.mark.parametrize("where, call", [
    # In the first round; in the second; with answers that only the journal
    # has; between weights and state; between two epochs. Each builds the
    # graphs of two runs.
    ((ReplayOracle, "answers"), 1),
    ((ReplayOracle, "answers"), 4),
    ((Pool, "answer"), 2),
    ((RunFolder, "write"), 2),
    ((run.RoundLines, "on_epoch_begin"), 3)])
def test_a_resumed_run_ends_as_an_undisturbed_one(
        config, undisturbed, where, call, tmp_path, interrupt):
    interrupt(where, call, lambda: run.run(config, tmp_path, quiet=True))
    run.resume(tmp_path, quiet=True)
    found, expected = end(tmp_path), end(undisturbed)
    pd.testing.assert_frame_equal(found[0], expected[0])
    pd.testing.assert_frame_equal(found[1], expected[1])
    assert (tmp_path / "explanations.jsonl").read_text() == (
        undisturbed / "explanations.jsonl").read_text()
    assert [len(record["ticket"]) for record
            in RunFolder(tmp_path).journal().records] == [100] * 6
    assert (tmp_path / "test.json").read_bytes() == (
        undisturbed / "test.json").read_bytes()
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        np.testing.assert_array_equal(value, expected[2][name], name)


def answer(path, labels):
    """Fills in the first questions of a file; returns those it holds."""
    sheet = pd.read_csv(path, dtype=str)
    sheet["label"] = pd.Series(labels, sheet.index[:len(labels)], dtype=str)
    sheet.to_csv(path, index=False)
    return sheet


def test_people_are_asked_and_their_labels_trained_on(tmp_path, capsys):
    folder, first, second = (
        tmp_path / n for n in ("run", "first.csv", "second.csv"))

    def tfrecal(*arguments):
        code = cli.main(list(map(str, arguments)))
        return code, "".join(capsys.readouterr())

    assert tfrecal("run", "--data", "shop", "--encoder", "none", "--oracle",
                   "people", "--rounds", 1, "--final-epochs", 1,
                   "-o", folder)[0] == 0
    assert tfrecal("acquire", "--run", folder, "--to", first, "--batch", 20,
                   "--strategy", "margin")[0] == 0
    sheet = answer(first, ["5", "1", "decline", "4"])
    assert len(sheet) == 20 and {"item.title", "user_id"} <= set(sheet)
    whole = datasets.load("shop").frame
    assert not sheet.merge(whole, on=["user_id", "item_id"]).size

    # What a person would do wrong, and what must not be asked or paid twice.
    code, text = tfrecal("acquire", "--run", folder, "--to", first)
    assert code == 2 and "exists" in text
    asked = RunFolder(folder).pool(datasets.load("shop")).counts["asked"]
    for options in (["--to", tmp_path / "sheet.xlsx"],
                    ["--to", second, "--batch", 0]):
        assert tfrecal("acquire", "--run", folder, *options)[0] == 2
    pool = RunFolder(folder).pool(datasets.load("shop"))
    assert pool.counts["asked"] == asked and not second.exists()
    bad = tmp_path / "bad.csv"
    answer(bad.write_bytes(first.read_bytes()) and bad, ["5", "9"])
    code, text = tfrecal("label", "--run", folder, "--from", bad)
    assert code == 2 and "line 3" in text
    code, text = tfrecal("label", "--run", folder, "--from", first)
    assert code == 0 and text.startswith(
        "3 labels and 1 declined taken in, 16 questions open.")
    assert tfrecal("label", "--run", folder, "--from", first)[1].startswith(
        "0 labels and 0 declined")
    pool = RunFolder(folder).pool(datasets.load("shop"))
    assert pool.spent == 3
    code, text = tfrecal("label", "--run", folder, "--from", bad)
    assert code == 2
    assert tfrecal("acquire", "--run", folder, "--to", second,
                   "--again")[0] == 0
    rest = answer(second, [])
    assert sorted(rest["ticket"]) == sorted(sheet["ticket"][4:])

    before = len(pd.read_csv(folder / "history.csv"))
    assert tfrecal("run", "--resume", folder, "--quiet")[0] == 0
    history = pd.read_csv(folder / "history.csv")
    assert len(history) == before + 1
    assert history["rows"].diff().iloc[-1] == 3
    tfrecal("run", "--resume", folder, "--quiet")  # nothing new: nothing done
    assert len(pd.read_csv(folder / "history.csv")) == before + 1


@pytest.mark.parametrize("command", [
    ["run", "--resume"], ["acquire", "--to", "new.csv", "--run"],
    ["label", "--from", "new.csv", "--run"]])
def test_a_folder_without_a_run_is_refused(command, tmp_path, capsys):
    assert cli.main([*command, str(tmp_path / "none")]) == 2
    assert "Received: " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_with_bought_answers_is_no_new_one(undisturbed, tmp_path):
    journal = (undisturbed / "journal.jsonl").read_bytes()
    (tmp_path / "journal.jsonl").write_bytes(journal)
    with pytest.raises(ValueError, match="needs a folder of its own"):
        run.run(RunConfig(data="shop", encoder="none"), tmp_path)
    assert (tmp_path / "journal.jsonl").read_bytes() == journal


def test_one_process_a_folder(undisturbed):
    with RunFolder(undisturbed).lock(), pytest.raises(
            ValueError, match="One process"):
        run.resume(undisturbed, quiet=True)


@pytest.mark.parametrize("split", [
    "temporal", "leave_last_n", "cold_users", "cold_items"])
def test_every_split_runs(split, tmp_path):
    history = run.run(RunConfig(
        data="shop", encoder="none", split=split, rounds=1, batch=50,
        final_epochs=1), tmp_path, quiet=True)
    assert np.isfinite(history["val_rmse"]).all()


@pytest.mark.parametrize("final_epochs, trained, rest", [
    (0, 0, "50 more (50 spent) came after the last epoch and are not trained "
     "on yet."),
    (1, 50, "What labels bring beyond training, `tfrecal compare` tells.")])
def test_the_last_line_counts_what_was_trained_on(
        final_epochs, trained, rest, tmp_path):
    line = run.verdict(run.run(RunConfig(
        data="shop", encoder="none", rounds=1, batch=50,
        final_epochs=final_epochs), tmp_path, quiet=True))
    assert line.startswith((
        "50 labels (50 spent) and 1 epoch of training brought" if trained
        else "trained on 240 labels,") + " on the validation part: NDCG@10")
    assert re.search(r"\); at the end on the test part: NDCG@10 0\.\d+, "
                     r"RMSE 0\.\d+\. " + re.escape(rest) + "$", line)
