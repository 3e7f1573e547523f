"""Shares of items in a log that no pool holds."""
from __future__ import annotations

import numpy as np

from tfrecal.model.inputs.features import positives
from tfrecal.pool.positives import log_shares


class Traffic:
    """Counts the rows and the positives of each item.

    Args:
        model: a `TwoTower`.
    """

    def __init__(self, model):
        self._model = model
        self._rows, self._positives = np.zeros(
            [2, len(model.candidate_tower.ids) + 1])

    def add(self, columns) -> "Traffic":
        """Counts the rows of a batch."""
        good = columns.get("positive")
        if good is None:
            good = positives(self._model, np.asarray(columns["label"]))
        item = np.asarray(columns["item_id"])
        for total, codes in ((self._rows, item),
                             (self._positives, item[np.asarray(good)])):
            total += np.bincount(codes, minlength=len(total))
        return self

    def add_all(self, data) -> "Traffic":
        """Counts the rows of a data set."""
        names = [name for name in ("item_id", "label", "positive")
                 if name in data.element_spec]
        for batch in data.map(lambda batch: {
                name: batch[name] for name in names}).as_numpy_iterator():
            self.add(batch)
        return self

    def log_q(self) -> np.ndarray:
        """Returns log shares as `Pool.natural_log_q`, float32 `[items + 1]`."""
        return log_shares(self._rows, self._rows, self._positives)
