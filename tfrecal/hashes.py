"""Digests of tables and random bits of pairs, the same on every machine."""
from __future__ import annotations

import numpy as np
import pandas as pd


def update_texts(digest, texts) -> None:
    """Adds texts to a digest, with their lengths."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    digest.update(np.array([len(parts), *map(len, parts)], "<i8").tobytes())
    digest.update(b"".join(parts))


def update_table(digest, table: pd.DataFrame) -> None:
    """Adds a table to a digest: its index, and names and values of columns."""
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
    """Returns a cell as text; "\\0" where missing, lists cell by cell."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return "\0[" + "\0".join(map(_text, value)) + "]"
    if value is None or value is pd.NA or value != value:
        return "\0"
    return str(value)


def hashed(user, item, seed: int, stream: int) -> np.ndarray:
    """Returns random bits of pairs, uint64 `[n]`, the same for a seed."""
    start = np.random.SeedSequence([seed, stream]).generate_state(
        1, np.uint64)[0]
    bits = ((user.astype(np.uint64) << np.uint64(32))
            | item.astype(np.uint64)) * _GAMMA
    bits += start
    return _mixed(bits)


def noise(seed: int, rows, columns) -> np.ndarray:
    """Returns random uint64 of each (seed, row, column).

    They do not depend on the tile in which they are computed. Each of the
    three takes one step of SplitMix64.
    """
    found = np.uint64(seed % 2**64)
    with np.errstate(over="ignore"):
        for values in (rows, columns, 0):
            found = _mixed(found + _GAMMA
                           + np.asarray(values).astype(np.uint64))
    return found


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mixed(bits):
    """Applies SplitMix64's mixing function in place.

    Reference:
        Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
        Generators", figure 17.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    return bits
