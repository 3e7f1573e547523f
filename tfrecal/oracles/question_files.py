"""Question files that a person fills in, and their answers.

Each row is a question. Files are CSV for spreadsheets or JSON lines for
programs, by the ending of their name. The person fills the column `label`: a
number on the scale, or `decline` (or `skip`); empty means not answered yet.
"""
from __future__ import annotations

import codecs
import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.checks import on_scale
from tfrecal.data.cells import text_of
from tfrecal.data.csv_records import TABS, CsvRecords
from tfrecal.data.tables import PARQUET, read_parquet
from tfrecal.data.vocabulary import Vocabulary
from tfrecal.files import replace_file
from tfrecal.oracles.base import Answers, Questions

COLUMNS = ("ticket", "user_id", "item_id", "label")
FORMATS = ("csv", "jsonl")
# Answers may come back in other forms than the questions went out.
READ = (*FORMATS, *(one[1:] for one in (*TABS, *PARQUET)))
_DECLINED = ("decline", "declined", "skip", "skipped")
_SHOWN = 20  # wrong lines that an error spells out


def write_questions(path, questions: Questions, users=None,
                    items=None) -> Path:
    """Writes questions with what a person needs to know, whole or not at all.

    Args:
        path: path of the file, which ends in .csv or .jsonl.
        questions: the `Questions`.
        users, items: tables by id, or None; their columns become
            `user.<column>` and `item.<column>`.

    Returns:
        The path. In CSV, a cell that a spreadsheet could take for a formula
        starts with an apostrophe.
    """
    path = Path(path)
    form = check_format(path)
    texts = {**_texts("user", users, questions.user_id),
             **_texts("item", items, questions.item_id)}
    rows = zip(questions.ticket.tolist(), questions.user_id.tolist(),
               questions.item_id.tolist(), *texts.values())
    header = ["ticket", "user_id", "item_id", *texts, "label"]
    out = io.StringIO()
    if form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(map(escape, header))
        writer.writerows([row[0], *map(escape, row[1:]), ""] for row in rows)
        # The byte-order mark lets Excel read UTF-8.
        content = out.getvalue().encode("utf-8-sig")
    else:
        for row in rows:
            out.write(json.dumps(dict(zip(header, (*row, None))),
                                 ensure_ascii=False) + "\n")
        content = out.getvalue().encode()
    replace_file(path, lambda beside: beside.write_bytes(content))
    return path


def _texts(side, table, ids) -> dict[str, list[str]]:
    if table is None:
        return {}
    key = f"{side}_id"
    codes = Vocabulary.of_table(table, key).codes(ids)
    texts = {}
    for column in table.columns.drop(key, errors="ignore"):
        cells = ["", *map(_cell_text, table[column].tolist())]
        texts[f"{side}.{column}"] = [cells[code] for code in codes]
    return texts


def _cell_text(value) -> str:
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return ", ".join(map(str, value))
    if pd.isna(value):
        return ""
    try:
        return text_of(value)  # 1984, and not 1984.0 beside a missing year
    except ValueError:
        return str(value)


def escape(cell: str) -> str:
    """Returns a text that no spreadsheet runs as a formula.

    See OWASP, "CSV injection".
    """
    cell = str(cell)
    return f"'{cell}" if cell.startswith(tuple("=+-@\t\r\n＝＋－＠")) else cell


def check_format(path, forms=FORMATS) -> str:
    """Returns the ending of a file without its dot.

    Raises:
        ValueError: it is none of `forms`.
    """
    path = Path(path)
    form = path.suffix.lower().lstrip(".")
    if form not in forms:
        raise ValueError(
            "A question or answer file must end in "
            f"{', '.join(f'.{one}' for one in forms[:-1])} or .{forms[-1]}. "
            f"Received: {path.name}.")
    return form


def read_answers(path, questions: Questions, scale: tuple[float, float],
                 encoding: str = "utf-8",
                 separator: str | None = None) -> Answers:
    """Reads all answers of a file, or raises an error that names wrong lines.

    Args:
        path: path of a question file with labels filled in: CSV with commas,
            semicolons or tabs, TSV, JSON lines or Parquet, by its ending.
        questions: the questions that wait for an answer.
        scale: `(lowest, highest)` label.
        encoding, separator: how CSV and TSV are written, see `CsvRecords`.

    Returns:
        Answers at cost 1, declined ones at cost 0. Rows with an empty label
        are ignored.

    Raises:
        ValueError: a row is wrong; then nothing is taken from the file.
    """
    found = read_labels(path, questions, scale, {}, set(), encoding,
                        separator)
    label = np.array(list(found.values()), np.float32)  # None becomes NaN
    declined = np.isnan(label)
    return Answers(list(found), label, declined, np.where(declined, 0, 1))


