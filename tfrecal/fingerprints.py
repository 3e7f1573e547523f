"""SHA-256 of tables: the same on every machine and pandas version."""
from __future__ import annotations

import numpy as np
import pandas as pd


def update_texts(digest, texts) -> None:
    """Adds texts to a digest; their borders count."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    digest.update(np.array([len(parts), *map(len, parts)], "<i8").tobytes())
    digest.update(b"".join(parts))


def update_table(digest, table: pd.DataFrame) -> None:
    """Adds a table: its index, the names and the values of its columns."""
    update_texts(digest, map(str, table.index))
    update_texts(digest, map(str, table.columns))
    for place in range(table.shape[1]):
        _update_column(digest, table.iloc[:, place])


def _update_column(digest, column: pd.Series) -> None:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_numeric_dtype(column.dtype):
        # A missing value turns integers into floats: both hash as floats.
        values = column.to_numpy("<f8", na_value=np.nan).copy()
        values[np.isnan(values)] = np.nan       # one bit pattern for all
        digest.update(b"number" + (values + 0.0).tobytes())
    elif pd.api.types.is_datetime64_any_dtype(column.dtype):
        times = pd.to_datetime(column, utc=True).dt.tz_localize(None)
        values = times.to_numpy("datetime64[us]").astype("<i8")
        digest.update(b"time" + values.tobytes())
    else:
        digest.update(b"text")
        update_texts(digest, map(_text, column.to_numpy(object)))


def _text(value) -> str:
    """A cell as text; "\\0" where missing, lists cell by cell."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return "\0[" + "\0".join(map(_text, value)) + "]"
    if value is None or value is pd.NA or value != value:
        return "\0"
    return str(value)
