"""TypiClust: the most typical pair of each cluster of the pool."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition.clusters import cluster, embed, spread
from tfrecal.acquisition.math.nearest import distance_table
from tfrecal.acquisition.pick_by_pick import PickByPick, Remaining

_EXACT = 2000  # candidates up to which neighbours are looked for among all
_CELL = 500  # beyond it: pairs that a cell of neighbours has on average


class TypiClust(PickByPick):
    """The densest point of the largest clusters that have no label.

    Use it for the very first labels, when no prediction is worth much. Pairs
    are clustered into as many clusters as there will be labels, at most
    `max_clusters`; each pick comes from the largest of the clusters with
    the fewest labels. The factor of prior and cost counts in the size of a
    cluster and multiplies the typicality.

    Limits: centres are fitted to 20,000 pairs. Neighbours are exact up to
    2,000 candidates; beyond that they are looked for in k-means cells of
    about 500 pairs, among at most 2,000 of each.

    Args:
        neighbours: K, the number of neighbours of the typicality.
        max_clusters: most clusters; 500 in the authors' code.

    Reference:
        Hacohen et al. 2022, "Active Learning on a Budget: Opposite
        Strategies Suit High and Low Budgets", arXiv 2202.02794, equation 4
        and algorithm 1.
    """

    needs = frozenset({"vectors"})

    def __init__(self, neighbours: int = 20, max_clusters: int = 500,
                 **options):
        super().__init__(**options)
        checks.whole(1, neighbours=neighbours, max_clusters=max_clusters)
        self.neighbours = neighbours
        self.max_clusters = max_clusters

    def utilities(self, view):
        """Returns typicality: 1 / mean distance to the K nearest candidates."""
        size = len(view)
        cells = -(-size // _CELL) if size > _EXACT else 1
        cell = cluster(view, view.user, view.item,
                       min(cells, self.max_clusters),
                       np.random.default_rng(0))
        found = np.empty(size)
        order = np.argsort(cell, kind="stable")
        ends = np.flatnonzero(np.diff(cell[order])) + 1
        for rows in np.split(order, ends):
            found[rows] = self._mean_distance(view, rows)
        # The authors' guard against pairs that are equal.
        return 1 / (found + 1e-5)

    def _mean_distance(self, view, rows) -> np.ndarray:
        """Returns the mean distance of rows to their nearest others, `[m]`."""
        among = rows[spread(len(rows), _EXACT)]
        k = min(self.neighbours, len(among) - 1)
        if k < 1:
            return np.zeros(len(rows))
        others = embed(view, view.user[among], view.item[among])
        found = []
        for start in range(0, len(rows), _EXACT):
            some = rows[start:start + _EXACT]
            apart = distance_table(
                embed(view, view.user[some], view.item[some]), others)
            apart[some[:, None] == among] = np.inf
            nearest = np.partition(apart, k - 1, axis=1)[:, :k]
            found.append(np.sqrt(nearest).mean(axis=1))
        return np.concatenate(found)

    def pick(self, view, rows, values, factor, n, rng):
        factor = self.noisy(factor, rng)
        labelled_user, labelled_item = (
            np.zeros(0, np.int32) if codes is None else codes
            for codes in (view.labelled_user, view.labelled_item))
        count = len(labelled_user)
        k = min(count + n, count + len(rows), self.max_clusters)
        found = cluster(
            view, np.concatenate([labelled_user, view.user[rows]]),
            np.concatenate([labelled_item, view.item[rows]]), k, rng)
        labels = np.bincount(found[:count], minlength=k).astype(np.float64)
        found = found[count:]
        members = np.split(
            np.argsort(found, kind="stable"),
            np.cumsum(np.bincount(found, minlength=k))[:-1])
        remaining = Remaining(self.limits(view, n), rows)
        values = values * factor
        picks = []
        while len(picks) < n:
            size = np.bincount(found, factor * remaining.left, minlength=k)
            if not size.any():
                break
            # Fewest labels first, then the largest, in one number; so a
            # heavy prior can lift a cluster that has labels.
            with np.errstate(divide="ignore"):
                order = np.log(size) - labels * np.log(len(rows) + 1)
            largest = int(np.argmax(order))
            some = members[largest]
            pick = int(some[np.argmax(np.where(
                remaining.left[some], values[some], -1))])
            picks.append(pick)
            remaining.take(pick)
            labels[largest] += 1
        return np.array(picks, np.int64)

    def explain(self, view, chosen, utilities):
        return [f"it is typical: its {self.neighbours} nearest candidates "
                f"are {1 / u:.3g} away on average"
                for u in np.asarray(utilities)[chosen]]

    def get_config(self):
        return {**super().get_config(), "neighbours": self.neighbours,
                "max_clusters": self.max_clusters}
