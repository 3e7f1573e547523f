"""Sums in order: nothing that runs hangs on which buffer is free."""
from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_vocabulary, write_tiny_bert
from graphs import wide_sums

from tfrecal.model.exact_sums import in_order
from tfrecal.model.tasks import Pairwise, Rating, Retrieval, Search
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.text.encoder import TextEncoder


@pytest.fixture
def terms():
    rng = np.random.default_rng(0)
    return list(rng.normal(size=(3, 64, 256)).astype(np.float32))


def sums(function, terms):
    """One of a graph that also returns the first so many of the terms."""
    def graph(kept):
        @tf.function
        def run(*values):
            values = [tf.sin(value) for value in values]
            return function(values), values[:kept]
        return run(*terms)[0].numpy()

    return [graph(kept) for kept in range(4)]


def test_a_sum_does_not_hang_on_who_reads_its_terms(terms):
    first, *others = sums(lambda values: in_order(*values), terms)
    a, b, c = (tf.sin(term).numpy() for term in terms)
    np.testing.assert_array_equal(first, (a + b) + c)
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize("function", [
    tf.add_n, lambda values: values[0] + values[1] + values[2]])
def test_tensorflow_s_own_does(terms, function):
    # Where this fails, TensorFlow has mended it and `in_order` can go.
    first, *others = sums(function, terms)
    assert any((other != first).any() for other in others)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_its_gradient_is_that_of_a_sum(terms, number):
    terms = [tf.constant(term) for term in terms[:number]]
    with tf.GradientTape() as tape:
        tape.watch(terms)
        loss = tf.reduce_sum(in_order(*terms) ** 2)
    for gradient in tape.gradient(loss, terms):
        np.testing.assert_allclose(gradient, 2 * sum(terms), rtol=1e-5)


def all_graphs(data, encoder, **options):
    pool = Pool.from_interactions(data, 0.2, seed=0)
    tasks = [Rating(scale=data.scale), Retrieval(), Pairwise()]
    model = TwoTower.from_interactions(
        data, encoder=encoder, dropout=0.1,
        tasks=tasks + [Search()] * (encoder is not None))
    model.compile(**options)

    def work():
        model.fit(pool.sequence(64), steps_per_epoch=1, verbose=0)
        scorer = PoolScorer.of(model, pool)
        scorer.vectors("retrieval")
        scorer.vectors("rating")

    return wide_sums(work)


def test_no_graph_of_a_model_has_a_wide_sum(shop):
    assert all_graphs(shop, None) == []


@pytest.mark.large
@pytest.mark.parametrize("tuning", [
    "frozen", "top_n", "full", "lora", "bitfit"])
def test_no_graph_with_an_encoder_has_one(shop, tuning, tmp_path):
    write_tiny_bert(tmp_path, tiny_vocabulary(), layers=4)
    encoder = TextEncoder(str(tmp_path), tuning=tuning, top_n=3, dropout=0.1)
    assert all_graphs(shop, encoder) == []


@pytest.mark.large
def test_nor_has_one_whose_encoder_steps_now_and_then(shop, tmp_path):
    write_tiny_bert(tmp_path, tiny_vocabulary(), layers=4)
    encoder = TextEncoder(str(tmp_path), tuning="full")
    assert all_graphs(shop, encoder, encoder_every=2) == []
