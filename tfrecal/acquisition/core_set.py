"""CoreSet: pairs that leave no part of the pool far from a label."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.math.nearest import nearest_labelled, squared_distances
from tfrecal.acquisition.pick_by_pick import draw


class CoreSet(Strategy):
    """Greedy k-centre over pair embeddings: each time the farthest pair.

    A pair's embedding is its query vector beside its candidate vector, so a
    squared distance is one of users plus one of items: a pick costs
    O(users * d + items * d + n), not O(n * d).

    A prior, rateability and cost, where they count, multiply the squared
    distance as it is at each pick, unscaled: no factor puts a pair at
    distance zero before one that is farther.

    Args:
        batch: `"top"` takes the farthest; `"power"` draws each pick with
            chances proportional to `distance ** (2 / temperature)`, which at
            temperature 1 is the seeding of k-means++.

    Reference:
        Sener and Savarese 2018, "Active Learning for Convolutional Neural
        Networks: A Core-Set Approach", arXiv 1708.00489, algorithm 1.
    """

    needs = frozenset({"vectors"})

    def __init__(self, batch: str = "top", **options):
        super().__init__(batch=batch, **options)
        if batch not in ("top", "power"):
            raise ValueError(
                "`batch` of `core_set` must be top or power: its picks "
                f"depend on each other. Received: batch={batch!r}.")

    def utilities(self, view):
        """Returns squared distances to the nearest labelled pair, `[n]`.

        They are 1 if there is no label.
        """
        if view.labelled_user is None or not len(view.labelled_user):
            return np.ones(len(view))
        return nearest_labelled(view)

    def select(self, view, n, rng, utilities=None):
        size = len(view)
        if utilities is None and size:
            self.check_needs(view)
            utilities = self.utilities(view)
        _, allowed = self.weigh(view, n, utilities)
        if not len(allowed):
            return allowed
        order = allowed[rng.permutation(len(allowed))]
        nearest = np.array(utilities, np.float64)[order]
        if view.labelled_user is None or not len(view.labelled_user):
            nearest[:] = np.finfo(np.float64).max
        return order[self._pick(view, order, nearest, n, rng)]

    def _pick(self, view, order, nearest, n, rng):
        users, user = np.unique(view.user[order], return_inverse=True)
        items, item = np.unique(view.item[order], return_inverse=True)
        query = np.asarray(view.query_vectors, np.float64)[users]
        candidate = np.asarray(view.candidate_vectors, np.float64)[items]
        for name, vectors in (("query", query), ("candidate", candidate)):
            if not np.isfinite(vectors).all():
                raise ValueError(
                    f"`{name}_vectors` must be finite. Received: "
                    f"{int((~np.isfinite(vectors)).any(axis=1).sum())} that "
                    "are NaN or infinite. Look at the model: one that "
                    "diverged gives NaN.")
        factors = self.factors(view)
        factor = np.ones(len(order)) if factors is None else factors[order]
        factor = factor / (factor.max() or 1)
        limits = self.limits(view, n)
        untaken = np.ones(len(order), bool)
        left = limits.open(order)
        picks = []
        while len(picks) < n:
            if not left.any():
                if not limits.release():
                    break
                left = untaken & limits.open(order)
                continue
            pick = self._choose(np.where(left, nearest * factor, -1), rng)
            picks.append(pick)
            untaken[pick] = left[pick] = False
            apart = (squared_distances(query, query[user[pick]])[user]
                     + squared_distances(
                         candidate, candidate[item[pick]])[item])
            np.minimum(nearest, apart, out=nearest)
            if limits.take(order[pick]):
                left &= limits.open(order)
        return np.array(picks, np.int64)

    def _choose(self, values, rng) -> int:
        best = int(np.argmax(values))
        if self.batch == "top":
            return best
        return draw(values, best, self.temperature, rng)
