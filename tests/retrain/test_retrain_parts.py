"""Parts of a retraining: labels of feedback, the gate, versions."""
from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from tfrecal.feedback.labels import feedback_labels
from tfrecal.retrain import gate, promotion
from tfrecal.retrain.config import RetrainConfig


def shown(*rows):
    """Lists: (request, time, user, items); the third place is explored."""
    return pd.DataFrame([
        {"request_id": request, "rank": rank, "time": time, "user_id": user,
         "item_id": item, "propensity": 0.25 if rank == 3 else 1.0,
         "strategy": "vopt" if rank == 3 else ""}
        for request, time, user, items in rows
        for rank, item in enumerate(items, start=1)])


def told(*rows):
    """Responses: (request, time, user, item, kind, value)."""
    columns = ["request_id", "time", "user_id", "item_id", "kind", "value"]
    return pd.DataFrame(rows, columns=columns)


LISTS = shown(("r1", 0.0, "u", "abc"), ("r2", 5000.0, "u", "ad"),
              ("r3", 100.0, "v", "a"))


def labels(responses, lists=LISTS, scale=(0, 1), now=5100.0, **options):
    frame, counts = feedback_labels(responses, lists, scale, now=now,
                                    **options)
    return ({(row.user_id, row.item_id): row.label
             for row in frame.itertuples()}, frame, counts)


def test_what_stood_above_a_click_was_passed_over():
    click = ("r1", 9.0, "u", "b", "click", 1.0)
    found, _, counts = labels(told(click))
    assert found == {("u", "a"): 0, ("u", "b"): 1}  # c was never seen
    assert counts["waiting"] == 0
    fresh = ("r2", 5001.0, "u", "d", "click", 1.0)
    found, _, counts = labels(told(click, fresh))
    assert found[("u", "d")] == 1 and counts["waiting"] == 1  # a, in r2
    assert labels(told())[0] == {}  # silence alone tells nothing


def test_silence_never_undoes_a_click():
    found, _, _ = labels(told(
        ("r1", 9.0, "u", "a", "click", 1.0),
        ("r2", 5001.0, "u", "d", "click", 1.0)), now=9e3)
    assert found == {("u", "a"): 1, ("u", "d"): 1}


def test_the_latest_response_counts():
    click = ("r1", 9.0, "u", "a", "click", 1.0)
    skip = ("r2", 5001.0, "u", "a", "skip", 0.0)
    assert labels(told(click, skip))[0][("u", "a")] == 0
    assert labels(told(skip, click))[0][("u", "a")] == 0
    later = ("", 6000.0, "u", "a", "click", 1.0)
    assert labels(told(click, skip, later), now=5500.0)[0][("u", "a")] == 0
    assert labels(told(click, skip, later), now=6500.0)[0][("u", "a")] == 1


def test_ratings_of_stars_take_no_clicks():
    found, frame, counts = labels(told(
        ("r1", 9.0, "u", "a", "click", 1.0),
        ("r1", 10.0, "u", "c", "rating", 4.5),
        ("", 11.0, "w", "z", "rating", 2.0)), scale=(1, 5))
    assert found == {("u", "c"): 4.5, ("w", "z"): 2}
    assert counts["responses_of_other_kinds"] == 1
    assert counts["responses_without_a_list"] == 1
    row = frame.set_index("item_id").loc["c"]
    assert (row["rank"], row["propensity"], row["explored"]) == (
        3, 0.25, True)
    frame = frame.set_index("item_id")
    assert np.isnan(frame.loc["z", "propensity"])
    assert frame["list_id"].to_dict() == {"c": "request:r1", "z": ""}


def test_no_feedback_is_no_label():
    empty = told().astype({"time": float, "value": float})
    found, frame, counts = labels(empty, LISTS.iloc[:0])
    assert not found and counts["pairs"] == 0
    assert {"label", "timestamp", "explored"} <= set(frame)


def gap(mean, sd=0.1, users=400, seed=0):
    rng = np.random.default_rng(seed)
    served = rng.random(users)
    return served, served + rng.normal(mean, sd, users)


@pytest.mark.parametrize("mean, passed, word", [
    (0.05, True, "better"), (0.0, True, "no loss beyond"),
    (-0.05, False, "worse"), (-0.018, False, "worse")])
def test_the_gate(mean, passed, word):
    found = gate.judge(*gap(mean), tolerance=0.04)  # of about 0.5
    assert found.passed == passed and word in found.reason
    assert found.low < found.difference < found.high
    assert abs(found.difference - mean) < 0.02


def test_the_gate_wants_evidence():
    few = gate.judge(*gap(0.05, users=10), least=20)
    assert not few.passed and "too few" in few.reason
    noisy = gate.judge(*gap(0.0, sd=1.0, users=50))
    assert not noisy.passed and "cannot be ruled out" in noisy.reason
    nobody = gate.judge([], [])
    assert not nobody.passed and nobody.to_dict()["serving"] is None


