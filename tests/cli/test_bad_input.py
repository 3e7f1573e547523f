"""Bad input in the middle of a run: one clear error or a clean end."""
from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tfrecal import callbacks, cli, datasets, splits
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import CallableOracle, FileQueueOracle
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder

LONG = "drill and saw " * 714 + "ends"  # 10,000 characters


@pytest.fixture(scope="module")
def small():
    return datasets.shop(users=12, items=10, topics=2, ratings=100, seed=0)


@pytest.fixture(scope="module")
def split(small):
    return splits.random(small, seed=0)


@pytest.fixture(scope="module")
def model(split):
    """Trained on by several tests: no test is about its quality."""
    model = TwoTower.from_interactions(split.train, embedding_dim=4)
    model.compile()
    return model


def write_tables(data, folder):
    data.frame.to_csv(folder / "ratings.csv", index=False)
    data.items.to_csv(folder / "items.csv")


@pytest.fixture
def tfrecal(small, tmp_path, capsys):
    """Runs a command; exit code and what it wrote to stderr."""
    write_tables(small, tmp_path)

    def call(*arguments):
        code = cli.main(list(map(str, arguments)))
        return code, capsys.readouterr().err

    return call


def new_run(folder, *options):
    """Arguments of a short run on the CSV files beside the folder."""
    return ["run", "--data", folder.parent / "ratings.csv", "--items",
            folder.parent / "items.csv", "--encoder", "none", "--rounds", 3,
            "--batch", 15, "--final-epochs", 1, "--quiet", "-o", folder,
            *options]


def results(folder):
    """History and acquisitions of a finished run."""
    assert RunFolder(folder).state["finished"]
    history = pd.read_csv(folder / "history.csv")
    return (history[[c for c in history if not c.endswith("_seconds")]],
            pd.read_parquet(folder / "acquisitions.parquet"))


def saved_pool(folder, split):
    return RunFolder(folder).pool(split.train)


