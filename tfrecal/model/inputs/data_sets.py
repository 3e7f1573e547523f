"""Data sets of `tf.data`: of dicts, or of (dict, label, weight)."""
from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from tfrecal.model.inputs.features import (
    GIVEN,
    IDS,
    KINDS,
    OF_A_BATCH,
    batch_message,
    check_columns,
    read_by,
    reads_log_q,
)
from tfrecal.model.inputs.traffic import Traffic


def coded(model, source, verb, needed) -> tf.data.Dataset:
    """Returns a data set of dicts, with codes and what the tasks read.

    Args:
        model: a `TwoTower`.
        source: a data set of dicts or of (dict, label, weight).
        verb: what reads it, such as `"fit"`.
        needed: names of the columns that it must have.
    """
    spec = source.element_spec
    elements = spec if isinstance(spec, tuple) else (spec,)
    if not isinstance(elements[0], Mapping) or len(elements) > 3:
        raise TypeError(
            f"`{verb}` takes {KINDS}. Received: a data set of {spec}. "
            'Name the columns: `Dataset.from_tensor_slices({"user_id": ..., '
            '"item_id": ..., "label": ...}).batch(1024)`.')
    spec = _one_dict(*elements)
    check_columns(spec, needed, verb)
    _check_spec(spec, verb)
    data = source.map(
        lambda *elements: _with_codes(model, _one_dict(*elements), verb),
        num_parallel_calls=1)
    if verb == "predict" or "log_q" in spec or not reads_log_q(model):
        return data
    if source.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            "The `Retrieval` task reads the share of each item in the "
            f"traffic, which `{verb}` counts in one pass over the data set. "
            "Received: a data set without end and without a column `log_q`. "
            "Add the column, call `.repeat` with a number, or use "
            "`Retrieval(log_q=None)`.")
    table = tf.constant(Traffic(model).add_all(data).log_q())
    return data.map(lambda batch: {
        **batch, "log_q": tf.gather(table, batch["item_id"])})


def _one_dict(features, label=None, weight=None) -> dict:
    found = dict(features)
    for name, value in (("label", label), ("weight", weight)):
        if value is not None:
            found[name] = value
    return found


def _check_spec(spec, verb) -> None:
    odd = [name for name in OF_A_BATCH if name in spec]
    if odd:
        raise ValueError(batch_message(odd))
    for name in IDS:
        kind = spec[name]
        if not (kind.dtype == tf.string or kind.dtype.is_integer):
            raise ValueError(
                f"`{name}` must hold strings or whole numbers. Received: "
                f"dtype={kind.dtype.name}. Convert the column before "
                f"`{verb}`.")
    for name in {*IDS, *GIVEN}.intersection(spec):
        if spec[name].shape.rank not in (None, 1):
            raise ValueError(
                f"A data set must give batches, with `{name}` as one "
                f"dimension. Received: shape={spec[name].shape}. Call "
                "`.batch(1024)` on single rows; reshape columns of width 1.")


def _with_codes(model, columns, verb) -> dict:
    towers = dict(zip(IDS, (model.query_tower, model.candidate_tower)))
    keep = read_by(model.query_tower) | read_by(model.candidate_tower)
    if verb != "predict":
        keep = keep.union(GIVEN)
    made = {name: value for name, value in columns.items() if name in keep}
    for name, tower in towers.items():
        made[name] = tower.codes(_as_strings(made[name]))
    if "history" in made:
        history = made["history"]
        made["history"] = tf.ragged.map_flat_values(
            _as_strings, history) if isinstance(
                history, tf.RaggedTensor) else _padded(history)
    for name in ("label", "weight", "log_q"):
        if name in made:
            made[name] = tf.cast(made[name], tf.float32)
    if "positive" in made:
        made["positive"] = tf.cast(made["positive"], tf.bool)
    return made


def _as_strings(ids):
    return ids if ids.dtype == tf.string else tf.strings.as_string(ids)


def _padded(history):
    """Returns padded histories as strings; 0 and "" are padding."""
    if history.dtype == tf.string:
        return history
    return tf.where(history == 0, "", tf.strings.as_string(history))
