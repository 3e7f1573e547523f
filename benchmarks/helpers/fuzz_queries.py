"""Queries on tables for `fuzz.py`: right, refused, and never run."""
from __future__ import annotations

import ast
import datetime
import operator
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from helpers import fuzz_mutations as parts
from helpers.strict_reader import Refused

from tfrecal.data.query import rows_of

_DATA = {
    "age": [17, 21, 30, 45, 60], "height": [1.5, None, 1.7, 1.8, 2.0],
    "town": ["Bonn", None, "Ulm", "bonn ", "Jena"],
    "vip": [True, False, False, True, False],
    "visits": [1, None, 3, 4, 2 ** 53 + 1],
    "genres": ["Action|Drama", "Action", "Drama | War", None, "War"],
    "first name": list("abcde"),
    "since": ["2020-01-01", "2021-06-01", None, "2023-01-01", "2024-12-31"]}
_OPERATORS = {ast.Eq: operator.eq, ast.NotEq: operator.ne,
              ast.Lt: operator.lt, ast.LtE: operator.le,
              ast.Gt: operator.gt, ast.GtE: operator.ge}
_NUMBERS = ["21", "17", "1.7", "-5", "9007199254740993", "2.0e0", "3"]
_TEXTS = ["'Bonn'", '"Ulm"', "'Action'", "'c'", "''", "'bonn '"]
_NOISE = ["and", "or", "not", "in", "not in", "(", ")", "[", "]", ",", "==",
          "!=", "<", ">=", "is", "&", "|", "~", "-", "+", "*", "**", "@", ".",
          "1e999", "True", "None", "lambda", "x:", "f'{age}'", ":=", "#",
          "__import__('os').system('touch pwned')", "age.to_csv('pwned')",
          "@pd.io.common.os.system('touch pwned')", "open('pwned', 'w')",
          "age.__class__", "if", "else", "for", "b'x'", "'''", "\n", "\\", "'",
          '"', "`", "\0", "\ud800", "\uff11", "\uff45", "9" * 30, "9" * 5000,
          "(" * 200, "not " * 200, "age", "town", "vip", "`first name`",
          "genres", "nobody", "[17, 21]", "['Bonn', 'Ulm']", "index", "()",
          "{}", "1j", "...", ";", "age = 3"]
_FREE = re.compile(r"[\\#\n\r\0\ud800\uff11\uff45]|'''|\"\"\"")
_TOKEN = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|[&|]|\s+")
_OPENED: list[str] = []


@dataclass
class Query:
    """A query, and whether it came as people write it."""

    text: str

    def smaller(self):
        """Yields shorter queries."""
        for less in parts.shorter(self.text):
            yield Query(less)


class Queries:
    """`tfrecal.data.query.rows_of`."""

    name, share = "queries", 5

    def __init__(self):
        self._table = None

    def make(self, rng) -> Query:
        """Returns a query, often with noise."""
        text = _condition(rng, rng.randint(0, 3))
        kind = rng.random()
        if kind < 0.4:
            words = text.split(" ")
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(len(words) + 1)
                words[place:place + rng.randrange(2)] = [rng.choice(_NOISE)]
            text = " ".join(words)
        elif kind < 0.5:
            text = " ".join(rng.choice(_NOISE)
                            for _ in range(rng.randint(0, 8)))
        elif kind < 0.6:
            text = parts.mutated(rng, text, parts.CHARACTERS)
        return Query(text)

    def take(self, query: Query, folder: Path) -> list[bool] | None:
        """Returns the rows by the package; fails if anything was run."""
        if self._table is None:
            self._table = _frame()
            sys.addaudithook(_watch)
        _OPENED.clear()
        try:
            found = rows_of(self._table, query.text).tolist()
        finally:
            if _OPENED:
                raise RuntimeError(f"the query ran {_OPENED}")
        return found

    def expect(self, query: Query) -> list[bool] | None:
        """Returns the rows by the rules; None where they say nothing."""
        if _FREE.search(query.text):
            return None
        text, names = _plain(query.text)
        try:
            node = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise Refused("no expression") from None
        try:
            found = [_holds(node, names, row) for row in range(5)]
        except RecursionError:
            raise Refused("too deep") from None
        if set(_names(node)) == {"age"} and "in" not in text:
            pandas = _frame().eval(text, engine="python").tolist()
            assert pandas == found, (query, pandas, found)
        return found

    def differs(self, got, wanted) -> str:
        """Says what differs; "" if nothing does."""
        return "" if wanted is None or got == wanted else (
            f"{got} for {wanted}")


def _watch(event: str, arguments) -> None:
    if event in ("os.system", "subprocess.Popen", "os.exec",
                 "os.posix_spawn", "os.fork") or event == "open" and (
                     "pwned" in str(arguments[0])):
        _OPENED.append(f"{event} {arguments}")


def _frame() -> pd.DataFrame:
    return pd.DataFrame(_DATA).assign(
        visits=pd.array(_DATA["visits"], "Int64"),
        since=pd.to_datetime(_DATA["since"]))


