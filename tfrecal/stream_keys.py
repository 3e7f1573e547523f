"""Sort keys of a stream of pairs: utilities, weights, noise, ties."""
from __future__ import annotations

import threading

import numpy as np

from tfrecal.pair_blocks import for_each

TIE, NOISE = 1, 2  # streams of random bits


class Keys:
    """Utilities and sort keys of a block."""

    def __init__(self, score, mode, temperature, prior, cost, seed):
        self.score = score
        self.mode = mode
        self.temperature = temperature
        self.prior = prior
        self.cost = cost
        self.seed = seed
        self.range = None
        self.shift = self.lowest = 0.0
        self._lock = threading.Lock()

    def find_range(self, pairs) -> None:
        """Number, least and greatest of the utilities that may be chosen."""
        found = []

        def look(block):
            values, free = self._utilities(block)
            values = values if free is None else values[free]
            found.append((len(values), float(values.min(initial=np.inf)),
                          float(values.max(initial=-np.inf))))

        for_each(pairs, look)
        counts, lows, highs = zip(*found) if found else ((), (), ())
        self.range = (sum(counts), min(lows, default=0.0),
                      max(highs, default=0.0))

    def __call__(self, block):
        """`(keys, utilities, free)` of a block, free None for all."""
        values, free = self._utilities(block)
        keys = values
        if self.range is not None:
            keys = self._scaled(np.asarray(values, np.float64))
            user, item = block.pairs()
            if self.prior is not None:
                keys = keys * self.prior(user, item)
            if self.cost is not None:
                keys = keys / _checked(self.cost, "cost", user, item)
        elif self.mode == "power":
            allowed = values if free is None else values[free]
            least = float(allowed.min(initial=np.inf))
            with self._lock:
                self.lowest = min(self.lowest, least)
        if self.mode != "top":
            keys = self._noisy(np.asarray(keys, np.float64), block)
        return keys, values, free

    def _utilities(self, block):
        values = self.score(block)
        if values.shape != (len(block),) or not (
                np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ValueError(
                f"Utilities must be finite, one for each of {len(block)} "
                f"pairs of a block. Received: shape={values.shape}, "
                f"{int((~np.isfinite(values)).sum())} that are NaN or "
                "infinite. Look at the predictions: a model that diverged "
                "gives NaN.")
        free = block.free
        if self.prior is not None:
            weight = _checked(self.prior, "prior", *block.pairs()) > 0
            free = weight if free is None else free & weight
        return values, free

    def _scaled(self, values):
        """As `batches.scaled`, by the range of all pairs."""
        count, low, high = self.range
        if not high > low:
            return np.ones(len(values))
        return 1 / count + (1 - 1 / count) * (values - low) / (high - low)

    def _noisy(self, values, block):
        if self.mode == "power":
            # Taken pairs may lie below the shift.
            with np.errstate(divide="ignore"):
                values = np.log(np.maximum(values - self.shift, 0))
        chance = hashed(*block.pairs(), self.seed, NOISE) >> np.uint64(11)
        chance = (chance.astype(np.float64) + 0.5) * 2.0 ** -53
        return values / self.temperature - np.log(-np.log(chance))


def _checked(function, name, user, item):
    found = np.asarray(function(user, item), np.float64)
    least = "> 0" if name == "cost" else ">= 0"
    if found.shape != user.shape:
        raise ValueError(
            f"`{name}` must return one number a pair. Received: shape="
            f"{found.shape} for {len(user)} pairs.")
    good = np.isfinite(found) & (found > 0 if name == "cost" else found >= 0)
    if not good.all():
        raise ValueError(f"Each `{name}` must be a finite number {least}. "
                         f"Received: {name}={found[~good][0]}.")
    return found


def hashed(user, item, seed: int, stream: int) -> np.ndarray:
    """Random bits of a pair, uint64 `[n]`: the same for the same seed.

    Reference:
        Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
        Generators", figure 17 (SplitMix64's mixing function).
    """
    start = np.random.SeedSequence([seed, stream]).generate_state(
        1, np.uint64)[0]
    bits = ((user.astype(np.uint64) << np.uint64(32))
            | item.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    bits += start
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits ^= bits >> np.uint64(shift)
        bits *= np.uint64(factor)
    return bits ^ (bits >> np.uint64(31))
