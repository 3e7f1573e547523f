"""What the calls of a Recommender return."""
from __future__ import annotations

import collections
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# A new version on the server is seen after this time at the latest.
_SECONDS = 60


class Recommendations(NamedTuple):
    """A list of items for each row of a request, the best first.

    Attributes:
        item_ids: lists of at most `k`; shorter where no more remained.
        scores: float32 arrays of the same lengths; NaN where exploration put
            an item.
        version: of the model that answered.
        request_ids: by which responses name the lists, "" of users that are
            ""; none without a `log`.
    """

    item_ids: list[list[str]]
    scores: list[np.ndarray]
    version: int
    request_ids: Sequence[str] = ()


class Scores(NamedTuple):
    """Of pairs of users and items, float32 `[pairs]`.

    Attributes:
        score: what recommendations are ranked by.
        rating: the predicted one.
        uncertainty: its standard deviation; NaN of a model without dropout.
        version: of the model that answered.
    """

    score: np.ndarray
    rating: np.ndarray
    uncertainty: np.ndarray
    version: int


class Embeddings(NamedTuple):
    """Vectors of one version; those of others are not comparable.

    Attributes:
        vectors: float32 `[rows, d]`.
        version: of the model that answered.
    """

    vectors: np.ndarray
    version: int


class AnswerCache:
    """The last answers of one version, the least used of them dropped.

    Args:
        size: answers to keep; 0 keeps none.
    """

    def __init__(self, size: int):
        self.size = size
        self._version = None
        self._found = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key):
        """`(outputs, version)`, or None."""
        with self._lock:
            outputs, until = self._found.get(key, (None, 0))
            if time.monotonic() >= until:
                return None
            self._found.move_to_end(key)
            return outputs, self._version

    def put(self, key, outputs, version) -> None:
        """Keeps an answer; without a key only its version is heard of."""
        if not self.size:
            return
        with self._lock:
            if version != self._version:
                self._found.clear()
                self._version = version
            if key is None:
                return
            self._found[key] = outputs, time.monotonic() + _SECONDS
            self._found.move_to_end(key)
            if len(self._found) > self.size:
                self._found.popitem(last=False)
