"""Labels that strategies need beside a baseline: intervals and tests."""
from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import integrate, stats

from tfrecal.compare import verdicts
from tfrecal.metrics.direction import lower_is_better

#: Ratios of labels above this are not told apart.
MOST = 10.0
_KEYS = ["scenario", "strategy", "seed", "draw", "round", "labels", "bought",
         "cost"]


def metric_names(curves: pd.DataFrame) -> list[str]:
    """Returns the columns of `curves` that hold metrics, in their order."""
    return [name for name in curves
            if name not in _KEYS and not name.endswith("seconds")
            and pd.api.types.is_numeric_dtype(curves[name])]


def compare(curves: pd.DataFrame, baseline: str = "random",
            at: tuple[float, ...] = (0.4, 1.0), resamples: int = 2000,
            seed: int = 0) -> pd.DataFrame:
    """Compares every strategy with a baseline, on paired seeds.

    `labels` is the number of labels that a strategy must buy to be as good as
    the baseline with the share `at` of its budget, divided by the number that
    the baseline itself needed for that quality: 0.3 means 30% of the labels.
    Both curves are means over seeds of the best quality so far, so the
    baseline compared with itself gives 1. If the strategy never becomes as
    good, `reached` is False and `labels` is the strategy's budget divided by
    what the baseline needed for the strategy's best quality, at most 10.

    `area` is the mean difference of the metric, strategy minus baseline,
    over labels up to the share `at` of the budget. `p` is Wilcoxon's
    signed-rank test of the seeds' areas; `p_holm` corrects it over the
    strategies of one scenario, metric, level and baseline.

    Args:
        curves: one row a scenario, strategy, seed, `draw` (optional) and
            round, with `bought` labels and a column a metric. Draws of a
            seed are averaged first.
        baseline: the strategy to compare with. Scenarios without it are
            left out.
        at: shares of the baseline's budget, in (0, 1].
        resamples: number of resamples of the paired bootstrap over seeds,
            for 95% percentile intervals.
        seed: seed of the bootstrap.

    Returns:
        One row a (scenario, strategy, metric, at): `baseline`, `seeds`,
        `tests` (the number of tests that Holm corrects for), `labels`,
        `low`, `high`, `reached`, `area`, `area_low`, `area_high`, `better`,
        `p`, `p_holm`, `verdict`. `labels` is NaN where the baseline's labels
        improved nothing.

    Raises:
        ValueError: the baseline is missing, or a strategy shares fewer than
            two seeds with it.
    """
    if baseline not in set(curves["strategy"]):
        raise ValueError(
            "`baseline` must be one of the strategies compared, "
            f"{sorted(set(curves['strategy']))}. Received: "
            f"baseline={baseline!r}.")
    bad = [share for share in at if not 0 < share <= 1]
    if bad or not at:
        raise ValueError("`at` must hold shares of the budget in (0, 1]. "
                         f"Received: at={at!r}.")
    rows = []
    curves = curves.sort_values("round", kind="stable")
    for scenario, part in curves.groupby("scenario", sort=False):
        groups = dict(list(part.groupby("strategy", sort=False)))
        base = groups.pop(baseline, None)
        for strategy, own in groups.items() if base is not None else ():
            seeds = shared_seeds(own, base)
            if len(seeds) < 2:
                raise ValueError(
                    "A comparison needs at least 2 seeds that a strategy "
                    f"shares with its baseline. Received: seeds={seeds} of "
                    f"{strategy!r} and {baseline!r} in {scenario!r}. Run "
                    "more seeds; 10 tell most differences.")
            for metric in metric_names(curves):
                pair = _Pair.of(own, base, metric, seeds)
                rows += [{"scenario": scenario, "strategy": strategy,
                          "metric": metric, "at": share,
                          "baseline": baseline,
                          **pair.row(share, resamples, seed)}
                         for share in at if pair is not None]
    if not rows:
        raise ValueError(
            "A comparison needs a second strategy beside the baseline and a "
            f"metric. Received: strategies {sorted(set(curves['strategy']))}"
            f", metrics {metric_names(curves)}.")
    table = pd.DataFrame(rows)
    family = table.groupby(["scenario", "metric", "at"])["p"]
    table["tests"] = family.transform("size")
    table["p_holm"] = family.transform(lambda p: holm(p.to_numpy()))
    table["verdict"] = [verdicts.sentence(row)
                        for row in table.itertuples()]
    return table[["scenario", "strategy", "metric", "at", "baseline",
                  "seeds", "tests", "labels", "low", "high", "reached",
                  "area", "area_low", "area_high", "better", "p", "p_holm",
                  "verdict"]]


def shared_seeds(one: pd.DataFrame, other: pd.DataFrame) -> list[int]:
    """Returns the seeds of which both have curves, in rising order."""
    return sorted(int(s) for s in set(one["seed"]) & set(other["seed"]))


def holm(p: np.ndarray) -> np.ndarray:
    """Corrects p values for the number of tests that were made.

    Reference:
        Holm 1979, "A Simple Sequentially Rejective Multiple Test
        Procedure".
    """
    order = np.argsort(p, kind="stable")
    steps = (len(p) - np.arange(len(p))) * np.asarray(p, float)[order]
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


