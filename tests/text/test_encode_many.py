"""One graph for many batches against the encoder's own steps."""

from __future__ import annotations

import numpy as np
import pytest

from tfrecal.text import encode_many
from tfrecal.text.encoder import TextEncoder

pytestmark = pytest.mark.large
TEXTS = ["title: the blue chair", "", "and", "word " * 30, "the chair"]


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(encode_many, "_WORTH_TOKENS", 0)


def by_itself(encoder):
    tokens = encoder.tokenize(TEXTS)
    return encoder.encode_ids(
        tokens.flat_values, tokens.row_starts(), tokens.row_lengths()).numpy()


@pytest.mark.parametrize("options", [
    {}, {"tuning": "lora", "rank": 2}, {"precision": "bfloat16"}])
def test_same_vectors(tiny_bert_folder, at_once, options):
    encoder = TextEncoder(tiny_bert_folder, max_length=12, **options)
    found, own = encode_many.run(encoder, TEXTS, 16, False), by_itself(encoder)
    if "precision" not in options:
        np.testing.assert_allclose(found, own, atol=1e-5)
        return
    # The graph rounds biases and inner activations too (8 bits of which each
    # is right to 1 in 256); directions stay.
    np.testing.assert_allclose(found, own, atol=1 / 32)
    cosine = (found * own).sum(1) / np.linalg.norm(
        found, axis=1) / np.linalg.norm(own, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=2e-4)


def test_weights_as_they_are_now(tiny_bert_folder, at_once):
    encoder = TextEncoder(tiny_bert_folder, max_length=12, tuning="full")
    before = encode_many.run(encoder, TEXTS, 16, False)
    for weight in encoder.trainable_weights:
        weight.assign(1.5 * weight)
    found = encode_many.run(encoder, TEXTS, 16, False)
    assert np.abs(found - before).max() > 1e-2
    np.testing.assert_allclose(found, by_itself(encoder), atol=1e-5)


def test_built_when_worth_it(tiny_bert_folder, monkeypatch):
    monkeypatch.setattr(encode_many, "_WORTH_TOKENS", 100)
    graph = encode_many.EncodingGraph(
        TextEncoder(tiny_bert_folder, max_length=12))
    assert graph.step(60) == graph.encoder.encode_ids
    assert graph.step(60) != graph.encoder.encode_ids
