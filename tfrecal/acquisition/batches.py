"""From values to an order: stochastic batches, ties and caps."""
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


def capped(order: np.ndarray, n: int, caps: list) -> np.ndarray:
    """First `n` of `order`, at most so many of each code.

    Args:
        order: candidates, best first.
        n: how many are wanted.
        caps: `(codes [candidates], most)` pairs.

    Returns:
        part of `order`; shorter than `n` where the caps leave no more.
    """
    if not caps:
        return order[:n]
    used = [np.zeros(int(codes.max(initial=0)) + 1, np.int64)
            for codes, _ in caps]
    chosen, block = [], max(4 * n, 1024)
    for start in range(0, len(order), block):
        part = order[start:start + block]
        for (codes, most), count in zip(caps, used):
            part = part[count[codes[part]] < most]
        limits = [most for _, most in caps]
        for place, group in zip(
                part.tolist(),
                zip(*(codes[part].tolist() for codes, _ in caps))):
            if any(count[code] >= most for count, code, most
                   in zip(used, group, limits)):
                continue
            for count, code in zip(used, group):
                count[code] += 1
            chosen.append(place)
            if len(chosen) == n:
                return np.array(chosen, np.int64)
    return np.array(chosen, np.int64)
