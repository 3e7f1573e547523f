"""What the calls of a Recommender return."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


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
