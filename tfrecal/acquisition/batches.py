"""From values to a batch: stochastic batches, ties, caps and quotas."""
from __future__ import annotations

import numpy as np

MODES = ("top", "power", "softmax", "softrank")


def scaled(values: np.ndarray) -> np.ndarray:
    """Values min-max-scaled to [1 / n, 1]; all 1 where all are equal.

    The lowest is not zero, for what multiplies it could not lift it.
    """
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if not high > low:
        return np.ones(len(values))
    least = 1 / len(values)
    return least + (1 - least) * (values - low) / (high - low)


def order(keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions by falling key, int64 `[n]`; ties in random order."""
    shuffled = rng.permutation(len(keys))
    return shuffled[np.argsort(-keys[shuffled], kind="stable")]


def keys(values: np.ndarray, mode: str, temperature: float,
         rng: np.random.Generator) -> np.ndarray:
    """Sort keys: the top n of them is the batch.

    Adding Gumbel noise to log-weights and taking the top n draws n times
    without replacement with chances proportional to the weights (Kool et
    al. 2019, arXiv 1903.06059).

    Args:
        values: float64 `[n]`, higher is better.
        mode: one of `MODES`.
        temperature: > 0.
        rng: of the noise, and of the ranks of equal values.

    Returns:
        float64 `[n]`; -inf where the weight is zero: such pairs come last.
    """
    if mode == "top":
        return values
    if mode == "power":
        lowest = min(values.min(initial=0.0), 0.0)
        shifted = values - lowest
        if not shifted.any():
            shifted = np.ones(len(values))
        with np.errstate(divide="ignore"):
            logits = np.log(shifted)
    elif mode == "softmax":
        logits = values
    else:
        logits = np.empty(len(values))
        logits[order(values, rng)] = -np.log(np.arange(1, len(values) + 1))
    return logits / temperature + rng.gumbel(size=len(values))


class Limits:
    """What a batch may still take, pick by pick: caps and reserved places.

    Args:
        caps: `(codes [candidates], most)`: at most so many of a code; one
            number, or an array by code.
        reserved: `(codes [candidates], places [by code], free)`: places for
            the candidates of each code, and places for any.
    """

    def __init__(self, caps=(), reserved=()):
        self._caps = [(codes, _by_code(codes, most)) for codes, most in caps]
        self._reserved = [(codes, _by_code(codes, places), [free])
                          for codes, places, free in reserved]

    def __bool__(self) -> bool:
        return bool(self._caps or self._reserved)

    def open(self, rows: np.ndarray) -> np.ndarray:
        """Which candidates may still be taken, bool `[rows]`."""
        found = np.ones(len(rows), bool)
        for codes, left in self._caps:
            found &= left[codes[rows]] > 0
        for codes, places, free in self._reserved:
            if free[0] < 1:
                found &= places[codes[rows]] > 0
        return found

    def allows(self, row: int) -> bool:
        """As `open`, for one candidate."""
        return (all(left[codes[row]] > 0 for codes, left in self._caps)
                and all(free[0] > 0 or places[codes[row]] > 0
                        for codes, places, free in self._reserved))

    def take(self, row: int) -> bool:
        """Counts a pick; True where `open` may have changed for others."""
        changed = False
        for codes, left in self._caps:
            left[codes[row]] -= 1
            changed |= left[codes[row]] < 1
        for codes, places, free in self._reserved:
            if places[codes[row]] > 0:
                places[codes[row]] -= 1
            else:
                free[0] -= 1
            changed |= free[0] < 1
        return bool(changed)

    def release(self) -> bool:
        """Opens reserved places to all; False where there were none."""
        found, self._reserved = bool(self._reserved), []
        return found


def _by_code(codes, numbers) -> np.ndarray:
    size = int(codes.max(initial=0)) + 1
    if np.ndim(numbers):
        return np.array(numbers, np.int64)
    return np.full(size, numbers, np.int64)


def capped(order: np.ndarray, n: int, limits) -> np.ndarray:
    """First `n` of `order` that the limits allow.

    Args:
        order: candidates, best first.
        n: how many are wanted.
        limits: `Limits`, or a list of caps for them.

    Returns:
        part of `order`; shorter than `n` where the limits leave no more.
    """
    if not isinstance(limits, Limits):
        limits = Limits(limits)
    return in_two_walks(order, n, limits, _first_allowed)


def in_two_walks(order, n, limits: Limits, walk) -> np.ndarray:
    """`walk(order, n, limits)`; then of the rest, with nothing reserved."""
    chosen = walk(order, n, limits)
    if len(chosen) < n and limits.release():
        rest = order[~np.isin(order, chosen)]
        chosen = np.concatenate([chosen, walk(rest, n - len(chosen), limits)])
    return chosen


def _first_allowed(order, n, limits):
    if not limits:
        return order[:n]
    chosen, block = [], max(4 * n, 1024)
    for start in range(0, len(order), block):
        part = order[start:start + block]
        for row in part[limits.open(part)].tolist():
            if limits.allows(row):
                limits.take(row)
                chosen.append(row)
                if len(chosen) == n:
                    return np.array(chosen, np.int64)
    return np.array(chosen, np.int64)
