"""Comparisons: what is run, what is kept, what is said."""
from __future__ import annotations

import dataclasses
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from plain_towers import make_towers

from tfrecal import cli
from tfrecal.compare import comparison
from tfrecal.compare.config import ComparisonConfig, strategy

SMALL = {"data": "shop", "encoder": "none", "seeds": 2, "rounds": 2,
         "steps": 4, "first_steps": 6, "batch_size": 64, "embedding_dim": 8,
         "draws": 1, "strategies": "vopt", "passes": 2}


def test_strategies_with_options():
    made = strategy("core_set:batch=power;max_per_user=5;per_cost=true")
    assert (made.name, made.batch) == ("core_set", "power")
    assert made.max_per_user == 5 and made.per_cost is True


@pytest.mark.parametrize("label, message", [
    ("cleverest", "must be one of"), ("vopt:depth=3", "depth"),
    ("vopt:deep", "option=value"), ("vopt:../x=1", "is written"),
    ("mixture", "made of others")])
def test_bad_strategies(label, message):
    with pytest.raises(ValueError, match=message):
        strategy(label)


@pytest.mark.parametrize("changes, message", [
    ({"seeds": 1}, "at least two paired seeds"), ({"rounds": 0}, "rounds=0"),
    ({"budget": 1.5}, "budget=1.5"), ({"seeds": 10**9}, "seeds=1000000000"),
    ({"draws": 10**9}, "draws=1000000000"),
    ({"scenarios": " ,"}, "`scenarios` must name one"),
    ({"strategies": "random,nonsense"}, "nonsense")])
def test_bad_configs(changes, message):
    with pytest.raises(ValueError, match=message):
        ComparisonConfig(**changes)


def test_jobs_share_what_differs_in_the_metric_alone():
    config = ComparisonConfig(scenarios="standard,recall,segment",
                              strategies="vopt", seeds=2, first_seed=5)
    jobs = comparison.jobs(config)
    assert {job.scenario for job in jobs} == {"standard", "segment"}
    assert {job.seed for job in jobs} == {5, 6}
    # Two draws of random and one of vopt, of two seeds and two scenarios.
    assert len(jobs) == 12 and len({job.folder for job in jobs}) == 12


def test_labels_before_a_round():
    codes = np.array([1, 1, 2, 1, 2, 1])
    rounds = np.array([-1, 0, 0, 0, 1, 1])
    found = comparison._labels_before(
        codes, rounds, np.array([0]), np.array([1, 2, 3, 4, 5]))
    assert found.tolist() == [1, 0, 1, 1, 3]


def test_categories():
    items = pd.DataFrame({"title": [f"t{i}" for i in range(60)],
                          "year": range(60),
                          "genres": ["a|b", "b", None] * 20})
    assert comparison.categories(items, None)[:3].tolist() == ["a", "b", ""]
    assert comparison.categories(items[["title", "year"]], None) is None
    with pytest.raises(ValueError, match="`category` must be a column"):
        comparison.categories(items, "colour")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    config = ComparisonConfig(scenarios="cold_items", **SMALL)
    return config, folder, comparison.compare(config, folder, workers=1,
                                              quiet=True)


@pytest.mark.large
def test_towers_of_ones_own(tmp_path):
    """The same runs, each from fresh weights, in any order."""
    config = ComparisonConfig(scenarios="cold_items", **SMALL)
    curves = comparison.compare(config, tmp_path / "a", workers=1, quiet=True,
                                make_model=make_towers)
    assert set(curves["strategy"]) == {"random", "vopt"}
    assert curves["rmse"].notna().all() and curves["bought"].max() > 0
    first = json.loads((tmp_path / "a" / "config.json").read_text())
    assert first["make_model"] == "plain_towers.make_towers"
    with pytest.raises(ValueError, match="make_model=None where"):
        comparison.compare(config, tmp_path / "a", workers=1, quiet=True)
    job, found = comparison.jobs(config)[-1], []
    for folder in (tmp_path / "a", tmp_path / "b"):
        comparison._learner.cache_clear()
        comparison.run_job(config, folder / "again", job, make_towers)
        found.append(pd.read_parquet(
            folder / "again" / job.folder / "asked.parquet"))
    found.append(pd.read_parquet(tmp_path / "a" / job.folder
                                 / "asked.parquet"))
    pd.testing.assert_frame_equal(found[0], found[1])
    pd.testing.assert_frame_equal(found[0], found[2])


