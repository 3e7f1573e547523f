"""Domain knowledge as weights of pairs, for `AcquireLabels(prior=...)`.

A prior is a function of `(user_ids, item_ids)` that returns a weight of 0 or
more for each pair; 0 forbids it. Any function will do; here are three.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from tfrecal.pool.target import rows_of


class ColumnPrior:
    """A column of the users or the items table is the weight.

    Args:
        table: indexed by id, such as `data.items`.
        column: of it; numbers of 0 or more.
        of: `"items"` or `"users"`, whichever the table holds.
        default: weight where the cell is missing or the id is not in the
            table.

    Raises:
        ValueError: no such column, or a weight that is negative, infinite
            or no number.

    Example:
        AcquireLabels(pool, "bald", oracle,
                      prior=ColumnPrior(data.items, "margin"))
    """

    def __init__(self, table: pd.DataFrame, column: str, *,
                 of: str = "items", default: float = 1.0):
        if column not in table.columns or of not in ("items", "users"):
            raise ValueError(
                "A prior needs a column of its table, and `of` is 'items' or "
                f"'users'. Received: column={column!r}, of={of!r}; the table "
                f"has {list(table.columns)}.")
        self.column = column
        self.of = of
        self.default = default
        try:
            weight = table[column].to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"A prior must be a column of numbers. Received: "
                f"{column!r}: {error}.") from error
        self._index = table.index
        self._weight = np.append(
            np.where(np.isnan(weight), default, weight), default)
        _check(self._weight, len(weight) + 1, f"column {column!r}")

    def __call__(self, user_ids, item_ids) -> np.ndarray:
        ids = item_ids if self.of == "items" else user_ids
        return self._weight[self._index.get_indexer(
            np.asarray(ids, object))]  # an unknown id is at -1, the default


class Embargo:
    """Pairs of some items are never asked.

    Args:
        table: the items table, indexed by id.
        items: ids of it.
        query: a `DataFrame.query` on it, such as `"category == 'gifts'"`;
            what either of the two names is forbidden.

    Raises:
        ValueError: an id that is not in the table (a misspelled embargo
            would not hold), or a query that pandas cannot run.
    """

    def __init__(self, table: pd.DataFrame, items=(),
                 query: str | None = None):
        ids = np.asarray(list(items), object)
        unknown = ids[table.index.get_indexer(ids) < 0]
        if len(unknown):
            raise ValueError(
                "Each item of an embargo must be in the items table. "
                f"Received: {len(unknown)} that are not, such as "
                f"{unknown[0]!r}.")
        forbidden = table.index.isin(ids)
        if query is not None:
            forbidden |= rows_of(table, query)
        self.items = table.index[forbidden].to_numpy(object)

    def __call__(self, user_ids, item_ids) -> np.ndarray:
        known = pd.Index(self.items)
        return (known.get_indexer(np.asarray(item_ids, object))
                < 0).astype(np.float64)


class Product:
    """Several priors at once: their weights are multiplied.

    Args:
        priors: functions of `(user_ids, item_ids)`.
    """

    def __init__(self, priors: list[Callable]):
        self.priors = list(priors)

    def __call__(self, user_ids, item_ids) -> np.ndarray:
        """Weights, float64 `[n]`.

        Raises:
            ValueError: a prior returns another number of weights than of
                pairs, or one that is negative, NaN or infinite.
        """
        found = np.ones(len(item_ids))
        for prior in self.priors:
            weight = np.asarray(prior(user_ids, item_ids), np.float64)
            _check(weight, len(found), getattr(
                prior, "__name__", type(prior).__name__))
            found *= weight
        return found


def _check(weight, size, name):
    good = np.isfinite(weight) & (weight >= 0)
    if weight.shape != (size,) or not good.all():
        raise ValueError(
            f"`prior` must give a finite weight of 0 or more for each of "
            f"{size} pairs. Received: shape={weight.shape}, "
            f"{int((~good).sum())} that are negative, NaN or infinite, from "
            f"{name}.")
