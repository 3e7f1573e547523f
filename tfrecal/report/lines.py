"""Line: a learning curve or a calibration curve, ready to be drawn."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

#: Column that a curve can be drawn over -> its name for people.
AXES = {"bought": "labels bought", "cost": "cost",
        "seconds": "wall-clock seconds"}


@dataclass
class Line:
    """A curve with a band.

    Args:
        style: an index of `figures.STYLES`, for colour and dashes.
        x, y: the points.
        low, high: the ends of the band, or None.
        size: number of cases behind each point, or None.
    """

    style: int
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    size: np.ndarray | None = None


def mean_line(rows: pd.DataFrame, axis: str, metric: str,
              style: int = 0) -> Line | None:
    """Returns the mean over seeds by round, with a 95% t interval.

    Args:
        rows: the curves of one scenario and strategy; draws of a seed are
            averaged first. Rounds that a seed lacks are left out.
        axis: one of `AXES`.
        metric: a column.
        style: the line's style.

    Returns:
        The line, or None where the metric has no value.
    """
    rows = rows[rows[metric].notna() & rows[axis].notna()]
    if not len(rows):
        return None
    tables = [rows.pivot_table(index="round", columns="seed", values=name)
              .dropna() for name in (axis, metric)]
    both = tables[0].index.intersection(tables[1].index)
    x, y = (table.loc[both].to_numpy() for table in tables)
    order = np.argsort(x.mean(axis=1), kind="stable")
    x, y = x[order], y[order]
    seeds = y.shape[1]
    line = Line(style, x.mean(axis=1), y.mean(axis=1))
    if seeds > 1:
        half = (stats.t.ppf(0.975, seeds - 1) * y.std(axis=1, ddof=1)
                / np.sqrt(seeds))
        line.low, line.high = line.y - half, line.y + half
    return line


def last_calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns, for each seed, the rows measured with the most labels."""
    return rows[rows["labels"]
                == rows.groupby("seed")["labels"].transform("max")]


def calibration_line(rows: pd.DataFrame, style: int = 0) -> Line | None:
    """Returns observed over predicted probability, in ten equal bins.

    Args:
        rows: has `bin` (mean prediction), `observed` and `count`.
        style: the line's style.

    Returns:
        The line, or None where there are no rows.
    """
    bins = _in_ten_bins(rows)
    if not len(bins):
        return None
    return Line(style, bins["bin"].to_numpy(), bins["observed"].to_numpy(),
                size=(bins["count"] / bins["count"].max()).to_numpy())


def calibration_error(rows: pd.DataFrame) -> float:
    """Returns the expected calibration error: mean gap weighted by counts."""
    bins = _in_ten_bins(rows)
    return float(np.average((bins["bin"] - bins["observed"]).abs(),
                            weights=bins["count"]))


def _in_ten_bins(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows["count"] > 0]
    ten = np.clip((rows["bin"] * 10).astype(int), 0, 9)
    sums = rows[["bin", "observed"]].mul(rows["count"], axis=0).assign(
        count=rows["count"]).groupby(ten).sum()
    return sums.assign(bin=sums["bin"] / sums["count"],
                       observed=sums["observed"] / sums["count"])
