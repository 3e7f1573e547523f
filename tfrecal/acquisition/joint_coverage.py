"""JointCoverage: pairs of the least labelled user and item."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.batch_aware import BatchAware, Remaining


class JointCoverage(BatchAware):
    """One over one plus the labels of the user and of the item.

    Each pick counts as a label for the next ones: O(n) a pick. Use it where
    users and items count the same; on a pool that looks like the audience it
    is worse than random.
    """

    needs = frozenset({"user_labelled", "item_labelled"})

    def utilities(self, view):
        return 1 / (1 + _labels(view).astype(np.float64))

    def pick(self, view, rows, values, weight, n, rng):
        user, item = view.user[rows], view.item[rows]
        labels = _labels(view)[rows].astype(np.float64)
        weight = self.noisy(weight, rng)
        remaining = Remaining(self.limits(view, n), rows)
        picks = []
        while len(picks) < n and remaining.left.any():
            pick = remaining.best(weight / (1 + labels))
            picks.append(pick)
            remaining.take(pick)
            labels += user == user[pick]
            labels += item == item[pick]
        return np.array(picks, np.int64)

    def explain(self, view, chosen, utilities):
        return [f"its user has {users:,} labels and its item {items:,}"
                for users, items in zip(
                    view.user_labelled[view.user[chosen]],
                    view.item_labelled[view.item[chosen]])]


def _labels(view) -> np.ndarray:
    """Labels of the user and of the item of each candidate, together."""
    return (np.asarray(view.user_labelled)[view.user]
            + np.asarray(view.item_labelled)[view.item])
