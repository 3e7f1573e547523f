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
        source: what each list comes from: "user" (what the export holds of
            the user), "history" (the known items of the request's history),
            "text" (the search text), two of them joined by "+", or
            "popular". Empty for an older export, which does not tell.
    """

    item_ids: list[list[str]]
    scores: list[np.ndarray]
    version: int
    request_ids: Sequence[str] = ()
    source: Sequence[str] = ()


class Rankings(NamedTuple):
    """Candidates of each row of a request, in order.

    Attributes:
        order: int32 arrays, places of the row's candidates, the best first.
            Unknown ones and "" are the last.
        scores: float32 arrays in the order of the request; -inf for those.
        version: version of the model that answered.
        source: what each order comes from, see `Recommendations`.
        request_ids: ids by which responses name the orders; "" where the
            user or all ids of the candidates are "", and no ids at all
            without a `log`, users or items.
    """

    order: list[np.ndarray]
    scores: list[np.ndarray]
    version: int
    source: Sequence[str]
    request_ids: Sequence[str] = ()


class Scores(NamedTuple):
    """Scores of pairs of users and items, float32 `[pairs]`.

    Attributes:
        score: the score that recommendations are ranked by.
        rating: the predicted rating.
        uncertainty: standard deviation of the rating; NaN for an unknown
            user or item and for a model without dropout.
        version: version of the model that answered.
        source: what each rating comes from, see `Recommendations`; "none"
            for an unknown user or item, whose rating is a mean.
    """

    score: np.ndarray
    rating: np.ndarray
    uncertainty: np.ndarray
    version: int
    source: Sequence[str] = ()


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
