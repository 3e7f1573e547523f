"""Target: the audience to be served, as pairs with weights, no labels."""
from __future__ import annotations

import numpy as np
import pandas as pd

from tfrecal.checks import check_weights
from tfrecal.data.pairs import Pairs
from tfrecal.data.query import rows_of


class Target:
    """A distribution over the (user, item) pairs that will be served.

    Give it to `AcquireLabels` where the audience differs from the pool: for
    a segment, new users, or a log that a few busy users made. On a pool that
    looks like the audience nothing beats random sampling by much.

    Args:
        user, item: codes over the tables of the pool, int `[t]`; pairs may
            repeat.
        weight: weight of each pair, float `[t]`, 0 or more; scaled to sum
            to 1. By default all are equal.
        name: name in reports.

    Raises:
        ValueError: there is no pair, or weights are negative, not finite or
            all zero.

    Example:
        target = Target.segment(traffic, users="age <= 21")
        AcquireLabels(pool, "vopt", oracle, target=target)
    """

    def __init__(self, user, item, weight=None, name: str = "pairs"):
        self.user = np.asarray(user, np.int32)
        self.item = np.asarray(item, np.int32)
        weight = np.ones(len(self.user)) if weight is None else weight
        self.name = name
        shapes = [np.shape(a) for a in (self.user, self.item, weight)]
        if len(set(shapes)) > 1 or len(shapes[0]) != 1 or not shapes[0][0]:
            raise ValueError(
                "A target needs at least one pair, and one user, item and "
                f"weight a pair. Received: shapes {shapes} for the target "
                f"{name!r}. Widen the segment or the log.")
        weight = check_weights(weight, len(self.user), "weight",
                               source=f"the target {name!r}")
        if not weight.any():
            raise ValueError(
                "Weights of a target must be >= 0, and not all 0. Received: "
                f"{len(weight):,} times 0 for the target {name!r}. Leave "
                "`weight` out, or widen the log.")
        self.weight = weight / weight.sum()

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return (f"Target({self.name!r}: {len(self):,} pairs of "
                f"{len(np.unique(self.user)):,} users and "
                f"{len(np.unique(self.item)):,} items)")

    def check(self, users: int, items: int) -> None:
        """Raises ValueError where codes lie outside tables of these sizes."""
        for name, codes, size in (("user", self.user, users),
                                  ("item", self.item, items)):
            wrong = (codes < 1) | (codes > size)
            if wrong.any():
                raise ValueError(
                    f"Each {name} of a target must be in the pool's tables "
                    f"(codes 1 to {size}). Received: {int(wrong.sum()):,} of "
                    f"{len(codes):,} pairs of an unknown {name} in {self}. "
                    f"Add the {name}s to the table, or leave the pairs out.")

    @classmethod
    def from_pairs(cls, pairs: Pairs, weight=None,
                   name: str = "pairs") -> "Target":
        """Returns a target of these pairs.

        Args:
            pairs: pairs of known users and items over the pool's tables,
                such as `pool.pairs(user, item)`.
            weight, name: see the class.
        """
        return cls(pairs.user, pairs.item, weight, name)

    @classmethod
    def from_pool(cls, pool) -> "Target":
        """Returns a target of all stored pairs of a pool, in any state.

        A lazy pool stores the pairs of its log and those that were asked.
        """
        return cls(pool.user, pool.item, name="pool")

    @classmethod
    def from_interactions(cls, interactions, *, uniform: str | None = None,
                          name: str = "traffic") -> "Target":
        """Returns a target of held-out or natural traffic; reads no labels.

        Args:
            interactions: the traffic, over the pool's tables; its frame may
                have a column `weight`.
            uniform: `"users"` or `"items"` gives each user or item in it
                the same total weight.
            name: name in reports.
        """
        frame = interactions.frame
        target = cls(interactions.user_code, interactions.item_code,
                     frame["weight"] if "weight" in frame else None, name)
        return target if uniform is None else target.uniform(uniform)

    @classmethod
    def from_log(cls, log: pd.DataFrame, interactions, *,
                 unknown: str = "raise", name: str = "log") -> "Target":
        """Returns a target of the pairs of a serving log.

        Args:
            log: a table with the columns `user_id`, `item_id` and perhaps
                `weight` (such as impressions).
            interactions: `Interactions` over the pool's tables.
            unknown: `"raise"` refuses rows of users or items that are not
                in the tables, `"drop"` leaves them out.
            name: name in reports.

        Raises:
            ValueError: a column is missing, or a row is refused.
        """
        missing = {"user_id", "item_id"} - set(log.columns)
        if missing or unknown not in ("raise", "drop"):
            raise ValueError(
                "A log needs the columns `user_id` and `item_id`, and "
                "`unknown` is 'raise' or 'drop'. Received: columns="
                f"{list(log.columns)}, unknown={unknown!r}.")
        user, item = interactions.codes(log["user_id"], log["item_id"])
        known = (user > 0) & (item > 0)
        if unknown == "raise" and not known.all():
            row = int(np.flatnonzero(~known)[0])
            raise ValueError(
                "Each pair of a target must be in the users and items "
                f"tables. Received: {int((~known).sum()):,} of {len(log):,} "
                "rows that are not, the first is user_id="
                f"{log['user_id'].iloc[row]!r}, item_id="
                f"{log['item_id'].iloc[row]!r}. Add them to the tables, or "
                "pass unknown='drop'.")
        weight = log["weight"].to_numpy() if "weight" in log else None
        return cls(user[known], item[known],
                   None if weight is None else weight[known], name)

    @classmethod
    def segment(cls, interactions, *, users: str | None = None,
                items: str | None = None, uniform: str | None = None
                ) -> "Target":
        """Returns a target of the traffic of some users or items, or both.

        Args:
            interactions: the traffic, over the pool's tables.
            users, items: a query on the users or items table, such as
                `"age <= 21"`; see `tfrecal.data.query`.
            uniform: see `from_interactions`.

        Raises:
            ValueError: a query is wrong, or no traffic is left.
        """
        inside = np.ones(len(interactions), bool)
        for query, table, codes in (
                (users, interactions.users, interactions.user_code),
                (items, interactions.items, interactions.item_code)):
            if query is not None:
                inside &= np.r_[False, rows_of(table, query)][codes]
        name = " and ".join(query for query in (users, items) if query)
        if not inside.any():
            raise ValueError(
                "A segment needs traffic. Received: no pair of "
                f"{len(interactions):,} where {name}. Widen the query.")
        return cls.from_interactions(
            interactions.take(inside), uniform=uniform, name=name)

    def uniform(self, side: str) -> "Target":
        """Returns the pairs with the same total weight for each user or item.

        Args:
            side: `"users"` or `"items"`.
        """
        if side not in ("users", "items"):
            raise ValueError("`uniform` must be 'users' or 'items'. "
                             f"Received: uniform={side!r}.")
        codes = self.user if side == "users" else self.item
        total = np.bincount(codes, self.weight)
        each = np.divide(1, total, out=np.zeros_like(total), where=total > 0)
        return Target(self.user, self.item, self.weight * each[codes],
                      f"{self.name}, {side} alike")
