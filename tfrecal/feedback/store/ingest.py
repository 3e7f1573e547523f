"""Feedback from files into the store; what is refused goes to a file."""
from __future__ import annotations

import csv
import dataclasses
import io
import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from tfrecal.feedback.log.delivery import ERASED
from tfrecal.feedback.store.event_files import EventFile, Part
from tfrecal.feedback.store.store import FeedbackStore
from tfrecal.files import replace_file

_LONGEST = 1_000  # characters of a line that is no row


@dataclasses.dataclass
class Ingested:
    """What became of a file.

    Attributes:
        new: rows that were stored.
        known: rows that were there before.
        rejected: the others.
        rejected_path: where they are, or None.
    """

    new: int = 0
    known: int = 0
    rejected: int = 0
    rejected_path: Path | None = None


def ingest(store: FeedbackStore, path, rejected=None, chunk: int = 50_000,
           progress: bool = True) -> Ingested:
    """Stores the events of a file.

    Each part of the file is stored whole. Whatever interrupts it, the same
    file can be ingested again: the end is the same.

    Args:
        store: takes the rows.
        path: .csv, .jsonl or .parquet; lists that were shown (they have a
            column `rank`) or responses (`event_id`).
        rejected: CSV file for rows that are refused, by default `path` with
            `.rejected.csv`. Line and reason come first. It is written at
            the end, and removed where there is nothing to reject. A cell
            that a spreadsheet could take for a formula starts with an
            apostrophe. Of erased users there are line and reason only. It
            holds what others did: delete it when it has been read.
        chunk: rows of a part; memory does not grow with the file.
        progress: show a bar on stderr.

    Raises:
        ValueError: the file is not of that kind.
        OSError: it cannot be read, or the database does not answer.
    """
    file = EventFile(path)
    rejected = Path(f"{path}.rejected.csv" if rejected is None else rejected)
    if rejected.resolve() == file.path.resolve():
        raise ValueError("`rejected` must be another file than `path`. "
                         f"Received: rejected={rejected}.")
    result = Ingested()
    with tempfile.TemporaryFile() as bad, tqdm(
            total=file.total, desc=file.path.name, unit=file.unit,
            unit_scale=True, disable=not progress) as bar:
        text = io.TextIOWrapper(bad, "utf-8", errors="backslashreplace",
                                newline="")
        writer = csv.writer(text, lineterminator="\n")
        names = [name for name in file.columns
                 if name not in ("line", "reason", "content")]
        writer.writerow(["line", "reason", *map(_cell, names), "content"])
        for part in file.parts(chunk):
            lines = _store(store, part, names, result)
            writer.writerows(lines)
            result.rejected += len(lines)
            bar.update(part.done - bar.n)
        text.flush()
        if result.rejected:
            result.rejected_path = rejected
            replace_file(rejected, lambda beside: _copy(bad, beside))
        elif rejected.exists():  # unlink fails where all is read-only
            rejected.unlink()
        text.detach()
    return result


def _store(store, part: Part, names, result: Ingested) -> list[list]:
    """Stores a part; returns lines of the file of rejected rows."""
    lines = [[line, reason, *[""] * len(names), _cell(content[:_LONGEST])]
             for line, reason, content in part.faults]
    for table, frame in part.tables.items():
        if not len(frame):
            continue
        added = (store.add_shown if table == "shown"
                 else store.add_responses)(frame)
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


def _cell(value) -> str:
    """A value as text that no spreadsheet runs; numbers stay numbers."""
    # Here, because clients that only write feedback need no SciPy.
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
