"""Categorical and numeric columns as multi-hot features."""
from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class MultiHot(tf_keras.layers.Layer):
    """Turns columns of a table into one matrix of 0/1 features.

    Strings are split at `separator` ("Action|Comedy" sets two features),
    numbers fall into quantile bins. Values that the table did not hold, and
    missing ones, set nothing.

    Args:
        columns: column name -> its values (list of strings) or its bin
            borders (list of floats), as `MultiHot.adapt` finds them.
        separator: between the values of one cell.
    """

    def __init__(self, columns: dict[str, list], separator: str = "|",
                 **kwargs):
        super().__init__(**kwargs)
        self.columns = {name: list(v) for name, v in columns.items()}
        self.separator = separator
        self._lookups = {
            name: tf_keras.layers.StringLookup(
                vocabulary=values, num_oov_indices=1,
                output_mode="int")
            for name, values in self.columns.items()
            if not self._numeric(name)}

    def _numeric(self, name: str) -> bool:
        values = self.columns[name]
        return bool(values) and isinstance(values[0], float)

    def width_of(self, name: str) -> int:
        """Returns the number of features of one column."""
        return len(self.columns[name]) + self._numeric(name)

    @property
    def width(self) -> int:
        """Number of features of all columns."""
        return sum(map(self.width_of, self.columns))

    @classmethod
    def adapt(cls, table: pd.DataFrame, columns=None, separator: str = "|",
              bins: int = 10, most: int = 500) -> "MultiHot":
        """Finds values and bins in a table.

        Args:
            table: a users or items table.
            columns: which columns; by default every numeric column and
                every column of strings with at most `most` distinct values,
                each of them used twice on average.
            separator: between the values of one cell.
            bins: quantile bins of a numeric column.
            most: columns with more distinct values are no categories.

        Raises:
            ValueError: a named column is not in the table.
        """
        named = columns is not None
        columns = list(table.columns) if columns is None else list(columns)
        missing = [name for name in columns if name not in table.columns]
        if missing:
            raise ValueError(
                "Categorical columns must be in the table. Received: "
                f"columns={missing}; the table has {list(table.columns)}.")
        found = {}
        for name in columns:
            column = table[name].dropna()
            if pd.api.types.is_numeric_dtype(column):
                values = column.to_numpy(np.float64)
                if not len(values):
                    continue
                borders = np.quantile(values, np.linspace(0, 1, bins + 1))
                found[name] = [float(v) for v in np.unique(borders[1:-1])]
                continue
            cells = column.astype(str).str.split(separator, regex=False)
            cells = cells.explode().str.strip()
            values = sorted(set(cells) - {""})
            if values and (named or (
                    len(values) <= most and len(cells) >= 2 * len(values))):
                found[name] = values
        return cls(found, separator)

    def table(self, table: pd.DataFrame) -> np.ndarray:
        """Returns the features of every row of a table.

        Args:
            table: a users or items table with these columns.

        Returns:
            float32 `[rows + 1, width]`; row 0 is zero.
        """
        features = {}
        for name in self.columns:
            column = table[name]
            features[name] = (
                column.to_numpy(np.float32, na_value=np.nan)
                if self._numeric(name)
                else column.fillna("").astype(str).to_numpy(object))
        found = self(features).numpy() if self.columns else np.zeros(
            (len(table), 0), np.float32)
        return np.pad(found, ((1, 0), (0, 0)))

    def call(self, features: dict) -> tf.Tensor:
        """Returns multi-hot features; absent columns set nothing.

        Args:
            features: column name -> strings `[B]`, or numbers `[B]` (NaN
                where missing).

        Returns:
            float32 `[B, width]`.
        """
        rows = next(tf.shape(v)[0] for k, v in features.items()
                    if k in self.columns)
        found = []
        for name in self.columns:
            width = self.width_of(name)
            if name not in features:
                found.append(tf.zeros([rows, width]))
            elif self._numeric(name):
                value = tf.cast(features[name], tf.float32)
                bin_ = tf.searchsorted(
                    tf.constant(self.columns[name]), value, side="right")
                hot = tf.one_hot(bin_, width)
                known = tf.math.is_finite(value)[:, tf.newaxis]
                found.append(tf.where(known, hot, 0.0))
            else:
                cells = tf.strings.split(
                    features[name], self.separator)
                cells = tf.ragged.map_flat_values(tf.strings.strip, cells)
                index = tf.ragged.map_flat_values(self._lookups[name], cells)
                hot = tf.math.unsorted_segment_max(
                    tf.one_hot(index.flat_values - 1, width),
                    index.value_rowids(), tf.cast(rows, tf.int64))
                found.append(tf.maximum(hot, 0.0))
        return tf.concat(found, axis=1)

    def get_config(self):
        return {**super().get_config(), "columns": self.columns,
                "separator": self.separator}
