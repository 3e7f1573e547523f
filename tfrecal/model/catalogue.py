"""Catalogue: the ids of a tower, with their texts and features, in a file.

A `.keras` file keeps it among its assets: nobody can read or compare a config
of a million nested lists.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from tfrecal.data.vocabulary import Vocabulary
from tfrecal.model.white_space import strip

_FILE = "catalogue.parquet"


def write(folder, tables: dict[str, dict]) -> None:
    """Writes columns into a folder, one file for each table.

    Args:
        folder: path of the folder, which is made.
        tables: name -> column -> list of strings, float32 `[n, width]`, or
            None for a column that is not there.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, columns in tables.items():
        arrays = {}
        for column, values in columns.items():
            if values is None:
                continue
            if isinstance(values, np.ndarray):
                arrays[column] = pa.FixedSizeListArray.from_arrays(
                    pa.array(values.reshape(-1)), values.shape[1])
            else:
                # Keras wraps lists in a class that pyarrow finds empty.
                arrays[column] = pa.array(list(values), pa.large_string())
        pq.write_table(pa.table(arrays), Path(folder) / f"{name}.{_FILE}")


def read(folder, name: str) -> dict | None:
    """Returns the columns of a table that `write` wrote, or None."""
    path = Path(folder) / f"{name}.{_FILE}"
    if not path.is_file():
        return None
    found = {}
    table = pq.read_table(path)
    for column in table.column_names:
        values = table.column(column)
        if pa.types.is_fixed_size_list(values.type):
            found[column] = values.combine_chunks().flatten().to_numpy(
                zero_copy_only=False).reshape(-1, values.type.list_size)
        else:
            found[column] = values.to_pylist()
    return found


def lookup(ids) -> tf.lookup.StaticHashTable:
    """Returns a table from strings to int32 codes; 0 for unknown ids.

    Args:
        ids: ids in the order of their `Vocabulary`.
    """
    ids = [str(one) for one in ids]
    codes = Vocabulary(ids).codes(ids)
    # A table cannot be empty.
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant(ids or [""]),
        tf.constant(codes if ids else [0], tf.int32)), 0)


def codes_in(table: tf.lookup.StaticHashTable, ids) -> tf.Tensor:
    """Returns int32 codes of strings by a table that `lookup` made.

    White space around an id is cut, and "7.0" is "7", as in
    `data.columns.clean_id`.
    """
    return table.lookup(tf.strings.regex_replace(
        strip(ids), r"^(-?[0-9]+)\.0+$", r"\1"))
