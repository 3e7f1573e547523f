"""Tables in: DataFrames, dicts of columns, `Interactions`."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import tensorflow as tf

from tfrecal.data.columns import as_ids, as_numbers
from tfrecal.data.interactions import Interactions
from tfrecal.model.inputs.features import (
    BATCH_SIZE,
    GIVEN,
    IDS,
    KINDS,
    LABELLED,
    OF_A_BATCH,
    batch_message,
    categories_of,
    check_columns,
    read_by,
    reads_log_q,
)
from tfrecal.model.inputs.traffic import Traffic
from tfrecal.model.tasks import Rating
from tfrecal.pool.pool import Pool


def pool_sequence(model, x, y, sample_weight, batch_size):
    """Returns the sequence of a wholly labelled pool of a table's rows."""
    frame = _frame(x, y, sample_weight, "fit")
    check_columns(frame, LABELLED, "fit")
    made = (read_by(model.query_tower) | read_by(model.candidate_tower)
            | {"positive", "log_q"}) - set(IDS) - set(categories_of(model))
    made = sorted(made.intersection(frame.columns))
    if made:
        raise ValueError(
            "`fit` on a table computes what it needs besides ids, labels and "
            f"weights. Received: columns={made}. Drop them, or make the "
            "batches yourself: a `tf.data.Dataset` of dicts keeps them.")
    frame = frame.assign(label=_labels(model, frame["label"]))
    weights = _row_weights(frame["weight"]) if "weight" in frame else None
    data = x if _same_tables(model, x) else _interactions(model, x, frame)
    return Pool.from_interactions(data, initial=1.0).sequence(
        batch_size or BATCH_SIZE, row_weights=weights)


def labelled_batches(model, x, y, sample_weight, batch_size):
    """Returns the batches of a table for `evaluate`, a data set."""
    frame = _frame(x, y, sample_weight, "evaluate")
    check_columns(frame, LABELLED, "evaluate")
    columns = _tensors(model, frame)
    if "log_q" not in columns and reads_log_q(model):
        columns["log_q"] = Traffic(model).add(columns).log_q()[
            columns["item_id"]]
    return _batches(columns, batch_size)


def batches(model, x, batch_size):
    """Returns the batches of a table for `predict`, without labels."""
    frame = _frame(x, None, None, "predict")
    check_columns(frame, IDS, "predict")
    return _batches(_tensors(model, frame.drop(
        columns=frame.columns.intersection(GIVEN))), batch_size)


def _frame(x, y, sample_weight, verb) -> pd.DataFrame:
    """Returns the columns of what the user gave, with y as `label`."""
    if isinstance(x, Interactions):
        frame = x.frame
    elif isinstance(x, pd.DataFrame):
        frame = x.reset_index(drop=True)
    elif isinstance(x, Mapping):
        frame = _frame_of_dict(x, verb)
    else:
        raise TypeError(f"`{verb}` takes {KINDS}. Received: "
                        f"{type(x).__name__}. Name the columns: "
                        '`{"user_id": ..., "item_id": ..., "label": ...}`.')
    for name, given, argument in (("label", y, "y"), ("weight", sample_weight,
                                                      "sample_weight")):
        if given is None:
            continue
        if name in frame:
            raise ValueError(
                f"`{name}` must be given once. Received: the column `{name}` "
                f"and the argument `{argument}`. Leave one of them out.")
        given = np.asarray(given)
        given = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 \
            else given
        if given.shape != (len(frame),):
            raise ValueError(
                f"`{argument}` must hold one number a row. Received: "
                f"shape={given.shape} for {len(frame)} rows.")
        frame = frame.assign(**{name: given})
    if not len(frame):
        raise ValueError(f"`{verb}` needs at least one row. Received: none, "
                         f"of the columns {list(frame.columns)}.")
    return frame


