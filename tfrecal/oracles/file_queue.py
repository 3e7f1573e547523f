"""FileQueueOracle: people answer, in files, when they find the time."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tfrecal.files import replace_file
from tfrecal.oracles.base import Answers, Oracle, Questions, check_number
from tfrecal.oracles.sheets import (
    FORMATS,
    check_pair,
    read_answers,
    read_rows,
    write_questions,
)


class FileQueueOracle(Oracle):
    """Writes questions to files and reads the answers that people save.

    Questions go to `<folder>/questions/round<round>_<first ticket>.csv`. The
    column `label` is filled in there, or in a copy in `<folder>/answers/`
    under any name; half-filled files are fine, filled further later. What is
    open and what was delivered stands in `<folder>/queue.json`, so a new
    process goes on where the last one stopped.

    Args:
        folder: made when the first question is asked.
        users, items: tables by id whose columns are shown beside each
            question, or None.
        format: `"csv"` or `"jsonl"`, of the question files; answers may
            come in either.
        scale: `(lowest, highest)` label.
        cost: of a label; a declined question costs nothing.
    """

    def __init__(self, folder, users=None, items=None, format: str = "csv",
                 scale: tuple[float, float] = (1, 5), cost: float = 1.0):
        super().__init__()
        if format not in FORMATS:
            raise ValueError("`format` must be csv or jsonl. Received: "
                             f"format={format!r}.")
        if not scale[0] < scale[1]:
            raise ValueError("`scale` must be (lowest, highest). Received: "
                             f"scale={scale}.")
        self.folder = Path(folder)
        self.users = users
        self.items = items
        self.format = format
        self.scale = tuple(scale)
        self.cost = check_number("cost", cost)
        self._closed: set[int] = set()
        if self._queue.exists():
            self._load(json.loads(self._queue.read_text("utf-8")))

    @property
    def _queue(self) -> Path:
        return self.folder / "queue.json"

    def ask(self, questions: Questions) -> None:
        """Writes the questions, unless they are open already."""
        if not len(questions):
            return
        super().ask(questions)
        name = f"round{questions.round:04d}_{questions.ticket.min():08d}"
        path = self.folder / "questions" / f"{name}.{self.format}"
        if path.exists() and not _holds(path, questions):
            # Of a run that was given up; somebody's work may be in it.
            (path.parent / "stale").mkdir(exist_ok=True)
            path.replace(path.parent / "stale" / path.name)
        if not path.exists():
            write_questions(path, questions, self.users, self.items)
        self._closed -= set(questions.ticket.tolist())
        self._save()

    def answers(self) -> Answers:
        """Answers to open questions that files hold by now.

        Raises:
            ValueError: a file has wrong lines, or two files differ. Nothing
                is delivered until it is corrected or moved away.
        """
        waiting = self._waiting()
        parts = [read_answers(path, waiting, self.scale, self._closed)
                 for path in self._files()] if len(waiting) else []
        found: dict[int, float] = {}
        for part in parts:
            for ticket, label in zip(part.ticket.tolist(),
                                     part.label.tolist()):
                before = found.setdefault(ticket, label)
                if not (before == label or before != before != label != label):
                    raise ValueError(
                        "A question must have one answer. Received: "
                        f"ticket={ticket} with {before:g} in one file and "
                        f"{label:g} in another in {self.folder}. Nothing "
                        "was taken: correct one of them.")
        if not found:
            return Answers.empty()
        self._closed |= set(found)
        self._open = [part for part in (
            part.take(~np.isin(part.ticket, list(found)))
            for part in self._open) if len(part)]
        self._save()
        label = np.array(list(found.values()), np.float32)
        declined = np.isnan(label)
        return Answers(list(found), label, declined,
                       np.where(declined, 0, self.cost))

    def _files(self) -> list[Path]:
        return [path for part in ("questions", "answers")
                for path in sorted((self.folder / part).glob("*"))
                if path.suffix.lower().lstrip(".") in FORMATS
                and not path.name.startswith((".", "~"))]

    def _waiting(self) -> Questions:
        if not self._open:
            return Questions([], [], [])
        return Questions(*(
            np.concatenate([getattr(part, name) for part in self._open])
            for name in ("ticket", "user_id", "item_id")))

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        return np.full(len(user_ids), self.cost)

    def state(self) -> dict:
        """The open questions and the tickets delivered."""
        return {**super().state(), "closed": sorted(self._closed)}

    def restore(self, state: dict) -> None:
        """Continues from `state`: it overrules the folder's queue.

        Answers that were delivered after it was taken are delivered again.
        """
        self._load(state)
        self._save()

    def _load(self, state: dict) -> None:
        super().restore(state)
        self._closed = set(state["closed"])

    def _save(self) -> None:
        replace_file(self._queue, lambda beside: beside.write_text(
            json.dumps(self.state())))


def _holds(path: Path, questions: Questions) -> bool:
    """Whether a file asks these questions already: it may be half filled."""
    wrong: list[str] = []
    try:
        rows = [row for _, row in read_rows(path, wrong)]
        for row in rows:
            check_pair(row, questions)
    except ValueError:
        return False
    return not wrong and len(rows) == len(questions)
