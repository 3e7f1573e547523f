"""Domain knowledge as factors of pairs, for `AcquireLabels(prior=...)`.

A prior is a function of `(user_ids, item_ids)` that returns a factor of 0 or
more for each pair; 0 forbids it. Any function will do. A `Prior` reads codes
and never turns them into strings; three stand in this file.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from tfrecal.checks import check_weights
from tfrecal.data.pairs import Pairs
from tfrecal.data.query import rows_of
from tfrecal.data.vocabulary import Vocabulary


class Prior:
    """Domain knowledge about pairs of codes; a subclass writes `factors`."""

    def factors(self, pairs: Pairs) -> np.ndarray:
        """Returns the factor of each pair, float64 `[n]`, 0 or more."""
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `factors(pairs)`.")

    def __call__(self, user_ids, item_ids) -> np.ndarray:
        """Returns `factors` of pairs of ids, as `Vocabulary` takes them."""
        return self.factors(Pairs.of_ids(user_ids, item_ids))


def factors_of(prior: Prior | Callable, pairs: Pairs) -> np.ndarray:
    """Returns the factors of pairs, float64 `[n]`, checked.

    Args:
        prior: a `Prior`, or a function of `(user_ids, item_ids)`.
        pairs: the pairs, `n` of them.

    Raises:
        ValueError: it returns another number of factors than of pairs, or
            one that is negative, NaN or infinite.
    """
    factor = (prior.factors(pairs) if isinstance(prior, Prior)
              else prior(pairs.user_id, pairs.item_id))
    return check_weights(factor, len(pairs), "prior", source=getattr(
        prior, "__name__", type(prior).__name__))


class ColumnPrior(Prior):
    """Takes a column of the users or the items table as factor.

    Args:
        table: a table with the ids as index or column, such as `data.items`.
        column: name of its column of numbers, 0 or more.
        of: `"items"` or `"users"`: what the table holds.
        default: factor where the cell is missing or the id is not in the
            table.

    Raises:
        ValueError: there is no such column, or a factor is negative,
            infinite or no number.

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
            factor = table[column].to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"A prior must be a column of numbers. Received: "
                f"{column!r}: {error}.") from error
        self._vocabulary = Vocabulary.of_table(table, f"{of[:-1]}_id")
        self._factor = check_weights(
            np.append(default, np.where(np.isnan(factor), default, factor)),
            self._vocabulary.size, "prior", source=f"column {column!r}")

    def factors(self, pairs: Pairs) -> np.ndarray:
        codes, vocabulary = (
            (pairs.item, pairs.item_vocabulary) if self.of == "items"
            else (pairs.user, pairs.user_vocabulary))
        return self._factor[self._vocabulary.codes_of(vocabulary)[codes]]


class Embargo(Prior):
    """Forbids to ask about some items.

    Args:
        table: the items table, with the ids as index or column.
        items: ids of forbidden items.
        query: a query on the table, such as `"category == 'gifts'"` (see
            `tfrecal.data.query`); its items are forbidden too.

    Raises:
        ValueError: an id is not in the table (a misspelled embargo would
            not hold), or the query is wrong.
    """

    def __init__(self, table: pd.DataFrame, items=(),
                 query: str | None = None):
        self._vocabulary = Vocabulary.of_table(table, "item_id")
        ids = list(items)
        codes = self._vocabulary.codes(ids)
        if not codes.all():
            unknown = np.flatnonzero(codes == 0)
            raise ValueError(
                "Each item of an embargo must be in the items table. "
                f"Received: {len(unknown)} that are not, such as "
                f"{ids[unknown[0]]!r}.")
        forbidden = np.zeros(self._vocabulary.size, bool)
        forbidden[codes] = True
        if query is not None:
            forbidden[1:] |= rows_of(table, query)
        self.items = self._vocabulary.ids()[forbidden[1:]]
        self._factor = 1.0 - forbidden

    def factors(self, pairs: Pairs) -> np.ndarray:
        return self._factor[self._vocabulary.codes_of(
            pairs.item_vocabulary)[pairs.item]]


class Product(Prior):
    """Several priors at once: their factors are multiplied.

    Args:
        priors: a list; each is a `Prior` or a function of `(user_ids,
            item_ids)`.
    """

    def __init__(self, priors: list[Callable]):
        self.priors = list(priors)

    def factors(self, pairs: Pairs) -> np.ndarray:
        found = np.ones(len(pairs))
        for prior in self.priors:
            found *= factors_of(prior, pairs)
        return found
