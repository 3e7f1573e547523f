"""Options of a run that regularise: FGM, warm-up, weights of losses."""
from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from run_ends import end

from tfrecal import splits
from tfrecal.data.templates import default_template
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs import config as run_config
from tfrecal.runs import run
from tfrecal.runs.build import first_pool, make_encoder, make_model
from tfrecal.runs.config import RunConfig
from tfrecal.runs.tuning.space import checked
from tfrecal.text import encoder as encoders
from tfrecal.text import simcse


@pytest.fixture(scope="module")
def config(tiny_bert_folder):
    return RunConfig(
        data="shop", encoder=str(tiny_bert_folder), tuning="full",
        strategy="random", initial=0.1, batch=100, rounds=2, final_epochs=1,
        batch_size=128, dropout=0.1, max_length=16, warm_up=2,
        adversarial=0.5, encoder_every=1, weights="retrieval=0.5,search=0.2")


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    run.run(config, folder, quiet=True)
    return folder


@pytest.mark.large
def test_a_run_does_what_its_config_says(config, shop):
    model = make_model(config, shop, 3.0, warm=True)
    encoder = model.candidate_tower.encoder
    assert model.adversarial == 0.5 and encoder.max_length == 16
    assert {task.name: task.weight for task in model.tasks} == {
        "rating": 1.0, "retrieval": 0.5, "search": 0.2}
    # The same by hand.
    by_hand = dataclasses.replace(config, warm_up=0)
    twin = make_encoder(by_hand, shop)
    twin = type(twin).from_config({**twin.get_config(), "dropout": 0.1})
    simcse.warm_up(twin, default_template(shop.items)(shop.items), epochs=2,
                   seed=config.seed)
    plain = make_encoder(config, shop)
    assert encoder.dropout == plain.dropout == 0
    moved = 0
    for weight, wanted, before in zip(
            encoder.weights, twin.weights, plain.weights):
        np.testing.assert_array_equal(weight, wanted)
        moved += not np.array_equal(weight, before)
    assert moved > 20
    # The centre of the texts is that of the encoder as it was warmed.
    np.testing.assert_allclose(
        model.candidate_tower.text_centre, np.mean(encoder(tf.constant(
            default_template(shop.items)(shop.items))), 0), atol=1e-4)


@pytest.mark.large
@pytest.mark.parametrize("where, call", [
    # Before anything was stored, and after.
    ((ReplayOracle, "answers"), 1), ((RunFolder, "write"), 2)])
def test_a_resumed_run_ends_as_an_undisturbed_one(
        config, undisturbed, where, call, tmp_path, interrupt,
        monkeypatch):
    interrupt(where, call, lambda: run.run(config, tmp_path, quiet=True))
    warmed = []
    warm_up = simcse.warm_up
    monkeypatch.setattr(simcse, "warm_up", lambda *args, **kwargs: (
        warmed.append(1), warm_up(*args, **kwargs)))
    run.resume(tmp_path, quiet=True)
    # What the weights hold is not done again.
    assert len(warmed) == (call == 1)
    found, expected = end(tmp_path), end(undisturbed)
    pd.testing.assert_frame_equal(found[0], expected[0])
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        np.testing.assert_array_equal(value, expected[2][name], name)


@pytest.mark.large
def test_the_command_line(command_line, tiny_bert_folder, tmp_path):
    folder = tmp_path / "run"
    code, said = command_line(
        "run", "--data", "shop", "--encoder", tiny_bert_folder, "--rounds", 1,
        "--final-epochs", 1, "--batch", 50, "--quiet", "-o", folder,
        "--tuning", "lora", "--rank", 2, "--projections", "query,outer",
        "--warm-up", 1, "--weights", "rating=2", "--max-length", 12)
    assert code == 0, said
    kept = RunConfig.from_file(folder / "config.json")
    assert (kept.warm_up, kept.projections, kept.weights, kept.max_length) == (
        1, "query,outer", "rating=2", 12)
    stored = [name for name, shape in tf.train.list_variables(
        str(folder / "weights" / RunFolder(folder).state["checkpoint"]))
        if "encoder/trained" in name and "VARIABLE_VALUE" in name
        and "OPTIMIZER_SLOT" not in name]
    assert len(stored) == 2 * 2 * 2  # layers, projections, A and B


