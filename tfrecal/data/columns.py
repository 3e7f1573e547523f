"""Columns of a user's table in the types that tfrecal works with.

Ids become strings, times become seconds, labels become floats. Nothing is
guessed in silence: what cannot be read is marked missing (and then reported
as a bad row) or refused with the cure.
"""
from __future__ import annotations

import re

import numpy as np
import pandas as pd

from tfrecal import checks

NEEDED = ("user_id", "item_id", "label")
OPTIONAL = ("timestamp", "weight")
TIME_UNITS = {"s": 1, "ms": 10 ** 3, "us": 10 ** 6, "ns": 10 ** 9}
# Only ever suggested in an error, never applied.
_SPELLINGS = {
    "user_id": {"user", "userid", "uid", "customerid", "visitorid"},
    "item_id": {"item", "itemid", "iid", "movieid", "bookid", "isbn",
                "productid", "asin", "articleid"},
    "label": {"rating", "score", "stars", "bookrating", "overall"},
    "timestamp": {"time", "date", "datetime", "ts", "unixtime",
                  "unixreviewtime"},
    "weight": {"weights", "sampleweight"}}
_SEPARATORS = ("::", ";", "\t", "|", ",")
WHOLE_FLOAT = re.compile(r"-?\d+\.0+")
# 1e11 seconds is the year 5138; 1e11 milliseconds is 1973.
_LARGEST_SECOND = 1e11


def select_columns(frame: pd.DataFrame, columns: dict | None) -> pd.DataFrame:
    """Returns the columns of interactions under the names of tfrecal.

    Args:
        frame: the user's table.
        columns: name in tfrecal -> name in `frame`, where they differ.

    Returns:
        A new frame with a fresh index: `user_id`, `item_id`, `label` and,
        where there, `timestamp` and `weight`.

    Raises:
        TypeError: `frame` is no DataFrame.
        ValueError: a column is missing or is there twice.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError("`frame` must be a pandas DataFrame. Received: "
                        f"{type(frame).__name__}. Use `from_csv` or "
                        "`from_parquet` for files.")
    columns = dict(columns or {})
    odd = [name for name in columns if name not in NEEDED + OPTIONAL]
    if odd:
        raise ValueError(
            "`columns` must map names of tfrecal to names of yours. "
            f"Received: keys={odd}. Keys are {list(NEEDED + OPTIONAL)}; "
            "write `columns={\"user_id\": \"userId\"}`, not the reverse.")
    source = {name: columns.get(name, name) for name in NEEDED + OPTIONAL}
    missing = [name for name in NEEDED if source[name] not in frame]
    missing += [name for name in columns
                if name in OPTIONAL and source[name] not in frame]
    if missing:
        raise ValueError(_missing_message(frame, missing, columns))
    twice = [old for old in source.values()
             if (frame.columns == old).sum() > 1]
    if twice:
        raise ValueError("Each column must be there once. Received: "
                         f"{twice} twice. Drop or rename one of them.")
    return pd.DataFrame({
        name: frame[old].reset_index(drop=True)
        for name, old in source.items() if old in frame})


def _missing_message(frame, missing, columns) -> str:
    names = [str(name) for name in frame.columns]
    message = (f"Interactions need the columns {list(NEEDED)}. Received: "
               f"columns={names}, without "
               f"{[columns.get(name, name) for name in missing]}.")
    if len(names) == 1:
        found = next((s for s in _SEPARATORS if s in names[0]), None)
        if found:
            engine = ', "engine": "python"' if len(found) > 1 else ""
            return (f"{message} One column only: the separator seems to be "
                    f"{found!r}. Pass `read={{\"sep\": {found!r}{engine}}}`.")
    guess = dict(columns)
    for name, spellings in _SPELLINGS.items():
        close = [n for n in names
                 if re.sub(r"[\W_]", "", n.lower()) in spellings]
        if close and name not in frame.columns:
            guess[name] = close[0]
    for name in missing:
        guess[name] = guess[name] if guess.get(name) in names else "..."
    pairs = ", ".join(f'"{new}": "{old}"' for new, old in guess.items())
    return f"{message} Say which is which: `columns={{{pairs}}}`."


def as_ids(column, name: str, notes: list[str] | None = None) -> pd.Series:
    """Returns ids as strings without white space around; "" where missing.

    Whole numbers become their digits, also if a reader made floats of them
    (7.0 for 7, or "7.0" in all of a column of texts).

    Args:
        column: strings, or whole numbers, not both.
        name: name of the column, for errors.
        notes: gets a sentence if ".0" was cut from texts.

    Returns:
        Series of Python strings (dtype object), with the column's index.

    Raises:
        ValueError: strings and numbers are mixed, or values are neither.
    """
    column = pd.Series(column)
    places, texts = factorise_ids(column, name, notes)
    return pd.Series(np.append(texts, "")[places], index=column.index,
                     dtype=object)


def factorise_ids(column, name: str, notes: list[str] | None = None):
    """Does as `as_ids`, with each id once: long columns are read once.

    Args:
        column, name, notes: see `as_ids`.

    Returns:
        `(places, texts)`: row n holds `texts[places[n]]`; int64 `[n]`, -1
        where missing, and distinct ids, object `[ids]`.
    """
    column = pd.Series(column)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    places, values = pd.factorize(column)
    values = np.asarray(values, dtype=object)
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in ("integer", "floating", "mixed-integer-float", "string",
                    "empty"):
        raise ValueError(_mixed_message(values, name))
    texts = [clean_id(value, name) for value in values]
    if kind == "string" and any(texts) and all(
            WHOLE_FLOAT.fullmatch(text) for text in texts if text):
        texts = [text.split(".")[0] for text in texts]
        if notes is not None:
            notes.append(f"`{name}`: \".0\" cut from ids such as "
                         f"{str(values[0]).strip()!r}")
    # " a" and "a" are one id; "" is none.
    again, texts = pd.factorize(np.array(
        [text or None for text in texts], dtype=object))
    return np.append(again, -1)[places], texts


def clean_id(value, name: str) -> str:
    """Returns the text that stands for an id everywhere.

    Args:
        value: a string, a whole number, or a missing value.
        name: name of the id, for errors.

    Returns:
        The string without white space around it, the digits of a whole
        number, or "" where the value is missing.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        return str(value).strip()
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if not isinstance(value, (float, np.floating)):
        raise ValueError(
            f"`{name}` must hold strings or whole numbers. Received: "
            f"{value!r} ({type(value).__name__}). Convert it first.")
    if not float(value).is_integer() or abs(value) >= 2 ** 53:
        raise ValueError(
            f"`{name}` must hold strings or whole numbers that a float "
            f"can hold. Received: {value!r}. Read the column as text "
            f"(`dtype={{\"{name}\": str}}`).")
    return str(int(value))


