"""What a model reads of a batch, and the checks of columns."""
from __future__ import annotations

import tensorflow as tf

from tfrecal.model.tasks import Rating, Retrieval
from tfrecal.pool.positives import default_positive

# Default rows of a training step. In-batch softmax needs many of them.
BATCH_SIZE = 1024
IDS = ("user_id", "item_id")
LABELLED = (*IDS, "label")
GIVEN = ("label", "weight", "positive", "log_q")
OF_A_BATCH = ("history_row", "history_skip", "window", "window_row",
              "window_place", "negative_id", "place", "own", "all")
KINDS = ("a DataFrame, a dict of columns, `Interactions`, a batched "
         "`tf.data.Dataset` of dicts or of (dict, label), or "
         "`pool.sequence()`")


def read_by(tower) -> frozenset:
    """Returns the names of the features that a tower reads of a batch."""
    categories = getattr(tower, "categories", None)
    return frozenset(tower.inputs_read).union(
        categories.columns if categories is not None else ())


def categories_of(model) -> dict:
    """Returns the categorical columns of both towers, with their `MultiHot`.
    """
    return {name: tower.categories
            for tower in (model.query_tower, model.candidate_tower)
            if getattr(tower, "categories", None) is not None
            for name in tower.categories.columns}


def reads_log_q(model) -> bool:
    """Returns whether a task reads the shares of items in the traffic."""
    return any(isinstance(task, Retrieval) and task.log_q is not None
               for task in model.tasks)


def positives(model, label) -> tf.Tensor:
    """Returns which rows are positives, by the scale of the rating task.

    Args:
        model: a `TwoTower`.
        label: float32 `[B]`.

    Raises:
        ValueError: the model has no rating task.
    """
    task = model.task(Rating)
    if task is None:
        raise ValueError(
            "A batch must say which rows are positives, or a `Rating` task "
            "must give the scale of the labels. Received: no column "
            f"`positive`, and tasks={model.task_names}. Add the column "
            "(bool), or train on `pool.sequence()`, which has it.")
    return label >= default_positive(task.scale)


def check_columns(names, needed, verb) -> None:
    """Raises ValueError where needed columns are missing."""
    names = [str(name) for name in getattr(names, "columns", names)]
    missing = [name for name in needed if name not in names]
    if missing:
        raise ValueError(
            f"`{verb}` needs the columns {list(needed)}. Received: columns="
            f"{names}, without {missing}. Rename yours, for example "
            f'`frame.rename(columns={{"userId": "{missing[0]}"}})`'
            + (", or pass the labels as `y`." if missing == ["label"]
               else "."))


def batch_message(odd) -> str:
    """Returns the error for columns that only the pool's batches have."""
    return (
        "A table or data set holds ids, and the batches of a `PoolSequence` "
        f"hold codes. Received: columns={list(odd)} of such a batch. Pass "
        "`pool.sequence()` itself, which also grows with the pool.")
