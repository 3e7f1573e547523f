"""tuning="auto": what a trial says, and that nothing is bought for it."""
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from tfrecal import datasets, metrics, splits
from tfrecal.runs import data, run
from tfrecal.runs.config import RunConfig
from tfrecal.runs.tuning import auto as auto_tuning
from tfrecal.runs.tuning.auto import Trial

CONFIG = RunConfig(data="shop", tuning="auto", batch=40, rounds=1,
                   final_epochs=1, batch_size=128, initial=0.2)
rng = np.random.default_rng(0)


def trial(tuning, ndcg, error=0.0, seconds=1.0, users=200):
    """A trial whose users and rows are better by so much on average."""
    noise = np.random.default_rng(len(tuning)).normal(0, 0.05, users)
    return Trial(tuning, seconds, 0.3 + ndcg + noise, 1 - error + noise, 10)


def chosen(*trials):
    choice = auto_tuning._chosen(CONFIG, list(trials))
    return choice.config.tuning, choice.why


def test_nothing_dearer_is_taken_for_nothing():
    tuning, why = chosen(trial("frozen", 0), trial("top_n", 0.001),
                         trial("full", -0.1))
    assert tuning == "frozen"
    assert "nothing dearer is better by 0.5% and beyond chance" in why[-1]


def test_a_small_gain_is_not_worth_the_time():
    """Beyond chance, for the noise of both is the same."""
    frozen = trial("frozen", 0)
    for gain, expected in ((0.001, "frozen"), (0.01, "full")):
        dearer = frozen._replace(tuning="full", ndcg=frozen.ndcg + gain)
        assert chosen(frozen, dearer)[0] == expected


def test_what_is_better_is_taken_and_the_next_must_beat_it():
    tuning, why = chosen(trial("frozen", 0), trial("top_n", 0.1),
                         trial("full", 0.1))
    assert tuning == "top_n"
    assert "beside frozen" in why[1] and "beside top_n" in why[2]


def test_better_lists_do_not_excuse_worse_predictions():
    assert chosen(trial("frozen", 0),
                  trial("full", 0.1, error=-0.1))[0] == "frozen"
    assert chosen(trial("frozen", 0), trial("full", 0, 0.1))[0] == "full"


def test_lists_alone_judge_where_no_labels_are_predicted():
    cheap, dear = (trial("frozen", 0)._replace(error=None),
                   trial("full", 0.1)._replace(error=None))
    tuning, why = chosen(cheap, dear)
    assert tuning == "full"
    assert "RMSE" not in why[0] and "squared error" not in why[1]


def test_few_users_cannot_judge(shop, tiny_bert_folder, monkeypatch):
    tried = []

    def of_few(config, *rest):
        tried.append(config.tuning)
        return trial(config.tuning, 0.5, users=10)
    monkeypatch.setattr(auto_tuning, "_try", of_few)
    choice = auto_tuning.choose(
        RunConfig(encoder=str(tiny_bert_folder), tuning="auto"),
        splits.random(shop, seed=0))
    assert choice.config.tuning == "frozen" and "at least 20" in choice.why[-1]
    assert tried == ["frozen"]  # the others would be paid for nothing


def test_a_way_that_was_cut_off_is_said():
    tuning, why = chosen(
        trial("frozen", 0), Trial("full", 9.0, None, None, 1))
    assert tuning == "frozen" and "cut off, 9.0 s" in why[1]


def test_interval_is_the_t_interval():
    values = rng.normal(1, 2, 50)
    mean, low, high = metrics.t_interval(values)
    half = 2.0096 * values.std(ddof=1) / np.sqrt(50)  # t of 49 degrees
    np.testing.assert_allclose(
        [mean, low, high],
        [values.mean(), values.mean() - half, values.mean() + half],
        rtol=1e-4)


@pytest.mark.large
def test_a_run_writes_why_and_can_be_resumed(tiny_bert_folder, tmp_path):
    config = dataclasses.replace(
        CONFIG, encoder=str(tiny_bert_folder), encoder_every=4)
    history = run.run(config, tmp_path / "run", quiet=True)
    why = json.loads((tmp_path / "run" / "tuning.json").read_text())
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [row["tuning"] for row in why["trials"]] == list(auto_tuning.TRIED)
    assert stored["tuning"] == why["tuning"] in auto_tuning.TRIED
    assert why["why"][-1].startswith(f"chosen: {why['tuning']}")
    # 20% of the rows, one round of 40: the trials bought nothing.
    assert history["cost"].iloc[-1] == 40
    again = run.resume(tmp_path / "run", quiet=True)
    assert len(again) == len(history)


@pytest.mark.large
def test_a_way_that_takes_too_long_is_cut_off(tiny_bert_folder):
    config = dataclasses.replace(CONFIG, encoder=str(tiny_bert_folder))
    split = data.load_split(config, datasets.load("shop"))
    choice = auto_tuning.choose(
        config, split, tried=("frozen", "full"), seconds=1e-3, epochs=3)
    assert choice.config.tuning == "frozen"
    assert choice.trials[1]["cut_off"] and "cut off" in choice.why[1]


def test_without_texts_there_is_nothing_to_tune():
    split = data.load_split(CONFIG, datasets.load("shop"))
    choice = auto_tuning.choose(
        dataclasses.replace(CONFIG, encoder="none"), split)
    assert choice.config.tuning == "frozen" and not choice.trials
