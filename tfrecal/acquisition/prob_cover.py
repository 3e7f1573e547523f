"""ProbCover: pairs whose surroundings cover most of the pool."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition import picking
from tfrecal.acquisition.clusters import cluster, embed, spread
from tfrecal.acquisition.math.nearest import distance_table, nearest_labelled
from tfrecal.acquisition.pick_by_pick import PickByPick, Remaining
from tfrecal.acquisition.view import View

_SAMPLE = 2000  # pairs on which purity and utilities are measured
_TILE = 400  # rows of distances held at a time


class ProbCover(PickByPick):
    """Greedy maximum coverage by balls around the labelled pairs.

    Use it for the first labels, as `TypiClust`. Each pick covers the most
    pairs that no ball covers yet; once all are covered, picks are random.

    Limits: at most `candidates` pairs, drawn by their prior, are picked from
    and covered, with candidates ** 2 bytes of memory. The radius and the
    utilities are measured on 2,000 of the pairs.

    Args:
        delta: radius of the balls; None takes the largest with which a
            share `purity` of the balls lies within one cluster.
        purity: alpha of the paper.
        clusters: number of k-means clusters, which stand for classes.
        candidates: see above; further picks are made by utility.

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
        """Returns the share of candidates that each ball newly covers."""
        some = spread(len(view), _SAMPLE)
        limit = self.radius(view) ** 2
        others = some[~_covered(view, some, limit)]
        found = np.zeros(len(view))
        for rows, apart in _distances(view, np.arange(len(view)), others):
            found[rows] = np.count_nonzero(apart <= limit, axis=1)
        return found / max(len(some), 1)

    def radius(self, view) -> float:
        """Returns `delta`, or the largest radius that is pure enough.

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
        for tile, apart in _distances(view, rows[some], rows):
            apart[found[some[tile], None] == found] = np.inf
            reach[tile] = np.sqrt(apart.min(axis=1))
        impure = int((1 - self.purity) * len(some) + 1e-9)
        # No other cluster (or no candidate) leaves the balls without bound.
        least = float(np.append(np.sort(reach), np.inf)[impure])
        return least if np.isinf(least) else float(np.nextafter(least, 0))

    def pick(self, view, rows, values, factor, n, rng):
        factor = self.noisy(factor, rng)
        some = np.arange(len(rows))
        if len(rows) > self.candidates:
            keys = picking.keys(factor, "power", 1.0, rng)
            some = np.argpartition(-keys, self.candidates)[:self.candidates]
        rows, factor = rows[some], factor[some]
        limit = self.radius(view) ** 2
        covered = _covered(view, rows, limit)
        near = np.empty((len(rows), len(rows)), bool)
        gain = np.empty(len(rows), np.int64)
        for tile, apart in _distances(view, rows, rows):
            near[tile] = apart <= limit
            gain[tile] = np.count_nonzero(near[tile] & ~covered, axis=1)
        remaining = Remaining(self.limits(view, n), rows)
        picks = []
        while len(picks) < n and remaining.left.any():
            # The half does not change the order, and lets a prior decide
            # where nothing is gained.
            pick = remaining.best((gain + 0.5) * factor)
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
    """Returns which rows lie within `limit` of a label, bool `[m]`.

    Args:
        view: the candidates.
        rows: some of them, `[m]`.
        limit: a squared distance.
    """
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
    for start in range(0, len(rows), _TILE):
        tile = np.arange(start, min(start + _TILE, len(rows)))
        yield tile, distance_table(
            embed(view, view.user[rows[tile]], view.item[rows[tile]]), others)
