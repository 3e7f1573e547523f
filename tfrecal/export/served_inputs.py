"""Inputs of signatures: rows and widths are made equal by blanks."""
from __future__ import annotations

import tensorflow as tf


def are_given(texts) -> tf.Tensor:
    """Returns which rows of strings, or of token ids, are not blank."""
    if texts.dtype == tf.string:
        return tf.strings.length(texts) > 0
    return tf.reduce_any(texts >= 0, axis=-1)


def same_rows(inputs: dict) -> dict:
    """Gives every input the rows of the batch, blank where it is left out.

    Raises (in the graph):
        InvalidArgumentError: two inputs have different, non-zero lengths.
    """
    rows = tf.reduce_max([tf.shape(x)[0] for x in inputs.values()])
    found = {}
    for name, value in inputs.items():
        given = tf.shape(value)[0]
        check = tf.debugging.Assert(
            (given == rows) | (given == 0),
            [f"Every input must have a row for each of the batch, or none. "
             f"Received: `{name}` with", given, "rows beside", rows])
        shape = tf.concat([[rows - given], tf.shape(value)[1:]], axis=0)
        with tf.control_dependencies([check] if check is not None else []):
            found[name] = tf.concat([value, _blank(shape, value.dtype)], 0)
    return found


def same_width(*lists) -> list:
    """Gives lists `[B, None, ...]` the width of the widest, by blanks."""
    width = tf.reduce_max([tf.shape(one)[1] for one in lists])
    return [tf.concat([one, _blank(tf.concat(
        [tf.shape(one)[:1], [width - tf.shape(one)[1]], tf.shape(one)[2:]],
        axis=0), one.dtype)], axis=1) for one in lists]


def _blank(shape, dtype):
    """Returns empty strings, zeros, or no token, by dtype."""
    if dtype == tf.int32:
        return tf.fill(shape, -1)
    return tf.zeros(shape, dtype)
