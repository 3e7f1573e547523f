"""Fine-tuning on histories, against plain NumPy and by what it does."""
from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from tfrecal.data.templates import default_template
from tfrecal.text import beeformer
from tfrecal.text.encoder import TextEncoder


@pytest.fixture(scope="module")
def texts(shop):
    return list(default_template(shop.items)(shop.items))


@pytest.fixture(scope="module")
def histories(shop):
    return scipy.sparse.csr_matrix(
        (shop.label / 5, (shop.user_code - 1, shop.item_code - 1)),
        shape=(len(shop.users), len(shop.items)))


def encoder(folder, **options):
    return TextEncoder(folder, max_length=16, **{"tuning": "full", **options})


def unit(rows):
    return rows / np.maximum(
        np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def nmse(vectors, grades):
    like = unit(vectors) @ unit(vectors).T
    np.fill_diagonal(like, 0)
    away = unit(grades) - unit(np.maximum(grades @ like, 0))
    return (away ** 2).sum(1).mean()


def loss_of(encoder, texts, histories):
    return nmse(encoder.encode(texts), histories.toarray())


def weights_of(encoder):
    return [weight.numpy() for weight in encoder.trainable_weights]


def test_the_loss_by_its_definition():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 4)).astype(np.float32)
    grades = (rng.random((5, 6)) * (rng.random((5, 6)) < 0.5)).astype(
        np.float32)
    grades[0] = 0  # nothing is known
    np.testing.assert_allclose(
        beeformer.nmse(tf.constant(vectors), tf.constant(grades)),
        nmse(vectors, grades), rtol=1e-5)


@pytest.mark.parametrize("options", [
    pytest.param({}, marks=pytest.mark.large),
    {"tuning": "top_n", "top_n": 1}])
def test_histories_predict_themselves_better(
        tiny_bert_folder, texts, histories, options):
    tuned = encoder(tiny_bert_folder, **options)
    still = [weight.numpy() for weight in tuned.non_trainable_weights]
    before = loss_of(tuned, texts, histories)
    found = beeformer.fine_tune(
        tuned, texts, histories, epochs=8, batch_size=20, learning_rate=3e-3)
    assert len(found["loss"]) == 8
    assert loss_of(tuned, texts, histories) < 0.96 * before
    assert found["loss"][-1] < 0.97 * found["loss"][0]
    for weight, old in zip(tuned.non_trainable_weights, still):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.large
def test_a_step_is_the_plain_gradient(tiny_bert_folder, texts, histories):
    """One step of all users and items, beside a tape over the encoder."""
    tuned, plain = (encoder(tiny_bert_folder) for _ in range(2))
    beeformer.fine_tune(tuned, texts, histories, epochs=1, batch_size=1000,
                        learning_rate=1e-3)
    known = histories[np.flatnonzero(histories.getnnz(axis=1) > 1)]
    with tf.GradientTape() as tape:
        loss = beeformer.nmse(plain(tf.constant(texts)), tf.constant(
            known.toarray(), tf.float32))
    gradients = tape.gradient(loss, plain.trainable_weights)
    moved = 0
    for new, old, gradient in zip(
            tuned.trainable_weights, plain.trainable_weights, gradients):
        gradient = tf.convert_to_tensor(gradient).numpy()
        clear = np.abs(gradient) > 1e-4  # of no rounding; Adam takes its sign
        moved += clear.sum()
        np.testing.assert_array_equal(
            np.sign(old.numpy() - new.numpy())[clear],
            np.sign(gradient)[clear])
    assert moved > 1000


@pytest.mark.large
def test_the_seed_decides(tiny_bert_folder, texts, histories):
    def weights(seed):
        tuned = encoder(tiny_bert_folder)
        beeformer.fine_tune(tuned, texts, histories, epochs=2, batch_size=16,
                            items=12, seed=seed)
        return weights_of(tuned)

    one, same, other = weights(3), weights(3), weights(4)
    for a, b in zip(one, same):
        np.testing.assert_array_equal(a, b)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(one, other))


