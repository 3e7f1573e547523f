"""Journal: every question and every answer, on disk before it takes effect."""
from __future__ import annotations

import json
import os
import warnings
import zlib
from pathlib import Path

import numpy as np

from tfrecal.files import make_folder, open_private, sync_folder
from tfrecal.oracles import Answers, Questions

_PREFIX = len('{"sum":"00000000",')


class Journal:
    """Append-only JSON lines: what was asked and what was answered.

    Labels cost money. A journal makes sure that a killed process neither
    asks for one twice nor loses one: `AcquireLabels` writes `asked` before
    the oracle gets the questions, and `answered` before the pool takes the
    answers in. It repeats from the journal what a restored pool lacks. A
    journal belongs to one pool, from its first question on.

    Each line begins with a CRC-32 of itself and of the line before, and is
    on the disk when the call returns. A line that was half-written when the
    power failed is cut off: nothing was done because of it.

    Answers are told apart by their tickets, and the first one stays. The
    same answer again changes nothing and costs nothing. A different one does
    the same and is counted in a warning. Late answers count as others do:
    they have a ticket of their own, even if the pair was asked again.

    Args:
        path: path of the file, which the first record makes; None keeps the
            records in memory only.

    Attributes:
        records: the lines as dicts: `kind` "asked" with `round`, `ticket`,
            `user_id`, `item_id`, `strategy`, `utility` and `why`
            (explanations); `kind` "answered" with `ticket`, `label` (None
            where declined) and `cost`.

    Raises:
        ValueError: a line is damaged.
    """

    def __init__(self, path=None):
        self.path = None if path is None else Path(path)
        self.records: list[dict] = []
        self._sum = 0
        self._sums = [0]  # after each record
        self._good = self._size = 0  # bytes: to the last whole line, in all
        self._answers = Answers.empty()
        if self.path is not None and self.path.exists():
            self._read()

    def __len__(self) -> int:
        return len(self.records)

    def _read(self) -> None:
        if self.path.is_dir():
            raise ValueError(
                "A journal must be a file. Received: "
                f"{self.path}, which is a folder. Move it away, and bring "
                "the file back from a copy.")
        content = self.path.read_bytes()
        self._size = len(content)
        lines = content.splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            body = b"{" + line[_PREFIX:].rstrip(b"\n")
            crc = zlib.crc32(body, self._sum)
            if not line.endswith(b"\n") or line[:_PREFIX] != _head(crc):
                # What never reached the disk is read as zeros.
                torn = not line.endswith(b"\n") or b"\0" in line
                if number == len(lines) and torn:
                    return
                raise ValueError(
                    "Every line of a journal must be as it was written. "
                    f"Received: {self.path}, whose line {number} of "
                    f"{len(lines)} is damaged. Bring the file back from a "
                    "copy. Without one, move it away: answers since the last "
                    "whole epoch of its run are then bought again.")
            self._sum = crc
            self._good += len(line)
            self._note(json.loads(body))

    def sum_after(self, position: int) -> str:
        """Returns the checksum of the first records, 8 hexadecimal digits.

        It is that of the last of them, which covers those before.
        """
        return f"{self._sums[position]:08x}"

    def check_heard(self, position: int, total: str | None) -> bool:
        """Checks that a journal holds what its pool has heard.

        Args:
            position: number of the first records, which the pool has heard.
            total: what `sum_after` returned for it; None in older folders.

        Returns:
            Whether it does; False, with a warning, where its file is gone.

        Raises:
            ValueError: records are missing, or are those of another pool.
        """
        if self.path is None or not position:
            return True
        if not self.path.exists():
            warnings.warn(
                "Answers since the last whole epoch may be bought again: "
                f"there is no journal at {self.path}, and a new one is "
                "begun.")  # from here, so that it is said once
            return False
        if position > len(self):
            why = f"with {len(self)} records where {position} are due"
        elif total not in (None, self.sum_after(position)):
            why = "which is that of another run"
        else:
            return True
        raise ValueError(
            "A journal must hold all that its pool has heard. Received: "
            f"{self.path}, {why}. Bring the journal of this run back, or "
            "move it away: a new one is then begun.")

    def _note(self, record: dict) -> None:
        self.records.append(record)
        self._sums.append(self._sum)
        if record["kind"] == "answered":
            self._answers = _joined([self._answers, _answers(record)])

    def _append(self, record: dict) -> None:
        if self.path is not None:
            body = json.dumps(record, separators=(",", ":")).encode()
            crc = zlib.crc32(body, self._sum)
            line = _head(crc) + body[1:] + b"\n"
            try:
                self._write(line)
            except OSError as error:
                raise OSError(
                    f"The journal {self.path} could not be written: {error}. "
                    "Nothing was done that it does not hold: mend this and "
                    "resume.") from error
            self._sum = crc
        self._note(record)

    def _write(self, line: bytes) -> None:
        new, size = not self.path.exists(), len(line)
        make_folder(self.path.parent)
        # Unbuffered: what a full disk refused must not be written later.
        with open(self.path, "ab", buffering=0, opener=open_private) as file:
            if file.tell() != self._size:
                raise ValueError(
                    "One process at a time may write a journal. Received: "
                    f"{self.path}, which another one has written to. Give "
                    "each pool a journal of its own.")
            file.truncate(self._good)
            try:
                while line:
                    line = line[file.write(line):]
                os.fsync(file.fileno())
            except BaseException:  # a full disk, Ctrl-C: no half line stays
                self._size = self._good
                file.truncate(self._good)
                raise
        if new:
            sync_folder(self.path.parent)
        self._good += size
        self._size = self._good

    def asked(self, questions: Questions, strategy, why=()) -> None:
        """Records questions; call it before the oracle gets them.

        Args:
            questions: questions with their utilities, `n` of them.
            strategy: name of the strategy that chose each, `[n]`.
            why: explanations: dicts that can be written as JSON.
        """
        self._append({"kind": "asked", **questions.to_json(),
                      "strategy": [str(name) for name in strategy],
                      "why": list(why)})

    def answered(self, answers: Answers) -> None:
        """Records answers; call it before the pool takes them in."""
        self._append({
            "kind": "answered", "ticket": answers.ticket.tolist(),
            "label": [None if no else label for no, label in zip(
                answers.declined.tolist(), answers.label.tolist())],
            "cost": answers.cost.tolist()})

    def repeat(self, records: list[dict]) -> None:
        """Adds records of another journal."""
        for record in records:
            self._append(record)

    def asked_at(self, position: int):
        """Returns the questions of a record, or None where it holds none.

        Args:
            position: number of the record, from 0.

        Returns:
            `(questions, strategy, why)` as they were given to `asked`.
        """
        if position >= len(self) or self.records[position]["kind"] != "asked":
            return None
        record = self.records[position]
        questions = Questions(*(record[name] for name in (
            "ticket", "user_id", "item_id", "round", "utility")))
        return questions, np.array(record["strategy"], object), record["why"]

    def answers_at(self, position: int) -> tuple[Answers, int]:
        """Returns the answers of a record and of those right after it.

        Args:
            position: number of the record, from 0.

        Returns:
            The answers, and the position after them.
        """
        end = position
        while end < len(self) and self.records[end]["kind"] == "answered":
            end += 1
        return _joined([_answers(record) for record
                        in self.records[position:end]]), end

    def unanswered(self, questions: Questions) -> Questions:
        """Returns the questions without an answer in the journal."""
        return questions.take(~np.isin(
            questions.ticket, self._answers.ticket))

    def fresh(self, answers: Answers) -> Answers:
        """Returns answers to tickets without one; warns of contradictions."""
        order = np.argsort(self._answers.ticket)
        known = self._answers.ticket[order]
        again = np.isin(answers.ticket, known)
        if again.any():
            first = self._answers.label[order[np.searchsorted(
                known, answers.ticket[again])]]
            same = np.isclose(first, answers.label[again], equal_nan=True)
            if not same.all():
                warnings.warn(
                    "The first answer to a question stays. Received: "
                    f"{int((~same).sum())} that differ from what was "
                    "answered before, the first for ticket="
                    f"{answers.ticket[again][~same][0]}.", stacklevel=2)
        return Answers(*(column[~again] for column in _columns(answers)))


def _head(crc: int) -> bytes:
    return b'{"sum":"%08x",' % crc


def _columns(answers: Answers):
    return answers.ticket, answers.label, answers.declined, answers.cost


def _joined(several: list[Answers]) -> Answers:
    return Answers(*map(np.concatenate, zip(*map(
        _columns, [Answers.empty(), *several]))))


def _answers(record: dict) -> Answers:
    label = np.array(record["label"], np.float32)  # None becomes NaN
    return Answers(record["ticket"], label, np.isnan(label), record["cost"])
