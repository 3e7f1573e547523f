"""What the calls of a Recommender return."""
from __future__ import annotations

import collections
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Cached answers are dropped after this time, so a new version on the server
# is seen then at the latest.
_SECONDS = 60


class Recommendations(NamedTuple):
    """A list of items for each row of a request, the best first.

    Attributes:
        item_ids: lists of at most `k`; shorter where no more remained.
        scores: float32 arrays of the same lengths; NaN where exploration put
            an item.
        version: version of the model that answered.
        request_ids: ids by which responses name the lists; "" for a user
            "", and no ids at all without a `log`.
    """

    item_ids: list[list[str]]
    scores: list[np.ndarray]
    version: int
    request_ids: Sequence[str] = ()


class Scores(NamedTuple):
    """Scores of pairs of users and items, float32 `[pairs]`.

    Attributes:
        score: the score that recommendations are ranked by.
        rating: the predicted rating.
        uncertainty: standard deviation of the rating; NaN for a model
            without dropout.
        version: version of the model that answered.
    """

    score: np.ndarray
    rating: np.ndarray
    uncertainty: np.ndarray
    version: int


class Embeddings(NamedTuple):
    """Vectors of one version; vectors of two versions cannot be compared.

    Attributes:
        vectors: float32 `[rows, d]`.
        version: version of the model that answered.
    """

    vectors: np.ndarray
    version: int


class AnswerCache:
    """Keeps the last answers of one version and drops the least used.

    Args:
        size: answers to keep; 0 keeps none.
    """

    def __init__(self, size: int):
        self.size = size
        self._version = None
        self._found = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key):
        """Returns `(outputs, version)`, or None where it has no answer."""
        with self._lock:
            outputs, until = self._found.get(key, (None, 0))
            if time.monotonic() >= until:
                return None
            self._found.move_to_end(key)
            return outputs, self._version

    def put(self, key, outputs, version) -> None:
        """Keeps an answer; without a key only notes its version."""
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
