"""What may `fit`, `evaluate` and `predict` be given?

Ids are strings or whole numbers here, and become the model's codes. Only
batches of a `PoolSequence` hold codes.
"""
from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from tfrecal.model.inputs import data_sets, tables
from tfrecal.model.inputs.features import (
    IDS,
    LABELLED,
    check_columns,
    positives,
    read_by,
)
from tfrecal.pool.sequence import PoolSequence

__all__ = ["for_evaluation", "for_prediction", "for_training",
           "makes_batches", "positives", "read_by"]


def makes_batches(x) -> bool:
    """Whether `x` makes its batches itself: it is no table."""
    return isinstance(x, (tf_keras.utils.Sequence, tf.data.Dataset))


def for_training(model, x, y=None, sample_weight=None,
                 batch_size: int | None = None):
    """What `fit` trains on, made of what the user has.

    A table becomes a pool that is wholly labelled, and its sequence.

    Args:
        model: a `TwoTower`.
        x, y, sample_weight, batch_size: as in Keras' `fit`.

    Returns:
        a Keras Sequence, or a `tf.data.Dataset` of dicts.

    Raises:
        TypeError: another kind of thing.
        ValueError: columns are missing, or hold what they must not.
    """
    if makes_batches(x):
        return _ready(model, x, "fit", LABELLED)
    return tables.pool_sequence(model, x, y, sample_weight, batch_size)


def for_evaluation(model, x, y=None, sample_weight=None,
                   batch_size: int | None = None):
    """What `evaluate` reads; see `for_training`. Rows keep their order."""
    if makes_batches(x):
        return _ready(model, x, "evaluate", LABELLED)
    return tables.labelled_batches(model, x, y, sample_weight, batch_size)


def for_prediction(model, x, batch_size: int | None = None):
    """What `predict` reads; see `for_training`. Needs no labels."""
    if makes_batches(x):
        return _ready(model, x, "predict", IDS)
    return tables.batches(model, x, batch_size)


def _ready(model, source, verb, needed):
    """A source that makes its own batches, checked at the door."""
    if isinstance(source, PoolSequence):
        return source
    if isinstance(source, tf.data.Dataset):
        return data_sets.coded(model, source, verb, needed)
    first = source[0]
    if not isinstance(first, Mapping):
        raise TypeError(
            f"A Sequence must give `{verb}` a dict a batch. Received: "
            f"{type(first).__name__}. Make a `tf.data.Dataset` of (dict, "
            "label) instead, or put the labels into the dict.")
    check_columns(first, needed, verb)
    odd = [name for name in IDS
           if tf.convert_to_tensor(first[name]).dtype != tf.string]
    if odd and not hasattr(source, "share"):
        raise ValueError(
            "A Sequence of your own must hold ids as strings; only the "
            f"pool's holds codes. Received: numbers in {odd}. Convert them "
            "(`.astype(str)`).")
    return source
