"""StopWhenStable: new labels no longer change what is recommended."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.callbacks.stop_buying import StopBuying
from tfrecal.metrics.top_k import top_k
from tfrecal.scoring.scorer import PoolScorer

_CELLS = 1 << 22  # scores held at once


class StopWhenStable(StopBuying):
    """Buys nothing more once the top-k lists stay the same.

    After each round that brought labels, the lists of a fixed sample of
    users are compared with those of the round before; they do not hold pairs
    that the pool held at the start. The callback writes the mean overlap, a
    share of k, as `stability` into `logs`. It needs no held-out labels. A
    model that has stopped learning for another reason, such as a learning
    rate of zero, looks stable too.

    Args:
        acquire: the `AcquireLabels` callback; it comes before this one.
        k: length of the lists.
        threshold: overlap at or above which a round counts as stable.
        patience: stable rounds in a row that end buying.
        users: how many users are sampled.
        seed: draws the sample.
        final_epochs, verbose: see `StopBuying`.

    Reference:
        Bloodgood and Vijay-Shanker 2009, "A Method for Stopping Active
        Learning Based on Stabilizing Predictions and the Need for
        User-Adjustable Stopping", arXiv 1409.5165, section 3; it compares
        predicted labels (by kappa) where this compares lists.
    """

    def __init__(self, acquire, *, k: int = 10, threshold: float = 0.9,
                 patience: int = 3, users: int = 500, seed: int = 0,
                 final_epochs: int = 1, verbose: int = 1):
        super().__init__(acquire, final_epochs, verbose)
        checks.at_least(1, k=k, patience=patience, users=users)
        checks.lies_in("(0, 1]", threshold=threshold)
        self.k = k
        self.threshold = threshold
        self.patience = patience
        self.users = users
        self.seed = seed

    def on_train_begin(self, logs=None):
        pool = self.acquire.pool
        total = len(pool.user_ids)
        rng = np.random.default_rng([self.seed, 23])
        self._users = np.sort(rng.choice(
            total, min(self.users, total), replace=False)) + 1
        place = np.full(total + 1, -1)
        place[self._users] = np.arange(len(self._users))
        rows = np.flatnonzero(place[pool.user] >= 0)
        self._known = place[pool.user[rows]], pool.item[rows] - 1
        self._lists = None
        self._stable = self._before = 0

    def on_epoch_begin(self, epoch, logs=None):
        # The model that makes this epoch's lists was trained on these labels.
        self._labelled = self.acquire.pool.counts["labelled"]

    def reason(self, epoch, logs):
        before, self._lists = self._lists, self.lists()
        new = self._labelled > self._before
        self._before = self._labelled
        if before is None or not new:
            return ""
        logs["stability"] = overlap(before, self._lists)
        stable = logs["stability"] >= self.threshold
        self._stable = self._stable + 1 if stable else 0
        if self._stable < self.patience:
            return ""
        return (f"the top-{self.k} lists kept {logs['stability']:.0%} of "
                f"their items, for {self._stable} rounds at least "
                f"{self.threshold:.0%}")

    def lists(self) -> np.ndarray:
        """Returns the top items of the sampled users, int32 `[users, k]`."""
        query, candidate = PoolScorer.of(
            self.model, self.acquire.pool).vectors("retrieval")
        step = max(1, _CELLS // len(candidate))
        found = []
        for start in range(0, len(self._users), step):
            users = self._users[start:start + step]
            scores = query[users] @ candidate[1:].T
            row, item = self._known
            here = (row >= start) & (row < start + len(users))
            scores[row[here] - start, item[here]] = -np.inf
            found.append(top_k(scores, self.k, users, self.seed))
        return np.concatenate(found)


def overlap(before: np.ndarray, after: np.ndarray) -> float:
    """Returns the mean share of each list that the other list holds.

    Args:
        before, after: items, `[users, k]`; -1 is no item.
    """
    there = before >= 0
    common = (before[:, :, None] == after[:, None, :]).any(axis=2) & there
    size = np.maximum(there.sum(axis=1), (after >= 0).sum(axis=1))
    good = size > 0
    return float(np.mean(common.sum(axis=1)[good] / size[good]))
