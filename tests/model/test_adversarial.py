"""FGM on the word embeddings: what moves, by how much, and that it returns."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrecal.model.training import adversarial
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # a minute


def make(shop, folder, tuning="full", seed=0):
    """A model without dropout of any kind: a step is its gradients."""
    encoder = TextEncoder(str(folder), tuning=tuning, max_length=16)
    model = TwoTower.from_interactions(
        shop, encoder=encoder, embedding_dim=4, seed=seed)
    for tower in (model.query_tower, model.candidate_tower):
        tower.id_dropout = tower.retrieval_id_dropout = 0.0
    return model


def batch_of(shop):
    return Pool.from_interactions(shop, initial=1.0).sequence(64, seed=1)[0]


def loss_and_gradients(model, batch):
    with tf.GradientTape() as tape:
        loss = model.compute_loss(batch, training=True)
        loss += tf.add_n(model.losses)
    return loss, tape.gradient(loss, model.trainable_variables)


def dense(gradient):
    return 0.0 if gradient is None else tf.convert_to_tensor(
        gradient).numpy()


def test_it_moves_the_words_of_the_batch_and_returns(shop, tiny_bert_folder):
    model = make(shop, tiny_bert_folder)
    batch = batch_of(shop)
    before, gradients = loss_and_gradients(model, batch)
    encoder = model.candidate_tower.encoder
    table, gradient = adversarial.word_embeddings(
        encoder, model.trainable_variables, gradients)
    assert table is encoder.base.embeddings.weight
    old = table.numpy()
    full = dense(gradient)
    rows, values = adversarial.perturb(table, gradient, 0.5)
    np.testing.assert_allclose(
        table.numpy() - old, 0.5 * full / np.linalg.norm(full), atol=1e-6)
    still = ~np.isin(np.arange(len(old)), rows)
    assert 0 < still.sum() < len(old)
    np.testing.assert_array_equal(table.numpy()[still], old[still])
    worse, _ = loss_and_gradients(model, batch)
    assert float(worse) > float(before)
    adversarial.restore(table, rows, values)
    np.testing.assert_array_equal(table.numpy(), old)


def test_a_step_adds_both_gradients(shop, tiny_bert_folder):
    """With plain gradient descent, worked out by hand."""
    epsilon, batch = 0.5, batch_of(shop)

    def stepped(adversarial):
        model = make(shop, tiny_bert_folder)
        model.compile(
            tf_keras.optimizers.SGD(0.1), tf_keras.optimizers.SGD(0.1),
            adversarial=adversarial)
        logs = tf.function(model.train_step)(batch)
        return model, {key: float(value) for key, value in logs.items()}

    model = make(shop, tiny_bert_folder)
    start = [w.numpy() for w in model.trainable_variables]
    loss, first = loss_and_gradients(model, batch)
    table, gradient = adversarial.word_embeddings(
        model.candidate_tower.encoder, model.trainable_variables, first)
    adversarial.perturb(table, gradient, epsilon)
    _, second = loss_and_gradients(model, batch)
    after, logs = stepped(epsilon)
    for weight, old, one, two in zip(
            after.trainable_variables, start, first, second):
        np.testing.assert_allclose(
            weight.numpy(), old - 0.1 * (dense(one) + dense(two)), rtol=1e-3,
            atol=2e-5, err_msg=weight.name)
    # A batch counts once, at its loss before the perturbation.
    assert logs["rows"] == len(batch["label"])
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-4)
    plain, its_logs = stepped(0.0)
    assert its_logs == pytest.approx(logs)
    for weight, old, one in zip(plain.trainable_variables, start, first):
        np.testing.assert_allclose(
            weight.numpy(), old - 0.1 * dense(one), rtol=1e-3, atol=2e-5)


def test_none_is_the_default(shop, tiny_bert_folder):
    """Bit for bit, with dropout and Adam."""
    def weights(**options):
        tf_keras.utils.set_random_seed(0)
        model = make(shop, tiny_bert_folder)
        model.candidate_tower.id_dropout = 0.2
        model.compile(**options)
        pool = Pool.from_interactions(shop, initial=0.2)
        model.fit(pool.sequence(64), epochs=1, verbose=0)
        return [w.numpy() for w in model.trainable_variables]

    default, none, some = weights(), weights(adversarial=0.0), weights(
        adversarial=1.0)
    for a, b in zip(default, none):
        np.testing.assert_array_equal(a, b)
    assert any(np.abs(a - b).max() > 0 for a, b in zip(default, some))


def test_a_gradient_of_zero_moves_nothing():
    table = tf.Variable(np.ones([4, 2], np.float32))
    rows, values = adversarial.perturb(table, tf.IndexedSlices(
        tf.zeros([3, 2]), tf.constant([1, 2, 1]), tf.constant([4, 2])), 0.5)
    np.testing.assert_array_equal(table.numpy(), np.ones([4, 2]))
    assert rows.numpy().tolist() == [1, 2] and values.shape == (2, 2)


@pytest.mark.parametrize("tuning", ["frozen", "top_n"])
def test_embeddings_must_be_trained(shop, tiny_bert_folder, tuning):
    model = make(shop, tiny_bert_folder, tuning)
    with pytest.raises(ValueError, match=rf"tuning=\['{tuning}'\]"):
        model.compile(adversarial=0.1)
    model.compile(adversarial=0)


@pytest.mark.parametrize("epsilon, message", [
    (-1, "must be at least 0"), (float("nan"), "must be at least 0"),
    (float("inf"), "must be a finite number")])
def test_a_length_is_a_number(shop, epsilon, message):
    model = TwoTower.from_interactions(shop, embedding_dim=4)
    with pytest.raises(ValueError, match=f"`adversarial` {message}"):
        model.compile(adversarial=epsilon)
    with pytest.raises(ValueError, match="`adversarial` perturbs word"):
        model.compile(adversarial=0.5)
