"""What the comparisons of a query give on the columns of a table."""
from __future__ import annotations

import ast
import operator
from typing import NamedTuple

import numpy as np
import pandas as pd

from tfrecal.checks import did_you_mean, shown
from tfrecal.data.times import is_iso

OPERATORS = {ast.Eq: operator.eq, ast.NotEq: operator.ne,
             ast.Lt: operator.lt, ast.LtE: operator.le,
             ast.Gt: operator.gt, ast.GtE: operator.ge}


class Unfit(ValueError):
    """A query does not fit a table."""


class Constant(NamedTuple):
    """A value in a query, or several of one kind."""

    kind: str  # "numbers", "texts" or "true and false"
    value: object


class Name(NamedTuple):
    """The name of a column in a query."""

    name: str


def compared(table, left, compare, right) -> np.ndarray:
    """Where `left` and `right` compare so; missing cells are unequal."""
    kinds, values = [], []
    for one in (left, right):
        kind, value = (_column(table, one.name) if isinstance(one, Name)
                       else (one.kind, one.value))
        kinds.append(kind)
        values.append(value)
    for place, other in ((0, 1), (1, 0)):
        if kinds[other] == "times" and isinstance(values[place], str):
            values[place], = _times([values[place]], values[other])
            kinds[place] = "times"
    _check_kinds(left, right, kinds)
    if "true and false" in kinds and compare not in (
            operator.eq, operator.ne):
        raise Unfit(f"True and False have no order: {_said(left, right)}.")
    there = np.ones(len(table), bool)
    for value in values:
        if isinstance(value, pd.Series):
            there &= value.notna().to_numpy()
    found = np.full(len(table), compare is operator.ne)
    try:
        found[there] = np.asarray(compare(*(
            value[there] if isinstance(value, pd.Series) else value
            for value in values)), bool)
    except (TypeError, OverflowError) as error:
        raise Unfit(f"{_said(left, right)} cannot be compared: "
                    f"{error}.") from None
    return found


def is_in(table, name: str, values: Constant) -> np.ndarray:
    """Where a cell is one of several values."""
    kind, column = _column(table, name)
    wanted = values.value
    if kind == "times" and values.kind == "texts":
        wanted, kind = _times(wanted, column), "texts"
    if wanted and kind not in (values.kind, ""):
        _check_kinds(Name(name), values, [kind, values.kind])
    there = column.notna().to_numpy()
    found = np.zeros(len(table), bool)
    found[there] = np.asarray(column[there].isin(wanted), bool)
    return found


def holds(table, name: str, value: Constant) -> np.ndarray:
    """Where a cell holds a value: `"a|b"` and lists have several."""
    kind, column = _column(table, name)
    if kind not in ("lists", "texts", ""):
        _check_kinds(value, Name(name), ["texts", kind])
    codes, cells = (np.arange(len(table)), column) if kind == "lists" else (
        pd.factorize(column))
    cells = pd.Series(np.asarray(cells, object))
    if kind != "lists":
        cells = cells.astype(str).str.split("|")
    parts = cells.explode()
    here = parts.notna() & (
        parts.astype(str).str.strip() == value.value.strip())
    held = here.groupby(level=0).any().to_numpy(bool)
    return np.append(held, False)[codes]


def truth(table, name: str) -> np.ndarray:
    """Where a column of true and false is true."""
    kind, column = _column(table, name)
    if kind not in ("true and false", ""):
        raise Unfit(f"A query must be true or false for each row, and "
                    f"`{name}` holds {kind}.")
    found = np.zeros(len(table), bool)
    there = column.notna().to_numpy()
    found[there] = np.asarray(column[there], bool)
    return found


def _column(table: pd.DataFrame, name: str) -> tuple[str, pd.Series]:
    """Returns the kind and the values of a column, or of the index."""
    known = {str(column): column for column in table.columns}
    if name in known:
        column = table[known[name]]
        if column.ndim > 1:
            raise Unfit(f"Each column must have a name of its own: `{name}` "
                        "stands twice.")
    elif name in (str(table.index.name), "index"):
        column = table.index.to_series()
    else:
        names = ([] if table.index.name is None else [
            str(table.index.name)]) + list(known)
        raise Unfit(
            f"There is no column {shown(name)}"
            + (did_you_mean(name, names) or ".") + " The columns are "
            f"{shown(names)}.")
    column = column.reset_index(drop=True)
    if isinstance(column.dtype, pd.CategoricalDtype):
        # Nullable, so that whole numbers beside missing cells stay exact.
        column = pd.Series(column.cat.categories).convert_dtypes().reindex(
            column.cat.codes).reset_index(drop=True)
    return _kind(column), column


def _kind(column: pd.Series) -> str:
    """Returns what the cells hold, in words; "" if all are missing."""
    types = pd.api.types
    if types.is_bool_dtype(column.dtype):
        return "true and false"
    if types.is_complex_dtype(column.dtype):
        return "complex numbers"
    if types.is_numeric_dtype(column.dtype):
        return "numbers"
    if types.is_datetime64_any_dtype(column.dtype):
        return "times"
    found = types.infer_dtype(column, skipna=True)
    if found == "mixed":
        cells = column.dropna()
        if cells.map(lambda cell: isinstance(
                cell, (list, tuple, set, np.ndarray))).all():
            return "lists"
    return {"string": "texts", "boolean": "true and false", "empty": "",
            "integer": "numbers", "floating": "numbers",
            "decimal": "numbers", "mixed-integer-float": "numbers",
            }.get(found, f"values of the kind {found}")


def _check_kinds(left, right, kinds) -> None:
    given = {kind for kind in kinds if kind}
    if len(given) > 1 or "lists" in given:
        held = [f"{shown(one.value)}" if isinstance(one, Constant) else
                f"`{one.name}`, which holds {kind or 'nothing'},"
                for one, kind in zip((left, right), kinds)]
        raise Unfit(
            f"{held[0]} cannot be compared with {held[1].rstrip(',')}"
            + (": texts stand in quotes, numbers do not"
               if given == {"texts", "numbers"} else "") + ".")


def _said(left, right) -> str:
    return " and ".join(
        shown(one.value) if isinstance(one, Constant) else f"`{one.name}`"
        for one in (left, right))


def _times(texts: list[str], column: pd.Series) -> list[pd.Timestamp]:
    """Returns texts as times in the zone of a column."""
    found = []
    for text in texts:
        try:
            if not is_iso(text):  # pandas takes "01", and guesses
                raise ValueError("no time")
            time, zone = pd.Timestamp(text), column.dt.tz
            if zone is not None:
                time = (time.tz_localize(zone) if time.tz is None
                        else time.tz_convert(zone))
            elif time.tz is not None:
                time = time.tz_convert("UTC").tz_localize(None)
        except (ValueError, OverflowError, TypeError):
            raise Unfit(f"A time is written as in \"2026-01-31\", not "
                        f"{shown(text)}.") from None
        found.append(time)
    return found
