"""LoRA and BitFit: what is trained, what is used, what is exported."""
from __future__ import annotations

import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from safetensors.numpy import load_file, save_file

from tfrecal.model.transfer import transfer
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.runs import run
from tfrecal.runs.config import RunConfig
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # a minute

TEXTS = ["chair", "a blue chair of the", "", "and the and the and"]
EVERY = ("query", "key", "value", "out", "inner", "outer")


def encoder_of(folder, **options):
    return TextEncoder(str(folder), max_length=12, **options)


def train(encoder, steps=3):
    """Moves the vectors somewhere else."""
    head = tf_keras.layers.Dense(1)
    optimizer = tf_keras.optimizers.Adam(0.05)
    for _ in range(steps):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(
                (head(encoder(tf.constant(TEXTS), training=True)) - 1) ** 2)
        weights = encoder.trainable_weights + head.trainable_weights
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))


def test_it_starts_from_the_checkpoint(tiny_bert_folder):
    plain = encoder_of(tiny_bert_folder)(tf.constant(TEXTS))
    encoder = encoder_of(tiny_bert_folder, tuning="lora", projections=EVERY)
    np.testing.assert_array_equal(encoder(tf.constant(TEXTS)), plain)


def test_an_update_is_of_low_rank_and_scaled(tiny_bert_folder):
    """Hu et al. 2021, eq. 3, written out for one kernel."""
    encoder = encoder_of(tiny_bert_folder, tuning="lora", rank=2, alpha=6.0,
                         projections=["value"])
    plain = encoder_of(tiny_bert_folder)
    train(encoder)
    layer = plain.base.encoder.layer
    assert len(encoder.trainable_weights) == 2 * len(layer) == 4
    for n, (a, b) in enumerate(zip(*[iter(encoder.trainable_weights)] * 2)):
        assert a.shape == (32, 2) and b.shape == (2, 32) and b.numpy().any()
        kernel = layer[n].attention.self_attention.value.kernel
        kernel.assign_add(6.0 / 2 * a.numpy() @ b.numpy())
    np.testing.assert_allclose(
        encoder(tf.constant(TEXTS)), plain(tf.constant(TEXTS)), atol=1e-5)


@pytest.mark.parametrize("options, number", [
    ({"tuning": "lora", "rank": 3}, 2 * 2 * 2),
    ({"tuning": "lora", "projections": EVERY}, 2 * 6 * 2),
    ({"tuning": "bitfit"}, 2 * 8)])
def test_just_the_small_weights_move(tiny_bert_folder, options, number):
    encoder = encoder_of(tiny_bert_folder, **options)
    trained = {w.ref() for w in encoder.trainable_weights}
    assert len(trained) == number
    assert len(encoder.weights) == len({w.ref() for w in encoder.weights})
    before = [w.numpy() for w in encoder.weights]
    train(encoder)
    for weight, old in zip(encoder.weights, before):
        moved = not np.array_equal(weight.numpy(), old)
        if "key/bias" not in weight.name:  # softmax ignores it
            assert moved == (weight.ref() in trained), weight.name
    if options["tuning"] == "bitfit":
        assert all(w.shape.rank == 1 for w in encoder.trainable_weights)


def test_the_share_is_told(tiny_bert_folder):
    encoder = encoder_of(tiny_bert_folder, tuning="lora", rank=3)
    number = sum(w.numpy().size for w in encoder.trainable_weights)
    assert number == 2 * 2 * (32 * 3 + 3 * 32)
    assert f"lora: {number:,} of " in encoder.summary


@pytest.mark.parametrize("tuning", ["lora", "bitfit"])
def test_a_table_gives_the_same(tiny_bert_folder, tuning):
    """Its states lie below all layers; they do not hold the updates."""
    encoder = encoder_of(tiny_bert_folder, tuning=tuning)
    table = encoder.table(TEXTS)
    train(encoder)
    np.testing.assert_allclose(
        table(tf.range(1, len(TEXTS) + 1)), encoder(tf.constant(TEXTS)),
        atol=1e-5)


