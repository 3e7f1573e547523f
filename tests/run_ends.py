"""What a run has come to, to compare it with another one."""
from __future__ import annotations

import pandas as pd
import tensorflow as tf

from tfrecal.pool.run_folder import RunFolder

SECONDS = ["train_seconds", "acquire_seconds", "evaluate_seconds"]


def end(folder):
    """What a run has come to: history, acquisitions, weights."""
    state = RunFolder(folder).state
    weights = tf.train.load_checkpoint(
        str(folder / "weights" / state["checkpoint"]))
    return (pd.read_csv(folder / "history.csv", dtype=str).drop(
                columns=SECONDS),
            pd.read_parquet(folder / "acquisitions.parquet"),
            {name: weights.get_tensor(name)
             for name in weights.get_variable_to_shape_map()
             if "OBJECT_GRAPH" not in name and "save_counter" not in name})