@pytest.mark.large
def test_what_has_no_grade_does_not_teach(tiny_bert_folder, texts, histories):
    """Nor users of one item: weights are those of the rest alone."""
    wide = scipy.sparse.hstack([
        histories, scipy.sparse.csr_matrix((histories.shape[0], 1))])
    lonely = scipy.sparse.csr_matrix(
        ([1.0], ([0], [2])), shape=(1, wide.shape[1]))
    found = []
    for rows, some in (
            (histories, texts),
            (scipy.sparse.vstack([wide, lonely]), [*texts, "a blue chair"])):
        tuned = encoder(tiny_bert_folder, tuning="top_n")
        beeformer.fine_tune(tuned, some, rows, epochs=1, batch_size=16)
        found.append(weights_of(tuned))
    start = weights_of(encoder(tiny_bert_folder, tuning="top_n"))
    assert max(np.abs(a - b).max() for a, b in zip(start, found[0])) > 1e-4
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_frozen_encoder_keeps_what_was_learned(
        tiny_bert_folder, texts, histories):
    tuned = encoder(tiny_bert_folder, tuning="top_n")
    published = encoder(tiny_bert_folder, tuning="frozen")
    beeformer.fine_tune(tuned, texts, histories, epochs=1,
                        learning_rate=1e-2)
    frozen = tuned.frozen()
    assert not frozen.trainable_weights
    assert frozen.fingerprint == tuned.weights_fingerprint()
    assert frozen.fingerprint != published.fingerprint == tuned.fingerprint
    for name in ("encode", "table"):  # and from the disk, where it is kept
        found, wanted, before = (
            np.asarray(one.encode(texts) if name == "encode"
                       else one.table(texts).initial[1:])
            for one in (frozen, tuned, published))
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert np.abs(found - before).max() > 1e-3
    with pytest.raises(ValueError, match="tuning='lora'"):
        encoder(tiny_bert_folder, tuning="lora").frozen()


ONE = scipy.sparse.csr_matrix([[1.0, 0.5], [0.0, 1.0]])


@pytest.mark.parametrize("options, given, what", [
    ({"tuning": "frozen"}, {}, "layers are trained"),
    ({"dropout": 0.1}, {}, "without dropout"),
    ({}, {"texts": ["one", "one"]}, "one text for all 2 items"),
    ({}, {"texts": ["one"]}, "2 columns and 1 texts"),
    ({}, {"histories": scipy.sparse.csr_matrix((3, 2))}, "two items or more"),
    ({}, {"histories": scipy.sparse.eye(2)}, "two items or more"),
    ({}, {"histories": ONE * np.nan}, "Grades .* nan"),
    ({}, {"histories": -ONE}, "Grades .* -1"),
    ({}, {"histories": ONE * np.inf}, "Grades .* inf"),
    ({}, {"epochs": 0}, "`epochs`"),
    ({}, {"batch_size": 0}, "`batch_size`"),
    ({}, {"items": 1}, "`items`"),
    ({}, {"learning_rate": np.nan}, "`learning_rate`"),
    ({}, {"learning_rate": 1e30, "epochs": 3}, "must not diverge")])
def test_what_cannot_work_is_told(tiny_bert_folder, options, given, what):
    with pytest.raises(ValueError, match=what):
        beeformer.fine_tune(encoder(tiny_bert_folder, **options), **{
            "texts": ["a rose", "the drum"], "histories": ONE, **given})


def test_other_types_are_told(tiny_bert_folder):
    with pytest.raises(TypeError, match="sparse matrix"):
        beeformer.fine_tune(encoder(tiny_bert_folder), ["a", "b"],
                            ONE.toarray())
    with pytest.raises(TypeError, match="sequence of strings"):
        beeformer.fine_tune(encoder(tiny_bert_folder), "a rose", ONE)