@pytest.fixture(scope="module")
def undisturbed(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    write_tables(small, folder)
    assert cli.main(list(map(str, new_run(folder / "run")))) == 0
    return folder / "run"


@pytest.mark.large
@pytest.mark.parametrize("name, time", [
    ("history.csv", 2), ("00002.npz", 1), ("state.json", 2)])
def test_a_full_disk(
        name, time, tfrecal, split, undisturbed, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    real, written = os.replace, []

    def replace(beside, path):
        written.append(Path(path).name)
        if written.count(name) == time:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(beside, path)

    monkeypatch.setattr(os, "replace", replace)
    code, text = tfrecal(*new_run(folder))
    assert code == 2 and "No space left on device" in text and name in text
    monkeypatch.undo()
    assert RunFolder(folder).state["epoch"] == 0
    assert saved_pool(folder, split).counts["labelled"] == 4 + 15
    assert [p.name for p in folder.rglob(".*")] == [".lock"]
    assert tfrecal("run", "--resume", folder, "--quiet")[0] == 0
    for found, expected in zip(results(folder), results(undisturbed)):
        pd.testing.assert_frame_equal(found, expected)


def test_a_half_written_pool_is_no_pool(split, tmp_path, monkeypatch):
    pool = Pool.from_interactions(split.train, initial=10)
    folder = RunFolder(tmp_path)
    folder.write(pool)

    def full(file, **columns):
        file.write(b"PK half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="No space"):
        folder.write(pool)
    assert folder.pool(split.train).counts == pool.counts
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "00001.npz", "acquisitions.parquet", "pool", "state.json"]


class Service:
    """Answers with 4, and fails in the calls of these numbers."""

    def __init__(self, *fails):
        self.fails = fails
        self.asked: list[list] = []

    def __call__(self, user_ids, item_ids):
        self.asked.append(list(zip(user_ids, item_ids)))
        if len(self.asked) - 1 in self.fails:
            raise ConnectionError("the line is dead")
        return [4.0] * len(user_ids)

    @property
    def paid(self):
        return [pair for number, pairs in enumerate(self.asked)
                if number not in self.fails for pair in pairs]


def fit(model, pool, oracle, folder=None, epochs=4, state=None, **options):
    acquire = callbacks.AcquireLabels(
        pool, "random", oracle, **{"batch_size": 10, **options})
    if state:
        acquire.restore(state["acquire"])
    watch = [acquire, callbacks.StopAtBudget(acquire, verbose=0)]
    if folder:
        watch.append(callbacks.SavePool(pool, folder, acquire))
    history = model.fit(pool.sequence(32), epochs=epochs, verbose=0,
                        callbacks=watch)
    return acquire, history.history


def labelled_pairs(pool):
    rows = np.flatnonzero((pool.state == 2) & (pool.ticket >= 0))
    return set(zip(pool.user_ids[pool.user[rows] - 1],
                   pool.item_ids[pool.item[rows] - 1]))


def test_an_oracle_that_raises_loses_no_paid_label(model, split, tmp_path):
    pool = Pool.from_interactions(split.train, initial=10)
    service = Service(2, 4)
    oracle = CallableOracle(service)
    with pytest.raises(RuntimeError, match="the line is dead"):
        fit(model, pool, oracle, tmp_path)
    assert pool.spent == len(service.paid) == 20 and pool.pending == 10
    assert labelled_pairs(pool) == set(service.paid)

    # In this process: what is open is asked again, the rest goes on. The
    # second failure comes after the first question was answered at last.
    with pytest.raises(RuntimeError, match="the line is dead"):
        fit(model, pool, oracle)
    assert pool.spent == len(service.paid) == 30 and pool.pending == 10
    fit(model, pool, oracle, epochs=2)
    assert len(set(service.paid)) == len(service.paid) == pool.spent == 60
    assert labelled_pairs(pool) == set(service.paid)

    # In another: the saved state is that of the last whole epoch.
    again, state = saved_pool(tmp_path, split), RunFolder(tmp_path).state
    assert labelled_pairs(again) == set(service.paid[:20])
    assert state["epoch"] == 1 and again.pending == 0
    mended = Service()
    fit(model, again, CallableOracle(mended), epochs=1, state=state)
    assert mended.asked == [service.asked[2]]


def test_a_wrong_line_in_an_answer_file(model, split, tmp_path):
    pool = Pool.from_interactions(split.train, initial=10)
    oracle = FileQueueOracle(tmp_path / "people", items=split.train.items)
    fit(model, pool, oracle, tmp_path / "run", epochs=1)
    path, = (tmp_path / "people" / "questions").iterdir()
    sheet = pd.read_csv(path, dtype=str)
    sheet.assign(label=["4"] * 9 + ["44"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match="line 11: label '44'"):
        fit(model, pool, oracle, tmp_path / "run", epochs=2)
    assert pool.spent == 0 and pool.pending == 10
    assert saved_pool(tmp_path / "run", split).pending == 10
    sheet.assign(label="4").to_csv(path, index=False)
    fit(model, pool, oracle, tmp_path / "run", epochs=1, rounds=1)
    assert pool.spent == 10
    assert saved_pool(tmp_path / "run", split).spent == 10


def test_a_batch_larger_than_the_pool(model, split, tmp_path):
    pool = Pool.from_interactions(split.train, initial=10)
    acquire, history = fit(model, pool, CallableOracle(Service()), tmp_path,
                           batch_size=1000)
    assert history["acquired"] == [len(pool) - 10, 0]
    assert history["rows"] == [10, len(pool)]
    assert acquire.exhausted == "every pair of the pool was asked"
    assert saved_pool(tmp_path, split).counts["unlabelled"] == 0


def test_an_oracle_that_declines_everything(model, split, tmp_path):
    pool = Pool.from_interactions(split.train, initial=10)
    oracle = CallableOracle(lambda users, items: [None] * len(users))
    acquire, history = fit(model, pool, oracle, tmp_path, epochs=9,
                           batch_size=40)
    assert history["declined"][:2] == [40, len(pool) - 50]
    assert sum(history["acquired"]) == pool.spent == 0
    again = saved_pool(tmp_path, split)
    assert again.counts == {"unlabelled": 0, "asked": 0, "labelled": 10,
                            "declined": len(pool) - 10}
    asked = pd.read_parquet(tmp_path / "acquisitions.parquet")
    assert set(asked["state"]) == {"declined"} and not asked["cost"].any()


def test_a_budget_below_the_cost_of_one_label(model, split, tmp_path):
    pool = Pool.from_interactions(split.train, initial=10)
    service = Service()
    acquire, history = fit(model, pool, CallableOracle(service, cost=2),
                           tmp_path, epochs=9, budget=1.5)
    assert not service.asked and pool.spent == 0
    assert len(history["loss"]) == 1 and acquire.exhausted
    assert saved_pool(tmp_path, split).pending == 0


@pytest.mark.large
def test_empty_and_endless_texts(
        small, split, tfrecal, tiny_bert_folder, tmp_path):
    titles = ["", LONG, "x" * 10_000, "a saw", " \t ", LONG.upper(), "drill",
              "", "\u00e9" * 10_000, "tent"]
    assert len(LONG) == 10_000
    small.items[[]].assign(title=titles).to_csv(tmp_path / "items.csv")
    folder = tmp_path / "run"
    code, text = tfrecal(*new_run(
        folder, "--encoder", tiny_bert_folder, "--rounds", 1))
    assert code == 0, text
    history = pd.read_csv(folder / "history.csv")
    for name in ("loss", "val_rmse", "val_ndcg@10"):
        assert np.isfinite(history[name]).all(), name
    assert saved_pool(folder, split).counts["labelled"] == 4 + 15


def changed(row, **values):
    """The ratings with some cells of a row (from 0) replaced."""
    def change(ratings):
        ratings = ratings.astype(object)
        ratings.loc[row, list(values)] = list(values.values())
        return ratings
    return change


@pytest.mark.parametrize("change, arrived, cure", [
    (changed(3, item_id="i99"), ["lines 5", "not in the items table"],
     "Mend the rows"),
    # Among texts, 7.0 is an id of its own.
    (changed(3, item_id="7.0"), ["lines 5", "not in the items table"],
     "Mend the rows"),
    (changed(3, item_id=None), ["lines 5", "is empty"], "Mend the rows"),
    (changed(3, label=np.nan), ["lines 5", "`label`"], "Mend the rows"),
    (changed(3, label="inf"), ["lines 5", "`label`"], "Mend the rows"),
    (changed(3, label="good"), ["lines 5", "`label`"], "Mend the rows"),
    (changed(3, timestamp="noon"), ["lines 5", "`timestamp`"],
     "--bad-rows drop"),
    (lambda r: pd.concat([r, r[:2]]), ["2 ", "lines 102, 103", "once"],
     "--duplicates last"),
    (lambda r: r.rename(columns={"label": "rating"}), ["without ['label']"],
     "`columns="),
    (lambda r: r.rename(columns={"user_id": "userId"}), ["userId"],
     '"user_id": "userId"'),
    (lambda r: r[:0], ["at least one row", "none"], "the right file"),
    (lambda r: r[:2], ["2 rows"], "Give more rows")])
def test_bad_ratings(change, arrived, cure, small, tfrecal, tmp_path):
    change(small.frame).to_csv(tmp_path / "ratings.csv", index=False)
    check_refused(tfrecal, tmp_path / "run", [], [*arrived, cure])


@pytest.mark.parametrize("content, parts", [
    (b"", ["ratings.csv", "empty", "line of column names"]),
    (b"user_id,item_id,label\n\xe9,b,3\n", ["line 2", "no utf-8",
                                            "--encoding"]),
    (b"user_id|item_id|label\na|b|3\n", ["'|'", "--separator"]),
    (b"user_id,item_id,label\na,b,3\na,c,3,4,5\n", ["line 3", "5"])])
def test_bad_files(content, parts, tfrecal, tmp_path):
    (tmp_path / "ratings.csv").write_bytes(content)
    check_refused(tfrecal, tmp_path / "run", [], parts)


@pytest.mark.parametrize("items, parts", [
    (lambda i: i.rename_axis("id"), ["'id'", "`item_id`"]),
    (lambda i: pd.concat([i, i[:1]]), ["lines 12", "there already", "Mend"]),
    (lambda i: i[[]].assign(title=""), ["['title']", "without `encoder`"])])
def test_bad_items(items, parts, small, tfrecal, tiny_bert_folder, tmp_path):
    items(small.items).to_csv(tmp_path / "items.csv")
    check_refused(tfrecal, tmp_path / "run",
                  ["--encoder", tiny_bert_folder], parts)


@pytest.mark.parametrize("options, parts", [
    (["--budget", 0], ["budget=0", "positive"]),
    (["--budget", "nan"], ["budget=nan", "finite"]),
    (["--batch", -5], ["batch=-5", "positive"]),
    (["--initial", 1000], ["initial=1000", "up to 80"]),
    (["--items", "nowhere.csv"], ["nowhere.csv"]),
    (["--encoder", "/no/bert"], ["/no/bert", "there is no folder"])])
def test_bad_options(options, parts, tfrecal, tmp_path):
    check_refused(tfrecal, tmp_path / "run", options, parts)


def check_refused(tfrecal, folder, options, parts):
    """One message for a user's mistake, and no run folder."""
    code, text = tfrecal(*new_run(folder, *options))
    assert code == 2
    assert text.startswith("tfrecal: ") and text.count("tfrecal: ") == 1
    for part in parts:
        assert part in text
    assert not folder.exists()
