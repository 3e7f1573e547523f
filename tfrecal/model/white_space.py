"""Cuts white space in the graph, as Python's `str.strip` does."""
from __future__ import annotations

import tensorflow as tf

from tfrecal.data.cells import AROUND


def strip(texts: tf.Tensor) -> tf.Tensor:
    """Returns strings without the white space of Unicode around them."""
    return tf.strings.regex_replace(texts, AROUND, "")