def read_labels(path, questions: Questions, scale: tuple[float, float],
                closed: dict[int, float | None],
                later: set[int], encoding: str = "utf-8",
                separator: str | None = None) -> dict[int, float | None]:
    """Reads a file as `read_answers`, into labels by ticket.

    Args:
        path, questions, scale, encoding, separator: see `read_answers`.
        closed: labels taken before, by ticket. Their rows are ignored, but
            must hold the same label.
        later: tickets whose rows are ignored.

    Returns:
        A dict from tickets to labels, None where declined.

    Raises:
        ValueError: see `read_answers`.
    """
    path = Path(path)
    wrong: list[str] = []
    found: dict[int, float | None] = {}
    rows = list(read_rows(path, wrong, encoding, separator))
    if not rows and not wrong:
        wrong.append("no lines, or only a header; if an editor was just "
                     "saving it, try again")
    for line, row in rows:
        if row["label"] in ("", None):
            continue
        try:
            ticket = ticket_number(row["ticket"])
            if ticket in later:
                continue
            if ticket not in closed:
                check_pair(row, questions)
            if ticket in found:
                raise ValueError(f"ticket {ticket} is there twice")
            label = _label_of_cell(row["label"], scale)
            if ticket not in closed:
                found[ticket] = label
            elif closed[ticket] != label:
                raise ValueError(
                    f"ticket={ticket} has {shown(label)}, and "
                    f"{shown(closed[ticket])} was taken before")
        except ValueError as error:
            wrong.append(f"line {line}: {error}")
    if wrong:
        more = len(wrong) - _SHOWN
        raise ValueError(
            f"Each line of {path.name} must answer an open question with a "
            f"number from {scale[0]:g} to {scale[1]:g}, `decline`, or "
            "nothing. Received: " + "; ".join(wrong[:_SHOWN]).rstrip(".")
            + (f"; and {more} lines more" if more > 0 else "")
            + ". Nothing was taken from the file: correct it, or move it "
            "away.")
    return found


def read_rows(path: Path, wrong: list[str], encoding: str = "utf-8",
              separator: str | None = None):
    """Yields `(line number, row)`.

    Args:
        path: path of the file.
        wrong: what cannot be read is appended to it, in words.
        encoding, separator: see `read_answers`.
    """
    form = check_format(path, READ)
    try:
        yield from _whole_rows(
            _json_rows(path) if form == "jsonl" else
            _parquet_rows(path) if f".{form}" in PARQUET else
            _csv_rows(path, encoding, separator), wrong)
    except ValueError as error:  # the file as a whole
        wrong.append(str(error))


def _whole_rows(rows, wrong: list[str]):
    for line, row in rows:
        if isinstance(row, str):
            wrong.append(f"line {line}: {row}")
            continue
        missing = [name for name in COLUMNS if name not in row]
        if missing:
            wrong.append(f"line {line}: no {', '.join(missing)}")
            continue
        yield line, {name: _stripped(row[name]) for name in COLUMNS}


def _parquet_rows(path: Path):
    frame = read_parquet(path)
    cells = frame.astype(object).where(frame.notna(), None)
    names = [str(name) for name in frame.columns]
    for line, row in enumerate(cells.itertuples(index=False), start=1):
        yield line, dict(zip(names, row))


def _csv_rows(path: Path, encoding: str, separator: str | None):
    if not path.read_bytes().removeprefix(codecs.BOM_UTF8).strip():
        return
    records = CsvRecords(path, separator, encoding)
    header = [cell.strip() for cell in records.header]
    twice = [name for name in COLUMNS if header.count(name) > 1]
    if twice:
        yield 1, f"column {twice[0]} is there twice"
        return
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        yield 1, f"no {', '.join(missing)}"
        return
    for line, *found in records:
        if len(found) == 1:
            if any(found[0]):
                yield line, dict(zip(header, found[0]))
        elif "cells" in found[0]:
            yield line, (f"{found[0]} (4,5 is written 4.5, a text with "
                         "commas in quotes)")
        else:
            yield line, found[0]


def _json_rows(path: Path):
    content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    for line, text in enumerate(content.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text.decode(), object_pairs_hook=_distinct)
        except UnicodeDecodeError:
            yield line, "bytes that are no utf-8"
            continue
        except (ValueError, RecursionError):
            row = None
        yield line, (row if isinstance(row, dict) else
                     "not a JSON object in which each name is there once")


def _distinct(pairs):
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError
    return row


def _stripped(value):
    return value.strip() if isinstance(value, str) else value


def ticket_number(value) -> int:
    """Returns the ticket that a cell of a file holds.

    Raises:
        ValueError: it is not a whole number.
    """
    try:
        number = _number(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"ticket {value!r} is not a whole number")


def _number(value) -> float:
    # Python would read "1_5" as 15, and True as 1.
    if isinstance(value, bool) or isinstance(value, str) and "_" in value:
        raise ValueError
    return float(value)


def check_pair(row: dict, questions: Questions) -> None:
    """Checks that a row's pair was asked under its ticket.

    Raises:
        ValueError: there is no such ticket, or it stands for another pair.
    """
    ticket = ticket_number(row["ticket"])
    place = np.flatnonzero(questions.ticket == ticket)
    if not len(place):
        raise ValueError(f"ticket {ticket} was not asked")
    for name in ("user_id", "item_id"):
        asked = str(getattr(questions, name)[place[0]])
        if not _is_same_id(str(row[name]), asked):
            raise ValueError(f"{name} is {row[name]!r}, asked was {asked!r}")


def _is_same_id(cell: str, asked: str) -> bool:
    if cell in (asked.strip(), escape(asked).strip()):
        return True
    try:  # a spreadsheet turns "007" into 7
        return float(cell) == float(asked)
    except ValueError:
        return False


def shown(label: float | None) -> str:
    """Returns a label as people write it."""
    return "decline" if label is None else f"{label:g}"


def _label_of_cell(value, scale) -> float | None:
    if str(value).lower() in _DECLINED:
        return None
    try:
        label = _number(value)
    except (TypeError, ValueError, OverflowError):
        label = np.nan
    if not on_scale(label, scale):
        comma = re.fullmatch(r"-?\d+,\d+", str(value))
        raise ValueError(f"label {value!r}" + (
            f", write {value.replace(',', '.')}" if comma else ""))
    return label