@pytest.mark.parametrize("tuning", ["lora", "bitfit"])
def test_exports_are_merged(tiny_bert_folder, tmp_path, tuning):
    encoder = encoder_of(tiny_bert_folder, tuning=tuning, projections=EVERY)
    train(encoder)
    served = encoder.for_serving()
    served.serve = tf.function(served, input_signature=[served.spec])
    tf.saved_model.save(served, str(tmp_path / "model"))
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(
        loaded.serve(tf.constant(TEXTS)), encoder(tf.constant(TEXTS)),
        atol=1e-5)
    names = [name for name, _ in tf.train.list_variables(
        str(tmp_path / "model" / "variables" / "variables"))]
    assert not [name for name in names if "lora" in name]


def test_encodings_of_trained_updates_are_not_those_of_the_checkpoint(
        tiny_bert_folder):
    encoder = encoder_of(tiny_bert_folder, tuning="lora")
    fresh = encoder.encode(TEXTS)
    train(encoder)
    assert encoder.weights_fingerprint() != encoder.fingerprint
    np.testing.assert_allclose(
        encoder.encode(TEXTS), encoder(tf.constant(TEXTS)), atol=1e-5)
    assert abs(encoder.encode(TEXTS) - fresh).max() > 1e-3


def test_a_grown_model_keeps_its_updates(shop, tiny_bert_folder):
    old, new = (TwoTower.from_interactions(
        shop, embedding_dim=4,
        encoder=encoder_of(tiny_bert_folder, tuning="lora"))
        for _ in range(2))
    train(old.candidate_tower.encoder)
    transfer(old, new)
    np.testing.assert_array_equal(*(
        model.candidate_tower.encoder(tf.constant(TEXTS))
        for model in (old, new)))


@pytest.mark.parametrize("options, message", [
    ({"rank": 0}, "`rank` must be a whole number of at least 1"),
    ({"rank": 1.5}, "rank=1.5"), ({"rank": True}, "rank=True"),
    ({"alpha": 0}, "`alpha` must be a positive number"),
    ({"alpha": float("inf")}, "alpha=inf"),
    ({"projections": []}, "`projections` must be some of query"),
    ({"projections": ["querry"]}, "querry"),
    ({"projections": "query"}, "projections='query'")])
def test_what_cannot_be(tiny_bert_folder, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        encoder_of(tiny_bert_folder, tuning="lora", **options)


@pytest.mark.parametrize("tuning, number", [
    ("frozen", 0), ("top_n", 16), ("lora", 8), ("bitfit", 16)])
def test_a_checkpoint_holds_only_what_was_trained(
        shop, tiny_bert_folder, tmp_path, tuning, number):
    def model():
        made = TwoTower.from_interactions(
            shop, embedding_dim=4,
            encoder=encoder_of(tiny_bert_folder, tuning=tuning))
        made.compile(encoder_learning_rate=0.01)
        return made

    pool = Pool.from_interactions(shop, initial=40, seed=0)
    old, new = model(), model()
    old.fit(pool.sequence(20), verbose=0)
    path = tf.train.Checkpoint(model=old).write(str(tmp_path / "weights"))
    names = [name for name, _ in tf.train.list_variables(path)
             if "encoder" in name and "optimizer" not in name
             and "VARIABLE_VALUE" in name and "OPTIMIZER_SLOT" not in name]
    assert len(names) == number
    tf.train.Checkpoint(model=new).read(path).expect_partial()
    for one in (old, new):  # with the optimizers' state
        one.fit(pool.sequence(20, seed=1), verbose=0)
    for before, after in zip(old.candidate_tower.encoder.weights,
                             new.candidate_tower.encoder.weights):
        np.testing.assert_array_equal(before, after)


def test_weights_of_another_encoder(tiny_bert_folder, tmp_path):
    """A run whose encoder's folder was changed does not go on with it."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_bert_folder, folder)
    config = RunConfig(data="shop", encoder=str(folder), tuning="lora",
                       strategy="random", rounds=1, final_epochs=1)
    run.run(config, tmp_path / "run", quiet=True)
    values = load_file(folder / "model.safetensors")
    name = next(name for name in values if "LayerNorm" in name)
    save_file({**values, name: values[name] + 1},
              folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="need the encoder that they were"):
        run.resume(tmp_path / "run", quiet=True)
