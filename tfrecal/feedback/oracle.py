"""FeedbackOracle: the users of a served model answer, in their own time."""
from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from tfrecal import checks
from tfrecal.feedback.labels import label_values
from tfrecal.oracles.base import Answers, Oracle, Questions, check_number

_PAIR = ["user_id", "item_id"]


class FeedbackOracle(Oracle):
    """Asks through exploration slots and learns from what comes back.

    `ask` writes the questions to the feedback store, from where the clients'
    `Exploration` takes them: a slot of the user's next list shows the item.
    A response to it, there or in any other list, is the answer. Questions
    live in the store, by their pair: an open pair is not asked twice,
    whoever asks, and another process may take the answers.

    Args:
        store: a `feedback.FeedbackStore`.
        expires: seconds after which a question that got no answer is
            closed, so that its pair may be asked again.
        strategy: name of what chose the questions, for the log of what was
            shown.
        cost: of a label; a slot given to a question costs what the model's
            own item would have earned there.
        clock: seconds since the epoch.
    """

    def __init__(self, store, expires: float = 7 * 86_400,
                 strategy: str = "", cost: float = 1.0,
                 clock: Callable[[], float] = time.time):
        super().__init__()
        checks.positive(expires=expires, cure="It is in seconds.")
        self.store = store
        self.expires = expires
        self.strategy = strategy
        self.cost = check_number("cost", cost)
        self.clock = clock
        self._gone: list[int] = []

    def ask(self, questions: Questions) -> None:
        """Writes the questions to the store, unless their pair is open."""
        super().ask(questions)
        if len(questions):
            now = self.clock()
            given = self.store.ask(pd.DataFrame({
                "user_id": questions.user_id, "item_id": questions.item_id,
                "round": questions.round, "strategy": self.strategy,
                "utility": (np.nan if questions.utility is None
                            else questions.utility),
                "asked": now, "expires": now + self.expires}))
            # Of users who were erased nothing is asked.
            self._gone += questions.ticket[given == 0].tolist()

    def waiting(self, until: float | None = None) -> pd.DataFrame:
        """The store's open questions, once those to whose pair a response
        came, and those past their time, are closed, whoever asked them.

        Args:
            until: responses received later are not looked at.
        """
        found = self.store.questions("open")
        if not len(found):
            return found
        told = found.merge(
            self._responses(found["asked"].min(), until), on=_PAIR)
        told = told["ticket"][told["received"] > told["asked"]]
        done = found["ticket"].isin(told)
        late = ~done & (found["expires"] <= self.clock())
        self.store.close_questions(found["ticket"][done], "answered")
        self.store.close_questions(found["ticket"][late], "expired")
        return found[~(done | late)]

    def answers(self) -> Answers:
        """Labels of open tickets to whose pair a response came since.

        The latest response that is a label counts (`label_values`). What
        was answered once is answered again after a `restore`: the responses
        stay in the store.
        """
        gone = self._declined()
        if len(gone):
            return gone
        self.waiting()
        asked = self.store.questions(None).drop_duplicates(_PAIR, keep="last")
        found = _joined(self._open).merge(
            asked[[*_PAIR, "asked"]], on=_PAIR)
        if not len(found):
            return Answers.empty()
        found = found.merge(self._responses(found["asked"].min()), on=_PAIR)
        self._open = [part for part in (
            part.take(~np.isin(part.ticket, found["ticket"].to_numpy()))
            for part in self._open) if len(part)]
        done = asked.merge(found[_PAIR], on=_PAIR)["ticket"]
        self.store.close_questions(done, "answered")
        return Answers(
            found["ticket"], found["label"], np.zeros(len(found), bool),
            np.full(len(found), self.cost))

    def _responses(self, since, until=None) -> pd.DataFrame:
        """The latest label of each pair, and when it was received."""
        responses = self.store.responses(since, until)
        values = label_values(self.scale or (0, 1))
        responses = responses[responses["kind"].isin(list(values))]
        label = responses["kind"].map(values).astype(np.float64)
        return responses.assign(
            label=label.fillna(responses["value"])).drop_duplicates(
                _PAIR, keep="last")[[*_PAIR, "label", "received"]]

    def _declined(self) -> Answers:
        gone, self._gone = self._gone, []
        self._open = [part for part in (
            part.take(~np.isin(part.ticket, gone)) for part in self._open)
            if len(part)]
        none = np.zeros(len(gone))
        return Answers(gone, none + np.nan, none == 0, none)

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        return np.full(len(user_ids), self.cost)


def _joined(parts: list[Questions]) -> pd.DataFrame:
    return pd.DataFrame({name: np.concatenate([
        np.zeros(0, object), *(getattr(part, name) for part in parts)])
        for name in ("ticket", *_PAIR)}).astype({"ticket": np.int64})
