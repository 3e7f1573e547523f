"""FeedbackOracle: the users of a served model answer, in their own time."""
from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from tfrecal import checks
from tfrecal.data.columns import clean_id
from tfrecal.feedback.labels import label_values
from tfrecal.oracles.base import Answers, Oracle, Questions, check_number

_PAIR = ["user_id", "item_id"]


class FeedbackOracle(Oracle):
    """Asks through exploration slots and learns from what comes back.

    `ask` writes the questions to the feedback store, from where the clients'
    `Exploration` takes them: a slot of the user's next list shows the item.
    A response to it, there or in any other list, is the answer. The store
    keeps a question by its pair: no process asks an open pair again, and
    another process may take the answers.

    Args:
        store: a `feedback.FeedbackStore`.
        expires: seconds after which a question that got no answer is
            closed, so that its pair may be asked again.
        strategy: the name of the strategy that chose the questions, for the
            log of what was shown.
        cost: cost of a label: what the model's own item would have earned in
            a slot that is given to a question.
        clock: returns seconds since the epoch.
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
            # Erased users are not asked.
            self._gone += questions.ticket[given == 0].tolist()

    def waiting(self, until: float | None = None) -> pd.DataFrame:
        """Closes questions that are answered or expired; returns the rest.

        This holds for all questions of the store, whoever asked them.

        Args:
            until: responses that were received later are not looked at.

        Returns:
            The store's open questions, one a row.
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
        """Returns labels of open tickets whose pair has got a response.

        The latest response that is a label counts (`label_values`). A
        question that was answered is answered again after a `restore`,
        because the responses stay in the store.
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
        """Returns the latest label of each pair, and when it came in."""
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


def _joined(questions: list[Questions]) -> pd.DataFrame:
    found = pd.DataFrame({name: np.concatenate([
        np.zeros(0, object), *(getattr(some, name) for some in questions)])
        for name in ("ticket", *_PAIR)}).astype({"ticket": np.int64})
    # As the store has them.
    return found.assign(**{
        name: np.array([clean_id(id, name) for id in found[name]], object)
        for name in _PAIR})
