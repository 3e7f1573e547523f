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
    """Returns whether `x` makes its batches itself and is no table."""
    return isinstance(x, (tf_keras.utils.Sequence, tf.data.Dataset))


def for_training(model, x, y=None, sample_weight=None,
                 batch_size: int | None = None):
    """Returns what `fit` trains on, made of what the user has.

    A table becomes the sequence of a pool that is wholly labelled.

    Args:
        model: a `TwoTower`.
        x, y, sample_weight, batch_size: as in Keras' `fit`.

    Returns:
        A Keras Sequence, or a `tf.data.Dataset` of dicts.

    Raises:
        TypeError: `x` is of another kind.
        ValueError: columns are missing, or hold wrong values.
    """
    if makes_batches(x):
        return _checked_source(model, x, "fit", LABELLED)
    return _read_for(model, tables.pool_sequence(
        model, x, y, sample_weight, batch_size))


def for_evaluation(model, x, y=None, sample_weight=None,
                   batch_size: int | None = None):
    """Returns what `evaluate` reads; rows keep their order.

    Arguments and errors are as for `for_training`.
    """
    if makes_batches(x):
        return _checked_source(model, x, "evaluate", LABELLED)
    return tables.labelled_batches(model, x, y, sample_weight, batch_size)


def for_prediction(model, x, batch_size: int | None = None):
    """Returns what `predict` reads; labels are not needed.

    Arguments and errors are as for `for_training`.
    """
    if makes_batches(x):
        return _checked_source(model, x, "predict", IDS)
    return tables.batches(model, x, batch_size)


def _checked_source(model, source, verb, needed):
    """Checks a source that makes its own batches and returns it."""
    if isinstance(source, PoolSequence):
        return _read_for(model, source)
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


def _read_for(model, sequence: PoolSequence) -> PoolSequence:
    """Gives a sequence's batches what the model's towers and tasks read."""
    sequence.read_for(
        getattr(model.query_tower, "window", None),
        max(getattr(task, "negatives", 0) for task in model.tasks))
    return sequence
