"""Scores of tiles of pairs: inner products, moments, exact variances."""
from __future__ import annotations

import threading

import numpy as np


class Products:
    """Inner products of pairs.

    Args:
        query, candidate: vectors by code, `[users + 1, d]`,
            `[items + 1, d]`.
    """

    def __init__(self, query, candidate):
        self.query = np.ascontiguousarray(query)
        self.candidate = np.ascontiguousarray(candidate)
        self._last = None, None

    def __call__(self, tile, out=None) -> np.ndarray:
        """Returns float32 `[pairs]`, written into `out` where it is given."""
        query = self.query[tile.user]
        if not tile.grid:
            return np.einsum(
                "nd,nd->n", query, self.candidate[tile.item], out=out)
        items, vectors = self._last
        if tile.item is not items:
            # Tiles of the same items come together.
            vectors = self.candidate[tile.item]
            self._last = tile.item, vectors  # one step: threads share it
        shape = len(tile.user), len(tile.item)
        found = np.matmul(query, vectors.T,
                          out=None if out is None else out.reshape(shape))
        return found.reshape(-1)


# What `Moments` finds.
MOMENTS = ("mean", "variance", "upper_bound")


class Moments:
    """Mean and variance of the predicted label of each pair.

    Args:
        kind: one of `MOMENTS`. `"mean"` predicts without dropout;
            `"variance"` is the variance over the passes, as in
            `PredictiveVariance`; `"upper_bound"` is the mean of the passes
            plus their standard deviation, as in `UCB`.
        mean: `Products` without dropout.
        passes: `Products` of each pass.
        labels: turns scores into labels in place, see `Labels`.
    """

    def __init__(self, kind, mean, passes, labels):
        self.kind = kind
        self.mean = mean
        self.passes = passes
        self.labels = labels
        self._of_thread = threading.local()

    def __call__(self, tile) -> np.ndarray:
        """Returns float32 `[pairs]`; the thread's next call overwrites it."""
        mean, one, total, squares = self._buffers(len(tile))
        self.labels(self.mean(tile, mean))
        if self.kind == "mean":
            return mean
        total[:] = squares[:] = 0
        for products in self.passes:
            self.labels(products(tile, one))
            # Around the mean, or float32 would cancel small variances.
            one -= mean
            total += one
            one *= one
            squares += one
        total /= len(self.passes)
        squares /= len(self.passes)
        mean += total
        total *= total
        squares -= total
        np.maximum(squares, 0, out=squares)
        if self.kind == "variance":
            return squares
        np.sqrt(squares, out=squares)
        mean += squares
        return mean

    def _buffers(self, size):
        """Returns four arrays, used again: new ones mean page faults."""
        buffers = getattr(self._of_thread, "buffers", None)
        if buffers is None or buffers.shape[1] < size:
            buffers = self._of_thread.buffers = np.empty(
                (4, size), np.float32)
        return buffers[:, :size]


class DropoutVariance:
    """The exact variance of a score under dropout.

    It is what the variance over the passes tends to as their number grows.
    The score is meant, before it is clipped to the scale or becomes a
    probability. A tower's vector is D(a + K e): e is the id's part, a the
    rest, K ~ Bernoulli(k) drops the id, D ~ Bernoulli(1 - p) / (1 - p) drops
    single elements. With x = a + k e and the same (f, b, l, q, y) for the
    candidate, the law of total variance gives

        (1 / ((1 - p)(1 - q)) - 1) sum_j E[(a + K e)_j^2] E[(b + L f)_j^2]
        + k (1 - k) (e y)^2 + l (1 - l) (x f)^2
        + k (1 - k) l (1 - l) (e f)^2.

    Args:
        query, candidate: `(id part, other parts, id_dropout, dropout)` of
            the rating block without biases; parts by code,
            `[ids + 1, d]`.
    """

    def __init__(self, query, candidate):
        (e, a, k, p), (f, b, r, q) = (
            _parts_and_rates(*side) for side in (query, candidate))
        x, y = a + k * e, b + r * f
        element = np.float32(1 / ((1 - p) * (1 - q)) - 1)
        self.plain, self.squared = [], []
        if element > 0:
            self.plain.append(Products(
                element * _second_moment(a, e, k), _second_moment(b, f, r)))
        for variance, left, right in (
                (k * (1 - k), e, y), (r * (1 - r), x, f),
                (k * (1 - k) * r * (1 - r), e, f)):
            if variance > 0:
                self.squared.append(
                    Products(np.sqrt(variance) * left, right))

    def __call__(self, tile) -> np.ndarray:
        """Returns the variances of a `Tile`'s scores, float32 `[pairs]`."""
        total = np.zeros(len(tile), np.float32)
        for products in self.plain:
            total += products(tile)
        for products in self.squared:
            found = products(tile)
            found *= found
            total += found
        return total


def _parts_and_rates(own, rest, id_dropout, dropout):
    """Returns both parts, the chance that the id stays, the element rate."""
    return (np.asarray(own, np.float32), np.asarray(rest, np.float32),
            np.float32(1 - id_dropout), float(dropout))


def _second_moment(rest, own, keep):
    """Returns E[(rest + K own)^2]."""
    return keep * (rest + own) ** 2 + (1 - keep) * rest ** 2
