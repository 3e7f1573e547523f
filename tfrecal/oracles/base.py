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
        round: in which they are asked.
        utility: what the strategy expects of each, `[n]`, or None.
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
        """Those at `rows` (indices or bool)."""
        return Questions(
            self.ticket[rows], self.user_id[rows], self.item_id[rows],
            self.round, None if self.utility is None else self.utility[rows])

    def to_json(self) -> dict:
        """As plain lists."""
        return {"ticket": self.ticket.tolist(),
                "user_id": self.user_id.tolist(),
                "item_id": self.item_id.tolist(), "round": int(self.round),
                "utility": (None if self.utility is None
                            else self.utility.tolist())}


@dataclass
class Answers:
    """What came back.

    Args:
        ticket: int64 `[k]`, distinct.
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
        """No answers."""
        return cls([], [], [], [])


class Oracle:
    """Answers label requests; now, later, in part, or never.

    This base class answers at once: a subclass writes `reply`. One whose
    answers are late overrides `ask`, `answers`, `state` and `restore`.
    """

    def __init__(self):
        self.scale: tuple[float, float] | None = None
        self._open: list[Questions] = []
        self._ready: list[Answers] = []  # to the first of them

    def __repr__(self) -> str:
        number = sum(map(len, self._open))
        about = ", ".join([*self._about(), f"{number:,} open questions"])
        return f"{type(self).__name__}({about})"

    def _about(self) -> list[str]:
        """What sets this oracle apart, in words, for `repr`."""
        return []

    def use_scale(self, scale: tuple[float, float]) -> None:
        """Takes over the pool's scale, so that labels off it are refused
        while their questions are still open.

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
        """Takes questions in. A ticket that is open already stays one.

        Raises:
            ValueError: an open ticket comes with another pair.
        """
        pairs = {ticket: (user, item) for part in self._open
                 for ticket, user, item in zip(
                     part.ticket.tolist(), part.user_id, part.item_id)}
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
        """What arrived since the last call; empty if nothing did.

        When `reply` raises or is interrupted, every question that has no
        answer stays open, and answers that are there come with this call or
        the next.
        """
        while len(self._ready) < len(self._open):
            try:
                part = self.reply(self._open[len(self._ready)])
                given = ~part.declined
                check_labels(part.label[given], self.scale,
                             part.ticket[given],
                             cure="The questions stay open.")
                self._ready.append(part)
            except Exception:
                if self._ready:  # the error comes at the next call
                    break
                raise
        if not self._ready:
            return Answers.empty()
        found = Answers(*(
            np.concatenate([getattr(part, name) for part in self._ready])
            for name in ("ticket", "label", "declined", "cost")))
        self._open, self._ready = self._open[len(self._ready):], []
        return found

    def reply(self, questions: Questions) -> Answers:
        """Answers to all of `questions`."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `reply(questions)`.")

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        """What a label of each pair is expected to cost, float `[n]`."""
        return np.ones(len(user_ids))

    def state(self) -> dict:
        """What a resumed run needs, JSON-able: the open questions."""
        return {"open": [part.to_json() for part in self._open]}

    def restore(self, state: dict) -> None:
        """Continues from what `state` returned."""
        self._open = [Questions(**part) for part in state["open"]]
        self._ready = []


def check_number(name: str, value: float, most: float = math.inf) -> float:
    """`value`, a number from 0 to `most`.

    Raises:
        ValueError: it is not.
    """
    if not 0 <= value <= most or math.isinf(value):
        raise ValueError(
            f"`{name}` must be a number from 0 to {most:g}. Received: "
            f"{name}={value}.")
    return float(value)