def _frame_of_dict(columns, verb) -> pd.DataFrame:
    made = {}
    for name, values in columns.items():
        if isinstance(values, tf.RaggedTensor):
            values = values.to_list()
        elif isinstance(values, tf.Tensor):
            values = values.numpy()
        if _dimensions(values) == 0:
            raise ValueError(
                f"`{verb}` takes columns of several rows. Received: "
                f"{name}={values!r}. Write a list.")
        made[name] = pd.Series(
            list(values) if _dimensions(values) > 1 else values).reset_index(
                drop=True)
    lengths = {name: len(column) for name, column in made.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError("All columns must have the same number of rows. "
                         f"Received: {lengths}.")
    return pd.DataFrame(made)


def _dimensions(values) -> int:
    """Returns the dimensions of a column; lists of lists have two."""
    if isinstance(values, (list, tuple)):
        return 1 + any(isinstance(v, (list, tuple)) for v in values)
    return np.ndim(values)


def _tensors(model, frame) -> dict:
    """Returns the columns that the model reads, by name, for its towers."""
    towers = dict(zip(IDS, (model.query_tower, model.candidate_tower)))
    made = {name: tower.codes(_strings(frame[name], name)).numpy()
            for name, tower in towers.items()}
    for name in frame.columns.intersection(GIVEN):
        if name == "label":
            made[name] = _labels(model, frame[name])
        elif name == "weight":
            made[name] = _row_weights(frame[name])
        else:
            made[name] = frame[name].to_numpy(
                bool if name == "positive" else np.float32)
    odd = frame.columns.intersection(OF_A_BATCH)
    if len(odd):
        raise ValueError(batch_message(odd))
    categories = categories_of(model)
    readers = read_by(model.query_tower) | read_by(model.candidate_tower)
    for name in sorted(readers.intersection(frame.columns) - set(IDS)):
        column = frame[name]
        if name == "history":
            made[name] = _histories(column)
        elif name in categories:
            made[name] = tf.constant(categories[name].feature(
                column.map(_decoded), name))
        elif name.endswith("_labels"):
            made[name] = as_numbers(column).astype(np.float32)
        else:
            made[name] = tf.constant(_texts(column))
    return made


def _strings(column, name) -> np.ndarray:
    return as_ids(column.map(_decoded), name).to_numpy(object)


def _texts(column) -> np.ndarray:
    column = column.astype(object).map(_decoded)
    return column.where(column.notna(), "").astype(str).to_numpy(object)


def _decoded(value):
    return value.decode() if isinstance(value, bytes) else value


def _histories(column) -> tf.RaggedTensor:
    lists = [list(values) for values in column]
    flat = pd.Series([item for values in lists for item in values],
                     dtype=object).map(_decoded).infer_objects()
    return tf.RaggedTensor.from_row_lengths(
        tf.constant(as_ids(flat, "history").to_numpy(object), tf.string),
        np.array([len(values) for values in lists], np.int64))


def _labels(model, column) -> np.ndarray:
    label = as_numbers(column).astype(np.float32)
    task = model.task(Rating)
    low, high = (-np.inf, np.inf) if task is None else task.scale
    wrong = ~(np.isfinite(label) & (label >= low) & (label <= high))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"`label` must be a number from {low:g} to {high:g}. Received: "
            f"{int(wrong.sum())} others, the first is "
            f"label={column.tolist()[row]!r} in row {row}. Drop these rows, or "
            "give the model the scale of your labels.")
    return label


def _row_weights(column) -> np.ndarray:
    weight = as_numbers(column).astype(np.float32)
    if not (np.isfinite(weight) & (weight >= 0)).all() or not weight.any():
        raise ValueError(
            "`weight` must hold finite numbers from 0, not all of them 0. "
            f"Received: lowest={weight.min()}, highest={weight.max()}.")
    return weight


def _batches(columns, batch_size) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(columns).batch(
        batch_size or BATCH_SIZE)


def _same_tables(model, x) -> bool:
    return isinstance(x, Interactions) and all(
        list(ids) == list(tower.ids) for ids, tower in (
            (x.user_ids, model.query_tower),
            (x.item_ids, model.candidate_tower)))


def _interactions(model, x, frame) -> Interactions:
    """Returns the rows over the model's own ids, so with its codes."""
    task = model.task(Rating)
    scale = x.scale if isinstance(x, Interactions) else (
        None if task is None else task.scale)
    if scale is None:
        raise ValueError(
            "`fit` on a table needs the scale of its labels, which a "
            "`Rating` task has. Received: tasks="
            f"{model.task_names}. Pass `Interactions.from_frame(frame, "
            "scale=(low, high))`, or `pool.sequence()`.")
    tables = [pd.DataFrame(index=pd.Index(tower.ids, name=name, dtype=object))
              for name, tower in zip(IDS, (model.query_tower,
                                           model.candidate_tower))]
    names = [name for name in (*LABELLED, "timestamp", "weight", "list_id")
             if name in frame]
    frame = frame[names].assign(**{
        name: frame[name].map(_decoded) for name in IDS})
    try:
        return Interactions.from_frame(frame, *tables, scale=scale)
    except ValueError as error:
        raise ValueError(
            f"{error} `fit` on a table takes rows of the model's users and "
            "items only, each pair once. For other choices make "
            "`Interactions.from_frame(frame, users, items, ...)` and train on "
            "`Pool.from_interactions(...).sequence()`.") from error
