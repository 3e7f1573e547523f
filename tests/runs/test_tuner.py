"""The search for settings: killed anywhere it ends the same."""
from __future__ import annotations

import dataclasses
import importlib
import json
import sys

import numpy as np
import pandas as pd
import pytest
import transformers

from tfrecal import datasets, metrics
from tfrecal.pool.pool import Pool
from tfrecal.runs.build import load_split, make_model
from tfrecal.runs.config import RunConfig
from tfrecal.runs.tuning import search as tuner
from tfrecal.runs.tuning import space as search_space
from tfrecal.scoring.scorer import PoolScorer

pytestmark = pytest.mark.large  # a minute

CONFIG = RunConfig(data="shop", encoder="none", rounds=1, final_epochs=1,
                   batch_size=256)
SPACE = {"encoder": ["minilm", "none"], "tuning": ["frozen", "top_n"],
         "top_n": {"low": 1, "high": 3}, "batch_size": [64, 256],
         "dropout": {"low": 0.0, "high": 0.5},
         "learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}}


@pytest.fixture
def judged(monkeypatch):
    """Trials that cost nothing, and the configs that were tried."""
    tried = []

    def validate(config, split):
        tried.append(config)
        return {"ndcg@10": 1 - config.dropout, "rmse": config.learning_rate}

    monkeypatch.setattr(tuner, "validate", validate)
    return tried


@pytest.fixture
def call(shop, tmp_path):
    def search(folder="search", config=CONFIG, **options):
        return tuner.search(config, shop, folder=tmp_path / folder, **{
            "space": SPACE, "trials": 6, **options})
    return search


def settings(found):
    return found.trials.drop(columns="seconds")


def test_the_best_trial_becomes_a_config(call, judged, tmp_path):
    found = call(trials=12)
    assert len(judged) == 12 and found.trials["trial"].tolist() == list(
        range(12))
    best = min(judged, key=lambda config: config.dropout)
    assert found.best == best
    assert RunConfig.from_file(tmp_path / "search/best.json") == found.best
    stored = pd.read_csv(tmp_path / "search/trials.csv",
                         float_precision="round_trip", keep_default_na=False,
                         na_values=[""])
    pd.testing.assert_frame_equal(stored, found.trials, check_dtype=False)
    assert call("low", trials=12, objective="rmse").best.learning_rate == min(
        config.learning_rate for config in judged[:12])


def test_settings_without_effect_are_not_tried(call, judged):
    found = call(trials=30).trials
    without = found["encoder"] == "none"
    assert 0 < without.sum() < 30
    assert found.loc[without, "tuning"].isna().all()
    frozen = found["tuning"] == "frozen"
    assert found.loc[frozen, "top_n"].isna().all() and frozen.any()
    whole = found.loc[found["tuning"] == "top_n", "top_n"]
    assert set(whole) == {1, 2, 3}
    rates = np.log10(found["learning_rate"])
    assert rates.between(-4, -1).all() and abs(rates.mean() + 2.5) < 0.6


def test_the_seed_decides_what_is_tried(call, judged):
    one, same = settings(call("one")), settings(call("same"))
    pd.testing.assert_frame_equal(one, same)
    other = settings(call("other", seed=1))
    assert not one["dropout"].equals(other["dropout"])


class Killed(BaseException):
    """As a kill: nobody catches it."""


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_write_it_ends_the_same(
        call, judged, monkeypatch, after):
    whole = call("whole", trials=3)
    write, left = tuner._write_json, [0]

    def killing(path, content):
        left[0] -= 1
        if left[0] == 0 and not after:
            raise Killed
        write(path, content)
        if left[0] == 0:
            raise Killed

    monkeypatch.setattr(tuner, "_write_json", killing)
    for number in range(1, 100):
        left[0] = number
        try:
            call(f"kill {number}", trials=3)
        except Killed:
            left[0] = 0
            before = len(judged)
            pd.testing.assert_frame_equal(
                settings(call(f"kill {number}", trials=3)), settings(whole))
            # What had ended is not done again; one trial at most is cut off.
            assert len(judged) - before <= 3 - (number - 1) // 8
        else:
            break
    assert 20 < number < 99, "writes of a whole search"


def test_a_trial_that_is_cut_off_begins_anew(call, judged, monkeypatch):
    whole = settings(call("whole"))
    quick, judge = tuner.validate, []

    def interrupted(config, split):
        judge.append(config)
        if len(judge) == 4:
            raise KeyboardInterrupt
        return quick(config, split)

    monkeypatch.setattr(tuner, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert judge[3] not in judged[6:]
    pd.testing.assert_frame_equal(settings(call()), whole)
    assert len(judge) == 7 and judge[4] == judge[3]
    assert len(call(trials=8).trials) == 8 and len(judge) == 9
    pd.testing.assert_frame_equal(settings(call(trials=8))[:6], whole)


def test_the_seconds_are_those_of_all_calls(call, judged, monkeypatch):
    clock = [0.0]

    def now():
        clock[0] += 5.0  # each trial asks twice
        return clock[0]

    monkeypatch.setattr(tuner.time, "perf_counter", now)
    found = call(seconds=12.0)
    assert found.trials["seconds"].tolist() == [5.0, 5.0, 5.0]
    assert len(call(seconds=12.0).trials) == len(judged) == 3
    assert len(call(seconds=20.0).trials) == len(judged) == 4


def test_a_trial_that_diverges_fails_alone(call, monkeypatch):
    numbers = iter([np.nan, 0.5, np.nan, 0.25, 0.75, np.nan])
    monkeypatch.setattr(tuner, "validate", lambda config, split: {
        "ndcg@10": next(numbers), "rmse": 1.0})
    found = call()
    failed = found.trials["status"] == "FAILED"
    assert failed.tolist() == [True, False, True, False, False, True]
    assert found.best.dropout == found.trials["dropout"][4]


def test_a_slice_without_rows_has_no_value(call, monkeypatch, tmp_path):
    monkeypatch.setattr(tuner, "validate", lambda config, split: {
        "ndcg@10": 0.5, "ndcg@10/cold_users": np.nan})
    assert (call(trials=1).trials["ndcg@10"] == 0.5).all()
    path = tmp_path / "search/keras_tuner/trial_0/metrics.json"
    assert set(json.loads(path.read_text())) == {"ndcg@10", "seconds"}


def test_failures_in_a_row_end_it(call, monkeypatch):
    def fail(config, split):
        raise MemoryError("no room for it")

    monkeypatch.setattr(tuner, "validate", fail)
    with pytest.raises(ValueError, match="3 in a row.*no room for it"):
        call()


@pytest.mark.parametrize("options, what", [
    ({"space": {"seed": [1, 2]}}, r"\['seed'\]"),
    ({"space": {}}, "none of them"),
    ({"space": ["dropout"]}, "A space may hold"),
    ({"space": {"dropout": 0.1}}, "dropout=0.1"),
    ({"space": {"dropout": []}}, "list of values"),
    ({"space": {"dropout": [0.1, "much"]}}, "type float. Received: 'much'"),
    ({"space": {"dropout": [float("nan")]}}, "type float. Received: nan"),
    ({"space": {"batch_size": [0.5]}}, "type int. Received: 0.5"),
    ({"space": {"batch_size": [-1, 5]}}, "batch_size=-1"),
    ({"space": {"dropout": {"low": 0.5, "high": 0.1}}}, "low and high"),
    ({"space": {"dropout": {"low": 0, "high": 1, "log": True}}}, "above 0"),
    ({"space": {"encoder": {"low": 0, "high": 1}}}, "a list of values. Rec"),
    ({"space": {"losses": ["rating"]}}, "losses='rating'"),
    ({"space": {"tuning": ["frozen", "topn"]}}, "tuning='topn'"),
    ({"space": {"tuning": ["frozen", "auto"]}}, "tries ways of tuning"),
    ({"trials": 0}, "trials=0"), ({"seconds": 0}, "seconds=0"),
    ({"objective": "auc"}, "objective='auc'")])
def test_what_cannot_be_searched_is_told(options, what, judged, call):
    with pytest.raises(ValueError, match=what):
        call(**options)
    assert not judged


def test_another_search_in_the_folder_is_refused(call, judged, shop):
    call()
    with pytest.raises(ValueError, match="another space than that of"):
        call(space={"dropout": [0.1, 0.2]})
    with pytest.raises(ValueError, match="another objective, seed"):
        call(objective="rmse", seed=3)
    with pytest.raises(ValueError, match="another config"):
        call(config=dataclasses.replace(CONFIG, learning_rate=0.1))
    found = call(space={"dropout": [0.1, 0.2]}, overwrite=True)
    # The space is used up before the trials are.
    assert sorted(found.trials["dropout"]) == [0.1, 0.2]


def test_a_trial_is_judged_on_the_validation_part(shop):
    """Against a fit made by hand; there is no test part to look at."""
    split = load_split(CONFIG, shop)
    found = tuner.validate(CONFIG, split._replace(test=None))
    pool = Pool.from_interactions(split.train, initial=1.0)
    model = make_model(CONFIG, split.train, float(pool.label.mean()))
    model.fit(pool.sequence(CONFIG.batch_size, CONFIG.seed),
              epochs=2, verbose=0)
    held = split.validation
    rmse = metrics.rmse(held.label, PoolScorer.of(model, pool).predict(
        held.user_code, held.item_code))
    assert abs(found["rmse"] - rmse) < 0.1 < np.std(held.label)
    assert 0 < found["ndcg@10"] < 1


def test_the_losses_of_a_config_are_those_of_its_model(shop):
    config = dataclasses.replace(
        CONFIG, losses="pairwise, rating,retrieval", temperature=0.5)
    model = make_model(config, shop, 3.0)
    assert model.task_names == ["rating", "retrieval", "pairwise"]
    assert model.tasks[1].temperature == 0.5
    assert make_model(CONFIG, shop, 3.0).task_names == [
        "rating", "retrieval"]
    for losses in ("rating", "rating,retrieval,other", ""):
        with pytest.raises(ValueError, match="`losses` must be of"):
            dataclasses.replace(CONFIG, losses=losses)
    with pytest.raises(ValueError, match="`temperature` must be a positive"):
        dataclasses.replace(CONFIG, temperature=0.0)


def test_no_encoder_is_tried_without_texts(tiny_bert_folder):
    data = datasets.shop(users=20, items=10, ratings=60)
    config = RunConfig(encoder=str(tiny_bert_folder))
    space = search_space.default_space(config, data)
    assert space["encoder"] == [config.encoder, "none"]
    assert space["tuning"] == ["frozen", "top_n"]
    assert "encoder" not in search_space.default_space(CONFIG, data)
    bare = dataclasses.replace(data, items=data.items[[]])
    assert "tuning" not in search_space.default_space(config, bare)


def test_lists_are_compared_where_the_data_have_them():
    data = datasets.shop(users=20, items=10, ratings=60)
    plain = search_space.default_space(CONFIG, data)
    assert not any("in_list" in names for names in plain["losses"])
    shown = data.with_frame(data.frame.assign(list_id=data.frame["user_id"]))
    config = dataclasses.replace(CONFIG, losses=RunConfig.losses)
    space = search_space.default_space(config, shown)
    assert space["losses"] == [f"{names},in_list" for names
                               in plain["losses"]]
    for losses in space["losses"]:
        assert "in_list" in make_model(
            dataclasses.replace(config, losses=losses), shown, 3.0).task_names


def test_shared_layers_are_not_searched_one_by_one(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(
        transformers.AlbertConfig().to_dict()))
    space = search_space.default_space(
        RunConfig(encoder=str(tmp_path)),
        datasets.shop(users=20, items=10, ratings=60))
    assert space["tuning"] == ["frozen", "lora"]


def test_the_command_line(command_line, tiny_bert_folder, tmp_path):
    """Trials that are real, with an encoder and without."""
    space = tmp_path / "space.json"
    space.write_text(json.dumps({
        "encoder": [str(tiny_bert_folder), "none"], "temperature": [0.5, 1.0],
        "tuning": ["frozen"]}))
    base = ["--data", "shop", "--rounds", 1, "--final-epochs", 1, "--space",
            space, "-o", tmp_path / "search"]
    code, said = command_line("tune", *base, "--trials", 2)
    assert code == 0 and said.count("COMPLETED") == 2
    assert "trial 1: ndcg@10 0." in said
    code, again = command_line("tune", *base, "--trials", 3, "--quiet")
    assert code == 0 and again.count("COMPLETED") == 3
    assert "trial 1:" not in again
    best = json.loads((tmp_path / "search/best.json").read_text())
    assert best["temperature"] in (0.5, 1.0) and best["rounds"] == 1
    code, said = command_line("tune", *base, "--seed", 4)
    assert code == 2 and "another config, seed" in said
    space.write_text("no JSON")
    code, said = command_line("tune", *base)
    assert code == 2 and "with a JSON object" in said


def test_without_keras_tuner_the_cure_is_told(monkeypatch, command_line,
                                              tmp_path):
    monkeypatch.delitem(sys.modules, "tfrecal.runs.tuning.search")
    monkeypatch.setitem(sys.modules, "keras_tuner", None)
    with pytest.raises(ImportError, match=r"pip install '.\[tuner\]'"):
        importlib.import_module("tfrecal.runs.tuning.search")
    code, said = command_line("tune", "-o", tmp_path)
    assert code == 2 and "needs Keras Tuner" in said
