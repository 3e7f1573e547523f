"""Histories: the positive items of each user, oldest first."""
from __future__ import annotations

import numpy as np
import tensorflow as tf


def ragged_histories(indptr, items, user,
                     max_history: int) -> tf.RaggedTensor:
    """Returns the last positives of each user.

    Args:
        indptr, items: as `Pool.histories` returns them.
        user: codes `[B]`.
        max_history: most items of a row.

    Returns:
        int32 RaggedTensor `[B, None]` of item codes.
    """
    stop = indptr[user + 1]
    start = np.maximum(indptr[user], stop - max_history)
    length = stop - start
    row = np.repeat(np.arange(len(user)), length)
    splits = np.concatenate([[0], np.cumsum(length)])
    values = items[np.arange(len(row)) + np.repeat(start - splits[:-1],
                                                   length)]
    return tf.RaggedTensor.from_row_splits(
        values.astype(np.int32), splits, validate=False)


def pairs_in_histories(indptr, items, max_history: int):
    """Returns `(user, item)` codes of all pairs in `ragged_histories`.

    Args:
        indptr, items, max_history: see there.
    """
    user = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    last = np.arange(len(items)) >= indptr[user + 1] - max_history
    return user[last], items[last]