@pytest.mark.large
class TestCompare:

    def test_tables(self, compared):
        config, folder, curves = compared
        assert len(curves) == 2 * 2 * 3  # seeds, strategies, rounds
        part = curves[curves["seed"] == 0].set_index(["strategy", "round"])
        # Paired: the same start; and nothing bought then.
        for column in ("rmse", "labels"):
            assert part[column]["random", 0] == part[column]["vopt", 0]
        assert (curves[curves["round"] == 0]["bought"] == 0).all()
        assert part["rmse"]["random", 2] != part["rmse"]["vopt", 2]
        asked = pd.read_parquet(folder / "asked.parquet")
        bought = curves[curves["round"] == 2].set_index(
            ["strategy", "seed"])["bought"]
        assert asked.groupby(["strategy", "seed"]).size().equals(
            bought.astype("int64").sort_index())
        assert not asked.duplicated(
            ["strategy", "seed", "user_id", "item_id"]).any()
        lines = [json.loads(line) for line in (
            folder / "explanations.jsonl").read_text().splitlines()]
        assert {line["strategy"] for line in lines} == {"random", "vopt"}
        table = comparison.summary(curves)
        assert table["strategy"].tolist() == ["vopt"]
        assert "too few seeds" in comparison.spoken(table)

    def test_goes_on_where_it_stopped_with_the_same_result(
            self, compared, tmp_path):
        config, whole, curves = compared
        folder = shutil.copytree(whole, tmp_path / "copy")
        one = folder / "runs/cold_items/vopt/1-0"
        for file in one.iterdir():
            file.unlink()
        one.rmdir()
        (one.parent / "1-0.part").mkdir()
        again = comparison.compare(config, folder, workers=2, quiet=True)
        same = [name for name in curves if not name.endswith("seconds")]
        pd.testing.assert_frame_equal(again[same], curves[same])

    def test_a_damaged_run_is_named_before_the_work(
            self, compared, tmp_path, monkeypatch, command_line):
        config, whole, _ = compared
        folder = shutil.copytree(whole, tmp_path / "copy")
        monkeypatch.setattr(comparison, "run_job", None)  # nothing is run
        for name in ("runs/cold_items/vopt/1-0/curves.parquet",
                     "runs/cold_items/vopt/1-0/sums.json", "config.json"):
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[:len(content) // 2])
            code, said = command_line(
                "compare", "-o", folder, "--quiet", "--workers", "1",
                "--strategies", "vopt,margin")
            assert code == 2 and str(folder / name) in said, said
            (folder / name).write_bytes(content)

    def test_more_may_be_added_but_nothing_changed(self, compared, tmp_path,
                                                   capsys):
        folder = shutil.copytree(compared[1], tmp_path / "copy")
        arguments = ["compare", "-o", str(folder), "--quiet",
                     "--workers", "1"]
        assert cli.main([*arguments, "--strategies", "vopt,margin"]) == 0
        assert "margin" in capsys.readouterr().out
        assert cli.main([*arguments, "--rounds", "5"]) == 2
        assert "rounds=5" in capsys.readouterr().err
        assert cli.main(["report", str(folder)]) == 0
        page = (folder / "report.html").read_text()
        assert "vopt" in page and "too few seeds" in page.lower()


def killed(data, seed, mean):
    """A model whose making kills its process."""
    os._exit(9)


@pytest.mark.large
def test_a_worker_that_is_killed_ends_in_one_error(tmp_path):
    with pytest.raises(OSError, match="fewer `--workers`"):
        comparison.compare(ComparisonConfig(**SMALL), tmp_path, workers=2,
                           quiet=True, make_model=killed)


def test_report_of_nothing(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("label", [
    "vopt:per_cost=5", "vopt:max_per_user=2.5", "vopt:max_per_user=true",
    "vopt:rateable=yes", "vopt:quotas=5", "vopt:temperature=NaN",
    "vopt:temperature=1e999", "vopt:batch=top;batch=top", "vopt:self=1",
    "vopt:__class__=3", "vopt:=3", "mixture:strategies=vopt", "chooser:seed=1",
    "epsilon_greedy:epsilon=x", "core_set:batch=null", "", ":", "vopt:a\nb=1",
    "vopt:components=" + "1" * 5000, "x" * 10_000, "vopt:most=1;kappa=x"])
def test_hostile_labels_are_refused_in_one_line(label):
    with pytest.raises(ValueError) as error:
        strategy(label)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000


def test_the_config_of_a_folder(tmp_path):
    config = ComparisonConfig(seeds=3, strategies="ucb:kappa=2")
    path = tmp_path / "config.json"
    kept = {**dataclasses.asdict(config), "primary": {"standard": "rmse"},
            "make_model": None}
    path.write_text(json.dumps(kept))
    assert ComparisonConfig.from_folder(tmp_path) == config
    path.write_text(json.dumps({**kept, "seed": 3, "draws": 0, "steps": "a"}))
    with pytest.raises(ValueError, match="seed=3; did you mean") as error:
        ComparisonConfig.from_folder(tmp_path)
    for part in ("draws=0", "steps='a'", str(path)):
        assert part in str(error.value)


@pytest.mark.large
def test_files_of_ones_own_are_read_as_by_a_run(tmp_path, command_line):
    rows = [f"u{n % 20},i{n % 13},{1 + n * 7 % 5}" for n in range(260)]
    (tmp_path / "own.csv").write_text(
        "\n".join(["user_id,item_id,label", *rows, "u1,,3"]) + "\n")
    options = ["compare", "--data", tmp_path / "own.csv", "--encoder",
               "none", "--seeds", 2, "--draws", 1, "--rounds", 1, "--steps",
               2, "--first-steps", 2, "--strategies", "vopt", "--workers",
               1, "--quiet", "-o", tmp_path / "compared"]
    code, said = command_line(*options)
    assert code == 2 and "lines 262" in said and "--bad-rows drop" in said
    code, said = command_line(*options[:-3], *options[-2:], "--bad-rows",
                              "drop")
    assert code == 0 and "vopt" in said
    assert "standard: 1 round of 89 out of 182 pairs, 4 labelled" in said
    # A comparison of before these fields came is gone on with.
    path = tmp_path / "compared" / "config.json"
    config = json.loads(path.read_text())
    assert config.pop("duplicates") is None
    assert config.pop("fingerprint")
    path.write_text(json.dumps(config))
    (path.parent / "sums.json").unlink()
    assert command_line(*options, "--bad-rows", "drop")[0] == 0
    options += ["--bad-rows", "drop", "--seeds", 3]
    assert command_line(*options)[0] == 0
    (tmp_path / "own.csv").write_text(
        "\n".join(["user_id,item_id,label", *rows[1:]]) + "\n")
    code, said = command_line(*options, "--seeds", 4)
    assert code == 2 and "keeps its data" in said


@pytest.mark.large
def test_labels_of_0_and_1_are_judged_by_auc(tmp_path, command_line):
    rows = [f"u{n % 40},i{n % 37},{n * n % 7 % 2}" for n in range(1200)]
    (tmp_path / "own.csv").write_text(
        "\n".join(["user_id,item_id,label", *rows]) + "\n")
    folder = tmp_path / "compared"
    code, said = command_line(
        "compare", "--data", tmp_path / "own.csv", "--encoder", "none",
        "--seeds", 2, "--draws", 1, "--rounds", 1, "--steps", 2,
        "--first-steps", 2, "--strategies", "vopt", "--scenarios",
        "standard,redundant,item_averaged,recall", "--workers", 1,
        "--quiet", "-o", folder)
    assert code == 0
    for text in ("standard: the pool looks like the audience (auc)",
                 "(auc_users)", "(auc_items)", "(recall@10 at 40%"):
        assert text in said
    config = json.loads((folder / "config.json").read_text())
    assert config["primary"]["redundant"] == "auc_users"
    assert command_line("report", folder)[0] == 0


@pytest.mark.parametrize("rows, options, said", [
    (["u1,i1,1", "u2,i2,1", "u1,i2,1"], [], "tfrecal acquire"),
    (["u1,i1,1", "u2,i2,0", "u1,i2,1"], [], "0 labels to buy"),
    ([f"u{n},i{n % 5},{n % 2}" for n in range(60)],
     ["--rounds", 40], "labels to buy in 40 rounds"),
    ([f"u{n},i{n % 5},{n % 2}" for n in range(60)],
     ["--scenarios", "segment"], "needs a query"),
    ([f"u{n},i{n % 5},{n % 2}" for n in range(60)],
     ["--scenarios", "nothing"], "must be one of"),
    ([f"u{n},i{n % 5},{n % 2}" for n in range(60)],
     ["--category", "genre"], "`category` must be a column"),
    ([f"u{n},i{n % 5},{n % 2}" for n in range(60)],
     ["--strategies", "random"], "beside the baseline")])
def test_what_makes_no_sense_is_refused_before_any_work(
        rows, options, said, tmp_path, command_line):
    (tmp_path / "own.csv").write_text(
        "\n".join(["user_id,item_id,label", *rows]) + "\n")
    code, found = command_line(
        "compare", "--data", tmp_path / "own.csv", "-o", tmp_path / "new",
        *options)
    assert code == 2 and said in found and found.count("\n") == 1
    assert not (tmp_path / "new").exists()
