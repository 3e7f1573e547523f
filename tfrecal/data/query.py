"""Queries on a table: a condition that is parsed and never run as Python.

A query compares columns with numbers, texts, `True` and `False`, or with each
other: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in [...]`, `not in [...]`, joined by
`and`, `or`, `not` and brackets. A column of true and false is a condition
itself. `"Action" in genres` is true where a cell, such as `"Action|Drama"`,
holds the value. Names with blanks or dots stand in backquotes. Texts are
compared as they are, and times with texts, such as `when >= "2026-01-31"`.

As in pandas, a missing cell is unequal to everything: `!=` and `not in` are
true there, and all other comparisons are false; `a != a` finds the missing
cells. `&`, `|` and `~` stand for `and`, `or` and `not`.
"""
from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd

from tfrecal.checks import shown
from tfrecal.data.query_values import (
    OPERATORS,
    Constant,
    Name,
    Unfit,
    compared,
    holds,
    is_in,
    truth,
)

LONGEST, DEEPEST = 10_000, 50  # characters, and brackets or `not` in a row
_ALLOWED = ("A query compares columns with numbers, texts, True and False "
            "(==, !=, <, <=, >, >=, in, not in), joined by and, or, not, and "
            "is true or false for each row")
_TOKENS = re.compile(r"""(?P<open>'''|\"\"\"|\#)
    | '(?:[^'\\\n]|\\[^\n])*' | "(?:[^"\\\n]|\\[^\n])*"
    | `(?P<name>[^`\n]*)` | (?P<joint>[&|]) | (?P<blank>\s+)""", re.VERBOSE)
_WORDS = {ast.Call: "a call", ast.Attribute: "an attribute; a column with a "
          "dot in its name stands in backquotes", ast.Subscript: "a subscript",
          ast.BinOp: "arithmetic", ast.JoinedStr: "an f-string",
          ast.Lambda: "a lambda", ast.NamedExpr: "an assignment"}


def check_query(**queries: str) -> None:
    """Checks that texts are queries, before there is a table.

    Raises:
        ValueError: a text is no query; the message names the argument.
    """
    for name, query in queries.items():
        try:
            _parse(query)
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from None


def rows_of(table: pd.DataFrame, query: str) -> np.ndarray:
    """Returns the rows of a table where a query is true, bool `[rows]`.

    Args:
        table: a users or items table; its index has a name as columns do.
        query: see this module.

    Raises:
        ValueError: the query is none, names a column that is not there, or
            compares a column with values of another kind.
    """
    condition = _parse(query)
    try:
        return condition(table)
    except Unfit as error:
        raise ValueError(f"{error} Received: {shown(query)}.") from None


def _parse(query: str) -> Callable[[pd.DataFrame], np.ndarray]:
    """Returns a query as a function of a table."""
    if not isinstance(query, str) or not query.strip():
        raise ValueError(f"{_ALLOWED}. Received: {shown(query)}.")
    if len(query) > LONGEST:
        raise ValueError(f"A query may have {LONGEST:,} characters. "
                         f"Received: {len(query):,}. Put the condition into "
                         "a column of the table.")
    try:
        text, quoted = _prepared(query)
        with warnings.catch_warnings():
            # Python warns of "\d" and of `1in [2]`.
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval").body
        return _Reader(quoted).condition(tree, 0)
    except SyntaxError as error:
        # What comes after the semicolon is for writers of Python.
        why = f"it does not read ({error.msg.partition(';')[0]})"
    except (RecursionError, MemoryError):
        why = "it is nested too deep"
    except ValueError as error:
        why = str(error)
    raise ValueError(f"{_ALLOWED}. Received: {shown(query)}: {why}.")


def _prepared(query: str) -> tuple[str, dict[str, str]]:
    """Returns a query in Python's grammar, and placeholder -> column name."""
    stem, quoted = "_column", {}
    while stem in query:
        stem += "_"

    def replace(token):
        if token["open"]:
            raise ValueError(f"it holds {token['open']}")
        if token["name"] is not None:
            placeholder = f"{stem}{len(quoted)}"
            quoted[placeholder] = token["name"]
            return f" {placeholder} "
        if token["joint"]:
            return {"&": " and ", "|": " or "}[token["joint"]]
        return " " if token["blank"] else token[0]

    return _TOKENS.sub(replace, query).strip(), quoted


