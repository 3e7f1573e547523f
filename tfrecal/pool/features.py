"""PoolFeatures: the ids, columns and histories that towers read."""
from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf

from tfrecal.pool.histories import ragged_histories

IDS = ("codes", "strings")
# What a batch of training holds beside features, see `PoolSequence`.
_OF_ROWS = ("user_id", "item_id", "label", "weight", "positive", "log_q",
            "list_id")


class PoolFeatures:
    """Gives the features of a pool's users and items, by code.

    Training (`pool.sequence`), scoring and export read features here and
    nowhere else, so that a tower sees the same in all three.

    Args:
        pool: a `Pool`; columns come from its tables, histories from its
            labelled rows.
        ids: `"codes"` gives codes, int32 (0 for unknown); `"strings"` gives
            the ids themselves.
        query: names of the features of queries: `user_id`, `history` (the
            items that the user liked, ragged `[B, None]`) and columns of
            the users table.
        candidate: names of the features of candidates: `item_id` and
            columns of the items table.
        max_history: most items of a history; the last ones are kept.

    Raises:
        ValueError: a name is no column, or `ids` is another word.
    """

    def __init__(self, pool, ids: str = "strings", query=("user_id",),
                 candidate=("item_id",), max_history: int = 200):
        if ids not in IDS:
            raise ValueError("`ids` must be 'codes' or 'strings'. Received: "
                             f"ids={ids!r}.")
        self.pool = pool
        self.ids = ids
        self.max_history = max_history
        self.names = {"query": tuple(query), "candidate": tuple(candidate)}
        self._columns = {}
        for side, own, table, more in (
                ("query", "user_id", pool.user_table, ("history",)),
                ("candidate", "item_id", pool.item_table, ())):
            for name in self.names[side]:
                if name == own or name in more:
                    continue
                if name in _OF_ROWS and name in table.columns:
                    raise ValueError(
                        f"`{side}_features` may not name a column that is "
                        "called as something of the row itself "
                        f"({', '.join(_OF_ROWS)}). Received: {name!r}. "
                        "Rename the column.")
                if name not in table.columns:
                    raise ValueError(
                        f"`{side}_features` may name {own}, "
                        + "".join(f"{other}, " for other in more)
                        + f"and columns of the {own[:-3]}s table "
                        f"({', '.join(map(str, table.columns)) or 'none'}). "
                        f"Received: {name!r}.")
                self._columns[side, name] = column_values(table[name])

    def __call__(self, side: str, codes, histories=None, skip=None) -> dict:
        """Returns the features of users or items.

        Args:
            side: `"query"` or `"candidate"`.
            codes: int32 `[B]`; from 1 where `ids` are strings.
            histories: what `pool.histories()` returned; by default it is
                called now.
            skip: code of an item to leave out of each history, `[B]`, 0 for
                none: a row of training leaves out its own item.

        Returns:
            A dict from names to arrays or tensors `[B]`; `history` is
            ragged, `[B, None]`.
        """
        found = {}
        for name in self.names[side]:
            if name == "history":
                found[name] = self._history(codes, histories, skip)
            elif (side, name) in self._columns:
                found[name] = self._columns[side, name][codes - 1]
            elif self.ids == "codes":
                found[name] = codes
            else:
                vocabulary = (self.pool.user_vocabulary if side == "query"
                              else self.pool.item_vocabulary)
                found[name] = vocabulary.ids(codes)
        return found

    def _history(self, codes, histories, skip):
        ragged = ragged_histories(
            *(histories or self.pool.histories()), codes, self.max_history)
        if skip is not None:
            ragged = tf.ragged.boolean_mask(ragged, ragged.with_flat_values(
                ragged.flat_values != tf.gather(
                    skip, ragged.value_rowids())))
        if self.ids == "codes":
            return ragged
        ids = self.pool.item_vocabulary.ids(ragged.flat_values.numpy())
        return ragged.with_flat_values(tf.constant(
            ids, tf.string, shape=ids.shape))

    def specs(self, side: str) -> dict:
        """Returns the `tf.TypeSpec` of each feature, for any number of rows.

        Args:
            side: `"query"` or `"candidate"`.
        """
        found = {}
        kind = tf.int32 if self.ids == "codes" else tf.string
        for name in self.names[side]:
            if name == "history":
                found[name] = tf.RaggedTensorSpec([None, None], kind)
            elif (side, name) in self._columns:
                values = self._columns[side, name]
                found[name] = tf.TensorSpec([None], (
                    tf.string if values.dtype == object else values.dtype))
            else:
                found[name] = tf.TensorSpec([None], kind)
        return found


def column_values(column: pd.Series) -> np.ndarray:
    """Returns a column of a table as towers read it.

    Returns:
        float32 `[rows]` for numbers (NaN where missing), int64 for whole
        numbers without a missing one, else texts (object, "" where missing).
    """
    if pd.api.types.is_bool_dtype(column.dtype):
        column = column.astype("float32")
    if pd.api.types.is_integer_dtype(column.dtype) and (
            not column.isna().any()):
        return column.to_numpy(np.int64)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(np.float32, na_value=np.nan)
    texts = column.astype(object).where(column.notna(), "")
    return texts.astype(str).to_numpy(object)
