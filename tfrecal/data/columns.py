"""Columns of a user's table in the types that tfrecal works with.

Ids become strings, labels become floats (times: `tfrecal.data.times`). Nothing
is guessed in silence: what cannot be read is marked missing (and then reported
as a bad row) or refused with the cure.
"""
from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pandas as pd

from tfrecal.checks import is_text, shown

KEYS = ("user_id", "item_id")
NEEDED = (*KEYS, "label")
OPTIONAL = ("timestamp", "weight", "list_id")
# Short names of columns in `columns` and `--columns`.
SHORT = {"user": "user_id", "item": "item_id", "time": "timestamp",
         "list": "list_id"}
# Only ever suggested in an error, never applied.
_SPELLINGS = {
    "user_id": {"user", "userid", "uid", "customerid", "visitorid"},
    "item_id": {"item", "itemid", "iid", "movieid", "bookid", "isbn",
                "productid", "asin", "articleid"},
    "label": {"rating", "score", "stars", "bookrating", "overall"},
    "timestamp": {"time", "date", "datetime", "ts", "unixtime",
                  "unixreviewtime"},
    "weight": {"weights", "sampleweight"},
    "list_id": {"listid", "impressionid", "impression", "slateid"}}
_LONGEST_DECIMAL = 10 ** 40  # Decimal("1e999999") fills the memory
_WHOLE_FLOAT = re.compile(r"-?[0-9]+\.0+")
# A number as people and programs write it; "inf", "nan" and "1_000" are none.
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def column_names(columns: dict | None) -> dict[str, str]:
    """Returns the whole name in tfrecal -> the name in the user's table.

    Args:
        columns: the same, with whole or short names (`SHORT`).

    Raises:
        ValueError: a name is unknown or there twice.
    """
    given = {SHORT.get(name, name): old
             for name, old in dict(columns or {}).items()}
    odd = [name for name in given if name not in NEEDED + OPTIONAL]
    if odd or len(set(given.values())) < len(columns or {}):
        raise ValueError(
            "`columns` must map names of tfrecal to names of yours, each "
            f"once. Received: {dict(columns)}. Names are user, item, label, "
            "time, weight and list; write `columns={\"user\": \"userId\"}` "
            "(`--columns user=userId`), not the reverse.")
    return given


def parse_columns(columns: str | None) -> dict[str, str]:
    """Reads `user=userId,label=rating`, as `--columns` has it.

    Raises:
        ValueError: it is no such list, or a name is unknown or there twice.
    """
    found = read_pairs(columns)
    column_names(found)
    return found


def read_pairs(columns: str | None) -> dict[str, str]:
    """Reads `name=column,...` with any names; see `parse_columns`."""
    pairs = [part.partition("=") for part in (columns or "").split(",")]
    found = {name.strip(): old.strip() for name, _, old in pairs}
    if columns and (not all(found) or not all(found.values())
                    or len(found) < len(pairs)):
        raise ValueError(
            "`columns` (`--columns`) must be pairs NAME=COLUMN with commas "
            f"between them, each name once. Received: {shown(columns)}. Write "
            "user=userId,label=rating.")
    return found if columns else {}


