"""Run folders: whole, mended, or refused by the name of a file."""
from __future__ import annotations

import json
import shutil
import stat

import numpy as np
import pandas as pd
import pytest
from broken_folders import broken, killed_at, older, outcome

from tfrecal.files import make_private
from tfrecal.oracles import Answers, Questions
from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder
from tfrecal.report.results import Results

ROWS = [{"epoch": 0, "rows": 50, "cost": 10.0, "val_rmse": 1.1,
         "mean_utility": float("nan"), "part": "validation"},
        {"epoch": 1, "rows": 60, "cost": 20.0, "val_rmse": 1 / 3,
         "mean_utility": 0.5, "part": "validation"}]


def write_run(path, shop, seed=0, saves=2):
    """A folder as `tfrecal run` writes it, with weights of any bytes."""
    folder = RunFolder(path)
    folder.keep(shop)
    folder.start({"data": "shop", "strategy": "bald", "seed": seed})
    pool = Pool.from_interactions(shop, 50, seed=seed)
    journal = Journal(folder / "journal.jsonl")
    for save in range(saves):
        user, item = (codes[:10] for codes in pool.candidates(
            rng=np.random.default_rng(seed)))
        tickets = pool.ask(user, item, save, "bald", np.full(10, 0.5))
        pairs = pool.pairs(user, item)
        journal.asked(Questions(
            tickets, pairs.user_id, pairs.item_id, save), ["bald"] * 10)
        answers = Answers(tickets, [4] * 10, [False] * 10, [1] * 10)
        journal.answered(answers)
        pool.answer(tickets, answers.label, answers.declined, answers.cost)
        (folder / "weights").mkdir(0o700, exist_ok=True)
        for part in ("index", "data-00000-of-00001"):
            (folder / f"weights/ckpt-{save + 1}.{part}").write_bytes(
                np.random.default_rng([seed, save]).bytes(500))
        make_private(folder / "weights")
        folder.write(
            pool, epoch=save, rows=50 + 10 * save, stop=2,
            finished=save == 1, checkpoint=f"ckpt-{save + 1}",
            history=ROWS[:save + 1], acquire={
                "round": save + 1, "first_round": 0, "exhausted": "",
                "stopped": "", "last_labels": save, "strategy": {},
                "explanations": [{"round": save, "why": "cold"}],
                "oracle": {"open": []}, "journal": len(journal),
                "journal_sum": journal.sum_after(len(journal))})
    if saves == 2:
        folder.write_test({"rows": 9, "users": 3, "test_rmse": 0.9})
    folder.mend(pool)
    return folder


@pytest.fixture(scope="module")
def whole(shop, tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "whole", shop).path


def read(path, shop):
    """Everything that commands read in a run folder."""
    folder = RunFolder.of_run(path)
    config = json.loads(folder.checked("config.json").read_text())
    data = folder.data()
    state = folder.state
    pool = folder.pool(shop if data is None else data)
    return (config, data.fingerprint(), json.dumps(state),
            folder.history().to_csv(), folder.test, folder.metrics,
            folder.explanations(), pool.digest(),
            folder.acquisitions().to_csv(), folder.weights().name,
            len(folder.journal()))


# What is not read: sums and files for people are written anew.
_FOR_PEOPLE = ("history.csv", "explanations.jsonl", "test.json")


def test_a_damaged_file_is_named_or_changes_nothing(
        whole, shop, tmp_path):
    other = write_run(tmp_path / "other", shop, seed=1).path
    expected, refused = read(whole, shop), set()
    for name, damage, folder in broken(whole, tmp_path / "run", other):
        found = outcome(lambda path: read(path, shop), folder, name)
        if found is None:
            refused.add(name)
        else:
            # An absent journal is begun anew; one of no sums is of old.
            end = len(found) - (name == "journal.jsonl")
            assert found[:end] == expected[:end], (name, damage)
            assert name in (*_FOR_PEOPLE, "pool/00001.npz") or (
                damage == "deleted"
                and name in ("sums.json", "journal.jsonl")) or (
                name.startswith("weights/ckpt-1.")), (name, damage)
    assert refused >= {
        "config.json", "state.json", "sums.json", "journal.jsonl",
        "acquisitions.parquet", "pool/00002.npz", "weights/ckpt-2.index",
        "data/interactions.parquet", "data/meta.json"}


