"""Queries of users that the model was not trained on."""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal.scoring.unknown_users import stranger_queries, stranger_rows

# Users 1 and 2 like items 1 and 2; user 3, untrained, likes item 3.
INDPTR, ITEMS = np.array([0, 0, 2, 3, 4]), np.array([1, 2, 1, 3])
VECTORS = np.array([[9, 9], [1, 0], [0, 1], [5, 5]], np.float32)
TRAINED = np.array([False, True, True, False])


def test_rows_are_of_the_trained_who_like_the_item():
    mean, rows = stranger_rows(VECTORS, INDPTR, ITEMS, TRAINED, 5)
    np.testing.assert_allclose(mean, [2 / 3, 1 / 3], atol=1e-6)
    # Prior: 30 users of 1.5 likes.
    first = 2 * (VECTORS[1] - mean) + 1 * (VECTORS[2] - mean)
    second = 2 * (VECTORS[1] - mean)
    np.testing.assert_allclose(
        rows[1:3], [first / (3 + 45), second / (2 + 45)], atol=1e-6)
    assert not rows[[0, 3, 4]].any()


def test_more_items_that_agree_say_more():
    mean, rows = stranger_rows(VECTORS, INDPTR, ITEMS, TRAINED, 5)
    padded = tf.constant([[2, 0, 0], [2, 2, 0], [0, 0, 0]])
    found = stranger_queries(mean, rows, padded).numpy() - mean
    np.testing.assert_allclose(
        found, [rows[2], 1.5 * rows[2], 0 * mean], atol=1e-6)
    ragged = tf.RaggedTensor.from_tensor(padded, padding=0)
    np.testing.assert_allclose(
        stranger_queries(mean, rows, ragged).numpy() - mean, found)


def test_without_likes_there_is_nothing_to_say():
    mean, rows = stranger_rows(
        VECTORS, np.zeros(5, int), ITEMS[:0], TRAINED, 5)
    assert not mean.any() and not rows.any() and rows.shape == (5, 2)
    assert rows.dtype == mean.dtype == np.float32
