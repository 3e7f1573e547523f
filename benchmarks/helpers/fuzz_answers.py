"""Files of answers of people for `fuzz.py`: CSV and JSON lines."""
from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
from helpers import fuzz_mutations as parts
from helpers.fuzz_tables import Files, alike
from helpers.strict_reader import Refused, records

from tfrecal.oracles import Questions
from tfrecal.oracles.question_files import read_answers

_SCALE = (1.0, 5.0)
_ASKED = {3: ("u1", "i1"), 4: ("007", "i2"), 5: ("=1+1", "a,b"),
          6: ("\u65e5\u672c", "9007199254740993"), 7: ("7", "-9"),
          12: ('q"q', "x;y")}
_COLUMNS = ("ticket", "user_id", "item_id", "label")
_LABELS = ["1", "5", "2.5", "decline", "Skip", " 3 ", "", "", "4.0", "5e0"]
_WRONG = ["6", "0", "nan", "inf", "4,5", "1_0", "x", "True", "0x3", "1e999",
          "-1", "\u0663", "NA", "declines", "5.0000001"]
_JSON = [3, 2.5, None, True, [], {}, 7, "3", 10 ** 400, 3.0, -0.0]


class Answers:
    """`tfrecal.oracles.question_files.read_answers`."""

    name, share = "answers", 2

    def make(self, rng) -> Files:
        """Returns a file of questions, some of them answered."""
        form = rng.choice(["csv", "csv", "jsonl"])
        tickets = rng.sample(sorted(_ASKED), rng.randint(1, len(_ASKED)))
        odd = rng.choice([0, 0, 0.1])
        rows = []
        for ticket in tickets:
            user, item = _ASKED[ticket]
            row = [str(ticket), user, item, parts.some(
                rng, _LABELS, _WRONG, odd)]
            if form == "jsonl":
                row = [ticket, user, item, parts.some(
                    rng, [*_LABELS, None, 3, 2.5], _JSON + _WRONG, odd)]
            elif row[1].startswith("=") and rng.random() < 0.7:
                row[1] = "'" + row[1]
            if rng.random() < odd:
                row[rng.randrange(3)] = rng.choice(
                    ["3", 4, "7.0", 7.0, "", None, "1_2", "u1", True, "99"])
            rows.append(row)
        names = [*_COLUMNS]
        if form == "csv":
            text = parts.written(rng, names, [
                ["" if cell is None else str(cell) for cell in row]
                for row in rows], rng.choice([",", ",", ";", "\t"]))
        else:
            text = "\n".join(json.dumps(dict(zip(names, row)), ensure_ascii=(
                rng.random() < 0.5)) for row in rows)
        if rng.random() < 0.5:
            text = parts.mutated_text(rng, text)
        data = text.encode()
        if rng.random() < 0.2:
            data = parts.mutated(rng, data, parts.BYTES)
        return Files({f"answers.{form}": data})

    def take(self, files: Files, folder: Path) -> list:
        """Returns `(ticket, label, cost)`, as the package reads them."""
        path = files.write(folder)["answers"]
        found = read_answers(path, questions(), _SCALE)
        return sorted(zip(found.ticket.tolist(), found.label.tolist(),
                          np.asarray(found.cost).tolist()))

    def expect(self, files: Files) -> list:
        """Returns the same by the rules."""
        (name, data), = files.content.items()
        rows = _csv(data) if name.endswith(".csv") else _json(data)
        if not rows:
            raise Refused("no answers")
        found = {}
        for row in rows:
            ticket, user, item, label = (
                cell.strip() if isinstance(cell, str) else cell
                for cell in row)
            if label in ("", None):
                continue
            ticket = _number(ticket)
            if ticket not in _ASKED or ticket in found:
                raise Refused("the ticket")
            for cell, asked in zip((user, item), _ASKED[ticket]):
                if str(cell) not in (asked, f"'{asked}") and (
                        _number(cell) != _number(asked)):
                    raise Refused("the pair")
            found[ticket] = _label(label)
        return sorted((ticket, math.nan if label is None else label,
                       0.0 if label is None else 1.0)
                      for ticket, label in found.items())

    def differs(self, got: list, wanted: list) -> str:
        """Says what differs; "" if nothing does."""
        return "" if alike(got, wanted) else f"{got} for {wanted}"


def questions() -> Questions:
    """Returns the questions that wait for an answer."""
    users, items = zip(*_ASKED.values())
    return Questions(list(_ASKED), list(users), list(items), 0)


def _number(value) -> float:
    try:
        if isinstance(value, bool) or "_" in str(value):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise Refused("no number") from None


def _label(value) -> float | None:
    if str(value).lower() in ("decline", "declined", "skip", "skipped"):
        return None
    number = _number(value)
    if not _SCALE[0] <= number <= _SCALE[1]:
        raise Refused("the label")
    return number


def _csv(data: bytes) -> list[list]:
    names, rows = records(data)
    names = [name.strip() for name in names]
    if any(names.count(name) != 1 for name in _COLUMNS) or any(
            row is None for _, row in rows):
        raise Refused("a line or the header")
    return [[row[names.index(name)] for name in _COLUMNS]
            for _, row in rows if any(row)]


def _json(data: bytes) -> list[list]:
    rows = []
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode(), object_pairs_hook=_once)
            rows.append([row[name] for name in _COLUMNS])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refused("a line") from None
    return rows


def _once(pairs) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError
    return row
