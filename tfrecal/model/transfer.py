"""transfer: copies what a model has learned into one over grown tables."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import tensorflow as tf

from tfrecal.data.vocabulary import Vocabulary
from tfrecal.model.sequence_tower import SequenceQueryTower
from tfrecal.model.tasks import Rating
from tfrecal.model.two_tower import TwoTower


@dataclass(frozen=True)
class Joined:
    """Numbers of ids of one side: in both models, new, and gone."""

    kept: int
    new: int
    left: int


@dataclass(frozen=True)
class Transferred:
    """What `transfer` found."""

    users: Joined
    items: Joined


def transfer(old: TwoTower, new: TwoTower) -> Transferred:
    """Copies what `old` has learned into `new`, id by id.

    Rows of ids, biases, histories and warmth are copied by id, and rows of
    category kernels by column and value. The rest is copied as a whole: text
    and search kernels with the centre and norm that they were trained for,
    trained encoder layers, the transformer of a `SequenceQueryTower`, the
    rating offset, the step of dropout. Ids and
    values that only `new` has keep their fresh rows: such an id is cold, its
    vector comes from its columns and its text, and it adds nothing to a
    history. Rows that only `old` has are not copied: no row of a user who was
    erased gets into `new`. (The rows of others were trained together with it;
    only training from zero forgets that.)

    A numeric column's bins are quantiles and may move as its table grows.
    A bin then gets the mean kernel of the bins that its known rows were in,
    and predictions change a little.

    The optimizer starts fresh: its moments belong to rows by position, which
    has changed, and to gradients of a training that has ended. Compile `new`
    like any model.

    Args:
        old: a trained model; it is not changed.
        new: a model of `TwoTower.from_interactions` over the grown tables,
            with the options of `old`. Name the columns (`query_columns`,
            `candidate_columns`): the default may choose others for a larger
            table. A tuned encoder must not be the same object as in `old`.

    Returns:
        How many ids were kept, are new and have left, on each side.

    Raises:
        ValueError: the two models do not fit.

    Example:
        new = TwoTower.from_interactions(grown, encoder=another)
        print(transfer(model, new).items)
        new.compile()
    """
    wrong = _differences(old, new)
    if wrong:
        raise ValueError(
            "`new` must be made with the options of `old`, from grown "
            f"tables. Received: {'; '.join(wrong)}.")
    _copy_encoders(old, new)
    users = _copy_tower(old.query_tower, new.query_tower)
    items = _copy_tower(old.candidate_tower, new.candidate_tower)
    before, after = old.query_tower, new.query_tower
    # A fresh row would add noise to the queries of those who liked it.
    after.history_table.assign(tf.zeros_like(after.history_table))
    _copy_rows(before.history_table, after.history_table,
               *_places(before.item_ids, after.item_ids))
    if isinstance(before, SequenceQueryTower):
        for weight, source in zip(after.sequence_weights(),
                                  before.sequence_weights()):
            weight.assign(source)
    if before.encoder is not None:
        after.search_kernel.assign(before.search_kernel)
    if old.task(Rating) is not None:
        new.task(Rating).offset.assign(old.task(Rating).offset)
    return Transferred(users, items)


def _differences(old, new) -> list[str]:
    """Returns the differences that forbid to copy rows, in words."""
    wrong = []

    def compare(name, before, after):
        if before != after:
            wrong.append(f"{name} {before!r} in `old`, {after!r} in `new`")

    for side in ("query_tower", "candidate_tower"):
        before, after = getattr(old, side), getattr(new, side)
        for name in ("embedding_dim", "category_scale", "text_scale",
                     "window", "layers", "heads"):
            compare(f"{side}.{name}", getattr(before, name, None),
                    getattr(after, name, None))
        compare(f"columns of {side}", _columns(before), _columns(after))
        compare(f"texts of {side}", before.texts is not None,
                after.texts is not None)
        compare(f"encoder of {side}", *map(_encoder_options, (before, after)))
        if (before.encoder is not None and before.encoder is after.encoder
                and before.encoder.tuning != "frozen"):
            wrong.append(
                f"one tuned encoder in both models' {side}, so that training "
                "`new` would change `old`; make a second `TextEncoder`")
    compare("rating task", *(
        task and (task.loss, task.scale, task.block)
        for task in (old.task(Rating), new.task(Rating))))
    return wrong


def _columns(tower) -> dict:
    """Returns a dict from columns to their kinds; the order may differ."""
    if tower.categories is None:
        return {}
    return {name: "numeric" if tower.categories._numeric(name) else "values"
            for name in sorted(tower.categories.columns)}


def _encoder_options(tower) -> dict | None:
    if tower.encoder is None:
        return None
    config = tower.encoder.get_config()
    names = ["pooling", "tuning", "max_length", "precision"]
    if config["tuning"] == "top_n":
        names.append("top_n")
    if config["tuning"] == "lora":
        names += ["rank", "alpha", "projections"]
    # The weights as loaded, from any folder.
    return {"checkpoint": tower.encoder.fingerprint[:12],
            **{name: config[name] for name in names}}


def _copy_encoders(old, new) -> None:
    """Copies trained layers; the others are those of the checkpoint."""
    pairs = {id(after.encoder): (before.encoder, after.encoder)
             for before, after in ((old.query_tower, new.query_tower),
                                   (old.candidate_tower, new.candidate_tower))
             if after.encoder is not None}
    for before, after in pairs.values():
        if before.tuning != "frozen":
            for weight, source in zip(after.weights, before.weights):
                weight.assign(source)


def _copy_tower(old, new) -> Joined:
    source, place = _places(old.ids, new.ids)
    for name in ("id_table", "bias_table", "warm"):
        _copy_rows(getattr(old, name), getattr(new, name), source, place)
    new.step.assign(old.step)
    if old.categories is not None:
        new.category_kernel.assign(
            _grown_kernel(old, new, source, place))
    if old.encoder is not None:
        for name in ("text_kernel", "text_centre", "text_norm"):
            getattr(new, name).assign(getattr(old, name))
    kept = len(source)
    return Joined(kept, len(new.ids) - kept, len(old.ids) - kept)


def _places(old_ids, new_ids):
    """Returns old and new codes of the ids that both have."""
    codes = Vocabulary(old_ids).codes_of(Vocabulary(new_ids))
    place = np.flatnonzero(codes)
    return codes[place], place


def _copy_rows(old, new, source, place) -> None:
    new.scatter_update(tf.IndexedSlices(tf.gather(old, source), place))


def _grown_kernel(old, new, source, place) -> np.ndarray:
    """Returns the new kernel with the rows that the old one has."""
    kernel = new.category_kernel.numpy()
    known = old.category_kernel.numpy()
    old_rows_of, new_rows_of = (_rows_by_column(tower.categories)
                                for tower in (old, new))
    for name, own in new_rows_of.items():
        before = old.categories.columns[name]
        after = new.categories.columns[name]
        rows, old_rows = kernel[own], known[old_rows_of[name]]
        if before == after:
            rows[:] = old_rows
        elif new.categories._numeric(name):
            shared = (new._rows.numpy()[place, own].T.astype(np.float64)
                      @ old._rows.numpy()[source, old_rows_of[name]])
            # A bin without known rows gets the old bin in which it starts.
            empty = np.flatnonzero(~shared.any(axis=1))
            start = np.r_[-np.inf, after][empty]
            shared[empty, np.searchsorted(before, start, side="right")] = 1
            rows[:] = shared / shared.sum(axis=1, keepdims=True) @ old_rows
        else:
            found = pd.Index(before).get_indexer(after)
            rows[found >= 0] = old_rows[found[found >= 0]]
    return kernel


def _rows_by_column(categories) -> dict[str, slice]:
    """Returns a dict from columns to their rows of the kernel."""
    ends = np.cumsum([categories.width_of(n) for n in categories.columns])
    starts = np.r_[0, ends[:-1]]
    return {name: slice(start, end) for name, start, end in zip(
        categories.columns, starts.tolist(), ends.tolist())}