def _condition(rng, depth: int) -> str:
    if depth:
        kind = rng.randrange(4)
        first, second = (_condition(rng, rng.randrange(depth))
                         for _ in range(2))
        return [f"{first} {rng.choice(['and', '&'])} {second}",
                f"{first} {rng.choice(['or', '|'])} {second}",
                f"not {first}", f"( {first} )"][kind]
    sign = rng.choice(["==", "!=", "<", "<=", ">", ">="])
    numbers = rng.choice(["age", "height", "visits"])
    texts = rng.choice(["town", "`first name`", "genres"])
    return rng.choice([
        lambda: f"{numbers} {sign} {rng.choice(_NUMBERS)}",
        lambda: f"{rng.choice(_NUMBERS)} {sign} {numbers}",
        lambda: f"{texts} {sign} {rng.choice(_TEXTS)}",
        lambda: f"{numbers} {rng.choice(['in', 'not in'])} [17, 1.7, 4]",
        lambda: f"{texts} {rng.choice(['in', 'not in'])} ['Bonn', 'c']",
        lambda: f"{rng.choice(_TEXTS)} in genres",
        lambda: f"since {sign} '2021-06-01'", lambda: "vip",
        lambda: f"{numbers} {sign} {rng.choice(['age', 'height'])}",
        lambda: f"17 < {numbers} {sign} 45", lambda: "vip == True"])()


def _plain(text: str) -> tuple[str, dict[str, str]]:
    """Returns a query in Python's words, and its names of columns."""
    names = {}

    def replace(found):
        token = found[0]
        if token.isspace():
            return " "
        if token in "&|":
            return {"&": " and ", "|": " or "}[token]
        if token[0] == "`":
            name = f"quoted{len(names)}_"
            names[name] = token[1:-1]
            return f" {name} "
        return token

    return _TOKEN.sub(replace, text).strip(), names


def _names(node) -> list[str]:
    return [one.id for one in ast.walk(node) if isinstance(one, ast.Name)]


def _holds(node, names, row: int) -> bool:
    if isinstance(node, ast.BoolOp):
        parts_ = [_holds(one, names, row) for one in node.values]
        return (all if isinstance(node.op, ast.And) else any)(parts_)
    if isinstance(node, ast.UnaryOp) and isinstance(
            node.op, (ast.Not, ast.Invert)):
        return not _holds(node.operand, names, row)
    if isinstance(node, ast.Name):
        value = _value(node, names, row)
        if not isinstance(value, bool):
            raise Refused("no condition")
        return value
    if not isinstance(node, ast.Compare):
        raise Refused("another expression")
    found, left = True, node.left
    for sign, right in zip(node.ops, node.comparators):
        if not _names(left) and not _names(right):
            raise Refused("no column")
        found &= _compared(_value(left, names, row), sign,
                           _value(right, names, row), left, right)
        left = right
    return found


def _compared(left, sign, right, first, second) -> bool:
    if isinstance(sign, (ast.In, ast.NotIn)):
        return _is_in(left, right, first, second) != isinstance(
            sign, ast.NotIn)
    if type(sign) not in _OPERATORS or isinstance(left, list) or isinstance(
            right, list):
        raise Refused("another comparison")
    kinds = {_kind(one, node) for one, node in (
        (left, first), (right, second))}
    if "time" in kinds and "text" in kinds:
        kinds = {"time"}
        left, right = map(_time, (left, right))
    if len(kinds) > 1 or kinds == {"truth"} and not isinstance(
            sign, (ast.Eq, ast.NotEq)):
        raise Refused("kinds")
    if left is None or right is None:
        return isinstance(sign, ast.NotEq)
    return _OPERATORS[type(sign)](left, right)


def _is_in(left, right, first, second) -> bool:
    if isinstance(right, list) and isinstance(first, ast.Name):
        kinds = {_kind(one, None) for one in right}
        kind = _kind(left, first)
        if kind == "time" and kinds <= {"text"}:
            return left is not None and _time(left) in map(_time, right)
        if len(kinds) > 1 or kinds and kinds != {kind}:
            raise Refused("kinds")
        return left is not None and left in right
    if isinstance(first, ast.Constant) and isinstance(
            left, str) and isinstance(second, ast.Name):
        if _kind(right, second) != "text":
            raise Refused("kinds")
        return right is not None and left.strip() in [
            one.strip() for one in right.split("|")]
    raise Refused("another in")


def _time(value):
    if value is None:
        return None
    try:
        return datetime.datetime.fromisoformat(str(value))
    except ValueError:
        raise Refused("no time") from None


def _kind(value, node) -> str:
    if isinstance(node, ast.Name) and node.id == "since":
        return "time"
    if value is None:  # of a column that has others
        return ("number" if node.id in ("height", "visits") else "text")
    return ("truth" if isinstance(value, bool) else
            "text" if isinstance(value, str) else "number")


def _value(node, names, row: int):
    if isinstance(node, ast.Name):
        name = names.get(node.id, node.id)
        if name == "index":
            return row
        if name not in _DATA:
            raise Refused("no column")
        return _DATA[name][row]
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        found = [_value(one, names, row) for one in node.elts]
        if any(map(_names, node.elts)) or any(
                isinstance(one, list) for one in found):
            raise Refused("a list of others")
        return found
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(
            node.op, (ast.USub, ast.UAdd)):
        sign = -1 if isinstance(node.op, ast.USub) else 1
        node = node.operand
        if not isinstance(node, ast.Constant) or type(
                node.value) not in (int, float):
            raise Refused("arithmetic")
    if isinstance(node, ast.Constant) and type(node.value) in (
            int, float, str, bool):
        value = node.value
        if isinstance(value, str):
            return value
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise Refused("no finite number")
        return value if isinstance(value, bool) else sign * value
    raise Refused("another value")
