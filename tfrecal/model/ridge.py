"""Ridge regressions of many ids at once: one vector and bias for each.

Where the vectors of the other side are fixed, the loss that `Tower` and
`Rating` describe falls apart into one ridge regression for each id, as in
alternating least squares (Zhou et al. 2008, "Large-scale parallel
collaborative filtering for the Netflix Prize", sec. 3.1). Cross-entropy is
met by the weights of a Gaussian bound (Jaakkola & Jordan 2000, "Bayesian
parameter estimation via variational methods", eq. 9), under which no sweep
makes the loss larger.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tfrecal.doctor import cores

_LEAST = 1e-6        # L2, so that every regression has one solution
_ELEMENTS = 1 << 22  # of padded features that are gathered at once
_ROWS = 4_096        # of one id at a time


@dataclass(frozen=True)
class Penalty:
    """What holds the vectors of one side; see `Tower`.

    Args:
        l2: factor of the squared norm of a vector.
        bias_l2: factor of the squared bias.
        shrinkage: both count `labels + shrinkage` times.
    """

    l2: float
    bias_l2: float
    shrinkage: float


def working_labels(score, label, loss: str, unit: float = 1.0):
    """Returns `(weight, target)`: the loss is that of weighed squares.

    Args:
        score: what the model says now, without a link function, `[n]`.
        label: `[n]`.
        loss: see `Rating`.
        unit: of squared errors, a quarter of the scale.

    Returns:
        `(weight [n], target [n])`, float64: up to what is constant, the
        loss is at most the sum of `weight * (target - score) ** 2`.
    """
    label = np.asarray(label, np.float64)
    if loss == "mse":
        return np.full(len(label), unit ** -2.0), label
    half = np.abs(np.asarray(score, np.float64)) / 2
    # tanh(|score| / 2) / (4 |score|)
    weight = np.where(
        half > 1e-4, np.tanh(half) / np.maximum(8 * half, 1e-9), 0.125)
    return weight, (label - 0.5) / (2 * weight)


def solve(code, other, target, weight, vectors, penalty: Penalty, size: int):
    """Solves the regressions of all ids of one side.

    Args:
        code: the id of each row, int `[n]`.
        other: the id of the other side of each row, int `[n]`.
        target: what a row should be, less all that is fixed, `[n]`.
        weight: of its squared error, `[n]`.
        vectors: of the other side, `[others, d]`.
        penalty: of this side.
        size: number of ids of this side.

    Returns:
        `(vectors [size, d], bias [size])`, float32; zeros for ids without a
        row.
    """
    d = vectors.shape[1]
    held = np.array([penalty.bias_l2] + [penalty.l2] * d)
    scale = np.maximum(held, _LEAST) ** -0.5
    # In these units every regression has the ridge `labels + shrinkage`.
    features = np.hstack([np.ones((len(vectors), 1)), vectors]) * scale
    order = np.argsort(code, kind="stable")
    root = np.sqrt(weight)[order]
    other, target = other[order], (target[order] * root)
    number = np.bincount(code, minlength=size)
    first = np.cumsum(number) - number
    by_number = np.argsort(number, kind="stable")
    by_number = by_number[number[by_number] > 0]
    found = np.zeros((size, d + 1))

    def some(ids):
        found[ids] = _batch(features, other, target, root, first[ids],
                            number[ids], penalty.shrinkage)

    with ThreadPoolExecutor(cores()) as threads:
        list(threads.map(some, _batches(by_number, number, d + 1)))
    found = (found * scale).astype(np.float32)
    return found[:, 1:], found[:, 0]


def _batches(ids, number, width):
    """Yields ids, by their number of rows, that are solved at once."""
    start = 0
    while start < len(ids):
        stop = _stop(number[ids], start, width)
        yield ids[start:stop]
        start = stop


def _stop(number, start, width):
    """Returns where a batch ends that begins at `start`.

    Its ids have rows of about the same number, and all fit into memory.
    """
    stop = start + np.searchsorted(
        number[start:], max(8, 1.25 * number[start]), side="right")
    while stop - start > 1 and (stop - start) * width * max(
            min(_ROWS, number[stop - 1]), width) > _ELEMENTS:
        stop = start + (stop - start) // 2
    return stop


def _batch(features, other, target, root, first, number, shrinkage):
    """Solves the regressions of some ids, `[ids, width]`."""
    width, most = features.shape[1], number.max()
    ridge = (number + shrinkage)[:, np.newaxis]
    if most < width:  # by the kernel trick, the smaller system
        rows, there = _places(first, number, 0, most)
        some = features[other[rows]] * (root[rows] * there)[..., np.newaxis]
        kernel = some @ some.transpose(0, 2, 1)
        kernel[:, range(most), range(most)] += ridge
        dual = np.linalg.solve(
            kernel, (target[rows] * there)[..., np.newaxis])
        return np.einsum("bnw,bno->bw", some, dual)
    gram = np.zeros((len(first), width, width))
    right = np.zeros((len(first), width, 1))
    for start in range(0, most, _ROWS):
        rows, there = _places(first, number, start, min(most, start + _ROWS))
        some = features[other[rows]] * (root[rows] * there)[..., np.newaxis]
        back = some.transpose(0, 2, 1)
        gram += back @ some
        right += back @ (target[rows] * there)[..., np.newaxis]
    gram[:, range(width), range(width)] += ridge
    return np.linalg.solve(gram, right)[..., 0]


def _places(first, number, start, stop):
    """Returns the rows `start` to `stop` of ids, and which are there."""
    place = np.arange(start, stop)
    there = place < number[:, np.newaxis]
    return np.where(there, first[:, np.newaxis] + place, 0), there
