"""Times of users' tables as seconds since 1970.

Numbers count seconds unless a unit is named, and a column of numbers that look
like another thing (milliseconds, 20260501, bare years, days of a spreadsheet)
is refused with the name of that unit: as seconds they would all lie within
some days of January 1970, and every order by time would be wrong.
"""
from __future__ import annotations

import datetime
import re

import numpy as np
import pandas as pd

from tfrecal import checks
from tfrecal.data.columns import arrow_texts, as_numbers, exact_to

_PER_SECOND = {"s": 1, "ms": 10 ** 3, "us": 10 ** 6, "ns": 10 ** 9}
UNITS = (*_PER_SECOND, "date", "year", "excel")
_FIRST = -62_135_596_800  # the year 1
# The year 5138 as seconds, and 1973 as milliseconds.
_LARGEST = 1e11
_SMALLEST = 1e8
# Numbers of one kind among all numbers of a column that make it that kind.
_MOST = 0.9
# A date, perhaps a time of day, perhaps a zone. pandas also takes other texts,
# some of them as what they do not say.
_ISO = (r"^([0-9]{4}-[0-9]{2}(-[0-9]{2})?|[0-9]{8})"
        r"([T ][0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,][0-9]{1,9})?)?)?"
        r" ?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?$")
_EXCEL_1970 = 25_569    # days from 1899-12-30


def as_seconds(column: pd.Series, unit: str | None = None) -> np.ndarray:
    """Returns times as seconds, float64 `[n]`; NaN where there is no time.

    Texts are ISO 8601 or numbers. Times without a zone are in UTC. A time is
    told to about a quarter of a microsecond.

    Args:
        column: numbers, texts or times.
        unit: unit of numbers: `"s"`, `"ms"`, `"us"` or `"ns"` since 1970;
            `"date"` (20260501), `"year"` (2026) or `"excel"` (days since
            1899-12-30). None is seconds, and refuses what looks like another.

    Raises:
        ValueError: `unit` is unknown, or most numbers look like another.
    """
    checks.one_of("timestamp_unit", unit, (None, *UNITS),
                  cure="`--time-unit` on the command line.")
    _check_width(column)
    number, texts = read_cells(column)
    finite = np.isfinite(number)
    if finite.any():
        only_numbers = not np.isfinite(texts).any()
        number = _of_numbers(number, finite, unit, only_numbers)
    return _within(np.where(finite, number, texts))


def is_iso(text: str) -> bool:
    """Whether a text is written as a time of ISO 8601."""
    return bool(re.match(_ISO, text.strip().upper()))


