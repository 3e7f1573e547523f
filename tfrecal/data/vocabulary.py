"""Vocabulary: ids to codes and back. No other code adds the 1."""
from __future__ import annotations

import numpy as np
import pandas as pd

from tfrecal.data.columns import as_ids, clean_id


class Vocabulary:
    """Turns the ids of a table to codes and back.

    The code of an id is its position plus one; code 0 is "unknown". A table
    by code has `size` rows, the first for unknown ids.

    Ids are cleaned one by one by the rule of `Interactions`: white space
    around a text is cut, and a whole number becomes the text of its digits.
    So 42, `np.int64(42)`, 42.0, "42" and "42.0" are one id. None, NaN and ""
    are missing: they are unknown and no ids of a vocabulary.

    Args:
        ids: distinct ids in the order of their codes: a list, an array, or
            a column or index of pandas.
        name: name of the ids in errors, such as `"user_id"`.

    Raises:
        ValueError: an id is there twice, is missing, or is neither a string
            nor a whole number.

    Example:
        >>> items = Vocabulary(["7", "b"], "item_id")
        >>> items.codes(["b", 7, "nobody"])
        array([2, 1, 0], dtype=int32)
        >>> items.ids([2])
        array(['b'], dtype=object)
    """

    def __init__(self, ids, name: str = "id"):
        self.name = name
        given = np.asarray(ids, dtype=object)
        texts = [clean_id(value, name) for value in given]
        # The table's own index has its hashes already, if it can be used.
        kept = (isinstance(ids, pd.Index) and ids.dtype == object
                and texts == given.tolist())
        self._index = ids if kept else pd.Index(texts, dtype=object)
        self._ids = self._index.to_numpy(object)
        self._translated = None, None
        if not self._index.is_unique or "" in self._index:
            wrong = self._index.duplicated() | (self._ids == "")
            raise ValueError(
                f"Each `{name}` must be there once, and none may be missing. "
                f"Received: {int(wrong.sum())} of {len(wrong)} that are "
                "missing or there before, such as "
                f"{given[wrong][0]!r}. Drop these rows of the table.")

    @classmethod
    def of_table(cls, table: pd.DataFrame, name: str) -> "Vocabulary":
        """Returns the vocabulary of a table's rows.

        Args:
            table: a users or items table.
            name: its column with the ids, or the name of its index.
        """
        return cls(as_ids(id_column(table, name), name).to_numpy(object),
                   name)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size(self) -> int:
        """Rows of a table by code: one more than there are ids."""
        return len(self._ids) + 1

    def __contains__(self, id) -> bool:
        return bool(self.codes([id])[0])

    def __eq__(self, other) -> bool:
        """Whether the other has the same ids in the same order."""
        return isinstance(other, Vocabulary) and (
            self._index is other._index or self._index.equals(other._index))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._ids[:3]))
        return (f"Vocabulary({len(self):,} {self.name}: {shown}"
                f"{', ...' if len(self) > 3 else ''})")

    def codes(self, ids) -> np.ndarray:
        """Returns codes, int32 of the shape of `ids`; 0 where unknown.

        Args:
            ids: strings, whole numbers, or both: a list, an array, or a
                column of pandas of any type, with missing values.

        Raises:
            ValueError: an id is neither a string nor a whole number.
        """
        dtype = getattr(ids, "dtype", None)
        if isinstance(dtype, pd.CategoricalDtype):
            column = pd.Series(ids)
            return self._codes_of_values(
                column.cat.codes, column.cat.categories)
        if isinstance(dtype, pd.api.extensions.ExtensionDtype):
            return self._codes_of_values(*pd.factorize(ids))
        if isinstance(dtype, np.dtype) and dtype.kind in "iuf":
            places, values = pd.factorize(np.ravel(ids))
            return self._codes_of_values(places, values).reshape(np.shape(ids))
        try:
            values = np.asarray(ids, dtype=object)
            found = self._index.get_indexer(
                pd.Index(values.ravel(), dtype=object))
        except (TypeError, ValueError) as error:  # lists of several lengths
            raise ValueError(
                f"`{self.name}` must hold one string or whole number a "
                "place, and lists equally long. Received: "
                f"{str(ids)[:100]}.") from error
        missed = np.flatnonzero(found < 0)
        codes = (found + 1).astype(np.int32)
        if len(missed):
            codes[missed] = self._codes_of_values(
                *pd.factorize(values.ravel()[missed]))
        return codes.reshape(values.shape)

    def _codes_of_values(self, places, values) -> np.ndarray:
        """Returns the codes of `values[places]`; cleans each id once."""
        texts = [clean_id(value, self.name) for value in values]
        found = self._index.get_indexer(pd.Index(texts, dtype=object))
        return np.append(found + 1, 0)[places].astype(np.int32)

    def ids(self, codes=None) -> np.ndarray:
        """Returns ids, object of the shape of `codes`; all ids for None.

        Args:
            codes: int, any shape.

        Raises:
            ValueError: a code is 0 or not in this vocabulary.
        """
        if codes is None:
            return self._ids
        codes = np.asarray(codes)
        if not codes.size:
            return np.empty(codes.shape, object)
        if not 1 <= codes.min() <= codes.max() <= len(self):
            raise ValueError(
                f"Codes of a `{self.name}` must lie in 1 to {len(self)}; 0 "
                "is that of unknown ids, which have no name. Received: "
                f"{codes.min()} to {codes.max()}. Leave unknown ids out.")
        return self._ids[codes - 1]

    def codes_of(self, other: "Vocabulary") -> np.ndarray:
        """Returns the codes here of all codes of another vocabulary.

        Args:
            other: the other vocabulary.

        Returns:
            int32 `[other.size]`, 0 for 0 and for ids that are not here.
        """
        seen, codes = self._translated
        if seen is not other:
            codes = (np.arange(self.size, dtype=np.int32) if self == other
                     else np.append(np.int32(0), self.codes(other.ids())))
            self._translated = other, codes
        return codes


def id_column(table: pd.DataFrame, name: str) -> pd.Series:
    """Returns the ids of a table's rows: its column `name` or its index.

    Raises:
        ValueError: there is no such column, and the index only counts rows.
    """
    if name in table:
        return table[name]
    if table.index.name == name or not isinstance(table.index,
                                                  pd.RangeIndex):
        return table.index.to_series()
    kind = name[:-3]
    raise ValueError(
        f"The {kind}s table must have a column (or an index) `{name}`. "
        f"Received: columns={list(table.columns)}. Name it: "
        f"`columns={{\"{name}\": \"...\"}}` or `{kind}s.rename(...)`.")
