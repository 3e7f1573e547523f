"""Histories: the items that users liked, from the pool into the query tower."""
from __future__ import annotations

import tensorflow as tf


def mean_rows(table, features: dict) -> tf.Tensor:
    """Returns the mean of a table's rows over each history.

    It is zero where a history is empty. With `history_row` `[B]`, the
    histories are those of the batch's distinct users, each looked up once,
    and `history_skip` `[B]` is the code of an item of the history to leave
    out, or 0. Users have many rows in a batch, so this is a third of the
    work.

    Args:
        table: float32 `[items + 1, width]`; row 0 is not read.
        features: `history`, codes `[B, None]`, ragged or padded with 0, and
            `history_row` and `history_skip` where there are any.

    Returns:
        float32 `[B, width]`.
    """
    items = features["history"]
    if not isinstance(items, tf.RaggedTensor):
        items = tf.RaggedTensor.from_tensor(items, padding=0)
    codes = tf.cast(items.flat_values, tf.int32)
    known = codes > 0
    codes = tf.boolean_mask(codes, known)
    segment = tf.boolean_mask(items.value_rowids(), known)
    total = tf.sparse.segment_sum(
        table, codes, tf.cast(segment, tf.int32),
        num_segments=tf.cast(items.nrows(), tf.int32), sparse_gradient=True)
    number = tf.math.unsorted_segment_sum(
        tf.ones_like(codes, tf.float32), segment, items.nrows())
    if "history_row" in features:
        row, skip = features["history_row"], features["history_skip"]
        there = tf.cast(skip > 0, tf.float32)
        total = (tf.gather(total, row)
                 - there[:, tf.newaxis] * tf.gather(table, skip))
        number = tf.gather(number, row) - there
    return total / tf.maximum(number, 1.0)[:, tf.newaxis]
