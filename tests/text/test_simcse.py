"""The warm-up on texts, against plain NumPy and by what it does."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfrecal.data.templates import default_template
from tfrecal.text import simcse
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # a minute


@pytest.fixture(scope="module")
def texts(shop):
    return default_template(shop.items)(shop.items)


def encoder(folder, **options):
    return TextEncoder(folder, max_length=16, **{
        "tuning": "full", "dropout": 0.3, **options})


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def agreement(encoder, texts):
    """Two passes with dropout: loss, and share of texts that find their own."""
    tf.random.set_seed(99)
    passes = [tf.constant(unit(encoder(tf.constant(texts), training=True)))
              for _ in range(2)]
    return [float(value) for value in simcse.contrast(*passes, 0.05)]


def test_contrast_by_its_definition():
    rng = np.random.default_rng(0)
    one, two = (unit(rng.normal(size=(5, 3)).astype(np.float32))
                for _ in range(2))
    scores = np.exp(one @ two.T / 0.1)
    pairs = [np.exp(-2 * ((one[i] - one[j]) ** 2).sum())
             for i in range(5) for j in range(5) if i != j]
    expected = [np.mean(-np.log(np.diag(scores) / scores.sum(1))),
                np.mean(scores.argmax(1) == np.arange(5)),
                np.mean(((one - two) ** 2).sum(1)), np.log(np.mean(pairs))]
    np.testing.assert_allclose(
        simcse.contrast(tf.constant(one), tf.constant(two), 0.1), expected,
        rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"tuning": "top_n", "top_n": 1}])
def test_texts_find_themselves_again(tiny_bert_folder, texts, options):
    warmed = encoder(tiny_bert_folder, **options)
    still = [w.numpy() for w in warmed.non_trainable_weights]
    before = agreement(warmed, texts)
    history = simcse.warm_up(
        warmed, texts, epochs=12, batch_size=10, learning_rate=2e-3)
    after = agreement(warmed, texts)
    assert len(history["loss"]) == 12
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert after[0] < 0.8 * before[0] and after[1] > before[1]
    for weight, old in zip(warmed.non_trainable_weights, still):
        np.testing.assert_array_equal(weight, old)


def test_the_seed_decides(tiny_bert_folder, texts):
    def weights(seed):
        warmed = encoder(tiny_bert_folder)
        simcse.warm_up(warmed, texts, epochs=2, batch_size=8, seed=seed)
        return [w.numpy() for w in warmed.trainable_weights]

    one, same, other = weights(3), weights(3), weights(4)
    for a, b in zip(one, same):
        np.testing.assert_array_equal(a, b)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(one, other))


def test_a_text_is_never_its_own_negative(tiny_bert_folder):
    """Two texts, one of them often: batches hold each once."""
    history = simcse.warm_up(
        encoder(tiny_bert_folder), ["a rose"] * 9 + ["the drum"], epochs=1,
        batch_size=64, temperature=1e6)
    np.testing.assert_allclose(history["loss"], np.log(2), rtol=1e-4)


@pytest.mark.parametrize("options, given, what", [
    ({"tuning": "frozen"}, {}, "layers are trained"),
    ({"dropout": 0.0}, {}, "`dropout` above 0"),
    ({}, {"texts": ["one", "one"]}, "1 distinct texts"),
    ({}, {"batch_size": 1}, "batch_size=1"),
    ({}, {"temperature": 0}, "`temperature` must be a positive"),
    ({}, {"epochs": 0}, "`epochs` must be a positive")])
def test_what_cannot_work_is_told(tiny_bert_folder, options, given, what):
    with pytest.raises(ValueError, match=what):
        simcse.warm_up(encoder(tiny_bert_folder, **options),
                       **{"texts": ["a rose", "the drum"], **given})
    with pytest.raises(TypeError, match="sequence of strings"):
        simcse.warm_up(encoder(tiny_bert_folder), "a rose")
