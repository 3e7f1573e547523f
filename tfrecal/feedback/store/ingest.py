"""Reads feedback from files into the store; refused rows go to a file."""
from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from tfrecal.feedback.log.delivery import ERASED
from tfrecal.feedback.store.event_files import EventFile, FileChunk
from tfrecal.feedback.store.store import FeedbackStore
from tfrecal.files import replace_file

_LONGEST = 1_000  # characters of a line that is no row
_BETWEEN = r"[,;\t\"'{}\[\]:|]"  # what may stand between the cells of one


@dataclasses.dataclass
class Ingested:
    """What became of a file.

    Attributes:
        new: number of rows that were stored.
        known: number of rows that were there before.
        rejected: number of rows that were refused.
        ratings: number of rows of the kind "rating".
        new_users, new_items: number of users and of items that the store had
            never seen before; None where it had no rows at all.
        rejected_path: file of the refused rows, or None.
    """

    new: int = 0
    known: int = 0
    rejected: int = 0
    ratings: int = 0
    new_users: int | None = None
    new_items: int | None = None
    rejected_path: Path | None = None


def ingest(store: FeedbackStore, path, rejected=None, chunk: int = 50_000,
           progress: bool = True, columns: dict[str, str] | None = None,
           encoding: str = "utf-8", separator: str | None = None,
           missing: Sequence[str] = ()) -> Ingested:
    """Stores the events of a file.

    Each chunk of the file is stored in one transaction. After an interruption
    the same file can be ingested again, with the same result.

    Args:
        store: the store that takes the rows.
        path: .csv, .tsv, .jsonl or .parquet; lists that were shown (they
            have a column `rank`) or responses (`event_id`).
        rejected: CSV file for rows that are refused, by default `path` with
            `.rejected.csv`. Line and reason come first. It is written at
            the end, and removed where no row was refused. A cell that a
            spreadsheet could take for a formula starts with an apostrophe.
            For erased users it holds line and reason only. It holds what
            people did: delete it when it has been read.
        chunk: number of rows that are stored at a time; memory does not
            grow with the file.
        progress: whether to show a bar on stderr.
        columns, encoding, separator, missing: see `EventFile`.

    Returns:
        What became of the rows.

    Raises:
        ValueError: the file is of another kind.
        OSError: the file cannot be read, or the database does not answer.
    """
    file = EventFile(path, columns, encoding, separator, missing)
    rejected = Path(f"{path}.rejected.csv" if rejected is None else rejected)
    if rejected.resolve() == file.path.resolve():
        raise ValueError("`rejected` must be another file than `path`. "
                         f"Received: rejected={rejected}.")
    result, before = Ingested(), store.latest()
    with tempfile.TemporaryFile() as bad, tqdm(
            total=file.total, desc=file.path.name, unit=file.unit,
            unit_scale=True, disable=not progress) as bar:
        text = io.TextIOWrapper(bad, "utf-8", errors="backslashreplace",
                                newline="")
        writer = csv.writer(text, lineterminator="\n")
        names = [name for name in file.columns
                 if name not in ("line", "reason", "content")]
        writer.writerow(["line", "reason", *map(_cell, names), "content"])
        for read in file.chunks(chunk):
            lines = _store(store, read, names, result)
            writer.writerows(lines)
            result.rejected += len(lines)
            bar.update(read.done - bar.n)
        text.flush()
        if result.rejected:
            result.rejected_path = rejected
            replace_file(rejected, lambda beside: _copy(bad, beside))
        elif rejected.exists():  # unlink fails where all is read-only
            rejected.unlink()
        text.detach()
    if result.new and before > -math.inf:
        seen = store.first_seen(before)
        result.new_users, result.new_items = seen["users"], seen["items"]
    return result


def _store(store, read: FileChunk, names, result: Ingested) -> list[list]:
    """Stores a chunk; returns lines for the file of rejected rows."""
    kept = _kept_contents(store, [content for *_, content in read.faults])
    lines = [[line, reason, *[""] * len(names), _cell(content)]
             for (line, reason, _), content in zip(read.faults, kept)]
    for table, frame in read.tables.items():
        if not len(frame):
            continue
        added = (store.add_shown if table == "shown"
                 else store.add_responses)(frame)
        if table == "responses":
            result.ratings += sum(isinstance(kind, str) and kind.strip()
                                  == "rating" for kind in frame["kind"])
        result.new += added.new
        result.known += added.known
        bad = added.rejected
        cells = bad.reindex(columns=names).astype(object)
        cells[bad["reason"] == ERASED] = ""  # must not be kept anywhere
        lines.extend(
            [line, reason, *map(_cell, row), ""] for line, reason, row in zip(
                bad.index.tolist(), bad["reason"].tolist(),
                cells.where(cells.notna(), "").to_numpy().tolist()))
    return sorted(lines, key=lambda line: line[0])


def _kept_contents(store, contents: list[str]) -> list[str]:
    """Returns what is kept of lines that are no rows.

    Nothing is kept of a line in which an erased user may stand.
    """
    words = [{word.strip() for word in re.split(_BETWEEN, content)}
             for content in contents]
    erased = set(store.erased({
        word for line in words for word in line if word.isprintable()}))
    return ["" if erased & line else content[:_LONGEST]
            for line, content in zip(words, contents)]


def _cell(value) -> str:
    """Returns a value as text that no spreadsheet takes for a formula."""
    # Imported here, because clients that only write feedback need no SciPy.
    from tfrecal.oracles.question_files import escape

    text = str(value)
    try:
        float(text)
    except ValueError:
        return escape(text)
    return text


def _copy(source, path: Path) -> None:
    source.seek(0)
    with open(path, "wb") as file:
        shutil.copyfileobj(source, file)
