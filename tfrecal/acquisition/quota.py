"""Quota: most and least shares of the picks for groups of items."""
from __future__ import annotations

import numpy as np


class Quota:
    """Shares of a round's picks by groups of items, such as categories.

    Shares are of the number of picks asked for, rounded down to whole
    pairs. Reserved places (`at_least`) that cannot be filled go to the other
    groups. Pairs above `at_most` are left out, so there are fewer picks
    where nothing else is left.

    Args:
        groups: group of each item by code, from 0 up, int `[items + 1]`;
            -1 for no group (such as for code 0).
        at_most: group -> largest share of the picks, 0 to 1.
        at_least: group -> smallest share; they sum to at most 1.

    Example:
        quota = Quota.from_table(data.items, "category",
                                 at_most={"games": 0.2},
                                 at_least={"books": 0.3})
        acquisition.get("bald", quotas=[quota])
    """

    def __init__(self, groups, at_most: dict[int, float] | None = None,
                 at_least: dict[int, float] | None = None):
        self.groups = np.asarray(groups, np.int64)
        # Keys that come from JSON are text.
        self.at_most = {int(k): v for k, v in (at_most or {}).items()}
        self.at_least = {int(k): v for k, v in (at_least or {}).items()}
        if self.groups.ndim != 1 or self.groups.min(initial=0) < -1:
            raise ValueError(
                "`groups` must be a number from 0 up for each item code, or "
                f"-1 for none. Received: shape={self.groups.shape}, least="
                f"{self.groups.min(initial=0)}.")
        for name, shares in (("at_most", self.at_most),
                             ("at_least", self.at_least)):
            for group, share in shares.items():
                if not 0 <= share <= 1 or group < 0:
                    raise ValueError(
                        f"`{name}` must hold shares from 0 to 1 of groups "
                        f"from 0 up. Received: {name}={shares}.")
        self._check_sum()

    def _check_sum(self):
        total = sum(self.at_least.values())
        if total > 1 + 1e-9:
            raise ValueError(
                "The shares of `at_least` must sum to at most 1. Received: "
                f"{total:g}.")
        for group, share in self.at_least.items():
            if share > self.at_most.get(group, 1):
                raise ValueError(
                    "`at_least` must not be above `at_most`. Received: "
                    f"{share} and {self.at_most[group]} of one group.")

    @classmethod
    def from_table(cls, table, column: str, at_most: dict | None = None,
                   at_least: dict | None = None) -> "Quota":
        """Returns a quota whose groups are the values of a column.

        Args:
            table: the items table, a DataFrame in the order of the codes.
            column: a column of it. A cell of several values (a list, or
                text such as `"Action|Comedy"`) counts as its first value.
            at_most, at_least: value -> share of the picks.

        Raises:
            ValueError: there is no such column or value.
        """
        if column not in table.columns:
            raise ValueError(
                "A quota needs a column of the items table. Received: "
                f"column={column!r}; the table has {list(table.columns)}.")
        first = [_first_value(cell) for cell in table[column].tolist()]
        number: dict = {}
        for value in first:
            if value is not None:
                number.setdefault(value, len(number))
        shares = []
        for given in (at_most or {}, at_least or {}):
            unknown = [value for value in given if value not in number]
            if unknown:
                raise ValueError(
                    f"A quota must be of a value that `{column}` has first "
                    f"in its cells. Received: {unknown}; there are "
                    f"{list(number)[:20]}.")
            shares.append({number[v]: share for v, share in given.items()})
        return cls([-1, *(number.get(v, -1) for v in first)], *shares)

    def __eq__(self, other) -> bool:
        return (isinstance(other, Quota)
                and self.get_config() == other.get_config())

    def __repr__(self) -> str:
        return (f"Quota({len(self.groups):,} item codes, at_most="
                f"{self.at_most}, at_least={self.at_least})")

    def codes(self, item: np.ndarray) -> np.ndarray:
        """Returns the group of each candidate plus one; 0 for none.

        Args:
            item: codes of the candidates' items, int `[n]`.

        Returns:
            int64 `[n]`.

        Raises:
            ValueError: there are items without an entry in `groups`.
        """
        if len(item) and item.max() >= len(self.groups):
            raise ValueError(
                "`groups` of a quota must have one entry for each item code. "
                f"Received: {len(self.groups)} entries and an item of code "
                f"{item.max()}. Make it from the table of the pool.")
        return self.groups[item] + 1

    def most(self, n: int) -> np.ndarray:
        """Returns the most of `n` picks, int64 by group plus one."""
        return self._pairs_by_group(self.at_most, n, n)

    def least(self, n: int) -> np.ndarray:
        """Returns what is reserved of `n` picks, int64 by group plus one."""
        return self._pairs_by_group(self.at_least, n, 0)

    def _pairs_by_group(self, shares, n, other):
        size = max([self.groups.max(initial=-1), *shares]) + 2
        found = np.full(size, other, np.int64)
        for group, share in shares.items():
            # 0.3 * 10 is a little less than 3 in floating point.
            found[group + 1] = int(share * n + 1e-9)
        return found

    def get_config(self) -> dict:
        """Returns the constructor arguments; they can be written as JSON."""
        return {"groups": self.groups.tolist(), "at_most": dict(self.at_most),
                "at_least": dict(self.at_least)}


def _first_value(cell):
    """Returns the first value of a cell; None where it is missing."""
    if isinstance(cell, str):
        return cell.split("|")[0].strip() or None
    if isinstance(cell, (list, tuple, np.ndarray)):
        return _first_value(cell[0]) if len(cell) else None
    return None if cell is None or cell != cell else cell