@pytest.mark.parametrize("mean", [0.0, -0.005, -0.02, 0.03])
def test_the_unit_of_the_metric_does_not_matter(mean):
    served, candidate = gap(mean, users=150)
    one, other = (gate.judge(served * unit, candidate * unit)
                  for unit in (1, 0.01))
    assert one.passed == other.passed
    assert one.low == pytest.approx(100 * other.low)


def test_the_gate_says_how_many_users_could_tell():
    found = gate.judge(*gap(0.0, sd=0.3, users=100))
    assert not found.passed
    needed = int(re.search(r"about ([\d,]+) could", found.reason)[1].replace(
        ",", ""))
    assert needed > 200
    told = [gate.judge(*gap(0.0, sd=0.3, users=size, seed=seed),
                       draws=300).passed
            for size in (needed // 4, 4 * needed) for seed in range(20)]
    assert sum(told[:20]) < 8 < 17 < sum(told[20:])


def test_the_interval_covers_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        found = gate.judge(*gap(0.01, users=60, seed=seed), draws=300)
        inside += found.low <= 0.01 <= found.high
    assert 0.88 <= inside / 200 <= 0.99


@pytest.mark.parametrize("served, candidate, message", [
    ([1.0], [1.0, 2.0], "same users"), ([np.nan], [1.0], "finite")])
def test_a_gate_refuses_what_it_cannot_compare(served, candidate, message):
    with pytest.raises(ValueError, match=message):
        gate.judge(served, candidate)


def whole_version(folder):
    """What looks like a version that can be served."""
    for name, text in (("saved_model.pb", "x"),
                       ("variables/variables.index", "x"),
                       ("assets.extra/tfrecal.json", json.dumps(
                           {"made": "2026-11-29", "metrics": {}}))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("name, content", [
    ("saved_model.pb", None),
    ("assets.extra/tfrecal.json", None), ("assets.extra/tfrecal.json", ""),
    ("assets.extra/tfrecal.json", '{"made": '),
    ("assets.extra/tfrecal.json", '{"made": 5, "metrics": {}}'),
    ("assets.extra/tfrecal.json", '{"made": "", "metrics": {"a": "b"}}'),
    ("assets.extra/tfrecal.json", '{"made": "", "metrics": {}, "scale": 5}'),
    ("assets.extra/tfrecal.json", "[" * 100_000)])
def test_a_half_version_is_not_gone_back_to(tmp_path, name, content):
    for version in (1, 2):
        whole_version(tmp_path / str(version))
    (tmp_path / "1" / name).unlink()
    if content is not None:
        (tmp_path / "1" / name).write_text(content)
    with pytest.raises(ValueError, match="must") as error:
        promotion.rollback(tmp_path)
    assert "1" in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "2").exists()
    # The newest may be half: that is what a rollback is for.
    whole_version(tmp_path / "1")
    (tmp_path / "2" / "saved_model.pb").unlink()
    assert promotion.rollback(tmp_path) == (1, [2])


def test_rollback_hides_the_newest(tmp_path):
    for version in (1, 2, 3):
        whole_version(tmp_path / str(version))
    assert promotion.rollback(tmp_path) == (2, [3])
    assert promotion.rollback(tmp_path, to=1) == (1, [2])
    assert sorted(p.name for p in tmp_path.iterdir()
                  if p.name != ".lock") == [
        ".withdrawn-2", ".withdrawn-3", "1"]
    for to in (None, 7):
        with pytest.raises(ValueError, match="must be a version to go back"):
            promotion.rollback(tmp_path, to=to)
    with pytest.raises(ValueError, match="which is missing"):
        promotion.rollback(tmp_path / "none")


def test_nobody_serves():
    with pytest.raises(promotion.NotServed, match="tfrecal serve"):
        promotion.states("localhost:1", "shop", timeout=1)
    with pytest.raises(promotion.NotServed, match="within 0.5 seconds"):
        promotion.wait_served("localhost:1", "shop", 2, timeout=0.5)


def test_config_round_trip(tmp_path):
    config = RetrainConfig(run="r", to="t", questions=5)
    config.write(tmp_path)
    assert RetrainConfig.from_folder(tmp_path) == config
    assert RetrainConfig.from_folder(tmp_path, reset=True).reset
    (tmp_path / "config.json").write_text('{"runn": "r"}')
    with pytest.raises(ValueError, match="runn"):
        RetrainConfig.from_folder(tmp_path)
    with pytest.raises(ValueError, match="config.json, which is miss"):
        RetrainConfig.from_folder(tmp_path / "none")


@pytest.mark.parametrize("option", [
    {"run": ""}, {"holdout": 1.0}, {"passes": 0}, {"correction": "dr"},
    {"tolerance": -1}])
def test_bad_options(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        RetrainConfig(**{"run": "r", "to": "t", **option})
