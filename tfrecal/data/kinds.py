"""Numbers or texts: the rule that decides what a column of texts is.

A column is numbers if every cell that is not missing is a number as a program
writes it: an optional minus, digits without a leading zero, perhaps a point
and digits; one digit before an exponent with its sign (1e-05, 2.5e+20); whole
numbers have at most 15 digits. All else is text: 007, 1e5, +3, 1,000, True,
2026-05-01. So codes keep their zeros, and one blank cell decides nothing.

Whoever reads a part of the data, such as the new items of a retraining, reads
it in the kinds of the whole (`in_kinds`).
"""
from __future__ import annotations

from decimal import Decimal
from numbers import Number

import numpy as np
import pandas as pd

from tfrecal.data.cells import text_of
from tfrecal.data.columns import arrow_texts, as_numbers

NUMBER = (r"^-?(0|[1-9][0-9]{0,14}|(0|[1-9][0-9]*)\.[0-9]+"
          r"|[0-9](\.[0-9]+)?[eE][+-][0-9]{2,3})$")
_SHOWN = 5


def typed(frame: pd.DataFrame, texts=()) -> pd.DataFrame:
    """Returns a frame of texts whose columns of numbers are numbers.

    Args:
        frame: columns of texts with missing cells.
        texts: names of columns that stay texts, such as ids.

    Returns:
        A frame of int64 columns, float64 columns (NaN where missing) and
        texts.
    """
    return pd.DataFrame({
        name: column if name in texts else _numbers(column)
        for name, column in frame.items()}, index=frame.index)


def _numbers(column: pd.Series) -> pd.Series:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = arrow_texts(column)
    bare = pc.utf8_trim_whitespace(cells)
    fits = pc.match_substring_regex(bare, NUMBER)
    if not pc.all(fits, min_count=1).as_py():
        return column
    whole = pc.any(pc.match_substring_regex(bare, r"[.eE]")).as_py() is False
    if whole and not bare.null_count:
        return pd.Series(pc.cast(bare, pa.int64()).to_numpy(),
                         index=column.index)
    numbers = pc.cast(bare, pa.float64()).to_numpy(zero_copy_only=False)
    return column if np.isinf(numbers).any() else pd.Series(
        numbers, index=column.index)


def plain(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a user's frame in the few types that the package works with.

    Nullable and Arrow types become those of NumPy, categories their values,
    Decimal and objects of numbers float64, texts with missing cells stay
    texts. Whole numbers beside missing ones become float64, or texts where
    that could not hold them.
    """
    return pd.DataFrame({name: _plain(table.iloc[:, place])
                         for place, name in enumerate(table.columns)},
                        index=table.index)


def _plain(column: pd.Series) -> pd.Series:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _plain(_uncategorised(column))
    if isinstance(dtype, np.dtype) and dtype != object:
        return column
    if pd.api.types.is_bool_dtype(dtype) and dtype != object:
        return column.astype(object) if column.isna().any() \
            else column.astype(bool)
    if isinstance(dtype, pd.StringDtype):
        return column
    if dtype != object and pd.api.types.is_integer_dtype(dtype):
        there = column.dropna()
        if len(there) == len(column):
            large = len(there) and there.max() >= 2 ** 63
            return column.astype("uint64" if large else "int64")
        if len(there) and (there.max() > 2 ** 53 or there.min() < -2 ** 53):
            return column.astype("string").astype(object).where(
                column.notna(), None)
        return column.astype("float64")
    if dtype != object and pd.api.types.is_float_dtype(dtype):
        return column.astype("float64")
    if dtype == object:
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind in ("decimal", "floating", "integer", "mixed-integer-float"):
            return _plain_numbers(column)
    return column


def _plain_numbers(column: pd.Series) -> pd.Series:
    values = column.dropna()
    if any(_is_large(value) for value in values):
        return column.map(text_of, na_action="ignore")
    numbers = column.map(
        lambda value: float(value) if isinstance(value, Decimal) else value,
        na_action="ignore")
    return pd.to_numeric(numbers.astype(object).where(column.notna(), np.nan))


def _is_large(value) -> bool:
    """Whether a whole number may be none of float64."""
    if isinstance(value, Decimal):
        return value.is_finite() and abs(value) > 2 ** 53 and (
            value == value.to_integral_value())
    return isinstance(value, int) and abs(value) > 2 ** 53


def _uncategorised(column: pd.Series) -> pd.Series:
    values = np.append(column.cat.categories.to_numpy(object), None)
    return pd.Series(values[column.cat.codes.to_numpy()],
                     index=column.index, dtype=object)


def kinds_of(table: pd.DataFrame) -> dict[str, str]:
    """Returns the name of each column -> `"number"` or `"text"`.

    Columns without a value are left out: any kind fits them.
    """
    return {str(name): "number" if pd.api.types.is_numeric_dtype(
        table[name].dtype) else "text" for name in table.columns
        if table[name].notna().any()}


def in_kinds(frame: pd.DataFrame, kinds: dict[str, str], lines: np.ndarray,
             source) -> pd.DataFrame:
    """Returns a table in the kinds of another, whose part or successor it is.

    Args:
        frame: columns of texts (of a text file) or of types (of Parquet).
        kinds: name -> kind, as `kinds_of` returns it; other columns follow
            the rule for their own cells.
        lines: the line of each row, for errors.
        source: the file, for errors.

    Raises:
        ValueError: cells of columns of numbers are no numbers; one message
            names the first lines of each.
    """
    wrong, made = [], {}
    for name in frame.columns:
        column, kind = frame[name], kinds.get(str(name))
        number = pd.api.types.is_numeric_dtype(column.dtype)
        if kind == "number" and not number:
            values = _numbers_or_nan(column)
            odd = np.isnan(values) & column.notna().to_numpy()
            if odd.any():
                cells = column[odd].iloc[:_SHOWN].tolist()
                shown = ", ".join(f"line {line}: {cell!r}" for line, cell
                                  in zip(lines[odd].tolist(), cells))
                more = odd.sum() - len(cells)
                wrong.append(f"`{name}` is a number, but {shown}" + (
                    f" and {more:,} more" if more else ""))
            made[name] = pd.Series(values, index=frame.index)
        elif kind == "number":
            # Nullable types stay at the door.
            made[name] = pd.Series(as_numbers(column), index=frame.index) \
                if column.isna().any() else _plain(column)
        elif kind == "text":
            made[name] = _texts(column)
        elif kind is None and not number:
            made[name] = _numbers(column) if column.map(
                type, na_action="ignore").isin([str]).all() else column
        else:
            made[name] = column
    if wrong:
        raise ValueError(
            f"The columns of {source} must hold what those of the served "
            f"table hold. Received: {'; '.join(wrong)}. Mend these cells; an "
            "empty cell is a missing value.")
    return pd.DataFrame(made, index=frame.index)


def _numbers_or_nan(column: pd.Series) -> np.ndarray:
    values = as_numbers(column)
    return np.where(np.isfinite(values), values, np.nan)


def _texts(column: pd.Series) -> pd.Series:
    """Returns a column with its numbers as texts: 7.0 is "7"."""
    if isinstance(column.dtype, pd.StringDtype):
        return column
    cells = [None if _is_missing(cell) else text_of(cell)
             if isinstance(cell, (Number, np.generic)) else cell
             for cell in column]
    return pd.Series(cells, index=column.index, dtype=object)


def _is_missing(cell) -> bool:
    return cell is None or cell is pd.NA or cell is pd.NaT or (
        isinstance(cell, (float, np.floating)) and cell != cell)
