"""Checks rows that come in: gives typed columns and reasons of refusals."""
from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd

from tfrecal.checks import is_text, on_scale
from tfrecal.data.columns import as_numbers, clean_id, exact_to, without_arrow
from tfrecal.data.times import read_cells
from tfrecal.feedback.store.schema import KINDS

SHOWN = ("request_id", "rank", "time", "user_id", "item_id", "score",
         "propensity", "model", "version", "strategy")
RESPONSES = ("event_id", "request_id", "user_id", "item_id", "time", "kind",
             "value")
# The value of a column that is missing, or of an empty cell in it.
_DEFAULTS = {"request_id": "", "score": np.nan, "model": "", "version": 0,
             "strategy": "", "value": np.nan}
_VALUES = {"click": 1.0, "purchase": 1.0, "skip": 0.0}

_IDS = ("user_id", "item_id")

# Feedback of a server is not older. As seconds, dates such as 20260501,
# years, and days or minutes of any calendar lie before 1974.
FIRST = 631_152_000.0  # 1990-01-01
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
        self.frame = without_arrow(frame)
        self._read: dict[str, np.ndarray] = {}
        self._columns = columns
        self.reason = np.full(len(frame), "", object)

    def refuse(self, wrong, reason: str) -> None:
        """Gives a reason to those of the wrong rows that have none yet."""
        self.reason[np.asarray(wrong, bool) & (self.reason == "")] = reason

    def texts(self, name: str, required: bool = True) -> np.ndarray:
        """Reads a column of texts, without white space around them.

        A whole number becomes its digits. Ids of users and items follow
        `clean_id`, as everywhere.
        """
        if name not in self.frame:
            return self.keep(name, np.full(
                len(self.frame), _DEFAULTS[name], object))
        places, texts, wrong = _distinct_texts(self.frame[name], name)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        for bad, reason in (
                (wrong | ~_storable(texts), f"{name} is no valid text or exact "
                 "whole number"),
                (required & (lengths == 0), f"no {name}"),
                (lengths > LONGEST,
                 f"{name} is longer than {LONGEST} characters")):
            if bad.any():
                self.refuse(bad[places], reason)
        return self.keep(name, texts[places])

    def ids(self, name: str) -> np.ndarray:
        """Returns a column of ids that was read, also those refused."""
        return self._read[name]

    def numbers(self, name: str) -> np.ndarray:
        """Reads a column of numbers; an empty cell becomes NaN."""
        if name not in self.frame:
            return self.keep(name, np.full(
                len(self.frame), _DEFAULTS[name], np.float64))
        column = self.frame[name]
        values = as_numbers(column, booleans=False)
        empty = column.isna().to_numpy(bool, copy=True)
        odd = np.flatnonzero(np.isnan(values) & ~empty)
        empty[odd] = [isinstance(value, str) and not value.strip()
                      for value in column.iloc[odd]]
        if name in _DEFAULTS:
            values = np.where(empty, _DEFAULTS[name], values)
        self.refuse((np.isnan(values) & ~empty) | np.isinf(values),
                    f"{name} is not a finite number")
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
        """Reads the column `time`: seconds, ISO 8601, or objects of time.

        Each cell is read by what it is. Times without a zone are in UTC.
        """
        must = ("time must be seconds since 1970 (UTC), such as "
                "1795550915.8, or ISO 8601, such as 2026-11-29T12:00:00Z")
        column = self.frame["time"]
        if exact_to(column.dtype) < FIRST:
            self.refuse(np.ones(len(column), bool),
                        f"time is {column.dtype}, which rounds seconds; "
                        "write float64")
        numbers, texts = read_cells(column)
        time = np.where(np.isnan(texts), numbers, texts)
        self.keep("time", time)
        self.refuse(~np.isfinite(time), f"{must}; this is none")
        for unit, per in (("milliseconds", 1e3), ("microseconds", 1e6),
                          ("nanoseconds", 1e9)):
            self.refuse((time / per >= FIRST) & (time / per <= now + AHEAD),
                        f"{must}; this looks like {unit}")
        self.refuse(time > now + AHEAD, "time is in the future")
        early = time < FIRST
        if early.any():
            whole = time % 1 == 0
            self.refuse(whole & (time >= 19000101) & (time <= 21001231)
                        & (time // 100 % 100 >= 1) & (time // 100 % 100 <= 12)
                        & (time % 100 >= 1) & (time % 100 <= 31),
                        f"{must}; this looks like a date without dashes")
            self.refuse(whole & (time >= 1900) & (time <= 2100),
                        f"{must}; this looks like a year")
            self.refuse((time >= 20_000) & (time <= 80_000),
                        f"{must}; this looks like days of a spreadsheet")
            self.refuse(early, f"{must}; this lies before 1990")

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
    given = np.array([_VALUES.get(one, np.nan) for one in kind], float)
    value = np.where(np.isnan(value), given, value)
    found.keep("value", value)
    found.refuse(np.isnan(value), "no value of a rating")
    found.refuse((value != given) & ~np.isnan(given),
                 "value is not 1 (click, purchase) or 0 (skip)")
    low, high = (0.0, np.inf) if scale is None else scale
    found.refuse(np.isnan(given) & ~on_scale(value, (low, high)),
                 f"value is off the scale from {low:g} to {high:g}")
    return found


def clean_ids(ids, name: str) -> np.ndarray:
    """Returns ids as the store keeps them, object `[n]`; "" where missing.

    Args:
        ids: strings or whole numbers.
        name: `user_id` or `item_id`.

    Raises:
        ValueError: an id is neither.
    """
    places, texts, wrong = _distinct_texts(
        pd.Series(ids, dtype=object), name)
    if wrong.any():
        odd = ids[int(np.flatnonzero(wrong[places])[0])]
        raise ValueError(f"`{name}` must hold strings or whole numbers. "
                         f"Received: {odd!r:.100}.")
    return texts[places]


def _distinct_texts(column: pd.Series, name: str
                    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns texts, each of a few cells; "" where a cell is empty.

    Returns:
        `(places, texts, wrong)`: row n holds `texts[places[n]]`, and `wrong`
        says which texts stand for a cell that is no id.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        places, values = column.cat.codes.to_numpy(), column.cat.categories
    elif pd.api.types.infer_dtype(column, skipna=True) in (
            "string", "integer", "floating", "empty"):
        places, values = pd.factorize(column)
    else:  # pandas would take True for 1
        values = column.to_numpy(object)
        places = np.where(column.isna(), -1, np.arange(len(values)))
    exact = min(exact_to(column.dtype),
                exact_to(getattr(values, "dtype", None)))
    cells = [_text(value, name, exact)
             for value in np.asarray(values, dtype=object)]
    cells.append("")  # of missing cells, whose place is -1
    return (places, np.array([cell or "" for cell in cells], object),
            np.array([cell is None for cell in cells]))


def _text(value, name: str, exact: float) -> str | None:
    """Returns the text of a cell; None where it holds no id."""
    if isinstance(value, str) and name not in _IDS:
        return value.strip()  # "1.0" and "1" may be two events
    if isinstance(value, np.floating):
        exact = min(exact, exact_to(value.dtype))
    if isinstance(value, (float, np.floating)) and abs(value) >= exact:
        return None
    if isinstance(value, Decimal):
        if not value.is_finite() or value.adjusted() > LONGEST or (
                value != int(value)):
            return None
        value = int(value)
    try:
        return clean_id(value, name)
    except ValueError:
        return None


def _storable(values: np.ndarray) -> np.ndarray:
    """Returns which texts both databases can hold, bool `[n]`."""
    whole = "".join(values)
    if "\0" not in whole and whole.isprintable():
        return np.ones(len(values), bool)
    return np.array(["\0" not in value and is_text(value)
                     for value in values])