@pytest.mark.parametrize("options, parts", [
    (["--adversarial", 1], ["--tuning full", "tuning='top_n'"]),
    (["--adversarial", "nan", "--tuning", "full"], ["adversarial=nan"]),
    (["--adversarial", 1, "--tuning", "full", "--encoder-every", 9],
     ["encoder_every=9", "--encoder-every 1"]),
    (["--warm-up", 2, "--tuning", "frozen"], ["warm_up=2", "'frozen'"]),
    (["--warm-up", 2, "--tuning", "auto"], ["warm_up=2", "'auto'"]),
    (["--warm-up", 2, "--tuning", "beeformer"], ["warm_up=2", "'beeformer'"]),
    (["--warm-up", -1], ["warm_up=-1"]),
    (["--weights", "retrieval"], ["name=number", "'retrieval'"]),
    (["--weights", "retrieval=0"], ["above 0", "retrieval=0"]),
    (["--weights", "retrieval=nan"], ["above 0", "retrieval=nan"]),
    (["--weights", "pairwise=1"], ["`losses`", "pairwise=1"]),
    (["--weights", "search=1,search=2"], ["once", "search=1,search=2"]),
    (["--tuning", "topn"], ["tuning='topn'", "top_n"]),
    (["--precision", "fp8"], ["precision='fp8'", "bfloat16"]),
    (["--encoder-learning-rate", -1], ["encoder_learning_rate=-1.0"]),
    (["--rank", 1.5], ["`rank`", "1.5"]),
    (["--rank", 0, "--tuning", "lora"], ["rank=0"]),
    (["--projections", "querry", "--tuning", "lora"], ["querry"]),
    (["--max-length", 1], ["max_length=1"])])
def test_what_cannot_be(options, parts, command_line, tiny_bert_folder,
                        tmp_path):
    code, said = command_line(
        "run", "--data", "shop", "--encoder", tiny_bert_folder, "--quiet",
        "-o", tmp_path / "run", *options)
    assert code == 2 and len(said.splitlines()) == 1, said
    assert said.startswith("tfrecal: ") and not (tmp_path / "run").exists()
    for part in parts:
        assert part in said


def test_names_are_those_of_the_encoder():
    assert set(run_config.TUNINGS) == {
        *encoders.TUNINGS, "beeformer", "auto"}
    assert run_config.PRECISIONS == encoders.PRECISIONS


@pytest.mark.parametrize("initial, labelled", [
    (0.25, 100), (1.0, 400), (1, 400), (30.0, 30)])
def test_initial_is_a_share_up_to_1(shop, initial, labelled):
    config = RunConfig(initial=initial)
    pool = first_pool(config, splits.random(shop, seed=0))
    assert pool.counts["labelled"] == labelled


def test_resume_of_an_empty_name_is_no_new_run(command_line, monkeypatch,
                                               tmp_path):
    """As of a variable of the shell's that is not set."""
    monkeypatch.chdir(tmp_path)
    code, said = command_line("run", "--resume", "")
    assert code == 2 and "config.json" in said and not list(tmp_path.iterdir())


def test_options_of_an_encoder_do_not_count_without_one(shop):
    config = RunConfig(data="shop", encoder="none", adversarial=1.0,
                       warm_up=2)
    assert make_model(config, shop, 3.0, warm=True).adversarial == 0
    # Nor where there are no texts.
    bare = dataclasses.replace(shop, items=shop.items[[]])
    config = dataclasses.replace(
        config, encoder="/nowhere", tuning="full", encoder_every=1)
    assert make_model(config, bare, 3.0, warm=True).adversarial == 0


def test_a_config_of_an_earlier_version_is_read(tmp_path):
    """The new options are then what they were: none."""
    known = dataclasses.asdict(RunConfig())
    for name in ("warm_up", "adversarial", "weights", "max_length",
                 "projections"):
        known.pop(name)
    (tmp_path / "config.json").write_text(json.dumps(known))
    assert RunConfig.from_file(tmp_path / "config.json") == RunConfig()
    assert (RunConfig().warm_up, RunConfig().adversarial,
            RunConfig().loss_weights) == (0, 0.0, {})


def test_they_may_be_searched():
    space = {"tuning": ["lora", "full", "frozen"], "adversarial": [0.0, 1.0],
             "warm_up": [0, 2], "rank": {"low": 2, "high": 16, "log": True},
             "max_length": [32, 64],
             "encoder_learning_rate": {"low": 1e-5, "high": 1e-3}}
    found = checked(space, RunConfig(encoder_every=1))
    assert list(found)[0] == "tuning"
    assert found["encoder_learning_rate"]["high"] == 1e-3
    checked({"tuning": ["frozen", "beeformer"], "top_n": [1, 2],
             "warm_up": [0], "encoder_learning_rate": [1e-4]}, RunConfig())
    for config in (RunConfig(warm_up=1), RunConfig(
            tuning="full", adversarial=1.0, encoder_every=1)):
        with pytest.raises(ValueError, match="'frozen'"):
            checked({"tuning": ["full", "frozen"]}, config)
    with pytest.raises(ValueError, match="--tuning full"):
        checked({"adversarial": [1.0]}, RunConfig())


@pytest.mark.parametrize("query", ["mean", "sequence"])
def test_ids_and_texts_are_held_as_the_config_says(query, shop, command_line,
                                                   tmp_path):
    model = make_model(RunConfig(
        data="shop", encoder="none", query=query, shrinkage=3,
        retrieval_l2=0.5, text_scale=0.25), shop, 3.0)
    for tower in (model.query_tower, model.candidate_tower):
        assert (tower.shrinkage, tower.retrieval_l2, tower.text_scale) == (
            3, 0.5, 0.25)
    code, said = command_line("run", "--data", "shop", "--shrinkage", "-1",
                              "-o", tmp_path / "run")
    assert code == 2 and "`shrinkage` must be at least 0" in said
    assert not (tmp_path / "run").exists()
