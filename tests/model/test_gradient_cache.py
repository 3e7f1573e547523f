"""The encoder's gradient over many batches, against plain accumulation."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrecal.callbacks import AcquireLabels
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.pool import Pool
from tfrecal.text import gradient_cache as text_gradients
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large  # half a minute


def make(shop, folder, tuning="full", **options):
    """A model without dropout: a step is its gradients."""
    encoder = TextEncoder(str(folder), tuning=tuning, max_length=16)
    model = TwoTower.from_interactions(
        shop, encoder=encoder, embedding_dim=4, seed=0)
    for tower in (model.query_tower, model.candidate_tower):
        tower.id_dropout = tower.retrieval_id_dropout = 0.0
    model.compile(tf_keras.optimizers.SGD(0.1),
                  tf_keras.optimizers.SGD(1.0), **options)
    return model


def batches_of(shop, rows=64):
    return Pool.from_interactions(shop, initial=1.0).sequence(rows, seed=1)


def values(model):
    return {weight.name + str(n): weight.numpy()
            for n, weight in enumerate(model.trainable_variables)}


def dense(gradient):
    return tf.convert_to_tensor(gradient).numpy()


@pytest.mark.parametrize("tuning", ["full", "top_n", "lora"])
def test_a_window_is_the_sum_of_its_batches(shop, tiny_bert_folder, tuning):
    """The towers step each batch; the encoder once, by the mean gradient."""
    model = make(shop, tiny_bert_folder, tuning, encoder_every=3)
    other = make(shop, tiny_bert_folder, tuning)
    batches = [batches_of(shop)[n] for n in range(3)]
    encoder = other.candidate_tower.encoder
    own = {weight.ref() for weight in encoder.trainable_weights}
    sums = 0.0
    for batch in batches:
        with tf.GradientTape() as tape:
            loss = other.compute_loss(batch, training=True)
            loss += tf.add_n(other.losses)
        variables = other.trainable_variables
        found = tape.gradient(loss, variables)
        other.optimizer.apply_gradients(
            (g, v) for g, v in zip(found, variables)
            if g is not None and v.ref() not in own)
        sums = sums + np.array([
            dense(g) for g, v in zip(found, variables) if v.ref() in own
            and g is not None], dtype=object)
    steps = [v for g, v in zip(found, variables)
             if v.ref() in own and g is not None]
    for weight, total in zip(steps, sums):
        weight.assign_sub(np.asarray(total / 3, np.float32))

    before = values(model)
    step = tf.function(model.train_step)
    for batch in batches:
        step(batch)
    changed = 0
    for (name, value), expected in zip(
            values(model).items(), values(other).values()):
        np.testing.assert_allclose(value, expected, atol=2e-5, err_msg=name)
        changed += np.abs(value - before[name]).max() > 1e-6
    assert changed > len(sums)


def test_vectors_stand_still_within_a_window(shop, tiny_bert_folder):
    model = make(shop, tiny_bert_folder, encoder_every=2)
    table = model.candidate_tower.table
    codes = tf.range(5)
    step = tf.function(model.train_step)
    first = table(codes).numpy()
    step(batches_of(shop)[0])
    np.testing.assert_array_equal(table(codes), first)
    step(batches_of(shop)[1])
    assert np.abs(table(codes) - first).max() > 1e-5
    # What is held is encoded anew after the encoder's step.
    np.testing.assert_allclose(
        table(codes, training=True), table(codes), atol=1e-6)


def test_chunks_do_not_change_the_sum(shop, tiny_bert_folder, monkeypatch):
    from tfrecal.text.table import TextTable

    whole = make(shop, tiny_bert_folder, encoder_every=2)
    plain = TextTable.chunks
    monkeypatch.setattr(TextTable, "chunks",
                        lambda self, texts: plain(self, texts, 40))
    small = make(shop, tiny_bert_folder, encoder_every=2)
    rows, ends = small.candidate_tower.table.chunks(
        tf.range(small.candidate_tower.table.num_texts))
    assert len(ends) > 5 and int(ends[-1]) == len(rows)
    for model in (whole, small):
        step = tf.function(model.train_step)
        for n in range(2):
            step(batches_of(shop)[n])
    for a, b in zip(values(whole).values(), values(small).values()):
        np.testing.assert_allclose(a, b, atol=2e-5)


def of_unknown_length(shop, sequence):
    """The batches as a data set that does not say how many they are."""
    kinds = {"user_id": tf.string, "item_id": tf.string,
             "label": tf.float32, "log_q": tf.float32}

    def rows():
        for number in range(len(sequence)):
            batch = sequence[number]
            yield {"user_id": shop.user_ids[batch["user_id"] - 1],
                   "item_id": shop.item_ids[batch["item_id"] - 1],
                   "label": batch["label"], "log_q": batch["log_q"]}
    return tf.data.Dataset.from_generator(rows, output_signature={
        name: tf.TensorSpec([None], kind) for name, kind in kinds.items()})


@pytest.mark.parametrize("known, expected", [
    (True, [0, 0, 0, 1, 1, 1, 1, 2, 2, 3, 3]),
    (False, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3])])
def test_fit_divides_epochs_and_ends_them_with_a_step(
        shop, tiny_bert_folder, known, expected):
    """10 batches an epoch, 4 a step at most: 4, 4 and 2 batches.

    Where their number is not known, the last step is made after them.
    """
    model = make(shop, tiny_bert_folder, encoder_every=4)
    rows = -(-len(shop) // 10)
    sequence = batches_of(shop, rows)
    assert len(sequence) == 10
    counts = []

    class Watch(tf_keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            counts.append(int(model.encoder_optimizer.iterations))

        def on_epoch_end(self, epoch, logs=None):
            counts.append(int(model.encoder_optimizer.iterations))

    model.fit(sequence if known else of_unknown_length(shop, sequence),
              epochs=1, verbose=0, callbacks=[Watch()])
    assert counts == expected
    # After the epoch: no window ends.
    model.train_step({name: tf.convert_to_tensor(value) if isinstance(
        value, np.ndarray) else value for name, value in sequence[0].items()})
    assert int(model.encoder_optimizer.iterations) == 3


def test_windows_follow_a_sequence_that_grows(shop, tiny_bert_folder):
    """3 batches, then 8: windows of 3, then of 4, not of 5."""
    model = make(shop, tiny_bert_folder, encoder_every=5)
    pool = Pool.from_interactions(shop, initial=192, seed=0)
    sequence = pool.sequence(64, seed=1)
    lengths, windows = [], []

    class Watch(tf_keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if not batch:
                lengths.append(len(sequence))
                windows.append(int(model.gradient_cache.window))

    model.fit(sequence, epochs=2, verbose=0, callbacks=[
        Watch(), AcquireLabels(pool, "random", ReplayOracle(shop),
                               batch_size=320, rounds=1)])
    assert (lengths, windows) == ([3, 8], [3, 4])


def test_it_is_no_part_of_the_model(shop, tiny_bert_folder, tmp_path):
    with_cache = make(shop, tiny_bert_folder, encoder_every=2)
    without = make(shop, tiny_bert_folder)
    assert len(with_cache.get_weights()) == len(without.get_weights())
    path = tf.train.Checkpoint(model=with_cache).save(str(tmp_path / "c"))
    names = [name for name, _ in tf.train.list_variables(path)]
    assert not any("held" in name or "sums" in name for name in names)


def test_the_seed_decides_and_epochs_can_be_resumed(
        shop, tiny_bert_folder, tmp_path):
    def fit(epochs, first=0, folder=None):
        model = make(shop, tiny_bert_folder, encoder_every=4)
        checkpoint = tf.train.Checkpoint(model=model)
        if folder:
            checkpoint.restore(folder).expect_partial()
        sequence = batches_of(shop)
        sequence.start(first)
        model.fit(sequence, initial_epoch=first, epochs=epochs, verbose=0)
        return model, checkpoint

    whole, _ = fit(2)
    again, _ = fit(2)
    _, half = fit(1)
    resumed, _ = fit(2, 1, half.save(str(tmp_path / "half")))
    for a, b, c in zip(*(values(m).values()
                         for m in (whole, again, resumed))):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_the_rate_follows_the_window_and_the_tuning(shop, tiny_bert_folder):
    for tuning, rate in (("full", 5e-5), ("lora", 3e-4), ("bitfit", 3e-4)):
        model = TwoTower.from_interactions(shop, encoder=TextEncoder(
            str(tiny_bert_folder), tuning=tuning))
        for every, options, expected in (
                (1, {}, rate), (16, {}, 4 * rate),
                (4, {"encoder_learning_rate": 0.5}, 1.0)):
            model.compile(encoder_every=every, **options)
            np.testing.assert_allclose(
                model.encoder_optimizer.learning_rate, expected, rtol=1e-6)


@pytest.mark.parametrize("options, error, message", [
    ({"encoder_every": 0}, ValueError, "a whole number of at least 1"),
    ({"encoder_every": 1.5}, TypeError, "a whole number of at least 1"),
    ({"encoder_every": 2, "adversarial": 1.0}, ValueError, "Choose one")])
def test_what_cannot_be_is_refused(
        shop, tiny_bert_folder, options, error, message):
    with pytest.raises(error, match=message):
        make(shop, tiny_bert_folder, **options)


def test_dropout_of_the_encoder_is_refused(shop, tiny_bert_folder):
    encoder = TextEncoder(str(tiny_bert_folder), tuning="full", dropout=0.1)
    model = TwoTower.from_interactions(shop, encoder=encoder)
    with pytest.raises(ValueError, match="without dropout"):
        model.compile(encoder_every=2)


def test_rows_that_come_again_are_added_in_order():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40_000, 16)).astype(np.float32)
    gradient = tf.IndexedSlices(values, np.arange(len(values)) % 7)

    def added():
        total = tf.Variable(tf.zeros([7, 16]))
        text_gradients._add([total], [gradient])
        return total.numpy()

    expected = [np.add.accumulate(values[row::7])[-1] for row in range(7)]
    for _ in range(10):
        np.testing.assert_array_equal(added(), expected)
