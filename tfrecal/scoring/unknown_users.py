"""Vectors of users that the model was not trained on, from what they like.

A history alone finds similar items, not liked ones: after one click its lists
are worse than the most popular items (benchmarks/RESULTS.md, `newcomers.py`).
So a stranger is answered by the vectors of the known users who liked the same
items. This is item-to-user neighbourhood, as in Sarwar et al. 2001, with the
shrinkage of Bell and Koren 2007 (Scalable Collaborative Filtering with
Jointly Derived Neighborhood Interpolation Weights, sec. 3).
"""
from __future__ import annotations

import numpy as np
import scipy.sparse
import tensorflow as tf

from tfrecal.model.histories import mean_rows

# Users of an item are averaged with this many users of average activity.
SHRINKAGE = 30.0
# Beside a linear block: weight of those who like the same. Of 1, 2, 4 and 8 the
# best compromise between MovieLens-100K and sparse clicks, tried by hand.
_TASTE = 4.0


def stranger_rows(vectors, indptr, items, trained, rows: int):
    """Computes the taste of an item's users, relative to that of all users.

    Users count by the number of their likes, because the vectors of users
    with many likes are known best.

    Args:
        vectors: float32 `[users + 1, d]`, queries by code.
        indptr, items: what `Pool.histories` returned.
        trained: bool `[users + 1]`; only trained users count.
        rows: number of items + 1.

    Returns:
        `(mean [d], rows [items + 1, d])`: the mean query, and the vector to
        add for each item; zeros for an item that nobody liked.
    """
    number = np.diff(indptr) * np.asarray(trained, np.float64)
    liked = scipy.sparse.csr_matrix(
        (np.repeat(number, np.diff(indptr)), items, indptr),
        shape=(len(number), rows))
    vectors = np.asarray(vectors, np.float64)
    if not number.any():
        return (np.zeros(vectors.shape[1], np.float32),
                np.zeros((rows, vectors.shape[1]), np.float32))
    mean = number @ vectors / number.sum()
    weight = np.asarray(liked.sum(axis=0)).ravel()
    total = liked.T @ vectors - weight[:, np.newaxis] * mean
    prior = SHRINKAGE * number[number > 0].mean()
    return (mean.astype(np.float32),
            (total / (weight + prior)[:, np.newaxis]).astype(np.float32))


def beside_block(mean, rows, popular: float):
    """Weighs what `stranger_rows` returned beside a linear block.

    Args:
        mean, rows: what it returned.
        popular: see `BlockOptions`.
    """
    return mean * np.float32(popular), rows * np.float32(_TASTE)


def stranger_queries(mean, table, codes) -> tf.Tensor:
    """Computes queries of strangers from their histories.

    The mean of the items' rows gives the taste. It is multiplied by
    3 n / (n + 2) for n items: the more items there are, the less the query is
    drawn to the mean user.

    Args:
        mean: the mean query `[d]` of `stranger_rows`.
        table: the rows `[items + 1, d]` of `stranger_rows`.
        codes: int32 `[B, None]`, ragged or padded with 0.

    Returns:
        float32 `[B, d]`; the mean query where a history is empty.
    """
    known = tf.cast(codes > 0, tf.float32)
    number = tf.reduce_sum(known, axis=1)[:, tf.newaxis]
    away = mean_rows(table, {"history": codes})
    return mean + away * (3 * number / (number + 2))
