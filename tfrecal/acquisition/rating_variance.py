"""RatingVariance: items about which opinions differ."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy

_PRIOR = 5  # an item's own variance counts half once it has six labels


class RatingVariance(Strategy):
    """Variance of the known labels of a pair's item.

    It is smoothed toward the mean variance within items, as if each item had
    five more degrees of freedom of that size; an item with fewer than two
    labels gets that mean itself. The utility is the same for all users, so
    its top n are a few items: use caps.

    Reference:
        Kohrs and Merialdo 2001, "Improving Collaborative Filtering for New
        Users by Smart Object Selection", the variance strategy; the
        smoothing is the posterior mean under a conjugate (scaled inverse
        chi-squared) prior, up to its constant.
    """

    needs = frozenset({"labelled_label"})

    def utilities(self, view):
        count, squares = _squared_deviations(view)
        freedom = np.maximum(count - 1, 0)
        overall = squares.sum() / max(freedom.sum(), 1)
        smoothed = (squares + _PRIOR * overall) / (freedom + _PRIOR)
        return smoothed[view.item]

    def explain(self, view, chosen, utilities):
        count, _ = _squared_deviations(view)
        return [f"the {count[item]} known labels of its item have a standard "
                f"deviation of {utilities[i] ** 0.5:.2g} (smoothed)"
                for i, item in zip(chosen, view.item[chosen])]


def _squared_deviations(view):
    """Returns numbers and sums of squared deviations of labels, by item."""
    item, label = view.labelled_item, view.labelled_label
    size = int(max(view.item.max(initial=0), np.max(item, initial=0))) + 1
    label = np.asarray(label, np.float64)
    count = np.bincount(item, minlength=size)
    mean = (np.bincount(item, label, minlength=size)
            / np.maximum(count, 1))
    deviation = label - mean[item]
    return count, np.bincount(item, deviation ** 2, minlength=size)
