"""The written rules of tables in plain Python: what `fuzz.py` holds as true.

Nothing of tfrecal, pandas or NumPy is in it: records by `csv`, text by text;
ids, numbers and times by regular expressions, `datetime` and fractions.
"""
from __future__ import annotations

import csv
import datetime
import math
import re
from decimal import Decimal
from fractions import Fraction
from statistics import median

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# What makes a column numbers: as a program writes them.
_PROGRAMS = re.compile(r"-?(0|[1-9][0-9]{0,14}|(0|[1-9][0-9]*)\.[0-9]+"
                       r"|[0-9](\.[0-9]+)?[eE][+-][0-9]{2,3})")
_ISO = re.compile(
    r"(\d{4})-?(\d\d)(?:-?(\d\d))?(?:[T ](\d\d)(?:(:?)(\d\d)(?:\5(\d\d)"
    r"(?:[.,](\d{1,9}))?)?)?(?: ?(Z|[+-]\d\d(?::?\d\d)?))?)?",
    re.ASCII | re.IGNORECASE)
_UNITS = {"s": 1, "ms": 10 ** 3, "us": 10 ** 6, "ns": 10 ** 9}
_EPOCH = datetime.datetime(1970, 1, 1)
FLOAT32 = 3.4028234663852886e38
FIRST = -62_135_596_800  # the year 1


class Refused(ValueError):
    """The rules refuse a file as a whole."""


def records(data: bytes, encoding: str = "utf-8",
            separator: str | None = None, header=(), quotes: bool = True):
    """Returns `(names, rows)`; a row is `(line, cells or None)`.

    Raises:
        Refused: there is no line of names, or the encoding does not fit.
    """
    utf8 = encoding in ("utf-8", "utf8")
    try:
        text = data.decode("utf-8-sig" if utf8 else encoding,
                           "surrogateescape").removeprefix("\ufeff")
    except UnicodeError:
        raise Refused("the encoding") from None
    lines = [line for line in re.split("(?<=\n)|(?<=\r)(?!\n)", text) if line]
    separator = separator or _separator(lines)
    place, names = 0, list(header)
    while not names:
        if place == len(lines):
            raise Refused("no header")
        cells, end = _record(lines, place, separator, quotes)
        if "".join(lines[place:end]).strip():
            if cells is None or not _is_text("".join(lines[place:end])):
                raise Refused("the header is no record")
            names = cells
        place = end
    rows = []
    while place < len(lines):
        cells, end = _record(lines, place, separator, quotes)
        whole = "".join(lines[place:end])
        if cells and len(cells) != len(names) and whole.strip():
            cells, end = None, place + 1
        elif not _is_text(whole):
            cells = None
        if cells is None or whole.strip() or len(names) == 1:
            if cells != []:
                rows.append((place + 1, cells))
        place = end
    return names, rows


def _separator(lines) -> str:
    first = next((line for line in lines if line.strip()), "")
    return max(",;\t", key=re.sub('"[^"]*"', "", first).count)


def _record(lines, place: int, separator: str, quotes: bool):
    """Returns `(cells, next place)`; None for cells that are no record."""
    cells, end = None, place + 1
    if len(separator) > 1:
        bare = lines[place].rstrip("\r\n")
        cells = bare.split(separator) if bare else []
    else:
        for end in range(place + 1, len(lines) + 1):
            try:
                found = list(csv.reader(
                    lines[place:end], delimiter=separator, strict=True,
                    quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE))
            except csv.Error as error:
                if "unexpected end" in str(error):
                    continue
                break
            cells = found[0] if found else []
            break
    return cells, end if cells is not None else place + 1


def _is_text(text: str) -> bool:
    try:
        return "\0" not in text and bool(text.encode() or True)
    except UnicodeEncodeError:
        return False


def cell_of(text: str, missing=()) -> str | None:
    """Returns a cell; None where it is blank or a word of `missing`."""
    bare = text.strip()
    return None if bare == "" or bare in missing else text


def id_of(value, exact: int = 2 ** 53) -> str:
    """Returns the text of an id; "" where it is missing.

    Raises:
        Refused: it is neither a text nor an exact whole number.
    """
    if value is None or value != value:
        return ""
    if isinstance(value, str):
        text = value.strip()
        whole = re.fullmatch(r"(-?[0-9]+)\.0+", text)
        return whole[1] if whole else text
    if isinstance(value, bool) or not isinstance(
            value, (int, float, Decimal)):
        raise Refused("an id of another type")
    if isinstance(value, float) and not abs(value) < exact or (
            value % 1 != 0):
        raise Refused("an id that is not exact")
    return str(int(value))


