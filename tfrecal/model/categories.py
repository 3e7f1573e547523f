"""Categorical and numeric columns as multi-hot features."""
from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

from tfrecal.data import cells
from tfrecal.model.white_space import strip


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class MultiHot(tf_keras.layers.Layer):
    """Turns columns of a table into one matrix of 0/1 features.

    Strings are split at `separator` ("Action|Comedy" sets two features);
    lists, tuples, sets and arrays in a cell are such strings. White space
    around values is cut. Numbers, also `Decimal`, fall into quantile bins, and
    truth values into two. Values that the table did not hold, missing and
    infinite ones set nothing. See `data.cells`.

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
                oov_token=_no_value_of(values), output_mode="int")
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
            ValueError: a named column is not in the table, a column is there
                twice, or a cell is nothing that a cell can be.
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
            column = table[name]
            cells.check_column(column, name)
            if not named and _is_vectors(column):
                continue
            if cells.is_numeric(column):
                borders = _borders(column, name, bins)
                if borders:
                    found[name] = borders
                continue
            try:
                texts = pd.Series(cells.cell_texts(column, name, separator))
            except ValueError:
                if named:
                    raise
                continue  # a column of other things, such as dicts
            texts = texts.str.split(separator, regex=False).explode()
            texts = texts.str.strip()
            texts = texts[texts != ""]
            values = sorted(set(texts))
            if values and (named or (
                    len(values) <= most and len(texts) >= 2 * len(values))):
                found[name] = values
        return cls(found, separator)

    def table(self, table: pd.DataFrame) -> np.ndarray:
        """Returns the features of every row of a table.

        Args:
            table: a users or items table with these columns.

        Returns:
            float32 `[rows + 1, width]`; row 0 is zero.

        Raises:
            ValueError: a column is missing, or see `feature`.
        """
        missing = [name for name in self.columns if name not in table]
        if missing:
            raise ValueError(
                "A table must have the columns that the model reads. "
                f"Received: {[str(name) for name in table.columns]}, without "
                f"{missing}. Add them; cells may be empty.")
        features = {name: self.feature(table[name], name)
                    for name in self.columns}
        found = self(features).numpy() if self.columns else np.zeros(
            (len(table), 0), np.float32)
        return np.pad(found, ((1, 0), (0, 0)))

    def feature(self, column: pd.Series, name: str) -> np.ndarray:
        """Returns a column as `call` takes it.

        Args:
            column: a column of a table, of any type.
            name: its name, one of `columns`.

        Returns:
            Strings, or float32 with NaN where missing, `[n]`.

        Raises:
            ValueError: a cell is no number where numbers are read, or
                nothing that a cell can be.
        """
        cells.check_column(column, name)
        if self._numeric(name):
            return _as_float32(cells.numbers_of(column, name))
        return cells.cell_texts(column, name, self.separator)

    def call(self, features: dict) -> tf.Tensor:
        """Returns multi-hot features; absent columns set nothing.

        Args:
            features: column name -> strings `[B]`, or numbers `[B]` (NaN or
                infinity where missing).

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
                values = tf.strings.split(
                    _as_strings(features[name], name), self.separator)
                values = tf.ragged.map_flat_values(strip, values)
                index = tf.ragged.map_flat_values(self._lookups[name], values)
                hot = tf.math.unsorted_segment_max(
                    tf.one_hot(index.flat_values - 1, width),
                    index.value_rowids(), tf.cast(rows, tf.int64))
                found.append(tf.maximum(hot, 0.0))
        return tf.concat(found, axis=1)

    def get_config(self):
        return {**super().get_config(), "columns": self.columns,
                "separator": self.separator}


def _no_value_of(values) -> str:
    """Returns a token for unknown values that is none of the values."""
    token = "[UNK]"
    while token in values:
        token += "]"
    return token


def _as_strings(values, name) -> tf.Tensor:
    """Returns strings of strings, whole numbers or truth values."""
    values = tf.convert_to_tensor(values)
    if values.dtype.is_bool:
        return tf.where(values, "True", "False")
    if values.dtype.is_integer:
        return tf.strings.as_string(values)
    if values.dtype != tf.string:
        raise ValueError(
            f"`{name}` must hold strings or whole numbers, because its values "
            f"were texts in the table. Received: {values.dtype.name}. Convert "
            "it first.")
    return values


def _borders(column, name, bins) -> list[float]:
    """Returns the borders of the bins of a column of numbers."""
    values = cells.numbers_of(column, name)
    # `call` takes what is infinite in float32 as missing.
    values = values[np.isfinite(_as_float32(values))]
    if not len(values):
        return []
    borders = np.quantile(values, np.linspace(0, 1, bins + 1))
    borders = [float(value) for value in np.unique(borders[1:-1])]
    if pd.api.types.is_bool_dtype(column.dtype) and 1.0 not in borders:
        return [1.0]  # rare truth has a bin of its own
    return borders


def _is_vectors(column) -> bool:
    """Returns whether cells are arrays of floats, such as embeddings."""
    first = next(iter(column.iloc[:1000].dropna()), None)
    return isinstance(first, np.ndarray) and first.dtype.kind == "f"


def _as_float32(values: np.ndarray) -> np.ndarray:
    """Returns float32; infinity for what is too large."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