class _Pair:
    """The curves by seed of a strategy and of its baseline."""

    def __init__(self, own: list, base: list, metric: str):
        self.sign = -1 if lower_is_better(metric) else 1
        self.own, self.base = own, base
        # The range that every seed covers: no curve is prolonged.
        self.start = max(x[0] for draws in own + base for x, _ in draws)
        self.own_end = min(x[-1] for draws in own for x, _ in draws)
        self.base_end = min(x[-1] for draws in base for x, _ in draws)

    @classmethod
    def of(cls, own, base, metric: str, seeds) -> "_Pair | None":
        """Makes the pair; None where not all seeds have values of the metric.

        They must have some at one number of labels.
        """
        sides = [[_curves_of_draws(rows, metric, seed) for seed in seeds]
                 for rows in (own, base)]
        if any(not draws for draws in sides[0] + sides[1]):
            return None
        pair = cls(*sides, metric)
        return pair if pair.start <= min(pair.own_end, pair.base_end) else (
            None)

    def row(self, share: float, resamples: int, seed: int) -> dict:
        n = len(self.own)
        draws = np.random.default_rng(seed).multinomial(
            n, np.full(n, 1 / n), size=resamples)
        # The first row is the estimate itself.
        seed_weights = np.vstack([np.ones(n), draws]) / n
        ratio, reached = self._ratios(seed_weights, share)
        areas = self._areas(share)
        spread = (seed_weights @ areas)[1:]
        known = np.isfinite(ratio[0])
        return {
            "seeds": n, "labels": ratio[0],
            # A resample whose labels improved nothing says nothing: it
            # counts against both ends of the interval.
            "low": np.quantile(np.nan_to_num(ratio[1:], nan=0.0), 0.025)
            if known else np.nan,
            "high": np.quantile(np.nan_to_num(ratio[1:], nan=MOST), 0.975)
            if known else np.nan,
            "reached": bool(reached[0]), "area": areas.mean(),
            "area_low": np.quantile(spread, 0.025),
            "area_high": np.quantile(spread, 0.975),
            "better": bool(self.sign * areas.mean() > 0),
            "p": 1.0 if not areas.any() else float(
                stats.wilcoxon(areas).pvalue)}

    def _ratios(self, seed_weights, share):
        level = self.start + share * (self.base_end - self.start)
        base_x = self._knots(self.base_end, level)
        own_x = self._knots(self.own_end)
        base = self._running_best(seed_weights, self.base, base_x)
        own = self._running_best(seed_weights, self.own, own_x)
        wanted = base[:, np.searchsorted(base_x, level)]
        paid = _labels_to_reach(base_x, base, wanted)
        needed = _labels_to_reach(own_x, own, wanted)
        reached = np.isfinite(needed)
        beside = _labels_to_reach(base_x, base, np.minimum(own[:, -1], wanted))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(reached, needed / paid, self.own_end / beside)
        ratio = np.minimum(ratio, MOST)
        return np.where(paid > self.start, ratio, np.nan), reached

    def _areas(self, share):
        """Returns the mean difference over labels of each seed."""
        level = self.start + share * (self.base_end - self.start)
        grid = self._knots(min(level, self.own_end))
        if len(grid) < 2:
            return np.zeros(len(self.own))
        gap = _curves_at(grid, self.own) - _curves_at(grid, self.base)
        return integrate.trapezoid(gap, grid) / (grid[-1] - grid[0])

    def _knots(self, end: float, *more: float) -> np.ndarray:
        """Returns the numbers of labels up to `end` where curves bend."""
        knots = np.unique(np.concatenate(
            [x for draws in self.own + self.base for x, _ in draws]
            + [[self.start, end, *more]]))
        return knots[(knots >= self.start) & (knots <= end)]

    def _running_best(self, seed_weights, side, grid) -> np.ndarray:
        """Returns the best so far of weighted means, `[resamples, knots]`."""
        return np.maximum.accumulate(
            seed_weights @ (self.sign * _curves_at(grid, side)), axis=1)


def _curves_of_draws(rows: pd.DataFrame, metric: str, seed: int) -> list:
    """Returns `(bought, values)` of each draw of a seed that has values."""
    bought, values = (rows[name].to_numpy(float)
                      for name in ("bought", metric))
    draw = (rows["draw"].to_numpy() if "draw" in rows
            else np.zeros(len(rows), int))
    own = (rows["seed"].to_numpy() == seed) & np.isfinite(values)
    found = []
    for number in np.unique(draw[own]):
        now = own & (draw == number)
        x, y = bought[now], values[now]
        # Where rows have equal labels (a last epoch without questions), the
        # later row counts.
        last = np.append(x[1:] != x[:-1], True)
        found.append((x[last], y[last]))
    return found


def _curves_at(grid: np.ndarray, side: list) -> np.ndarray:
    """Returns curves at the knots, means over draws, `[seeds, knots]`."""
    return np.stack([np.mean([np.interp(grid, x, y) for x, y in draws], 0)
                     for draws in side])


def _labels_to_reach(grid: np.ndarray, best: np.ndarray, wanted: np.ndarray):
    """Returns where rising curves reach a quality; NaN where they do not."""
    # Sums over the same seeds in another order differ in the last digit.
    wanted = wanted - 1e-12 * np.abs(wanted)
    hit = best >= wanted[:, None]
    after = hit.argmax(axis=1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(best))
    low, high = best[rows, before], best[rows, after]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(high > low, (wanted - low) / (high - low), 0.0)
    found = grid[before] + part * (grid[after] - grid[before])
    return np.where(hit.any(axis=1), found, np.nan)
