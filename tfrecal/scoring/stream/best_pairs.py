"""The best pairs of a stream, exactly, in bounded memory.

Pairs have a total order: by key, and where keys are equal by a hash of the
pair and the seed. So the choice depends neither on the order nor on the size
of the tiles, and is the one that sorting all pairs would give.
"""
from __future__ import annotations

import threading

import numpy as np

from tfrecal.acquisition import picking
from tfrecal.checks import check_weights
from tfrecal.hashes import hashed
from tfrecal.scoring.stream.pair_tiles import for_each

TIE, NOISE = 1, 2  # streams of random bits

MODES = ("top", "power", "softmax")


def top_pairs(pairs, score, n: int, *, mode: str = "top",
              temperature: float = 1.0, max_per_user: int | None = None,
              max_per_item: int | None = None, prior=None, cost=None,
              seed: int = 0, buffer: int | None = None):
    """Returns the first `n` pairs by falling key that keep both caps.

    Keys are made as `Strategy.select` makes them (prior and cost on scaled
    utilities, Gumbel noise), except that the noise is a hash of the pair.
    Scaling needs the range of all utilities first, so a prior or a cost
    costs a second pass, and so does `"power"` with a negative utility. Caps
    that use up the buffer cost one more pass each time, over the users and
    items that are not full yet.

    Args:
        pairs: `ListedPairs` or `CrossPairs`.
        score: a function from a `Tile` to its utilities, `[pairs]`.
        n: how many pairs are wanted, >= 1.
        mode, temperature: see `Strategy`; one of `MODES`.
        max_per_user, max_per_item: see `Strategy`.
        prior, cost: functions of codes `(user [k], item [k])` that return
            weights of pairs >= 0 and costs > 0, `[k]`; None for none.
        seed: of ties and noise.
        buffer: pairs kept in memory; by default n, and with caps 8 n but at
            least 65,536.

    Returns:
        `(user [k], item [k], utility [k])`: int32 codes and float64, best
        first; k < n where the pairs, the caps or the prior leave no more.

    Raises:
        ValueError: a utility is not finite, a weight or a cost is out of
            range, or `mode` is not one of `MODES`.
    """
    if mode not in MODES:
        raise ValueError(
            f"`batch` of a stream must be one of {', '.join(MODES)}: others "
            f"need the rank of every pair. Received: batch={mode!r}. Use "
            "batch=\"power\", or score a part of the pairs "
            "(`candidates=200_000`).")
    caps = [(column, most) for column, most in (
        ("user", max_per_user), ("item", max_per_item)) if most is not None]
    if buffer is None:
        buffer = max(8 * n, 1 << 16) if caps else n
    keys = Keys(score, mode, temperature, prior, cost, seed)
    if prior is not None or cost is not None:
        keys.find_range(pairs)
    found = _one_pass(pairs, keys, buffer, None)
    if keys.lowest < keys.shift:
        keys.shift = keys.lowest
        found = _one_pass(pairs, keys, buffer, None)
    chosen = found
    while True:
        fit = picking.capped(np.arange(len(chosen["key"])), n, [
            (chosen[column], most) for column, most in caps])
        chosen = _take(chosen, fit)
        if not caps or len(fit) == n or len(found["key"]) < buffer:
            return chosen["user"], chosen["item"], chosen["utility"]
        full = {column: _at_least(chosen[column], most)
                for column, most in caps}
        pairs = pairs.without(full.get("user", []), full.get("item", []))
        found = _one_pass(pairs, keys, buffer,
                          (found["key"][-1], found["tie"][-1]))
        chosen = {name: np.concatenate([chosen[name], found[name]])
                  for name in found}


def _one_pass(pairs, keys, buffer, below):
    best = Best(buffer, keys.seed, below)
    for_each(pairs, lambda tile: best.offer(tile, *keys(tile)))
    return best.sorted()


def _at_least(codes, most):
    found, number = np.unique(codes, return_counts=True)
    return found[number >= most]


