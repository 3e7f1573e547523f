"""ReplayOracle: answers from a log whose labels were hidden."""
from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import numpy as np
from scipy.special import ndtri

from tfrecal.checks import check_weights
from tfrecal.oracles.base import Answers, Oracle, Questions, check_number


class ReplayOracle(Oracle):
    """Answers with the labels of a log; use it for experiments.

    A pair without a label in the log is declined, and declining costs
    nothing. Chance depends on (seed, user, item) alone: the answer to a pair
    is the same in every round and order, so that strategies can be compared
    in pairs.

    Args:
        interactions: the `Interactions` that hold the labels.
        noise: noise of the answers. For ratings it is a standard deviation
            in their unit; answers are clipped to the scale, and rounded if
            the log's labels are whole. For binary labels it is the
            probability that an answer is flipped.
        decline: probability that a pair with a label is declined.
        cost: cost of a label: a number, one for each row of the log,
            `[rows]`, or a function `(user_ids, item_ids) -> [n]`. With one
            for each row, pairs outside the log are expected to cost the
            mean.
        seed: draws noise and declining.
    """

    def __init__(self, interactions, noise: float = 0.0, decline: float = 0.0,
                 cost: float | np.ndarray | Callable = 1.0, seed: int = 0):
        super().__init__()
        self.interactions = interactions
        labels = interactions.frame["label"].to_numpy(np.float32)
        self._binary = (tuple(interactions.scale) == (0, 1)
                        and bool(np.isin(labels, (0, 1)).all()))
        self._whole = bool((labels == np.rint(labels)).all())
        self.noise = check_number(
            "noise", noise, 1.0 if self._binary else np.inf)
        self.decline = check_number("decline", decline, 1.0)
        self.cost = cost
        self.seed = seed
        if not callable(cost):
            check_weights(
                cost if np.ndim(cost) else np.full(len(labels), cost),
                len(labels), "cost", source="one number, or one a row")
        keys = self._keys(interactions.user_code, interactions.item_code)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        self._labels = labels

    def _about(self) -> list[str]:
        return [f"{len(self._labels):,} labels of "
                f"{self.interactions.name!r}", f"noise={self.noise:g}",
                f"decline={self.decline:g}"]

    def _keys(self, user_code, item_code):
        width = self.interactions.item_vocabulary.size
        return np.asarray(user_code, np.int64) * width + item_code

    def _rows_in_log(self, user_ids, item_ids) -> np.ndarray:
        """Returns the row of each pair in the log; -1 where it has none."""
        user, item = self.interactions.codes(user_ids, item_ids)
        if not len(self._sorted):
            return np.full(len(user), -1)
        keys = self._keys(user, item)
        place = np.minimum(np.searchsorted(self._sorted, keys),
                           len(self._sorted) - 1)
        found = (self._sorted[place] == keys) & (user > 0) & (item > 0)
        return np.where(found, self._order[place], -1)

    def _chances(self, user_ids, item_ids) -> np.ndarray:
        """Returns two uniform numbers in (0, 1) a pair, float64 `[2, n]`."""
        digests = b"".join(
            blake2b(f"{self.seed}:{len(user)}:{user}{item}".encode(),
                    digest_size=16).digest()
            for user, item in zip(user_ids, item_ids))
        whole = np.frombuffer(digests, "<u8").reshape(-1, 2).T
        return ((whole >> 12) + 0.5) / 2.0**52

    def reply(self, questions: Questions) -> Answers:
        row = self._rows_in_log(questions.user_id, questions.item_id)
        declining, noise = self._chances(
            questions.user_id, questions.item_id)
        declined = (row < 0) | (declining < self.decline)
        label = np.full(len(row), np.nan, np.float32)
        label[~declined] = self._noisy(
            self._labels[row[~declined]], noise[~declined])
        cost = np.where(declined, 0.0, self.expected_cost(
            questions.user_id, questions.item_id))
        return Answers(questions.ticket, label, declined, cost)

    def _noisy(self, label, chance):
        if not self.noise:
            return label
        if self._binary:
            return np.where(chance < self.noise, 1 - label, label)
        label = label + self.noise * ndtri(chance)
        if self._whole:
            label = np.rint(label)
        return np.clip(label, *self.interactions.scale)

    def expected_cost(self, user_ids, item_ids) -> np.ndarray:
        if callable(self.cost):
            return check_weights(self.cost(user_ids, item_ids),
                                 len(user_ids), "cost")
        cost = np.asarray(self.cost, np.float64)
        if not cost.ndim:
            return np.full(len(user_ids), float(cost))
        row = self._rows_in_log(user_ids, item_ids)
        if not len(cost):
            return np.zeros(len(row))
        return np.where(row >= 0, cost[row], cost.mean())
