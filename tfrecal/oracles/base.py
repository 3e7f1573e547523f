"""Questions, answers, and the `Oracle` that turns one into the other."""
from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tfrecal.checks import check_labels, check_weights


def _column(values, dtype, name: str, size: int) -> np.ndarray:
    values = np.asarray(values, dtype)
    if values.shape != (size,):
        raise ValueError(
            f"`{name}` must hold one value for each of {size} tickets. "
            f"Received: shape={values.shape}.")
    return values


def _tickets(values) -> np.ndarray:
    values = np.atleast_1d(np.asarray(values, np.int64))
    repeated = len(values) - len(np.unique(values))
    if repeated:
        raise ValueError(
            "`ticket` must hold distinct numbers. Received: "
            f"{repeated} that repeat. Take them from `pool.ask`.")
    return values


@dataclass
class Questions:
    """Pairs to be labelled.

    Args:
        ticket: numbers under which the answers come back, int64 `[n]`.
        user_id, item_id: strings, object `[n]`.
        round: number of the round in which they are asked.
        utility: utility of each, `[n]`, or None.
    """

    ticket: np.ndarray
    user_id: np.ndarray
    item_id: np.ndarray
    round: int = 0
    utility: np.ndarray | None = None

    def __post_init__(self):
        self.ticket = _tickets(self.ticket)
        size = len(self.ticket)
        self.user_id = _column(self.user_id, object, "user_id", size)
        self.item_id = _column(self.item_id, object, "item_id", size)
        if self.utility is not None:
            self.utility = _column(self.utility, float, "utility", size)

    def __len__(self) -> int:
        return len(self.ticket)

    def take(self, rows) -> "Questions":
        """Returns the questions at `rows` (indices or bool)."""
        return Questions(
            self.ticket[rows], self.user_id[rows], self.item_id[rows],
            self.round, None if self.utility is None else self.utility[rows])

    def to_json(self) -> dict:
        """Returns a dict of plain lists."""
        return {"ticket": self.ticket.tolist(),
                "user_id": self.user_id.tolist(),
                "item_id": self.item_id.tolist(), "round": int(self.round),
                "utility": (None if self.utility is None
                            else self.utility.tolist())}


@dataclass
class Answers:
    """Labels that came back, and questions that were declined.

    Args:
        ticket: numbers of the questions, int64 `[k]`, distinct.
        label: float32 `[k]`, NaN where declined.
        declined: bool `[k]`.
        cost: float32 `[k]`, >= 0, in the oracle's own unit.
    """

    ticket: np.ndarray
    label: np.ndarray
    declined: np.ndarray
    cost: np.ndarray

    def __post_init__(self):
        self.ticket = _tickets(self.ticket)
        size = len(self.ticket)
        self.label = _column(self.label, np.float32, "label", size)
        self.declined = _column(self.declined, bool, "declined", size)
        self.cost = check_weights(np.asarray(self.cost, np.float32), size,
                                  "cost").astype(np.float32)
        if (np.isnan(self.label) != self.declined).any():
            raise ValueError(
                "`label` must be NaN where `declined`, and only there. "
                f"Received: {int(np.isnan(self.label).sum())} NaN, "
                f"{int(self.declined.sum())} declined.")

    def __len__(self) -> int:
        return len(self.ticket)

    @classmethod
    def empty(cls) -> "Answers":
        """Returns an object with no answers."""
        return cls([], [], [], [])


class Oracle:
    """Answers questions at once, later, in part or never.

    This base class answers at once: a subclass writes `reply`. A subclass
    whose answers are late overrides `ask`, `answers`, `state` and `restore`.
    """

    def __init__(self):
        self.scale: tuple[float, float] | None = None
        self._open: list[Questions] = []
        self._ready: list[Answers] = []  # to the first of `_open`

    def __repr__(self) -> str:
        number = sum(map(len, self._open))
        about = ", ".join([*self._about(), f"{number:,} open questions"])
        return f"{type(self).__name__}({about})"

    def _about(self) -> list[str]:
        """Returns words that describe this oracle in its `repr`."""
        return []

    def use_scale(self, scale: tuple[float, float]) -> None:
        """Takes over the pool's scale.

        Labels off the scale are then refused while their questions are still
        open.

        Args:
            scale: (lowest, highest) label.

        Raises:
            ValueError: the oracle was made for another scale.
        """
        if self.scale is not None and tuple(
                map(float, self.scale)) != tuple(map(float, scale)):
            raise ValueError(
                "The oracle must answer on the pool's scale. Received: scale"
                f"={self.scale} of the oracle, {scale} of the pool. Make the "
                f"oracle with `scale={scale}`.")
        self.scale = scale

    def ask(self, questions: Questions) -> None:
        """Takes questions in; a ticket that is open already is not repeated.

        Args:
            questions: the questions.

        Raises:
            ValueError: an open ticket comes with another pair.
        """
        pairs = {ticket: (user, item) for asked in self._open
                 for ticket, user, item in zip(
                     asked.ticket.tolist(), asked.user_id, asked.item_id)}
        new = np.ones(len(questions), bool)
        for place, (ticket, *pair) in enumerate(zip(
                questions.ticket.tolist(), questions.user_id,
                questions.item_id)):
            new[place] = ticket not in pairs
            if not new[place] and pairs[ticket] != tuple(pair):
                raise ValueError(
                    "A ticket must stand for one pair. Received: ticket="
                    f"{ticket} for {tuple(pair)}, but it is open for "
                    f"{pairs[ticket]}. Give each run an oracle (and a "
                    "folder) of its own, or `restore` the run's state.")
        questions = questions.take(new)
        if len(questions):
            self._open.append(questions)

    def answers(self) -> Answers:
        """Returns what arrived since the last call; empty if nothing did.

        When `reply` raises or is interrupted, every question without an
        answer stays open, and answers that were ready come with this call
        or the next.
        """
        while len(self._ready) < len(self._open):
            try:
                arrived = self.reply(self._open[len(self._ready)])
                given = ~arrived.declined
                check_labels(arrived.label[given], self.scale,
                             arrived.ticket[given],
                             cure="The questions stay open.")
                self._ready.append(arrived)
            except Exception:
                if self._ready:  # the error comes at the next call
                    break
                raise
        if not self._ready:
            return Answers.empty()
        found = Answers(*(
            np.concatenate([getattr(one, name) for one in self._ready])
            for name in ("ticket", "label", "declined", "cost")))
        self._open, self._ready = self._open[len(self._ready):], []
        return found

    def reply(self, questions: Questions) -> Answers:
        """Returns the answers to all of `questions`."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `reply(questions)`.")

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        """Returns what a label of each pair is expected to cost.

        Args:
            user_ids, item_ids: the pairs, object `[n]`.

        Returns:
            float `[n]`, in the oracle's unit.
        """
        return np.ones(len(user_ids))

    def state(self) -> dict:
        """Returns what a resumed run needs: the open questions, for JSON."""
        return {"open": [asked.to_json() for asked in self._open]}

    def restore(self, state: dict) -> None:
        """Continues from what `state` returned."""
        self._open = [Questions(**asked) for asked in state["open"]]
        self._ready = []


def check_number(name: str, value: float, most: float = math.inf) -> float:
    """Returns `value` if it is a number from 0 to `most`.

    Args:
        name: name of the argument, for the error.
        value: the number to check.
        most: the largest number allowed.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value <= most or math.isinf(value):
        raise ValueError(
            f"`{name}` must be a number from 0 to {most:g}. Received: "
            f"{name}={value}.")
    return float(value)