class Best:
    """Holds the best `size` pairs so far.

    Args:
        size: how many pairs are kept, >= 1.
        seed: of ties.
        below: `(key, tie)`; only pairs after it in the order are kept. None
            for all.
    """

    def __init__(self, size, seed, below):
        self.size = size
        self.seed = seed
        self.below = below
        self.least = None
        self._pieces = [{
            "key": np.zeros(0), "tie": np.zeros(0, np.uint64),
            "user": np.zeros(0, np.int32), "item": np.zeros(0, np.int32),
            "utility": np.zeros(0)}]
        self.held = 0
        self._lock = threading.Lock()

    def offer(self, tile, keys, utilities, free) -> None:
        """Keeps the pairs of a tile that may still be among the best.

        Args:
            tile: a `Tile`.
            keys, utilities, free: what `Keys` returns for it.
        """
        if self.below is not None:
            early = keys <= self.below[0]
            free = early if free is None else free & early
        least = self.least  # may rise meanwhile
        if least is not None:
            found = np.flatnonzero(keys >= least[0])
            if free is not None:
                found = found[free[found]]
        elif free is not None:
            found = np.flatnonzero(free)
        else:
            found = np.arange(len(keys))
        if not len(found):
            return
        if len(found) > self.size:
            place = len(found) - self.size
            found = found[keys[found] >= np.partition(
                keys[found], place)[place]]
        key = np.asarray(keys[found], np.float64)
        user, item = tile.pairs(found)
        tie = hashed(user, item, self.seed, TIE)
        keep = np.ones(len(key), bool)
        if least is not None:
            keep &= (key > least[0]) | (tie > least[1])
        if self.below is not None:
            keep &= (key < self.below[0]) | (tie < self.below[1])
        piece = {"key": key, "tie": tie, "user": user, "item": item,
                 "utility": np.asarray(utilities[found], np.float64)}
        piece = _take(piece, keep)
        with self._lock:
            self._pieces.append(piece)
            self.held += len(piece["key"])
            if self.held >= 2 * self.size:
                self.sorted()

    def sorted(self) -> dict:
        """Returns the best pairs, in order, and drops all others."""
        rows = {name: np.concatenate([piece[name] for piece in self._pieces])
                for name in self._pieces[0]}
        order = np.lexsort((rows["tie"], rows["key"]))[::-1][:self.size]
        rows = _take(rows, order)
        self._pieces, self.held = [rows], len(order)
        if len(order) == self.size:
            self.least = rows["key"][-1], rows["tie"][-1]
        return rows


def _take(rows, places):
    return {name: column[places] for name, column in rows.items()}


class Keys:
    """Computes utilities and sort keys of tiles; see `top_pairs`."""

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
        """Sets `range`: number, least and greatest of the free utilities."""
        found = []

        def note_range(tile):
            values, free = self._utilities(tile)
            values = values if free is None else values[free]
            found.append((len(values), float(values.min(initial=np.inf)),
                          float(values.max(initial=-np.inf))))

        for_each(pairs, note_range)
        counts, lows, highs = zip(*found) if found else ((), (), ())
        self.range = (sum(counts), min(lows, default=0.0),
                      max(highs, default=0.0))

    def __call__(self, tile):
        """Returns `(keys, utilities, free)`, `[pairs]`; free None for all."""
        values, free = self._utilities(tile)
        keys = values
        if self.range is not None:
            keys = self._scaled(np.asarray(values, np.float64))
            user, item = tile.pairs()
            if self.prior is not None:
                keys = keys * self.prior(user, item)
            if self.cost is not None:
                keys = keys / check_weights(
                    self.cost(user, item), len(user), "cost", positive=True)
        elif self.mode == "power":
            allowed = values if free is None else values[free]
            least = float(allowed.min(initial=np.inf))
            with self._lock:
                self.lowest = min(self.lowest, least)
        if self.mode != "top":
            keys = self._noisy(np.asarray(keys, np.float64), tile)
        return keys, values, free

    def _utilities(self, tile):
        values = self.score(tile)
        if values.shape != (len(tile),) or not (
                np.isfinite(values.min()) and np.isfinite(values.max())):
            raise ValueError(
                f"Utilities must be finite, one for each of {len(tile)} "
                f"pairs of a tile. Received: shape={values.shape}, "
                f"{int((~np.isfinite(values)).sum())} that are NaN or "
                "infinite. Look at the predictions: a model that diverged "
                "gives NaN.")
        free = tile.free
        if self.prior is not None:
            user, item = tile.pairs()
            allowed = check_weights(
                self.prior(user, item), len(user), "prior") > 0
            free = allowed if free is None else free & allowed
        return values, free

    def _scaled(self, values):
        """Scales as `picking.scaled`, by the range of all pairs."""
        count, low, high = self.range
        if not high > low:
            return np.ones(len(values))
        return 1 / count + (1 - 1 / count) * (values - low) / (high - low)

    def _noisy(self, values, tile):
        if self.mode == "power":
            # Pairs that are not free may lie below the shift.
            with np.errstate(divide="ignore"):
                values = np.log(np.maximum(values - self.shift, 0))
        chance = hashed(*tile.pairs(), self.seed, NOISE) >> np.uint64(11)
        chance = (chance.astype(np.float64) + 0.5) * 2.0 ** -53
        return values / self.temperature - np.log(-np.log(chance))
