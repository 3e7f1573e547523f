"""LogPopEntropy: popular items about which opinions differ."""
from __future__ import annotations

import numpy as np
from scipy.special import entr

from tfrecal.acquisition.base import Strategy


class LogPopEntropy(Strategy):
    """log(popularity) times the entropy of the item's known labels.

    It balances the chance of an answer and what an answer tells. It is the
    same for all users, so its top n are a few items: use caps. An item without
    two different labels has an entropy of zero and comes last. Popularity is
    traffic plus one, so that an item without traffic has a logarithm of zero.

    Reference:
        Rashid et al. 2002, "Getting to Know You: Learning New User
        Preferences in Recommender Systems", IUI 2002, the strategy
        "log(popularity)*entropy".
    """

    needs = frozenset({"item_traffic", "labelled_label"})

    def utilities(self, view):
        traffic = np.asarray(view.item_traffic, np.float64)
        entropy = _label_entropy(view, len(traffic))
        return (np.log1p(traffic) * entropy)[view.item]

    def explain(self, view, chosen, utilities):
        entropy = _label_entropy(view, len(view.item_traffic))
        return [f"its item has {view.item_traffic[item]:,.0f} pairs of "
                f"traffic, and its known labels differ by "
                f"{entropy[item] / np.log(2):.2g} bits"
                for item in view.item[chosen]]


def _label_entropy(view, size: int) -> np.ndarray:
    """Returns the entropy of each item's known labels, by code, in nats."""
    item = np.asarray(view.labelled_item)
    _, level = np.unique(view.labelled_label, return_inverse=True)
    # By distinct (item, label): a table of items x labels would not be
    # bounded where labels are real numbers.
    cells, count = np.unique(
        np.stack([item, level]), axis=1, return_counts=True)
    total = np.bincount(item, minlength=size)
    share = count / total[cells[0]]
    return np.bincount(cells[0], entr(share), minlength=size)