def select_columns(frame: pd.DataFrame, columns: dict | None
                   ) -> pd.DataFrame:
    """Returns the columns of interactions under the names of tfrecal.

    Args:
        frame: the user's table.
        columns: name in tfrecal -> name in `frame`, where they differ.

    Returns:
        A new frame with a fresh index: `user_id`, `item_id` and, where
        there, `label`, `timestamp`, `weight` and `list_id`.

    Raises:
        TypeError: `frame` is no DataFrame.
        ValueError: a column is missing or is there twice; or there is no
            `label`, but a column with another name that labels have.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError("`frame` must be a pandas DataFrame. Received: "
                        f"{type(frame).__name__}. Use `from_csv` or "
                        "`from_parquet` for files.")
    columns = column_names(columns)
    source = {name: columns.get(name, name) for name in NEEDED + OPTIONAL}
    missing = [name for name in KEYS if source[name] not in frame]
    missing += [name for name in columns
                if name not in KEYS and source[name] not in frame]
    if not missing and source["label"] not in frame and spelled(
            frame, "label"):
        missing = ["label"]
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


def spelled(frame, name: str) -> list[str]:
    """Returns the columns whose names are known spellings of a name."""
    return [str(old) for old in frame.columns
            if re.sub(r"[\W_]", "", str(old).lower()) in _SPELLINGS[name]]


def _missing_message(frame, missing, columns) -> str:
    names = [str(name) for name in frame.columns]
    some = names if len(names) <= 20 else [*names[:20], "..."]
    message = (f"Interactions need the columns {list(KEYS)}, and `label` "
               f"unless each row is a click. Received: columns={some}, "
               f"without {[columns.get(name, name) for name in missing]}.")
    found = next((one for one in ("::", "|", "\t", ";", ",")
                  if one in names[0]), None) if len(names) == 1 else None
    if found:
        return (f"{message} One column only: the separator seems to be "
                f"{found!r}. Pass `separator={found!r}` (`--separator "
                f"{ascii(found)}`).")
    guess = dict(columns)
    for name in _SPELLINGS:
        close = spelled(frame, name)
        if close and columns.get(name, name) not in names:
            guess[name] = close[0]
    for name in missing:
        guess[name] = guess[name] if guess.get(name) in names else "..."
    short = {whole: name for name, whole in SHORT.items()}
    pairs = ", ".join(f'"{new}": "{old}"' for new, old in guess.items())
    words = ",".join(f"{short.get(new, new)}={old}"
                     for new, old in guess.items())
    return (f"{message} Say which is which: `columns={{{pairs}}}` "
            f"(`--columns {words}`); a file without a line of names needs "
            "`header` (`--header`).")


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
        places, values = column.cat.codes.to_numpy(), column.cat.categories
        kind = _kind_of_ids(values, name)
        limit = exact_to(values.dtype)
    else:
        # Before, because pandas takes True for 1.
        kind = _kind_of_ids(column, name)
        places, values = pd.factorize(column)
        limit = exact_to(column.dtype)
    values = np.asarray(values, dtype=object)
    texts = [clean_id(value, name, limit) for value in values]
    joined = "".join(texts)
    if not is_text(joined):
        odd = next(text for text in texts if not is_text(text))
        raise ValueError(f"`{name}` must hold text that UTF-8 can write. "
                         f"Received: {shown(odd)}, which has half of a "
                         "surrogate pair. Read the file in its encoding.")
    if "\0" in joined:
        odd = next(text for text in texts if "\0" in text)
        raise ValueError(f"`{name}` must hold text without zero bytes, which "
                         f"no database takes. Received: {shown(odd)}. Cut "
                         "them off.")
    if notes is not None and kind == "string":
        cut = next((value for value, text in zip(values, texts)
                    if text != value.strip()), None)
        if cut is not None:
            notes.append(f"`{name}`: \".0\" cut from ids such as "
                         f"{cut.strip()!r}")
    # " a" and "a" are one id; "" is none.
    again, texts = pd.factorize(np.array(
        [text or None for text in texts], dtype=object))
    return np.append(again, -1)[places], texts


def _kind_of_ids(values, name: str) -> str:
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind not in ("integer", "floating", "mixed-integer-float", "string",
                    "decimal", "empty"):
        raise ValueError(_mixed_message(values.dropna(), name))
    return kind


def exact_to(dtype) -> int:
    """Returns up to which a type of floats holds all whole numbers."""
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        return 2 ** (np.finfo(dtype).nmant + 1)
    return 2 ** 53


def clean_id(value, name: str, limit: int = 2 ** 53) -> str:
    """Returns the text that stands for an id everywhere.

    The rule looks at one id alone, so that logs, tables, feedback and
    requests agree: white space around a text is cut, a whole number becomes
    its digits, and so does a text that spells one as a float ("7.0").

    Args:
        value: a string, a whole number, or a missing value.
        name: name of the id, for errors.
        limit: the largest whole number that is certain in floats.

    Returns:
        The text, or "" where the value is missing.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, str):
        text = str(value).strip()
        if text.endswith("0") and _WHOLE_FLOAT.fullmatch(text):
            return text.split(".")[0]
        return text
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return str(int(value))
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return ""
    if not isinstance(value, (float, np.floating, Decimal)):
        raise ValueError(
            f"`{name}` must hold strings or whole numbers. Received: "
            f"{value!r} ({type(value).__name__}). Convert it first.")
    if isinstance(value, Decimal):
        limit = _LONGEST_DECIMAL
        whole = value.is_finite() and value == value.to_integral_value()
    else:
        if isinstance(value, np.floating):
            limit = exact_to(value.dtype)
        whole = value % 1 == 0
    if not whole or abs(value) >= limit:
        raise ValueError(
            f"`{name}` must hold strings or whole numbers that a float "
            f"can hold. Received: {value!r}. Write the column as text or as "
            "integers.")
    return str(int(value))


