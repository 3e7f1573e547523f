"""Wanted: keeps up to date which pairs acquisition wants to know about."""
from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping

from tfrecal.data.columns import clean_id
from tfrecal.feedback.log.throttled_log import Notices


class Wanted:
    """The items whose labels are wanted of each user, the most useful first.

    Args:
        read: returns a mapping of user ids to lists of (item id, strategy,
            utility). It is called here and then every `seconds` by a thread;
            while it fails, what it returned last is used.
        seconds: time between two calls.
    """

    def __init__(self, read: Callable[[], Mapping], seconds: float):
        self.read, self.seconds = read, seconds
        self._notices = Notices(__name__)
        self._found: dict[str, list[tuple[str, str]]] = {}
        self._process = None  # in which the thread runs
        self.refresh()

    def of(self, user_id: str) -> list[tuple[str, str]]:
        """Returns a user's items as (item id, strategy)."""
        if self._process != os.getpid():  # the first call, or after a fork
            self._process = os.getpid()
            threading.Thread(target=self._run, daemon=True,
                             name="wanted pairs").start()
        return self._found.get(clean_id(user_id, "user_id"), [])

    def refresh(self) -> None:
        """Calls `read` now."""
        try:
            found: dict[str, list] = {}
            for user_id, pairs in self.read().items():
                found.setdefault(clean_id(user_id, "user_id"), []).extend(
                    pairs)
            self._found = {user_id: _best_first(pairs)
                           for user_id, pairs in found.items()}
        except Exception as error:  # whatever a database may raise
            self._notices.say("read", (
                "`wanted` must return {user id: [(item id, strategy, "
                f"utility), ...]}}. Received: {error!r} Exploration goes on "
                "with what it returned before."))

    def _run(self):
        while True:
            time.sleep(self.seconds)
            self.refresh()


def _best_first(pairs) -> list[tuple[str, str]]:
    found = [(clean_id(item_id, "item_id"), strategy)
             for item_id, strategy, _ in sorted(
        pairs, key=lambda pair: -math.inf if pair[2] != pair[2] else pair[2],
        reverse=True)]  # NaN last
    for pair in found:
        # An empty strategy would stand for the model's own items.
        if not all(isinstance(text, str) and text for text in pair):
            raise ValueError(f"an item and a strategy must be named, {pair}")
    return found


def by_user(questions) -> dict[str, list[tuple[str, str, float]]]:
    """Makes what `Wanted` reads from a frame of open questions.

    Args:
        questions: a DataFrame with `user_id`, `item_id`, `strategy` and
            `utility`, such as `FeedbackStore.questions()` returns. Questions
            without a strategy get the strategy "question".

    Returns:
        user id -> list of (item id, strategy, utility).
    """
    found = {}
    for user_id, item_id, strategy, utility in zip(*(
            questions[name].tolist() for name in (
                "user_id", "item_id", "strategy", "utility"))):
        found.setdefault(user_id, []).append(
            (item_id, strategy or "question", utility))
    return found
