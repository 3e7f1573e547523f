"""Pairs: the (user, item) pairs that priors, targets and others read."""
from __future__ import annotations

import functools

import numpy as np

from tfrecal.data.columns import factorise_ids
from tfrecal.data.vocabulary import Vocabulary


class Pairs:
    """(user, item) pairs by code, with the vocabularies of their codes.

    Args:
        user, item: codes, int `[n]`; 0 is an unknown id.
        user_vocabulary, item_vocabulary: the vocabularies of the codes.

    Raises:
        ValueError: the numbers of users and items differ.
    """

    def __init__(self, user, item, user_vocabulary: Vocabulary,
                 item_vocabulary: Vocabulary):
        self.user = np.asarray(user, np.int32)
        self.item = np.asarray(item, np.int32)
        self.user_vocabulary = user_vocabulary
        self.item_vocabulary = item_vocabulary
        if self.user.ndim != 1 or self.user.shape != self.item.shape:
            raise ValueError(
                "Pairs need one user and one item each. Received: shapes "
                f"{self.user.shape} and {self.item.shape}.")

    @classmethod
    def of_ids(cls, user_ids, item_ids) -> "Pairs":
        """Returns pairs over vocabularies of just these ids.

        Args:
            user_ids, item_ids: ids, `[n]` each, see `Vocabulary.codes`.
        """
        users, items = (
            Vocabulary(factorise_ids(ids, name)[1], name) for ids, name in (
                (user_ids, "user_id"), (item_ids, "item_id")))
        return cls(users.codes(user_ids), items.codes(item_ids), users, items)

    @functools.cached_property
    def user_id(self) -> np.ndarray:
        """Ids of the users, object `[n]`."""
        return self.user_vocabulary.ids(self.user)

    @functools.cached_property
    def item_id(self) -> np.ndarray:
        """Ids of the items, object `[n]`."""
        return self.item_vocabulary.ids(self.item)

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        return (f"Pairs({len(self):,} of {len(self.user_vocabulary):,} users "
                f"and {len(self.item_vocabulary):,} items)")

    def take(self, rows) -> "Pairs":
        """Returns the pairs at `rows` (indices or bool)."""
        return Pairs(self.user[rows], self.item[rows], self.user_vocabulary,
                     self.item_vocabulary)
