"""Windows: the items that a user liked before each row, in their order."""
from __future__ import annotations

import numpy as np
import tensorflow as tf


class Windows:
    """Pieces of histories that many rows share.

    A row may learn from what its user liked before it, never from its own
    item and from younger ones. A causal transformer reads a piece of a
    history once and answers for all places in it, so rows do not have pieces
    of their own: the first one of a user holds the oldest `width` items, and
    the following ones begin half a width later each. So a row sees all items
    before it, or more than half of `width`.

    Args:
        pool: a `Pool`.
        width: most items of a piece, at least 1.

    Attributes:
        of_rows: number of each row's piece, int64 `[len(pool)]`.
        places: number of items of the piece that come before the row.
    """

    def __init__(self, pool, width: int):
        self._indptr, self._items = pool.histories()
        rows = pool.by_user_and_time(np.arange(len(pool)))
        labelled = np.isin(rows, pool.labelled_rows())
        liked = labelled & (pool.label[rows] >= pool.positive)
        before = np.empty(len(pool), np.int64)
        before[rows] = np.cumsum(liked) - liked
        before -= self._indptr[pool.user]
        step = max(1, width // 2)
        piece = np.maximum(0, -(-(before - width) // step))
        self.places = before - piece * step
        most = 1 + piece.max(initial=0)
        keys, self.of_rows = np.unique(
            pool.user * most + piece, return_inverse=True)
        user, piece = np.divmod(keys, most)
        self._start = self._indptr[user] + piece * step
        self._length = np.zeros(len(keys), np.int64)
        np.maximum.at(self._length, self.of_rows, self.places)

    def features(self, rows) -> dict:
        """Returns what a tower reads of rows.

        Args:
            rows: rows of the pool, int64 `[B]`.

        Returns:
            A dict with `window`, codes of the items of the distinct pieces,
            ragged int32 `[W, None]`, and, int32 `[B]`, `window_row`, the
            place of each row's piece among them, and `window_place`, the
            number of its items that come before the row.
        """
        pieces, place = np.unique(self.of_rows[rows], return_inverse=True)
        length = self._length[pieces]
        splits = np.concatenate([[0], np.cumsum(length)])
        values = self._items[np.arange(splits[-1]) + np.repeat(
            self._start[pieces] - splits[:-1], length)]
        return {"window": tf.RaggedTensor.from_row_splits(
            values.astype(np.int32), splits, validate=False),
            "window_row": place.astype(np.int32),
            "window_place": self.places[rows].astype(np.int32)}
