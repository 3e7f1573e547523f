"""k-means over pairs: the query vector beside the candidate vector."""
from __future__ import annotations

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from tfrecal.acquisition.core_set import CoreSet
from tfrecal.acquisition.view import View

_SAMPLE = 20_000  # pairs that centres are fitted to
_TILE = 1 << 16  # pairs assigned at a time


def embed(view: View, user, item) -> np.ndarray:
    """Returns pairs as vectors, float64 `[n, 2 d]`.

    Args:
        view: has the vectors.
        user, item: codes of the pairs, `[n]`.

    Raises:
        ValueError: a number is not finite.
    """
    points = np.concatenate(
        [view.query_vectors[user], view.candidate_vectors[item]], axis=1,
        dtype=np.float64)
    if not np.isfinite(points).all():
        raise ValueError(
            "`query_vectors` and `candidate_vectors` must be finite. "
            f"Received: {int((~np.isfinite(points)).any(axis=1).sum())} of "
            f"{len(points)} pairs with NaN or infinite numbers. Look at the "
            "model: one that diverged gives NaN.")
    return points


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of the numbers below `count`, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def cluster(view: View, user, item, k: int,
            rng: np.random.Generator) -> np.ndarray:
    """Returns clusters of pairs by k-means, seeded by k-means++.

    Centres are fitted to at most 20,000 of the pairs, drawn at random.

    Args:
        view: has the vectors.
        user, item: codes of the pairs, `[n]`.
        k: how many clusters; some may stay empty.
        rng: draws the sample and the seeds.

    Returns:
        int64 `[n]`, numbers below `k`.
    """
    if k <= 1:
        return np.zeros(len(user), np.int64)
    sample = slice(None)
    if len(user) > _SAMPLE:
        sample = rng.choice(len(user), _SAMPLE, replace=False)
    some = View(user[sample], item[sample], query_vectors=view.query_vectors,
                candidate_vectors=view.candidate_vectors)
    seeds = CoreSet(batch="power").select(some, k, rng)
    points = embed(view, some.user, some.item).astype(np.float32)
    with warnings.catch_warnings():
        # Equal pairs leave clusters empty, which does no harm.
        warnings.filterwarnings("ignore", message="One of the clusters")
        centres, _ = kmeans2(points, points[seeds], minit="matrix")
    return np.concatenate([
        vq(embed(view, user[start:start + _TILE], item[start:start + _TILE])
           .astype(np.float32), centres)[0]
        for start in range(0, len(user), _TILE)]).astype(np.int64)
