"""A few features of users or items, from the vectors that a model learned."""
from __future__ import annotations

import numpy as np


def linear_features(vectors, traffic, components: int = 8) -> np.ndarray:
    """Returns 1, the main directions of the vectors, the log of the traffic.

    Each feature but the first has mean 0 and mean square 1 over the codes
    from 1 up, each code weighted by 1 + its traffic.

    Args:
        vectors: rating vectors by code, `[codes + 1, d]`.
        traffic: natural traffic by code, `[codes + 1]`.
        components: how many main directions, at most.

    Returns:
        float64 `[codes + 1, D]`, D = components + 2 or less where vectors
        have fewer directions or all traffic is the same; row 0 is zero.

    Raises:
        ValueError: vectors that are not finite.
    """
    vectors = np.asarray(vectors, np.float64)[1:]
    if not np.isfinite(vectors).all():
        raise ValueError(
            "Vectors must be finite. Received: "
            f"{int((~np.isfinite(vectors)).any(axis=1).sum())} that are NaN "
            "or infinite. Look at the model: one that diverged gives NaN.")
    weight = 1 + np.asarray(traffic, np.float64)[1:]
    weight = weight / weight.sum()
    centred = vectors - weight @ vectors
    second = (centred * weight[:, None]).T @ centred
    size, direction = np.linalg.eigh(second)
    kept = np.flatnonzero(size > 1e-9 * max(size.max(initial=0), 1e-12))
    kept = kept[::-1][:components]
    columns = [np.ones(len(vectors))]
    columns += list((centred @ direction[:, kept] / np.sqrt(size[kept])).T)
    popular = np.log1p(np.asarray(traffic, np.float64)[1:])
    popular -= weight @ popular
    spread = np.sqrt(weight @ popular ** 2)
    if spread > 1e-9:
        columns.append(popular / spread)
    found = np.zeros((len(vectors) + 1, len(columns)))
    found[1:] = np.stack(columns, axis=1)
    return found
