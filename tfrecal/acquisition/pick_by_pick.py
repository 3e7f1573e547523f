"""PickByPick: strategies whose picks depend on the picks before."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class PickByPick(Strategy):
    """Makes the picks of a round one after the other.

    A subclass writes `pick`. A prior and, with `per_cost`, the cost multiply
    the gain as it is at each pick, unscaled: no factor puts a pair without
    any gain before one that has some.

    Args:
        batch: `"top"` takes the best each time; `"power"` multiplies the
            factor of each pair by `exp(temperature * Gumbel noise)`, so that
            the first pick is drawn with chances proportional to
            `gain ** (1 / temperature)`.
    """

    def __init__(self, batch: str = "top", **options):
        super().__init__(batch=batch, **options)
        if batch not in ("top", "power"):
            raise ValueError(
                f"`batch` of `{self.name}` must be top or power: its picks "
                f"depend on each other. Received: batch={batch!r}.")

    def pick(self, view, rows, values, factor, n, rng) -> np.ndarray:
        """Makes the picks.

        Args:
            view: all candidates.
            rows: those that may be picked, in random order, int `[m]`.
            values: their utilities, float64 `[m]`.
            factor: prior and cost of each, in [0, 1], `[m]`.
            n: how many are wanted.
            rng: for all draws.

        Returns:
            Positions in `rows`, best first, at most `n`, within the caps.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `pick`.")

    def select(self, view, n, rng, utilities=None):
        """Does as the base; utilities fill what `pick` leaves open."""
        if utilities is None and len(view):
            self.check_needs(view)
            utilities = self.utilities(view)
        _, allowed = self.weigh(view, n, utilities)
        if not len(allowed):
            return allowed
        rows = allowed[rng.permutation(len(allowed))]
        values = np.asarray(utilities, np.float64)[rows]
        factors = self.factors(view)
        factor = np.ones(len(rows)) if factors is None else factors[rows]
        factor = factor / (factor.max() or 1)
        picks = self.pick(view, rows, values, factor, n, rng)
        if len(picks) < n:
            rest = np.argsort(-values * factor, kind="stable")
            rest = rest[~np.isin(rest, picks)]
            picks = np.concatenate([picks, rest])
        return self.cap(view, rows[picks], n)

    def noisy(self, factor: np.ndarray, rng) -> np.ndarray:
        """Returns factors with the noise of `batch="power"`, in [0, 1]."""
        if self.batch == "top":
            return factor
        with np.errstate(divide="ignore"):
            logs = np.log(factor)
        logs += self.temperature * rng.gumbel(size=len(factor))
        return np.exp(logs - logs.max())


class Remaining:
    """Keeps which rows may still be picked, as picks fill caps and quotas.

    Args:
        limits: see `Strategy.limits`.
        rows: the rows of the view that are counted, `[m]`.
    """

    def __init__(self, limits, rows: np.ndarray):
        self.left = limits.open(rows)
        self._limits = limits
        self._rows = rows

    def take(self, pick: int) -> None:
        """Counts a pick; closes it and what is not allowed beside it."""
        self.left[pick] = False
        if self._limits.take(self._rows[pick]):
            self.left &= self._limits.open(self._rows)

    def best(self, values: np.ndarray) -> int:
        """Returns the open row with the highest value, all >= 0."""
        return int(np.argmax(np.where(self.left, values, -1)))


def draw(chances, best: int, temperature: float, rng) -> int:
    """Draws a position with chances proportional to `chances ** (1 / T)`.

    Args:
        chances: >= 0, `[n]`.
        best: position of the highest.
        temperature: T, > 0.
        rng: a `numpy.random.Generator`.
    """
    if not chances[best] > 0:
        return best
    shares = np.maximum(chances / chances[best], 0)
    if temperature != 1:
        shares **= 1 / temperature
    sums = np.cumsum(shares)
    drawn = int(np.searchsorted(sums, rng.random() * sums[-1], "right"))
    return drawn if drawn < len(sums) else best
