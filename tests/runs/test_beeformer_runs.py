"""`tfrecal run --tuning beeformer`: tuned, stored, resumed, exported, grown."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
from run_ends import end

from tfrecal.data.templates import default_template
from tfrecal.export.export_model import export_model
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain.models import Origin, grown, load_model, save_model
from tfrecal.runs import encoders, run
from tfrecal.runs.build import assemble, make_model, restore
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_split
from tfrecal.runs.plan import Plan
from tfrecal.runs.tuning import search
from tfrecal.scoring.block import GradedHistories
from tfrecal.text import beeformer
from tfrecal.text.encoder import TextEncoder


@pytest.fixture(scope="module")
def config(tiny_bert_folder):
    return RunConfig(
        data="shop", encoder=str(tiny_bert_folder), tuning="beeformer",
        strategy="random", initial=0.3, batch=100, rounds=1, final_epochs=1,
        batch_size=128, max_length=16, encoder_learning_rate=3e-3)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    run.run(config, folder, quiet=True)
    return folder


def weights_of(encoder):
    return [weight.numpy() for weight in encoder.base.weights]


def equal(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_fine_tunes_and_then_freezes(config, undisturbed):
    """The weights are those by hand, and `fit` leaves them alone."""
    built, _ = restore(RunFolder(undisturbed))
    encoder = built.model.candidate_tower.encoder
    assert encoder.tuning == "frozen" and not encoder.trainable_weights
    twin = TextEncoder(config.encoder, tuning="top_n", max_length=16)
    published = weights_of(twin)
    first = assemble(Plan.of(config, load_split(config)).config,
                     load_split(config), encoder=built.encoder)
    graded = GradedHistories.of_pool(first.pool)
    data = built.split.train
    beeformer.fine_tune(
        twin, default_template(data.items)(data.items),
        scipy.sparse.csr_matrix((graded.grade, graded.items, graded.indptr),
                                graded.shape)[:, 1:],
        learning_rate=3e-3, seed=config.seed)
    equal(weights_of(encoder), weights_of(twin))
    assert any(np.abs(a - b).max() > 1e-3
               for a, b in zip(published, weights_of(encoder)))
    # A checkpoint holds nothing of an encoder that is not trained.
    assert not [name for name in end(undisturbed)[2] if "/trained" in name]


@pytest.mark.large
@pytest.mark.parametrize("where, call", [
    # Before anything was stored, and after.
    ((ReplayOracle, "answers"), 1), ((RunFolder, "write"), 2)])
def test_a_resumed_run_ends_as_an_undisturbed_one(
        config, undisturbed, where, call, tmp_path, interrupt, monkeypatch):
    interrupt(where, call, lambda: run.run(config, tmp_path, quiet=True))
    monkeypatch.setattr(beeformer, "fine_tune", None)  # it is stored
    run.resume(tmp_path, quiet=True)
    found, expected = end(tmp_path), end(undisturbed)
    pd.testing.assert_frame_equal(found[0], expected[0])
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        np.testing.assert_array_equal(value, expected[2][name], name)
    equal(*(RunFolder(one).encoder() for one in (tmp_path, undisturbed)))


@pytest.mark.large
def test_an_export_encodes_as_the_model(undisturbed, tmp_path):
    built, _ = restore(RunFolder(undisturbed))
    model, words = built.model, tf.constant(["a blue chair", "red boots"])
    export_model(model, tmp_path, pool=built.pool, k=5)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures[
        "embed_candidates"](item_id=tf.constant(["", ""]), text=words)
    wanted = model.embed_candidates({
        "item_id": tf.constant(["", ""]), "item_text": words})["retrieval"]
    np.testing.assert_allclose(
        served["embedding"][:, :wanted.shape[1]], wanted, atol=1e-5)


@pytest.mark.large
def test_a_loop_keeps_the_encoder(undisturbed, tmp_path):
    """Grown and stored models read texts as the run's does."""
    origin = Origin(undisturbed)
    wanted = weights_of(origin.model.candidate_tower.encoder)
    model = grown(origin, origin.model, origin.tables, 1)
    save_model(model, origin.pool, origin.tables, tmp_path / "1")
    again = load_model(origin, tmp_path / "1")[0]
    fresh = origin.fresh(origin.tables, 2, warm=True)
    for one in (model, again, fresh):
        equal(weights_of(one.candidate_tower.encoder), wanted)
        assert one.fingerprint == origin.model.fingerprint


@pytest.mark.large
def test_a_search_tries_it(config, monkeypatch):
    """It fine-tunes on the labels of the trial, and on no others."""
    given, real = [], beeformer.fine_tune
    monkeypatch.setattr(beeformer, "fine_tune", lambda *args, **options: (
        given.append(args), real(*args, **options)))
    split = load_split(config)
    found = search.validate(
        dataclasses.replace(config, rounds=0, final_epochs=1), split)
    assert np.isfinite(found["ndcg@10"])
    assert given[0][2].nnz == len(split.train)


def test_damage_and_other_encoders_are_told(config, undisturbed, tmp_path):
    folder = RunFolder(tmp_path)
    for path in undisturbed.glob("**/*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(undisturbed)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    whole = (folder / "encoder.npz").read_bytes()
    (folder / "encoder.npz").write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="encoder.npz"):
        restore(folder)
    (folder / "encoder.npz").unlink()
    with pytest.raises(ValueError, match="encoder.npz"):
        restore(folder)
    (folder / "encoder.npz").write_bytes(whole)
    (folder / "sums.json").unlink()
    state = folder.state
    folder.keep_encoder([2 * array for array in folder.encoder()])
    assert state["encoder"]
    with pytest.raises(ValueError, match="need the encoder"):
        restore(folder)


@pytest.mark.parametrize("options, parts", [
    (["--encoder", "none"], ["encoder='none'", "texts"]),
    (["--initial", 1], ["two items or more"]),
    (["--warm-up", 1], ["warm_up=1", "'beeformer'"])])
def test_the_command_line_refuses(
        options, parts, command_line, tiny_bert_folder, tmp_path):
    options = list(options)
    if "--encoder" not in options:
        options += ["--encoder", tiny_bert_folder]
    if "--initial" in options:
        options[options.index("--initial") + 1] = 2  # two labels
    code, said = command_line(
        "run", "--data", "shop", "--tuning", "beeformer", "--quiet", "-o",
        tmp_path / "run", *options)
    assert code == 2 and len(said.splitlines()) == 1, said
    assert said.startswith("tfrecal: ") and not (tmp_path / "run").exists()
    for part in parts:
        assert part in said


def test_labels_without_a_positive_are_told(config, shop):
    split = load_split(config, dataclasses.replace(shop, frame=shop.frame))
    built = assemble(dataclasses.replace(config, tuning="frozen"), split)
    built.pool.label[built.pool.labelled_rows()] = 1.0
    with pytest.raises(ValueError, match="none of 4 or more"):
        encoders.fine_tuned_weights(config, split.train, built.pool)
    with pytest.raises(ValueError, match="tuning='beeformer' without"):
        make_model(config, shop, 3.0)
