"""From values to picks: draws, ties, caps and quotas."""
from __future__ import annotations

import numpy as np

MODES = ("top", "power", "softmax", "softrank")


def scaled(values: np.ndarray) -> np.ndarray:
    """Returns values min-max-scaled to [1 / n, 1], or all 1 if all are equal.

    The lowest is not zero: no factor could lift a zero.
    """
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    if not high > low:
        return np.ones(len(values))
    least = 1 / len(values)
    return least + (1 - least) * (values - low) / (high - low)


def order(keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns positions by falling key, int64 `[n]`; ties at random."""
    shuffled = rng.permutation(len(keys))
    return shuffled[np.argsort(-keys[shuffled], kind="stable")]


def keys(values: np.ndarray, mode: str, temperature: float,
         rng: np.random.Generator) -> np.ndarray:
    """Returns sort keys: the picks are the pairs with the n highest.

    Gumbel noise is added to the logarithm of a chance. The n highest sums
    are then n draws without replacement, with these chances (Kool et al.
    2019, arXiv 1903.06059).

    Args:
        values: float64 `[n]`, higher is better.
        mode: one of `MODES`.
        temperature: > 0.
        rng: draws the noise, and ranks equal values.

    Returns:
        float64 `[n]`; -inf where the chance is zero: such pairs come last.
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
    """Which pairs a round may still pick: caps and reserved places.

    Args:
        caps: a list of `(codes [candidates], most)`. `most` picks of each
            code are allowed: one number, or an array by code.
        reserved: a list of `(codes [candidates], places, free)`. `places`,
            an array by code, are kept for candidates of each code; `free`
            is the number of places for any.
    """

    def __init__(self, caps=(), reserved=()):
        self._caps = [(codes, _numbers_by_code(codes, most))
                      for codes, most in caps]
        self._reserved = [(codes, _numbers_by_code(codes, places), [free])
                          for codes, places, free in reserved]

    def __bool__(self) -> bool:
        return bool(self._caps or self._reserved)

    def open(self, rows: np.ndarray) -> np.ndarray:
        """Returns which candidates may still be taken, bool `[rows]`."""
        found = np.ones(len(rows), bool)
        for codes, left in self._caps:
            found &= left[codes[rows]] > 0
        for codes, places, free in self._reserved:
            if free[0] < 1:
                found &= places[codes[rows]] > 0
        return found

    def allows(self, row: int) -> bool:
        """Does as `open`, for one candidate."""
        return (all(left[codes[row]] > 0 for codes, left in self._caps)
                and all(free[0] > 0 or places[codes[row]] > 0
                        for codes, places, free in self._reserved))

    def take(self, row: int) -> bool:
        """Counts a pick; returns True if `open` may differ for others now."""
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
        """Opens reserved places to all; returns False if there were none."""
        found, self._reserved = bool(self._reserved), []
        return found


def _numbers_by_code(codes, numbers) -> np.ndarray:
    size = int(codes.max(initial=0)) + 1
    if np.ndim(numbers):
        return np.array(numbers, np.int64)
    return np.full(size, numbers, np.int64)


def capped(order: np.ndarray, n: int, limits) -> np.ndarray:
    """Returns the first `n` of `order` that the limits allow.

    Args:
        order: candidates, best first.
        n: how many are wanted.
        limits: `Limits`, or a list of caps to make them of.

    Returns:
        Some of `order`; shorter than `n` where the limits leave no more.
    """
    if not isinstance(limits, Limits):
        limits = Limits(limits)
    return in_two_walks(order, n, limits, _first_allowed)


def in_two_walks(order, n, limits: Limits, walk) -> np.ndarray:
    """Walks down `order`, and down the rest again with nothing reserved.

    Args:
        order, n, limits: see `capped`.
        walk: a function `(order, n, limits)` that returns picks.
    """
    chosen = walk(order, n, limits)
    if len(chosen) < n and limits.release():
        rest = order[~np.isin(order, chosen)]
        chosen = np.concatenate([chosen, walk(rest, n - len(chosen), limits)])
    return chosen


def _first_allowed(order, n, limits):
    if not limits:
        return order[:n]
    chosen, tile = [], max(4 * n, 1024)
    for start in range(0, len(order), tile):
        rows = order[start:start + tile]
        for row in rows[limits.open(rows)].tolist():
            if limits.allows(row):
                limits.take(row)
                chosen.append(row)
                if len(chosen) == n:
                    return np.array(chosen, np.int64)
    return np.array(chosen, np.int64)
