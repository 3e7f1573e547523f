"""RoundLines: one readable line for each round, and history.csv."""
from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import tf_keras

from tfrecal.files import write_bytes
from tfrecal.pool.run_files import history_text
from tfrecal.pool.run_folder import RunFolder


class RoundLines(tf_keras.callbacks.Callback):
    """Prints one readable line for each round and writes `history.csv`.

    Both hold metrics of the validation part; the column `part` of the file
    says so (see `run_folder.measured_part`). A row speaks of one moment:
    `rows` are the labels that the epoch trained on, `cost` is what they had
    cost, and the metrics are of the model that they made. What the round
    bought after it stands in `acquired` and `acquired_cost`.

    Args:
        folder: the run folder.
        pool: the `Pool` whose labels and cost are reported.
        first: epoch at which this `fit` starts; earlier rows of the file
            are kept.
        quiet: writes the file only.
    """

    columns = (("round", "epoch", "d"), ("labelled", "rows", ",.0f"),
               ("cost", "cost", ",.0f"), ("loss", "loss", ".3f"),
               ("val NDCG@10", "val_ndcg@10", ".4f"),
               ("val recall@10", "val_recall@10", ".4f"),
               ("val RMSE", "val_rmse", ".4f"),
               ("val AUC", "val_auc", ".4f"),
               ("train s", "train_seconds", ".1f"),
               ("acquire s", "acquire_seconds", ".2f"))

    def __init__(self, folder, pool, first: int = 0, quiet: bool = False):
        super().__init__()
        self.pool = pool
        self.path = Path(folder) / "history.csv"
        self.first = first
        self.quiet = quiet
        self.rows: list[dict] = []
        if first:
            self.rows = RunFolder(folder).history()[:first].to_dict("records")

    @property
    def history(self) -> pd.DataFrame:
        """The rows of `history.csv`, one for each epoch."""
        return pd.DataFrame(self.rows)

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()
        self._spent = self.pool.spent

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        logs = {"labelled": self.pool.counts["labelled"], **(logs or {}),
                "epoch": epoch, "cost": self._spent,
                "acquired_cost": self.pool.spent - self._spent}
        logs["train_seconds"] = seconds - sum(
            logs.get(f"{step}_seconds", 0) for step in (
                "acquire", "evaluate"))
        self.rows.append({name: _plain(value) for name, value
                          in logs.items()} | {"part": "validation"})
        write_bytes(self.path, history_text(self.rows))
        if not self.quiet:
            shown = [(title, format(logs[key], form))
                     for title, key, form in self.columns
                     if logs.get(key) == logs.get(key, np.nan)]
            widths = [max(len(title), len(text), 8) for title, text in shown]
            if epoch == self.first:
                print("  ".join(title.rjust(w) for (title, _), w
                                in zip(shown, widths)))
            print("  ".join(text.rjust(w) for (_, text), w
                            in zip(shown, widths)), flush=True)


def _plain(value):
    """Returns a number of Python.

    A float32 becomes the float64 that is written alike, as in `history.csv`.
    """
    if isinstance(value, np.float32):
        return float(str(value))
    return value.item() if isinstance(value, np.generic) else value
