"""How probably each of several Gaussian draws is the greatest."""
from __future__ import annotations

import numpy as np
from scipy.special import ndtr

# Bounds of panels in standard deviations of each Gaussian: on a panel no
# distribution function bends more than eight points of Gauss can follow.
_BOUNDS = np.array([-9, -7, -5.5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5.5, 7, 9])
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)


def chance_to_be_greatest(mean, sd) -> np.ndarray:
    """P(draw i is the greatest of independent Gaussian draws).

    The integral of density i times the other distribution functions, by
    Gauss-Legendre on panels that follow the scale of every Gaussian; the
    error is below 1e-9 also where scales differ by orders of magnitude.

    Args:
        mean: `[m]`.
        sd: `[m]`, positive.

    Returns:
        float64 `[m]`; the sum is 1.

    Reference:
        Thompson sampling: Russo et al. 2018, arXiv 1707.02038, whose
        probability of an action this is.
    """
    mean, sd = np.asarray(mean, float), np.asarray(sd, float)
    bounds = np.unique(mean + sd * _BOUNDS[:, np.newaxis])
    half = np.diff(bounds)[:, np.newaxis] / 2
    x = (bounds[:-1, np.newaxis] + half + half * _POINTS).reshape(-1, 1)
    weight = (half * _WEIGHTS).reshape(-1, 1)
    z = (x - mean) / sd
    below = ndtr(z)
    # Products over the others, from both sides, as a division could be 0/0.
    before = np.cumprod(below, axis=1)
    after = np.cumprod(below[:, ::-1], axis=1)[:, ::-1]
    others = np.ones_like(below)
    others[:, 1:] *= before[:, :-1]
    others[:, :-1] *= after[:, 1:]
    density = np.exp(-z * z / 2) / (sd * np.sqrt(2 * np.pi))
    return (weight * density * others).sum(axis=0)
