"""The linear block of a model, placed beside its trained retrieval block."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from tfrecal.model.linear_block import (
    BlockOptions,
    Solved,
    all_alike,
    check_options,
    grades,
    solve,
    spread,
)


@dataclass(frozen=True)
class PlacedBlock:
    """A solved block, and how it stands beside the trained vectors.

    Attributes:
        solved: the block.
        queries: what the pool knows of each user, float32
            `[users + 1, rank]`.
        like: grade of an item that a request calls liked.
        scale: factor of the candidates.
    """

    solved: Solved
    queries: np.ndarray
    like: float
    scale: float

    @property
    def norm(self) -> float:
        """Mean norm of the queries of users of whom something is known."""
        norms = np.linalg.norm(self.queries, axis=1)
        return float(norms[norms > 0].mean()) if norms.any() else 1.0

    def evidence(self, queries) -> np.ndarray:
        """Returns how much histories say, beside those of users: `[n, 1]`.

        What is guessed of a user from others counts by it, so that a first
        click is not drowned. It is 1 where the block knows nothing.

        Args:
            queries: float32 `[n, rank]`.
        """
        norm = np.linalg.norm(queries, axis=1, keepdims=True)
        return np.where(norm > 0, norm / np.float32(self.norm), 1)

    @property
    def candidates(self) -> np.ndarray:
        """Vectors beside the trained ones, float32 `[items + 1, rank]`."""
        return self.solved.vectors * np.float32(self.scale)


@dataclass(frozen=True)
class GradedHistories:
    """The graded items of each user of a pool, oldest first.

    Attributes:
        indptr: int64 `[users + 2]`; user code u has the items
            `items[indptr[u]:indptr[u + 1]]`.
        items: int32 `[n]`, codes.
        grade: float32 `[n]`, see `linear_block.grades`.
        like: mean grade of a positive.
        shape: `(users + 1, items + 1)`.
    """

    indptr: np.ndarray
    items: np.ndarray
    grade: np.ndarray
    like: float
    shape: tuple[int, int]

    @classmethod
    def of_pool(cls, pool) -> "GradedHistories":
        """Returns those of the labelled rows of a pool."""
        rows = pool.by_user_and_time(pool.labelled_rows())
        grade = grades(pool.label[rows], pool.scale)
        # What says nothing makes nothing older.
        rows, grade = rows[grade > 0], grade[grade > 0]
        good = pool.label[rows] >= pool.positive
        shape = pool.user_vocabulary.size, pool.item_vocabulary.size
        number = np.bincount(pool.user[rows], minlength=shape[0])
        return cls(np.concatenate([[0], np.cumsum(number)]), pool.item[rows],
                   grade, float(grade[good].mean()) if good.any() else 1.0,
                   shape)

    @property
    def matrix(self) -> scipy.sparse.csr_matrix:
        """The grades, float32 `[users + 1, items + 1]`."""
        return scipy.sparse.csr_matrix(
            (self.grade, self.items, self.indptr), shape=self.shape)

    def solve(self, options: BlockOptions, texts=None) -> Solved:
        """Solves the block of these histories; see `linear_block.solve`."""
        return solve(self.matrix, options, texts)

    def queries(self, solved: Solved) -> np.ndarray:
        """Returns the query of each user, float32 `[users + 1, rank]`."""
        return solved.queries(self.indptr, self.items, self.grade)


def options_of(model) -> BlockOptions | None:
    """Returns what decides the linear block of a model; None without one.

    Raises:
        TypeError: `linear_block` is something else.
    """
    options = getattr(model, "linear_block", None)
    check_options(options, type(model).__name__)
    return options


def texts_of(model, pool) -> np.ndarray | None:
    """Returns what a model says of its items' texts, `[items + 1, dim]`.

    It is None where all of them are equal: a kernel that calls all items
    alike would draw every list to the same items.

    Raises:
        ValueError: these are no vectors of the pool's items.
    """
    found = getattr(model, "item_texts", lambda: None)()
    if found is None:
        return None
    texts = np.asarray(found, np.float32)
    rows = pool.item_vocabulary.size
    if texts.ndim != 2 or len(texts) != rows or not np.isfinite(texts).all():
        raise ValueError(
            "`item_texts` must return finite vectors of the pool's items by "
            f"code, [{rows}, dim]. Received: {list(texts.shape)}"
            + ("" if np.isfinite(texts).all() else " with NaN or infinity")
            + ". Row 0 is that of unknown items.")
    return None if all_alike(texts) else texts


def beside(query, candidate, solved, queries, like, beta) -> PlacedBlock:
    """Places a block beside trained vectors.

    Its scores get `beta` times the spread of the trained ones over the
    catalogue, in the mean of the users.

    Args:
        query, candidate: trained retrieval vectors by code.
        solved: the block.
        queries, like: see `PlacedBlock`.
        beta: see `BlockOptions`.
    """
    known = queries.any(axis=1)
    trained, own = (
        spread(one[known].T @ one[known] / max(1, known.sum()), other[1:])
        for one, other in ((query, candidate), (queries, solved.vectors)))
    scale = beta * (trained / own if trained > 0 and own > 0 else 1.0)
    return PlacedBlock(solved, queries, like, float(scale))