def _mixed_message(values, name: str) -> str:
    examples = {}
    for value in values:
        examples.setdefault(type(value).__name__, value)
    some = ", ".join(f"{shown(v)} ({k})"
                     for k, v in list(examples.items())[:3])
    return (f"`{name}` must hold strings, or whole numbers, and not a mix of "
            f"types. Received: {some}. Convert the column first, for "
            f"example `frame[\"{name}\"].astype(str)`.")


def as_numbers(column: pd.Series, booleans: bool = True) -> np.ndarray:
    """Returns numbers, float64 `[n]`; NaN where a value is no number.

    Args:
        column: numbers, texts that are numbers (`NUMBER`), or both.
        booleans: whether True and False are 1 and 0.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    if isinstance(column.dtype, pd.StringDtype):
        return _numbers_of_texts(column)
    if pd.api.types.is_object_dtype(column.dtype):
        texts = column.map(lambda value: isinstance(value, str)).to_numpy(bool)
        found = np.array([_number(value, booleans) for value in column],
                         np.float64)
        if texts.any():
            found[texts] = _numbers_of_texts(column[texts])
        return found
    if not pd.api.types.is_numeric_dtype(column.dtype) or not booleans and (
            pd.api.types.is_bool_dtype(column.dtype)):
        return np.full(len(column), np.nan)         # times are no numbers
    return column.to_numpy(np.float64, na_value=np.nan, copy=True)


def _number(value, booleans: bool) -> float:
    if isinstance(value, Decimal):
        return float(value) if value.is_finite() else np.nan
    if not isinstance(value, (int, float, np.integer, np.floating, np.bool_)
                      ) or not booleans and isinstance(
                          value, (bool, np.bool_)):
        return np.nan
    try:
        number = float(value)
    except OverflowError:  # JSON holds whole numbers that no float can
        return np.nan
    return number if np.isfinite(number) else np.nan


def _numbers_of_texts(column: pd.Series) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(arrow_texts(column))
    fits = pc.fill_null(pc.match_substring_regex(cells, NUMBER), False)
    cells = pc.if_else(fits, cells, pa.scalar(None, pa.string()))
    if pc.any(pc.starts_with(cells, "+")).as_py():
        cells = pc.utf8_ltrim(cells, "+")
    try:
        numbers = pc.cast(cells, pa.float64())
    except pa.ArrowInvalid:  # such as "5." or ".5"
        return pd.to_numeric(cells.to_pandas(), errors="coerce").to_numpy(
            np.float64, na_value=np.nan)
    return numbers.to_numpy(zero_copy_only=False)


def without_arrow(frame):
    """Returns a frame whose columns of Arrow types have those of pandas.

    No value changes: whole numbers beside missing ones stay whole.

    Args:
        frame: a DataFrame; all else is returned as it is.
    """
    if not isinstance(frame, pd.DataFrame) or not any(
            isinstance(dtype, pd.ArrowDtype) for dtype in frame.dtypes):
        return frame
    import pyarrow as pa

    frame = frame.copy(deep=False)
    for place, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.ArrowDtype):
            cells = pa.table({"cells": pa.array(frame.iloc[:, place].array)})
            frame.isetitem(place, whole_to_pandas(cells)["cells"].array)
    return frame


def whole_to_pandas(cells):
    """Returns an Arrow table or array in pandas; whole numbers stay whole."""
    import pyarrow as pa

    whole = {getattr(pa, f"{sign}int{bits}")(): getattr(
        pd, f"{'U' if sign else ''}Int{bits}Dtype")()
        for sign in ("", "u") for bits in (8, 16, 32, 64)}
    return cells.to_pandas(types_mapper=whole.get)


def arrow_texts(column: pd.Series):
    """Returns a column of texts as one Arrow array of strings.

    Halves of surrogate pairs, which JSON may hold, become question marks.
    """
    import pyarrow as pa

    try:
        cells = pa.array(column, pa.string(), from_pandas=True)
    except UnicodeEncodeError:
        cells = pa.array(column.map(lambda text: text.encode(
            errors="replace").decode(), na_action="ignore"), pa.string(),
            from_pandas=True)
    return (cells.combine_chunks()
            if isinstance(cells, pa.ChunkedArray) else cells)
