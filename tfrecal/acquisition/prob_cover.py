"""ProbCover: pairs whose surroundings cover most of the pool."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition import batches
from tfrecal.acquisition.batch_aware import BatchAware, Remaining
from tfrecal.acquisition.clusters import cluster, embed, spread
from tfrecal.acquisition.math.nearest import distance_table, nearest_labelled
from tfrecal.acquisition.view import View

_SAMPLE = 2000  # pairs on which purity and utilities are measured
_BLOCK = 400  # rows of distances held at a time


class ProbCover(BatchAware):
    """Greedy maximum coverage by balls around the labelled pairs.

    For the first labels, as `TypiClust`. Each pick covers the most pairs
    that no ball covers yet; once all are covered the rest is random.

    Limits: the batch is found among, and covers, at most `candidates` pairs,
    drawn by their prior, with candidates ** 2 bytes of memory. The radius
    is measured, and utilities are, on 2,000 of the pairs.

    Args:
        delta: radius of the balls; None finds the largest whose balls are
            pure: a share `purity` of them lies within one cluster.
        purity: alpha of the paper.
        clusters: of the k-means that stands for classes in the purity.
        candidates: see above; a larger batch is filled up by utility.

    Reference:
        Yehuda et al. 2022, "Active Learning Through a Covering Lens", arXiv
        2205.11320, algorithm 1 and its estimate of delta by purity.
    """

    needs = frozenset({"vectors"})

    def __init__(self, delta: float | None = None, purity: float = 0.95,
                 clusters: int = 10, candidates: int = 10_000, **options):
        super().__init__(**options)
        checks.positive(**checks.given(delta=delta),
                        cure="None has it found.")
        checks.lies_in("(0, 1)", purity=purity)
        checks.whole(2, clusters=clusters)
        checks.whole(1, candidates=candidates)
        self.delta = delta
        self.purity = purity
        self.clusters = clusters
        self.candidates = candidates

    def utilities(self, view):
        """Share of the candidates that the pair's ball newly covers."""
        some = spread(len(view), _SAMPLE)
        limit = self.radius(view) ** 2
        others = some[~_covered(view, some, limit)]
        found = np.zeros(len(view))
        for rows, apart in _distances(view, np.arange(len(view)), others):
            found[rows] = np.count_nonzero(apart <= limit, axis=1)
        return found / max(len(some), 1)

    def radius(self, view) -> float:
        """`delta`, or the largest that is pure enough.

        A ball is pure while it does not reach the nearest pair of another
        cluster, so that the radius is a quantile of these distances.
        """
        if self.delta is not None:
            return self.delta
        rows = spread(len(view), self.candidates)
        found = cluster(view, view.user[rows], view.item[rows],
                        min(self.clusters, len(rows)),
                        np.random.default_rng(0))
        some = spread(len(rows), _SAMPLE)
        reach = np.empty(len(some))
        for part, apart in _distances(view, rows[some], rows):
            apart[found[some[part], None] == found] = np.inf
            reach[part] = np.sqrt(apart.min(axis=1))
        impure = int((1 - self.purity) * len(some) + 1e-9)
        # No other cluster (or no candidate) leaves the balls without bound.
        least = float(np.append(np.sort(reach), np.inf)[impure])
        return least if np.isinf(least) else float(np.nextafter(least, 0))

    def pick(self, view, rows, values, weight, n, rng):
        weight = self.noisy(weight, rng)
        some = np.arange(len(rows))
        if len(rows) > self.candidates:
            keys = batches.keys(weight, "power", 1.0, rng)
            some = np.argpartition(-keys, self.candidates)[:self.candidates]
        rows, weight = rows[some], weight[some]
        limit = self.radius(view) ** 2
        covered = _covered(view, rows, limit)
        near = np.empty((len(rows), len(rows)), bool)
        gain = np.empty(len(rows), np.int64)
        for part, apart in _distances(view, rows, rows):
            near[part] = apart <= limit
            gain[part] = np.count_nonzero(near[part] & ~covered, axis=1)
        remaining = Remaining(self.limits(view, n), rows)
        picks = []
        while len(picks) < n and remaining.left.any():
            # The half leaves the order as it is, and something for a prior
            # to lift where nothing is gained.
            pick = remaining.best((gain + 0.5) * weight)
            picks.append(pick)
            remaining.take(pick)
            new = np.flatnonzero(near[pick] & ~covered)
            covered[new] = True
            gain -= np.count_nonzero(near[new], axis=0)
        return some[picks]

    def explain(self, view, chosen, utilities):
        return [f"{u:.1%} of the candidates are near it, with no label near "
                "them" for u in np.asarray(utilities)[chosen]]

    def get_config(self):
        return {**super().get_config(), "delta": self.delta,
                "purity": self.purity, "clusters": self.clusters,
                "candidates": self.candidates}


def _covered(view, rows, limit: float) -> np.ndarray:
    """Whether rows lie within a squared distance of a label, bool `[m]`."""
    if view.labelled_user is None or not len(view.labelled_user):
        return np.zeros(len(rows), bool)
    return nearest_labelled(View(
        view.user[rows], view.item[rows], labelled_user=view.labelled_user,
        labelled_item=view.labelled_item, labelled_label=view.labelled_label,
        query_vectors=view.query_vectors,
        candidate_vectors=view.candidate_vectors)) <= limit


def _distances(view, rows, others):
    """Yields `(positions in rows, squared distances to others)`."""
    if not len(others):
        return
    others = embed(view, view.user[others], view.item[others])
    for start in range(0, len(rows), _BLOCK):
        part = np.arange(start, min(start + _BLOCK, len(rows)))
        yield part, distance_table(
            embed(view, view.user[rows[part]], view.item[rows[part]]), others)