def test_an_older_folder_is_read_and_checked_by_its_form(
        whole, shop, tmp_path):
    folder = older(shutil.copytree(whole, tmp_path / "old"))
    expected = read(folder, shop)
    # What a checksum alone can tell is not asked of it.
    by_form = {"history.csv": 1, "state.json": 0, "test.json": 0,
               "config.json": None}
    for name, flips in by_form.items():
        if flips is None:
            continue
        for name, damage, copy in broken(folder, tmp_path / "run",
                                         names=[name], flips=0):
            found = outcome(lambda path: read(path, shop), copy, name)
            if found is not None and damage not in ("deleted", "a byte less"):
                assert "=" in damage or found == expected, (name, damage)


@pytest.mark.parametrize("change, why", [
    ({"stop": -1}, "stop=-1"), ({"stop": 1}, "epoch=1 and stop=1"),
    ({"epoch": float("nan")}, "epoch=NaN"), ({"pool": "../x.npz"}, "pool="),
    ({"finished": 1}, "finished=1"), ({"saves": 10 ** 400}, "saves=1000"),
    ({"acquire": []}, "acquire="), ({"checkpoint": ""}, "checkpoint=")])
def test_an_older_state_that_cannot_be(change, why, whole, tmp_path):
    folder = older(shutil.copytree(whole, tmp_path / "old"))
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, **change}))
    with pytest.raises(ValueError, match="state.json, with .*" + why):
        RunFolder(folder).state


