"""Checks rows that come in: gives typed columns and reasons of refusals."""
from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd

from tfrecal.checks import on_scale
from tfrecal.feedback.store.schema import KINDS

SHOWN = ("request_id", "rank", "time", "user_id", "item_id", "score",
         "propensity", "model", "version", "strategy")
RESPONSES = ("event_id", "request_id", "user_id", "item_id", "time", "kind",
             "value")
# The value of a column that is missing, or of an empty cell in it.
_DEFAULTS = {"request_id": "", "score": np.nan, "model": "", "version": 0,
             "strategy": "", "value": np.nan}
_VALUES = {"click": 1.0, "purchase": 1.0, "skip": 0.0}

AHEAD = 300.0  # seconds that the clock of a client may be ahead
LONGEST = 500  # characters; an index of PostgreSQL takes 2,700 bytes
# The largest whole numbers that a column of integers and a float can hold.
_WHOLE = {"rank": 2.0 ** 31 - 1, "version": 2.0 ** 53}


class Checked:
    """A frame that is being checked, and the first fault of each row.

    Args:
        frame: the frame as it came, with any index.
        columns: the names of the table's columns.
        required: the names of the columns that must be there.

    Raises:
        TypeError: `frame` is not a DataFrame.
        ValueError: a column is missing.
    """

    def __init__(self, frame: pd.DataFrame, columns, required):
        if not isinstance(frame, pd.DataFrame):
            raise TypeError("Feedback must be a pandas DataFrame. Received: "
                            f"type={type(frame).__name__}.")
        missing = [name for name in required if name not in frame]
        if missing:
            raise ValueError(
                f"Feedback must have the columns {', '.join(required)}. "
                f"Received: columns={list(map(str, frame.columns))}, without "
                f"{', '.join(missing)}.")
        self.frame = frame
        self._read: dict[str, np.ndarray] = {}
        self._columns = columns
        self.reason = np.full(len(frame), "", object)

    def refuse(self, wrong, reason: str) -> None:
        """Gives a reason to those of the wrong rows that have none yet."""
        self.reason[np.asarray(wrong, bool) & (self.reason == "")] = reason

    def texts(self, name: str, required: bool = True) -> np.ndarray:
        """Reads a column of texts; a whole number becomes its digits."""
        if name not in self.frame:
            return self.keep(name, np.full(
                len(self.frame), _DEFAULTS[name], object))
        values, wrong = _texts(self.frame[name])
        self.refuse(wrong | ~_storable(values), f"{name} is no valid text")
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        if required:
            self.refuse(lengths == 0, f"no {name}")
        self.refuse(lengths > LONGEST,
                    f"{name} is longer than {LONGEST} characters")
        return self.keep(name, values)

    def numbers(self, name: str, must: str = "") -> np.ndarray:
        """Reads a column of numbers; an empty cell becomes NaN.

        Args:
            name: the column.
            must: what must hold, for the reason given to cells that are no
                numbers.
        """
        if name not in self.frame:
            return self.keep(name, np.full(
                len(self.frame), _DEFAULTS[name], np.float64))
        column = self.frame[name]
        values = pd.to_numeric(_numbers(column), errors="coerce").to_numpy(
            np.float64, na_value=np.nan)
        empty = (column.isna() | column.eq("")).to_numpy(bool)
        if name in _DEFAULTS:
            values = np.where(empty, _DEFAULTS[name], values)
        self.refuse((np.isnan(values) & ~empty) | np.isinf(values),
                    f"{must}; this is not a finite number" if must
                    else f"{name} is not a finite number")
        if name in _WHOLE:
            self.refuse((np.mod(values, 1) > 0)
                        | (np.abs(values) > _WHOLE[name]),
                        f"{name} is not a whole number")
        return self.keep(name, values)

    def keep(self, name: str, values: np.ndarray) -> np.ndarray:
        """Makes values the column of that name."""
        self._read[name] = values
        return values

    def times(self, now: float) -> None:
        """Reads the column `time`."""
        must = "time must be seconds since 1970 (UTC), such as 1795550915.8"
        time = self.numbers("time", must)
        self.refuse(np.isnan(time) | (time <= 0), must)
        self.refuse(time > now + AHEAD, "time is in the future")

    def good(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Returns the places of the rows without a fault, and their columns."""
        where = np.flatnonzero(self.reason == "")
        found = {name: self._read[name][where] for name in self._columns}
        for name in set(found) & set(_WHOLE):
            found[name] = found[name].astype(np.int64)
        return where, found


def check_shown(frame: pd.DataFrame, now: float) -> Checked:
    """Checks rows of lists that were shown."""
    found = Checked(frame, SHOWN, ("request_id", "rank", "time", "user_id",
                                   "item_id", "propensity"))
    for name in ("request_id", "user_id", "item_id"):
        found.texts(name)
    rank = found.numbers("rank")
    found.refuse(~(rank >= 1), "rank is not 1 or more")
    found.times(now)
    found.numbers("score")
    propensity = found.numbers("propensity")
    found.refuse(~((propensity > 0) & (propensity <= 1)),
                 "propensity is not in (0, 1]")
    found.texts("model", required=False)
    found.numbers("version")
    found.texts("strategy", required=False)
    return found


def check_responses(frame: pd.DataFrame, now: float,
                    scale: tuple[float, float] | None) -> Checked:
    """Checks responses.

    Args:
        frame: the responses as they came.
        now: seconds since the epoch.
        scale: (lowest, highest) rating; None allows any from 0 on.
    """
    found = Checked(frame, RESPONSES, ("event_id", "user_id", "item_id",
                                       "time", "kind"))
    for name in ("event_id", "user_id", "item_id"):
        found.texts(name)
    found.texts("request_id", required=False)
    found.times(now)
    kind = found.texts("kind")
    found.refuse(~np.isin(kind.astype(str), KINDS),
                 f"kind is not one of {', '.join(KINDS)}")
    value = found.numbers("value")
    given = pd.Series(kind).map(_VALUES).to_numpy(float)
    value = np.where(np.isnan(value), given, value)
    found.keep("value", value)
    found.refuse(np.isnan(value), "no value of a rating")
    found.refuse((value != given) & ~np.isnan(given),
                 "value is not 1 (click, purchase) or 0 (skip)")
    low, high = (0.0, np.inf) if scale is None else scale
    found.refuse(np.isnan(given) & ~on_scale(value, (low, high)),
                 f"value is off the scale from {low:g} to {high:g}")
    return found


def _texts(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Returns strings, object `[n]`, and which cells are no ids, bool `[n]`.

    An empty cell becomes "".
    """
    missing = column.isna().to_numpy()
    values = column.to_numpy(object)
    if not missing.any() and pd.api.types.infer_dtype(column) == "string":
        return values, np.zeros(len(values), bool)
    values = ["" if gone else _text(value)
              for value, gone in zip(values, missing)]
    wrong = np.array([value is None for value in values], bool)
    return np.array([value or "" for value in values], object), wrong


def _text(value) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, np.bool_)):
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        # pandas reads whole numbers as floats where some are missing.
        return f"{value:.0f}"
    return str(value) if isinstance(value, (int, np.integer)) else None


def _numbers(column: pd.Series) -> pd.Series:
    """Returns a column's numbers and texts; anything else becomes NaN."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        # The column keeps its own unit, because nanoseconds end in 2262.
        zero = pd.Timestamp(0, tz="UTC" if column.dt.tz else None).as_unit(
            column.dt.unit)
        return (column - zero).dt.total_seconds()
    if column.dtype != object:
        return column
    return column.map(_number)


def _number(value):
    # JSON holds lists, and whole numbers that no float can.
    if isinstance(value, str):
        return value
    fits = (isinstance(value, (int, float, Decimal, np.number))
            and not isinstance(value, bool) and abs(value) < 1e300)
    return value if fits else np.nan


def _storable(values: np.ndarray) -> np.ndarray:
    """Returns which texts both databases can hold, bool `[n]`."""
    whole = "".join(values)
    if "\0" not in whole and whole.isprintable():
        return np.ones(len(values), bool)
    return np.array([_is_text(value) for value in values])


def _is_text(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
