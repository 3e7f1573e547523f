"""JointCoverage: pairs of the least labelled user and item."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.pick_by_pick import PickByPick, Remaining


class JointCoverage(PickByPick):
    """The utility is 1 / (1 + labels of the user + labels of the item).

    Each pick counts as a label for the next ones, in O(n) a pick. Use it where
    users and items count the same; on a pool that looks like the audience it
    is worse than random.
    """

    needs = frozenset({"user_labelled", "item_labelled"})

    def utilities(self, view):
        return 1 / (1 + _labels_of_both(view).astype(np.float64))

    def pick(self, view, rows, values, factor, n, rng):
        user, item = view.user[rows], view.item[rows]
        labels = _labels_of_both(view)[rows].astype(np.float64)
        factor = self.noisy(factor, rng)
        remaining = Remaining(self.limits(view, n), rows)
        picks = []
        while len(picks) < n and remaining.left.any():
            pick = remaining.best(factor / (1 + labels))
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


def _labels_of_both(view) -> np.ndarray:
    """Returns labels of the user plus labels of the item, `[n]`."""
    return (np.asarray(view.user_labelled)[view.user]
            + np.asarray(view.item_labelled)[view.item])
