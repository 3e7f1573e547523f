"""CallableOracle: a Python function answers."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfrecal.checks import on_scale
from tfrecal.oracles.base import Answers, Oracle, Questions, check_number


class CallableOracle(Oracle):
    """Answers with what a function returns, such as a call to a service.

    The function is called when the answers are collected. If it raises, or
    returns something that is no label, the questions stay open and are asked
    again when answers are next collected.

    If a process is killed after a service has billed and before the answer
    is in the journal, the resumed process asks again: the same pairs under
    the same tickets. So a ticket is an idempotency key: let the function take
    it (`keyed`) and send it to the service, together with the name of the
    run, because each pool counts its tickets from 0. A service without such
    keys may bill that one call twice.

    Args:
        function: `(user_ids, item_ids) -> labels`. It takes object arrays
            `[n]` and returns `n` numbers, NaN or None where declined.
        cost: cost of a label; a declined question costs nothing.
        scale: `(lowest, highest)` label, or None for the pool's.
        keyed: True if the function takes the tickets, int64 `[n]`, as a
            third argument.

    Example:
        `CallableOracle(lambda users, items: [5.0] * len(users))`
    """

    def __init__(self, function: Callable, cost: float = 1.0,
                 scale: tuple[float, float] | None = None,
                 keyed: bool = False):
        super().__init__()
        if not callable(function):
            raise TypeError(
                "`function` must be callable with (user_ids, item_ids). "
                f"Received: function={function!r}.")
        self.function = function
        self.cost = check_number("cost", cost)
        self.scale = scale
        self.keyed = keyed

    def _about(self) -> list[str]:
        name = getattr(self.function, "__name__", repr(self.function))
        return [name, f"cost={self.cost:g}"]

    def reply(self, questions: Questions) -> Answers:
        try:
            labels = self.function(
                questions.user_id, questions.item_id,
                *([questions.ticket] if self.keyed else []))
        except Exception as error:
            raise RuntimeError(
                f"The function of the oracle failed on {len(questions)} "
                f"questions with {type(error).__name__}: {error}. Nothing is "
                "lost: they stay open. Mend the function, or return None for "
                "a pair that it cannot label, and collect the answers again."
            ) from error
        label = self._checked_labels(labels, len(questions))
        declined = np.isnan(label)
        return Answers(questions.ticket, label, declined,
                       np.where(declined, 0.0, self.cost))

    def _checked_labels(self, labels, size) -> np.ndarray:
        low, high = self.scale or (-np.inf, np.inf)
        try:
            label = np.array(list(labels), np.float32)  # None becomes NaN
            good = label.shape == (size,) and (
                np.isnan(label) | on_scale(label, self.scale)).all()
        except (TypeError, ValueError):
            good = False
        if not good:
            raise ValueError(
                f"The function of the oracle must return {size} numbers from "
                f"{low:g} to {high:g}, None or NaN where declined. Received: "
                f"{str(labels)[:200]}. The questions stay open: mend the "
                "function and collect the answers again.")
        return label

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        return np.full(len(user_ids), self.cost)