@pytest.mark.parametrize("cut, why", [
    (lambda text: text[:len(text) // 2], "last line|before epoch|part"),
    (lambda text: text[:text.index("\n1,") + 1], "before epoch 1"),
    (lambda text: text.replace("\n1,", "\n7,"), "epochs are not"),
    (lambda text: text.replace("20.0", "much"), "other than numbers"),
    (lambda text: text.replace(",60,", ",-60,"), "below 0")])
def test_an_older_history_that_is_not_whole(cut, why, whole, tmp_path):
    folder = older(shutil.copytree(whole, tmp_path / "old"))
    path = folder / "history.csv"
    path.write_text(cut(path.read_text()))
    with pytest.raises(ValueError, match=f"history.csv, .*({why})"):
        RunFolder(folder).history()


def test_files_for_people_are_written_anew(whole, shop, tmp_path, capsys):
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    names = (*_FOR_PEOPLE, "acquisitions.parquet")
    before = {name: (folder / name).read_bytes() for name in names}
    for name in names:
        (folder / name).write_bytes(before[name][3:])
    folder.mend(folder.pool(shop))
    assert {name: (folder / name).read_bytes() for name in names} == before
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 4 and all(
        str(folder / name) in "".join(said) for name in names)
    # A kill leaves them behind or ahead, which is nobody's mistake.
    text = before["history.csv"].decode()
    (folder / "history.csv").write_text(text + "2,70,30,1,,validation\n")
    (folder / "explanations.jsonl").unlink()
    folder.mend(folder.pool(shop))
    assert (folder / "history.csv").read_text() == text
    assert not capsys.readouterr().err


def test_a_kill_between_two_writes_leaves_a_folder_that_is_read(
        shop, tmp_path, monkeypatch):
    """Each save is cut off before each of its files."""
    for steps in range(1, 40):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        with killed_at(steps, monkeypatch) as killed:
            write_run(tmp_path / "run", shop)
        folder = RunFolder(tmp_path / "run")
        if (folder / "config.json").exists() and folder.state:
            pool = folder.pool(shop)
            folder.acquisitions()
            folder.history(), folder.test, folder.weights(), folder.journal()
            folder.mend(pool)
            assert len(folder.acquisitions()) == 10 * (
                folder.state["epoch"] + 1)
        if not killed:
            break
    assert not killed and steps > 10


def test_a_journal_that_is_empty_or_of_another_run(whole, shop, tmp_path):
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    path, content = folder / "journal.jsonl", (
        whole / "journal.jsonl").read_bytes()
    lines = content.splitlines(keepends=True)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="with 0 records where 4 are due"):
        folder.journal()
    path.write_bytes(b"".join(lines[:3]) + lines[3][:9])
    with pytest.raises(ValueError, match="with 3 records where 4 are due"):
        folder.check_whole()
    other = write_run(tmp_path / "other", shop, seed=1)
    path.write_bytes((other / "journal.jsonl").read_bytes())
    with pytest.raises(ValueError, match="that of another run"):
        folder.check_whole()
    # What a power failure cut off was never heard of.
    path.write_bytes(content + b'{"sum":"123')
    assert len(folder.journal()) == 4


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_run_folder_is_private(mask, shop, tmp_path):
    import os
    before = os.umask(mask)
    try:
        folder = write_run(tmp_path / "runs" / "one", shop)
        with folder.lock():
            pass
    finally:
        os.umask(before)
    for path in (tmp_path / "runs", *(tmp_path / "runs").rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_rows_are_stored_as_they_were(whole):
    pd.testing.assert_frame_equal(
        RunFolder(whole).history(), pd.DataFrame(ROWS))


def test_a_missing_folder_is_called_missing(tmp_path):
    with pytest.raises(ValueError, match="missing. Start a run there"):
        RunFolder.of_run(tmp_path / "nowhere")


def test_a_run_without_its_config_is_not_begun_again(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match="has none. Bring the folder back"):
        RunFolder.of_run(folder)


@pytest.mark.parametrize("name", ["meta.json", "users.parquet"])
def test_data_of_an_older_folder_are_named(name, whole, tmp_path):
    folder = older(shutil.copytree(whole, tmp_path / "old"))
    (folder / "data" / name).unlink()
    with pytest.raises(ValueError, match=f"data/{name}, which is missing. "
                       "Bring the folder back"):
        RunFolder(folder).data()
    (folder / "data/meta.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="data/"):
        RunFolder(folder).data()


def test_questions_of_an_older_folder_are_written_anew(
        whole, shop, tmp_path, capsys):
    folder = RunFolder(older(shutil.copytree(whole, tmp_path / "old")))
    expected = folder.acquisitions()
    (folder / "acquisitions.parquet").write_bytes(b"PAR1")
    folder.mend(folder.pool(shop))
    pd.testing.assert_frame_equal(folder.acquisitions(), expected)
    assert "acquisitions.parquet was not" in capsys.readouterr().err
    # A table that can be read stays: no sum tells which of both is right.
    other = expected.assign(label=1.0)
    other.to_parquet(folder / "acquisitions.parquet")
    folder.mend(folder.pool(shop))
    assert (folder.acquisitions()["label"] == 1).all()


def test_a_journal_that_is_gone_is_told(whole, tmp_path):
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    (folder / "journal.jsonl").unlink()
    with pytest.warns(UserWarning, match="no journal at .*/journal.jsonl"):
        folder.check_whole()


@pytest.mark.parametrize("name, change", [
    ("history.csv", lambda text: text[:len(text) // 2]),
    ("history.csv", lambda text: b""),
    ("history.csv", lambda text: text.splitlines(True)[0]),
    ("explanations.jsonl", lambda text: text[:-7]),
    ("test.json", lambda text: b"{}")])
def test_files_for_people_that_are_damaged_are_told(
        whole, tmp_path, shop, capsys, name, change):
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    assert not folder.odd_files()
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(change(content))
    assert folder.odd_files() == [folder / name]
    results = Results.of_folder(folder.path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and name in said and "--resume" in said
    pd.testing.assert_frame_equal(
        results.curves.drop(columns=["scenario", "strategy"]),
        Results.of_folder(whole).curves.drop(
            columns=["scenario", "strategy"]))
    folder.mend(folder.pool(shop))
    assert name in capsys.readouterr().err
    assert (folder / name).read_bytes() == content