class _Reader:
    """Turns Python's tree of a query into functions of a table."""

    def __init__(self, quoted: dict[str, str]):
        self._quoted = quoted

    def condition(self, node, depth: int):
        if depth > DEEPEST:
            raise ValueError("it is nested too deep")
        if isinstance(node, ast.BoolOp):
            parts = [self.condition(part, depth + 1) for part in node.values]
            join = (np.logical_and if isinstance(node.op, ast.And)
                    else np.logical_or)
            return lambda table: join.reduce([part(table) for part in parts])
        if isinstance(node, ast.UnaryOp) and isinstance(
                node.op, (ast.Not, ast.Invert)):
            inner = self.condition(node.operand, depth + 1)
            return lambda table: ~inner(table)
        if isinstance(node, ast.Compare):
            values = [self._operand(value)
                      for value in (node.left, *node.comparators)]
            parts = [_comparison(left, type(op), right) for left, op, right
                     in zip(values, node.ops, values[1:])]
            return lambda table: np.logical_and.reduce(
                [part(table) for part in parts])
        if isinstance(node, ast.Name):
            name = self._operand(node).name
            return lambda table: truth(table, name)
        if isinstance(node, ast.Constant):
            raise ValueError(f"{shown(node.value)} is compared with nothing")
        raise ValueError(f"it holds {_word(node)}")

    def _operand(self, node):
        if isinstance(node, ast.Name):
            return Name(self._quoted.get(node.id, node.id))
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            found = [self._operand(value) for value in node.elts]
            if not all(isinstance(one, Constant) and not isinstance(
                    one.value, list) for one in found):
                raise ValueError("a list holds numbers or texts only")
            kinds = {one.kind for one in found} or {""}
            if len(kinds) > 1:
                raise ValueError(f"a list holds {' and '.join(sorted(kinds))}")
            return Constant(kinds.pop(), [one.value for one in found])
        sign = 1
        if isinstance(node, ast.UnaryOp) and isinstance(
                node.op, (ast.USub, ast.UAdd)):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            node = node.operand
            if not isinstance(node, ast.Constant) or isinstance(
                    node.value, (bool, str)):
                raise ValueError("it holds arithmetic")
        if isinstance(node, ast.Constant):
            return _constant(node.value, sign)
        raise ValueError(f"it holds {_word(node)}")


def _word(node) -> str:
    return _WORDS.get(type(node), f"what Python calls {type(node).__name__}")


def _constant(value, sign: int) -> Constant:
    if isinstance(value, bool):
        return Constant("true and false", value)
    if isinstance(value, str):
        return Constant("texts", value)
    if isinstance(value, (int, float)):
        try:
            if isinstance(value, float) or value > 2 ** 63 - 1:
                value = float(value)
        except OverflowError:
            value = math.inf
        if math.isfinite(value):
            return Constant("numbers", sign * value)
        raise ValueError("it holds a number that is not finite")
    raise ValueError(f"it holds {shown(value)}" + (
        "; `a != a` is true where a cell is missing" if value is None else ""))


def _comparison(left, op: type, right):
    """Returns one comparison as a function of a table."""
    if not (isinstance(left, Name) or isinstance(right, Name)):
        raise ValueError("a comparison has no column")
    lists = [isinstance(one, Constant) and isinstance(one.value, list)
             for one in (left, right)]
    if op in (ast.In, ast.NotIn):
        if isinstance(left, Name) and lists[1]:
            found = is_in
        elif isinstance(left, Constant) and not lists[0] and (
                left.kind == "texts"):
            found = holds
            left, right = right, left
        else:
            raise ValueError("`in` stands between a column and a list, or "
                             "between a text and a column")
        return (lambda table: found(table, left.name, right)
                if op is ast.In else ~found(table, left.name, right))
    if op not in OPERATORS or any(lists):
        raise ValueError(
            "a list is compared with `in`" if any(lists) else
            "it holds `is`; write == or !=")
    return lambda table: compared(table, left, OPERATORS[op], right)
