"""FileQueueOracle: people answer, in files, when they find the time."""
from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from tfrecal.checks import check_scale
from tfrecal.files import damaged, make_folder, read_sealed, write_sealed
from tfrecal.oracles.base import Answers, Oracle, Questions, check_number
from tfrecal.oracles.question_files import (
    FORMATS,
    check_pair,
    read_labels,
    read_rows,
    shown,
    ticket_number,
    write_questions,
)


class FileQueueOracle(Oracle):
    """Writes questions to files and reads the answers that people save.

    Questions go to `<folder>/questions/round<round>_<first ticket>.csv`. The
    column `label` is filled in there, or in a copy in `<folder>/answers/`
    under any name; a file may be filled in several steps. `<folder>/queue.json`
    holds what is open and what was delivered, so a new process goes on where
    the last one stopped. It does not deliver again what a killed process took
    but did not save; `restore` does.

    Args:
        folder: path of the folder, which the first question makes.
        users, items: tables by id whose columns are shown beside each
            question, or None.
        format: format of the question files, `"csv"` or `"jsonl"`; answers
            may come in either.
        scale: `(lowest, highest)` label.
        cost: cost of a label; a declined question costs nothing.
    """

    def __init__(self, folder, users=None, items=None, format: str = "csv",
                 scale: tuple[float, float] = (1, 5), cost: float = 1.0):
        super().__init__()
        if format not in FORMATS:
            raise ValueError("`format` must be csv or jsonl. Received: "
                             f"format={format!r}.")
        check_scale(scale)
        self.folder = Path(folder)
        self.users = users
        self.items = items
        self.format = format
        self.scale = tuple(scale)
        self.cost = check_number("cost", cost)
        self._warned: set[Path] = set()
        self._closed: dict[int, float | None] = {}  # None: declined
        self._later: set[int] = set()  # asked after the state restored
        if self._queue.exists():
            self._load(self._read())

    def _about(self) -> list[str]:
        return [repr(str(self.folder)), self.format, f"cost={self.cost:g}"]

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
        later = self._later - set(questions.ticket.tolist())
        if path.exists() and not _holds(path, questions, later):
            # It belongs to an abandoned run and may hold somebody's work.
            make_folder(path.parent / "stale")
            path.replace(path.parent / "stale" / path.name)
        if not path.exists():
            write_questions(path, questions, self.users, self.items)
        tickets = set(questions.ticket.tolist())
        self._closed = {ticket: label for ticket, label
                        in self._closed.items() if ticket not in tickets}
        self._later -= tickets
        self._save(self.state())

    def answers(self) -> Answers:
        """Returns the answers to open questions that files hold by now.

        Raises:
            ValueError: a file has wrong lines, or contradicts another file
                or an answer that was delivered. Nothing is delivered until
                it is corrected or moved away.
        """
        waiting = self._waiting()
        found: dict[int, float | None] = {}
        where: dict[int, Path] = {}
        for path in self._files():
            for ticket, label in read_labels(
                    path, waiting, self.scale, self._closed,
                    self._later).items():
                before = found.setdefault(ticket, label)
                first = where.setdefault(ticket, path)
                if before != label:
                    raise ValueError(
                        "A question must have one answer. Received: "
                        f"ticket={ticket} with {shown(before)} in {first} "
                        f"and {shown(label)} in {path}. Nothing was taken: "
                        "correct one of them.")
        if not found:
            return Answers.empty()
        left = (asked.take(~np.isin(asked.ticket, list(found)))
                for asked in self._open)
        self._save({**self.state(),
                    "open": [asked.to_json() for asked in left if len(asked)],
                    "closed": {**self._closed, **found}})
        label = np.array(list(found.values()), np.float32)
        declined = np.isnan(label)
        return Answers(list(found), label, declined,
                       np.where(declined, 0, self.cost))

    def _files(self) -> list[Path]:
        files = [path for name in ("questions", "answers")
                 for path in sorted((self.folder / name).glob("*"))
                 if path.is_file() and not path.name.startswith((".", "~"))]
        other = [path for path in files
                 if path.suffix.lower().lstrip(".") not in FORMATS]
        for path in set(other) - self._warned:
            warnings.warn(
                "Answers must stand in files that end in .csv or .jsonl. "
                f"Received: {path}, which is passed over. Save it as CSV "
                "UTF-8, or move it away.", stacklevel=3)
        self._warned.update(other)
        return [path for path in files if path not in other]

    def _waiting(self) -> Questions:
        if not self._open:
            return Questions([], [], [])
        return Questions(*(
            np.concatenate([getattr(asked, name) for asked in self._open])
            for name in ("ticket", "user_id", "item_id")))

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        return np.full(len(user_ids), self.cost)

    def state(self) -> dict:
        """Returns the open questions and the labels delivered, by ticket."""
        return {**super().state(),
                "closed": {str(ticket): label for ticket, label
                           in self._closed.items()},
                "later": sorted(self._later)}

    def restore(self, state: dict) -> None:
        """Continues from `state`, which replaces the folder's queue.

        Answers that were delivered after this state are delivered again.
        Questions that were asked after it are ignored in the files until
        they are asked again.

        Args:
            state: what `state` returned.
        """
        later = _tickets(self.state()) - _tickets(state)
        self._save({**state, "later": sorted(later.union(state["later"]))})

    def _read(self) -> dict:
        must = "The queue must be as it was written"
        cure = (
            "Bring it back from a backup. Without one, delete it: a run that "
            "is resumed writes it anew from its own state; answers to other "
            "questions must be asked for again.")
        state = read_sealed(self._queue, must, cure)
        try:
            for asked in state["open"]:
                one = Questions(**asked)
                whole = isinstance(one.round, int) and one.round >= 0
                if not whole or one.ticket.min(initial=0) < 0:
                    raise ValueError(f"a round of {one.round!r}")
            if not all(isinstance(ticket, int) and ticket >= 0
                       for ticket in (*map(int, state["closed"]),
                                      *state["later"])):
                raise ValueError("a ticket that is no whole number")
            for label in state["closed"].values():
                if label is not None and not (
                        self.scale[0] <= label <= self.scale[1]):
                    raise ValueError(f"a label of {label!r}, off the scale "
                                     f"{self.scale[0]:g} to "
                                     f"{self.scale[1]:g}")
        except (KeyError, TypeError, ValueError, AttributeError,
                OverflowError) as error:
            raise damaged(self._queue, must, f"which holds no such state: "
                          f"{error!r}", cure) from None
        return state

    def _load(self, state: dict) -> None:
        super().restore(state)
        self._closed = {int(ticket): label for ticket, label
                        in state["closed"].items()}
        self._later = set(state["later"])

    def _save(self, state: dict) -> None:
        """Writes a state to the folder, then loads it."""
        write_sealed(self._queue, state)
        self._load(state)


def _tickets(state: dict) -> set[int]:
    """Returns all tickets of a state."""
    return {*(ticket for asked in state["open"] for ticket in asked["ticket"]),
            *map(int, state["closed"]), *state["later"]}


def _holds(path: Path, questions: Questions, later: set[int]) -> bool:
    """Returns whether a file, perhaps half filled, asks these questions.

    Questions in `later` were asked with them, and the journal of the run has
    their answers.
    """
    wrong: list[str] = []
    try:
        rows = [row for _, row in read_rows(path, wrong)
                if ticket_number(row["ticket"]) not in later]
        for row in rows:
            check_pair(row, questions)
    except ValueError:
        return False
    return not wrong and len(rows) == len(questions)
