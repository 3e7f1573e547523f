"""Buying: questions to the oracle, answers to the pool, by the journal."""
from __future__ import annotations

import numpy as np

from tfrecal.callbacks.choosing import Chosen
from tfrecal.oracles import Answers, Oracle, Questions
from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import Pool, PoolExhausted


class Buying:
    """Buys labels so that none is bought twice and none is lost.

    A process may be killed after it wrote to the journal and before it saved
    the pool. The restored pool then lacks the records of the journal after
    `position`. They are repeated in the order of the journal: the same
    questions under the same tickets, and the same answers. The oracle is
    asked only those that have no answer yet.

    Args:
        pool: the `Pool`.
        oracle: the `Oracle`.
        journal: the `Journal` of this pool; None keeps one in memory only.

    Attributes:
        position: number of records of the journal that are in the pool.
    """

    def __init__(self, pool: Pool, oracle: Oracle, journal=None):
        self.pool = pool
        self.oracle = oracle
        self.journal = Journal() if journal is None else journal
        # A pool that was never asked has no records; `restore` sets the
        # position of a saved one; a pool in its own process has them all.
        self.position = len(self.journal) if pool.rounds else 0

    def state(self) -> dict:
        """Returns what a resumed run needs; it can be written as JSON."""
        return {"oracle": self.oracle.state(), "journal": self.position,
                "journal_sum": self.journal.sum_after(self.position)}

    def restore(self, state: dict) -> None:
        """Continues from what `state` returned."""
        self.position = self._checked_position(
            state.get("journal", 0), state.get("journal_sum"))
        oracle = dict(state["oracle"])
        if oracle.get("open"):
            left = [self.journal.unanswered(Questions(**one))
                    for one in oracle["open"]]
            oracle["open"] = [one.to_json() for one in left if len(one)]
        self.oracle.restore(oracle)

    def _checked_position(self, position: int, total: str | None) -> int:
        if self.journal.path is None:
            return len(self.journal)
        return position if self.journal.check_heard(position, total) else 0

    def repeated(self, round: int):
        """Asks the pool the questions of an interrupted round again.

        Args:
            round: number of the round.

        Returns:
            `(questions, explanations)`, or None if the journal has none, so
            that new pairs are to be chosen.

        Raises:
            ValueError: they do not fit the pool.
        """
        found = self.journal.asked_at(self.position)
        if found is None:
            return None
        questions, strategy, why = found
        user = self.pool.user_vocabulary.codes(questions.user_id)
        item = self.pool.item_vocabulary.codes(questions.item_id)
        good = questions.round == round and user.all() and item.all()
        try:
            good = good and np.array_equal(questions.ticket, self.pool.ask(
                user, item, round, strategy, questions.utility))
        except PoolExhausted:
            good = False
        if not good:
            raise ValueError(
                "A journal must be that of the pool. Received: "
                f"{self.journal.path}, whose round {questions.round} with "
                f"{len(questions)} questions cannot be asked of this pool as "
                f"round {round}. Give each pool a journal of its own; a run "
                "folder has the one that belongs to it.")
        self.position += 1
        return questions, why

    def ask(self, chosen: Chosen, round: int, why: list) -> Questions:
        """Marks chosen pairs as asked; the oracle is not told yet.

        Args:
            chosen: the picks.
            round: number of the round.
            why: explanations for the journal.
        """
        user, item, utility, strategy = chosen
        tickets = self.pool.ask(user, item, round, strategy, utility)
        pairs = self.pool.pairs(user, item)
        questions = Questions(tickets, pairs.user_id, pairs.item_id, round,
                              utility)
        self.journal.asked(questions, strategy, why)
        self.position += 1
        return questions

    def tell(self, questions: Questions) -> None:
        """Asks the oracle those questions that have no answer yet."""
        questions = self.journal.unanswered(questions)
        if len(questions):
            self.oracle.ask(questions)

    def collect(self) -> dict[str, int]:
        """Takes in the answers of the journal, then the oracle's.

        Returns:
            Numbers of pairs that are newly `acquired` and `declined`.
        """
        answers, self.position = self.journal.answers_at(self.position)
        found = self._answer_pool(answers)
        if self.position < len(self.journal):
            return found  # questions that are repeated come before others
        answers = self.journal.fresh(self.oracle.answers())
        if len(answers):
            # The journal must not hold what the pool refuses.
            self.pool.check_answers(answers.ticket, answers.label,
                                    answers.declined)
            self.journal.answered(answers)
            self.position += 1
            for name, number in self._answer_pool(answers).items():
                found[name] += number
        return found

    def _answer_pool(self, answers: Answers) -> dict[str, int]:
        fresh = np.zeros(0, bool)
        if len(answers):
            fresh = self.pool.answer(answers.ticket, answers.label,
                                     answers.declined, answers.cost)
        return {"acquired": int((fresh & ~answers.declined).sum()),
                "declined": int((fresh & answers.declined).sum())}