def _mixed_message(values, name: str) -> str:
    examples = {}
    for value in values:
        examples.setdefault(type(value).__name__, value)
    shown = ", ".join(f"{v!r} ({k})" for k, v in list(examples.items())[:3])
    return (f"`{name}` must hold strings, or whole numbers, and not a mix of "
            f"types. Received: {shown}. Convert the column first, for "
            f"example `frame[\"{name}\"].astype(str)`.")


def as_numbers(column: pd.Series) -> np.ndarray:
    """Returns numbers, float64 `[n]`; NaN where a value is no number."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if not pd.api.types.is_numeric_dtype(column.dtype):
        if not pd.api.types.is_object_dtype(column.dtype) and not (
                pd.api.types.is_string_dtype(column.dtype)):
            return np.full(len(column), np.nan)     # times are no numbers
        column = pd.to_numeric(column, errors="coerce")
    return column.to_numpy(np.float64, na_value=np.nan)


def as_seconds(column: pd.Series, unit: str = "s") -> np.ndarray:
    """Returns times as seconds, float64 `[n]`; NaN where there is no time.

    Numbers count units since 1970. Texts are ISO 8601 or numbers. Times
    without a zone are in UTC.

    Args:
        column: numbers, texts or times.
        unit: unit of numbers, one of `TIME_UNITS`.

    Raises:
        ValueError: `unit` is unknown, or most numbers are too large.
    """
    checks.one_of("timestamp_unit", unit, TIME_UNITS)
    number = as_numbers(column) / TIME_UNITS[unit]
    finite = number[np.isfinite(number)]
    if len(finite):
        if abs(np.median(finite)) > _LARGEST_SECOND:
            raise ValueError(
                "`timestamp` must be in seconds. Received: "
                f"{finite.max():.0f}, which looks like a finer unit. Pass "
                "`timestamp_unit=\"ms\"` (or \"us\", \"ns\").")
        return np.where(np.abs(number) <= _LARGEST_SECOND, number, np.nan)
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        if pd.api.types.is_numeric_dtype(column.dtype):
            return np.full(len(column), np.nan)
        column = pd.to_datetime(column.astype(object), errors="coerce",
                                utc=True, format="ISO8601")
    times = pd.to_datetime(column, utc=True)
    zero = pd.Timestamp(0, tz="UTC")
    return (times - zero).dt.total_seconds().to_numpy(np.float64)