def number_of(value, booleans: bool = True) -> float:
    """Returns a number; NaN where there is none."""
    if isinstance(value, str):
        text = value.strip()
        return float(text) if _NUMBER.fullmatch(text) else math.nan
    if isinstance(value, bool) and not booleans:
        return math.nan
    if isinstance(value, (bool, int, float, Decimal)):
        return float(value)
    return math.nan


def column_of(cells: list[str | None]) -> list:
    """Returns the cells of a column of texts: all numbers, or all texts."""
    there = [cell.strip() for cell in cells if cell is not None]
    if not there or not all(map(_PROGRAMS.fullmatch, there)) or any(
            math.isinf(float(cell)) for cell in there):
        return cells
    return [None if cell is None else float(cell.strip()) for cell in cells]


def iso_of(value) -> float:
    """Returns the seconds of ISO 8601 or of an object; NaN if it is none."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(datetime.timezone.utc)
        return _seconds(value.replace(tzinfo=None))
    if isinstance(value, datetime.date):
        return _seconds(datetime.datetime(*value.timetuple()[:3]))
    text = value.strip() if isinstance(value, str) else ""
    found = _ISO.fullmatch(text)
    if not found:
        return math.nan
    year, month, day, hour, minute, second = (
        int(part or least) for part, least in zip(
            found.group(1, 2, 3, 4, 6, 7), (0, 0, 1, 0, 0, 0)))
    if not re.match(r"\d{4}-\d\d($|-\d\d($|[T ]))|\d{8}($|[T ])", text,
                    re.IGNORECASE):
        return math.nan
    part = Fraction(int((found[8] or "0").ljust(9, "0")), 10 ** 9)
    try:
        time = datetime.datetime(year, month, day, hour, minute, second)
        return float(Fraction(_seconds(time)) + part - _zone(found[9]))
    except ValueError:
        return math.nan


def _seconds(time: datetime.datetime) -> float:
    since = time - _EPOCH
    return float(since.days * 86_400 + since.seconds
                 + Fraction(since.microseconds, 10 ** 6))


def _zone(text: str | None) -> int:
    if text in (None, "Z", "z"):
        return 0
    digits = text[1:].replace(":", "").ljust(4, "0")
    if int(digits[:2]) > 23 or int(digits[2:]) > 59:
        raise ValueError
    seconds = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -seconds if text[0] == "-" else seconds


def times_of(values: list, unit: str | None = None) -> list[float]:
    """Returns the seconds of a column of times; NaN where there is none.

    Raises:
        Refused: the numbers look like another unit.
    """
    numbers = [number_of(value, booleans=False) for value in values]
    texts = [math.nan if math.isfinite(number) else iso_of(value)
             for number, value in zip(numbers, values)]
    finite = [number for number in numbers if math.isfinite(number)]
    alone = not any(map(math.isfinite, texts))
    odd = set()
    if finite and unit is None and _looks(finite):
        odd = set(finite)
        if alone:
            raise Refused("another unit")
    if unit in _UNITS and unit != "s":
        odd = {number for number in finite
               if 1e8 <= abs(number) < 1e8 * _UNITS[unit]}
        if alone and sum(n in odd for n in finite) > len(finite) / 2:
            raise Refused("a coarser unit")
    found = [text if not math.isfinite(number) else
             math.nan if number in odd else _in_unit(number, unit)
             for number, text in zip(numbers, texts)]
    return [time if FIRST <= time <= 1e11 else math.nan for time in found]


def _in_unit(number: float, unit: str | None) -> float:
    if unit == "excel":
        return (number - 25_569) * 86_400
    if unit in ("date", "year"):
        text = f"{number:.0f}"
        if number % 1 or len(text) != 8 and unit == "date":
            return math.nan
        if unit == "year":
            return (_seconds(datetime.datetime(int(text), 1, 1))
                    if 1 <= number <= 9999 else math.nan)
        return iso_of(text) if "1900" <= text[:4] <= "2100" else math.nan
    return number / _UNITS[unit or "s"]


def _looks(numbers: list[float]) -> bool:
    """Whether most numbers are no seconds, but another unit."""
    size = abs(median(numbers))
    if size > 1e11:
        return True
    for low, high, holds in (
            (1900, 2100, lambda n: n % 1 == 0 and 1900 <= n <= 2100),
            (20_000, 80_000, lambda n: 20_000 <= n <= 80_000),
            (190001, 210012, lambda n: n % 1 == 0 and 1 <= n % 100 <= 12),
            (19000101, 21001231,
             lambda n: math.isfinite(_in_unit(n, "date")))):
        if low <= size <= high:
            return sum(map(holds, numbers)) / len(numbers) >= 0.9
    return False
