"""BADGE: pairs whose labels would move the last layer, in many directions."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition.math.nearest import squared_distances
from tfrecal.acquisition.pick_by_pick import PickByPick, Remaining, draw


class BADGE(PickByPick):
    """k-means++ seeding on expected gradients of the last layer.

    The last layer is an inner product, so a pair's gradient embedding is s *
    [candidate vector, query vector], where s is the expected error. Squared
    distances of such embeddings follow from those between
    vectors: a pick costs O(users * d + items * d + n), not O(n * d).

    PowerBALD (`BALD` with `batch="power"`) does about as well for less.

    Args:
        residual: how s is found. `"probabilities"`: the mean absolute
            deviation of the label from its mean. `"samples"`: the standard
            deviation of the predictions of the dropout passes.
        batch: `"power"` is the published method: the largest embedding is
            picked first, as in the authors' code, then pairs are drawn with
            chances proportional to `distance ** (2 / temperature)`;
            `"top"` takes the farthest each time.

    Reference:
        Ash et al. 2020, "Deep Batch Active Learning by Diverse, Uncertain
        Gradient Lower Bounds", arXiv 1906.03671, algorithm 1.
    """

    needs = frozenset({"vectors", "probabilities"})

    def __init__(self, residual: str = "probabilities", batch: str = "power",
                 **options):
        super().__init__(batch=batch, **options)
        checks.one_of("residual", residual, ("probabilities", "samples"))
        self.residual = residual
        self.needs |= {"vectors", residual}

    def utilities(self, view):
        """Returns the squared length of the gradient embedding, `[n]`."""
        return self.errors(view) ** 2 * _squared_norms(view)

    def errors(self, view) -> np.ndarray:
        """Returns the expected error, in the unit of the labels, `[n]`."""
        if self.residual == "samples":
            return np.std(view.samples, axis=0, dtype=np.float64)
        if view.levels is None:
            raise ValueError(
                "`badge` reads `levels` of the view, the label that each "
                "class stands for. Received: levels=None. Pass it with "
                "`probabilities`.")
        chances = np.asarray(view.probabilities, np.float64)
        levels = np.asarray(view.levels, np.float64)
        apart = np.abs(levels - (chances @ levels)[:, None])
        return np.einsum("nc,nc->n", chances, apart)

    def pick(self, view, rows, values, factor, n, rng):
        error = self.errors(view)[rows]
        length = error * _squared_norms(view)[rows]
        users, user = np.unique(view.user[rows], return_inverse=True)
        items, item = np.unique(view.item[rows], return_inverse=True)
        query = np.asarray(view.query_vectors, np.float64)[users]
        candidate = np.asarray(view.candidate_vectors, np.float64)[items]
        remaining = Remaining(self.limits(view, n), rows)
        nearest = np.full(len(rows), np.inf)
        chances = values * factor
        picks = []
        while len(picks) < n and remaining.left.any():
            pick = remaining.best(chances)
            if picks and self.batch == "power":
                pick = draw(np.where(remaining.left, chances, 0), pick,
                            self.temperature, rng)
            picks.append(pick)
            remaining.take(pick)
            apart = squared_distances(query, query[user[pick]])[user]
            apart += squared_distances(
                candidate, candidate[item[pick]])[item]
            # |s x - t y|^2 without the cancellation of the plain expansion.
            apart *= error * error[pick]
            apart += (error - error[pick]) * (length - length[pick])
            np.minimum(nearest, apart, out=nearest)
            chances = np.maximum(nearest, 0) * factor
        return np.array(picks, np.int64)

    def explain(self, view, chosen, utilities):
        error = self.errors(view)[chosen]
        return [f"its label is expected to be {e:.2g} off, and would move "
                f"the last layer by {np.sqrt(u):.3g}, not as the other "
                "picks would"
                for e, u in zip(error, np.asarray(utilities)[chosen])]

    def get_config(self):
        return {**super().get_config(), "residual": self.residual}


def _squared_norms(view) -> np.ndarray:
    """Returns the squared length of both vectors of each pair, `[n]`."""
    found = np.zeros(len(view))
    for name, codes in (("query", view.user), ("candidate", view.item)):
        vectors = np.asarray(getattr(view, f"{name}_vectors"), np.float64)
        found += np.einsum("nd,nd->n", vectors, vectors)[codes]
    return found