def read_cells(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Reads each cell of a column of times by what it is.

    Returns:
        `(numbers, times)`, float64 `[n]`: numbers in whatever unit, and
        seconds since 1970 of texts in ISO 8601 and of objects of time. A
        cell is in one of them at most, and NaN in the other.
    """
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    nothing = np.full(len(column), np.nan)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return nothing, _since_1970(column)
    numbers = as_numbers(column, booleans=False)
    if not pd.api.types.is_numeric_dtype(column.dtype):
        left = np.flatnonzero(np.isnan(numbers) & column.notna().to_numpy())
        nothing[left] = _of_texts(column.iloc[left])
    return numbers, nothing


def _within(seconds: np.ndarray) -> np.ndarray:
    """Returns seconds, NaN where they lie in no year that is meant."""
    return np.where((seconds >= _FIRST) & (seconds <= _LARGEST), seconds,
                    np.nan)


def _since_1970(times: pd.Series) -> np.ndarray:
    """Returns the seconds of times, each the nearest float64."""
    # The column keeps its own unit, because nanoseconds end in 2262.
    whole = times.to_numpy(f"datetime64[{times.dt.unit}]").astype(np.int64)
    per = np.timedelta64(1, "s") // np.timedelta64(1, times.dt.unit)
    return np.where(times.isna(), np.nan, whole // per + whole % per / per)


def _check_width(column: pd.Series) -> None:
    limit = exact_to(column.dtype)
    if limit >= 2 ** 53:  # as in float64
        return
    largest = np.abs(column.to_numpy(np.float64, na_value=0)).max(initial=0)
    if largest >= limit:
        raise ValueError(
            f"Times must be exact. Received: numbers up to {largest:.0f} in "
            f"{str(column.dtype).lower()}, which rounds them and lets times "
            "fall together. Write the column as float64 or int64.")


def _of_texts(column: pd.Series) -> np.ndarray:
    """Returns seconds of texts and objects of time; NaN for all else."""
    if isinstance(column.dtype, pd.StringDtype):
        return _of_iso(column)
    places, values = pd.factorize(np.array(
        [_text(value) for value in column], object))
    found = _of_iso(pd.Series(values, dtype=object))
    return np.append(found, np.nan)[places]


def _of_iso(column: pd.Series) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.ascii_upper(pc.utf8_trim_whitespace(arrow_texts(column)))
    fits = pc.fill_null(pc.match_substring_regex(cells, _ISO), False)
    cells = pc.if_else(fits, cells, pa.scalar(None, pa.string()))
    cells = pc.replace_substring(cells, ",", ".")
    found = _of_cells(cells)
    left = np.flatnonzero(np.isnan(found) & fits.to_numpy(
        zero_copy_only=False))
    if len(left):
        # One cell with nanoseconds costs pandas all years far from ours.
        found[left] = _of_cells(pc.replace_substring_regex(
            cells.take(left), r"(\.[0-9]{6})[0-9]+", r"\1"))
    return found


def _of_cells(cells) -> np.ndarray:
    return _since_1970(pd.to_datetime(
        cells.to_pandas(), errors="coerce", utc=True, format="ISO8601"))


def _text(value) -> str | None:
    """Returns the text of a cell of time, or None."""
    if isinstance(value, (datetime.date, np.datetime64)):
        try:
            return pd.Timestamp(value).isoformat()
        except ValueError:  # in no year that pandas knows
            return None
    return value if isinstance(value, str) else None


def _of_numbers(number, finite, unit, only_numbers) -> np.ndarray:
    """Returns seconds of numbers; NaN where one is in another unit."""
    if unit is None:
        looks = _look(number[finite])
        if looks is not None and only_numbers:
            name, shown = looks
            if name not in UNITS:
                raise ValueError(
                    "`timestamp` must be in seconds since 1970, or ISO 8601. "
                    f"Received: {_plain(number[finite])}, which looks like "
                    f"{shown}. Write them with dashes, such as {name}, or "
                    "pass `timestamp_unit=\"s\"` (`--time-unit s`) if they "
                    "are seconds.")
            raise ValueError(
                "`timestamp` must be in seconds since 1970, or ISO 8601. "
                f"Received: {_plain(number[finite])}, which looks like "
                f"{shown}. Pass `timestamp_unit=\"{name}\"` "
                f"(`--time-unit {name}`), or \"s\" if they are seconds.")
        if looks is not None:  # beside texts that are times
            return np.full(len(number), np.nan)
    if unit == "date":
        return _of_dates(number)
    if unit == "year":
        whole = np.where(finite & (number % 1 == 0), number, 0)
        good = (whole >= 1) & (whole <= 9999)
        years = np.where(good, whole, 1970).astype(np.int64) - 1970
        found = years.astype("datetime64[Y]").astype("datetime64[s]")
        return np.where(good, found.astype(np.int64), np.nan)
    if unit == "excel":
        return (number - _EXCEL_1970) * 86_400
    per = _PER_SECOND[unit or "s"]
    if per > 1:
        coarse = finite & (np.abs(number) >= _SMALLEST) & (
            np.abs(number) < _SMALLEST * per)
        if coarse.sum() > finite.sum() / 2 and only_numbers:
            raise ValueError(
                f"`timestamp` must be in {unit} since 1970. Received: "
                f"{_plain(number[coarse])}, which would lie near January "
                "1970 and looks like a coarser unit. Pass "
                "`timestamp_unit=\"s\"` (`--time-unit s`) or another.")
        number = np.where(coarse, np.nan, number)
    return number / per


def _look(numbers: np.ndarray) -> tuple[str, str] | None:
    """Returns the unit that most numbers look like, if it is not seconds.

    What no unit stands for comes with an example of ISO 8601 instead.
    """
    size = np.abs(np.median(numbers))
    if 19000101000000 <= size <= 21001231235959:
        days = np.floor(numbers / 1e6)
        clock = [numbers // 1e4 % 100 < 24, numbers // 100 % 100 < 60,
                 numbers % 100 < 60]
        if np.mean(np.isfinite(_of_dates(days)) & np.logical_and.reduce(
                clock)) >= _MOST:
            return "2026-05-01T10:30:00", "dates and times without dashes"
    for unit, most in (("ns", 1e17), ("us", 1e14), ("ms", _LARGEST)):
        if size > most:
            return unit, {"ns": "nanoseconds", "us": "microseconds",
                          "ms": "milliseconds"}[unit]
    if 1900 <= size <= 2100:
        unit, shown, fits = "year", "years", (numbers % 1 == 0) & (
            numbers >= 1900) & (numbers <= 2100)
    elif 20_000 <= size <= 80_000:
        unit, shown, fits = "excel", "days of a spreadsheet", (
            numbers >= 20_000) & (numbers <= 80_000)
    elif 190001 <= size <= 210012:
        unit, shown, fits = "2026-05", "months without dashes", np.isfinite(
            _of_dates(numbers * 100 + 1))
    elif 19000101 <= size <= 21001231:
        unit, shown, fits = "date", "dates without dashes", np.isfinite(
            _of_dates(numbers))
    else:
        return None
    return (unit, shown) if fits.mean() >= _MOST else None


def _of_dates(numbers: np.ndarray) -> np.ndarray:
    """Returns seconds of numbers such as 20260501; NaN for others."""
    with np.errstate(invalid="ignore"):
        good = (numbers >= 19000101) & (numbers <= 21001231) & (
            numbers % 1 == 0)
    whole = np.where(good, numbers, 19700101).astype(np.int64)
    year, month, day = whole // 10_000, whole // 100 % 100, whole % 100
    good &= (month >= 1) & (month <= 12) & (day >= 1)
    months = (year - 1970) * 12 + np.where(good, month, 1) - 1
    first = months.astype("datetime64[M]")
    found = first.astype("datetime64[D]") + (np.where(good, day, 1) - 1)
    good &= found.astype("datetime64[M]") == first
    return np.where(good, found.astype("datetime64[s]").astype(np.int64),
                    np.nan)


def _plain(numbers: np.ndarray) -> str:
    return ", ".join(f"{number:.12g}" for number in numbers[:3])
