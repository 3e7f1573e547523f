"""What does a cell of a users or items table say?

One rule for templates, categories and requests. A cell is a text, a number, a
time, or several of these: a list, tuple, set or array, or a text with the
separator between values. `None`, NaN, `pd.NA`, infinity and blank texts are
missing. White space is that of Unicode.
"""
from __future__ import annotations

import datetime
from decimal import Decimal
from numbers import Number

import numpy as np
import pandas as pd

from tfrecal.checks import is_text
from tfrecal.data.columns import as_numbers

SEPARATOR = "|"
# What `str.strip` cuts. TensorFlow's own `strip` knows only ASCII.
WHITE_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))
_SPACES = "".join(rf"\x{{{ord(c):x}}}" for c in WHITE_SPACE)
# For RE2, which TensorFlow uses.
AROUND = f"^[{_SPACES}]+|[{_SPACES}]+$"
# Whole Decimals from here on keep their exponent.
_MOST_DIGITS = 40


def is_many(value) -> bool:
    """Returns whether a cell is a list, tuple, set or array of values."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, (list, tuple, set, frozenset))


def values_of(value) -> list:
    """Returns the values of a cell of many, sets in order."""
    if not isinstance(value, (set, frozenset)):
        return list(value)
    try:
        return sorted(value)
    except TypeError:  # of several types
        return sorted(value, key=str)


def text_of(value) -> str:
    """Returns one value as text; "" where it is missing.

    Whole numbers have no ".0" and times at midnight are dates.

    Raises:
        ValueError: it is neither a text, nor a number, nor a time.
    """
    if isinstance(value, str):
        return str(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, Decimal):
        return _text_of_decimal(value)
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return ""
        return str(int(value) if float(value).is_integer() else value)
    if isinstance(value, (np.datetime64, datetime.datetime)):
        value = pd.Timestamp(value)
        if value is pd.NaT:
            return ""
        return str(value.date() if value == value.normalize() else value)
    if isinstance(value, np.ndarray) and not value.ndim:
        return text_of(value.item())
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta,
                          np.timedelta64, pd.Period, pd.Interval)):
        return str(value)
    raise ValueError(
        "A cell must be a text, a number, a time, or a list of these. "
        f"Received: {value!r:.60} of type {type(value).__name__}. Convert "
        "the column first.")


def _text_of_decimal(value: Decimal) -> str:
    if not value.is_finite():
        return ""
    whole = value == value.to_integral_value() and (
        value.adjusted() < _MOST_DIGITS)
    return str(int(value) if whole else value)


def is_numeric(column: pd.Series) -> bool:
    """Returns whether a column holds numbers or truth values, and some.

    That is a column of a numeric type, whole numbers, floats, truth values
    and their nullable kinds, or of objects that are all numbers, `Decimal`
    included. Texts of digits are texts.
    """
    dtype = column.dtype
    if pd.api.types.is_numeric_dtype(dtype):
        return not pd.api.types.is_complex_dtype(dtype)
    if dtype != object:
        return False
    there = column.dropna()
    kind = pd.api.types.infer_dtype(there, skipna=True)
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return bool(len(there))
    return kind in ("mixed", "mixed-integer") and all(
        isinstance(value, (Number, np.number))
        and not isinstance(value, (bool, np.bool_, complex))
        for value in there)


def numbers_of(column: pd.Series, name: str) -> np.ndarray:
    """Returns numbers, float64 `[n]`; NaN where a cell is missing.

    Raises:
        ValueError: a cell is no number.
    """
    found = as_numbers(column)
    wrong = np.isnan(found) & column.notna().to_numpy(bool)
    for row in np.flatnonzero(wrong):
        value = column.iloc[int(row)]
        text = text_of(value) if not is_many(value) else str(value)
        if text.strip():
            raise ValueError(
                f"`{name}` must hold numbers. Received: {value!r:.60} in row "
                f"{int(row)} of the table, counted from 0. Correct it, or "
                "leave the cell empty.")
    return found


def cell_texts(column: pd.Series, name: str,
               separator: str = SEPARATOR) -> np.ndarray:
    """Returns each cell as one text, as a request would give it.

    The values of lists have the separator between them. So a separator
    inside of a value of a list separates, too.

    Args:
        column: a column of any type.
        name: its name, for errors.
        separator: between the values of one cell.

    Returns:
        Strings `[n]`, object; "" where a cell is missing.

    Raises:
        ValueError: a cell is neither a text, nor a number, nor a time, nor a
            list of these.
    """
    check_column(column, name)
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = cell_texts(pd.Series(column.cat.categories), name, separator)
        return np.append(texts, "")[column.cat.codes.to_numpy()]
    column = column.astype(object)
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "string":
        texts = column.where(column.notna(), "").to_numpy(object)
    else:
        texts = np.empty(len(column), object)
        try:
            texts[:] = [separator.join(map(text_of, values_of(value)))
                        if is_many(value) else text_of(value)
                        for value in column]
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from error
    return _with_form(texts)


def check_column(column, name: str) -> None:
    """Raises ValueError where several columns have one name."""
    if isinstance(column, pd.DataFrame):
        raise ValueError(
            "Each column must be there once. Received: "
            f"{column.shape[1]} columns `{name}`. Drop or rename one.")


def _with_form(texts: np.ndarray) -> np.ndarray:
    """Takes away lone surrogates, which have no UTF-8 form."""
    if is_text("".join(texts)):
        return texts
    return np.array([text.encode(errors="ignore").decode()
                     for text in texts], object)
