"""The linear block of a model, placed beside its trained retrieval block."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from tfrecal.model.linear_block import BlockOptions, Solved, grades, solve


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
    def candidates(self) -> np.ndarray:
        """Vectors beside the trained ones, float32 `[items + 1, rank]`."""
        return self.solved.vectors * np.float32(self.scale)


def solved_of_pool(pool, options: BlockOptions, texts=None):
    """Solves the block of a pool's labels.

    Args:
        pool: the `Pool`.
        options: the `BlockOptions`.
        texts: see `linear_block.solve`.

    Returns:
        `(solved, queries, like)`, see `PlacedBlock`.
    """
    rows = pool.by_user_and_time(pool.labelled_rows())
    user, item = pool.user[rows], pool.item[rows]
    grade = grades(pool.label[rows], pool.scale)
    shape = pool.user_vocabulary.size, pool.item_vocabulary.size
    indptr = np.concatenate([[0], np.cumsum(np.bincount(
        user, minlength=shape[0]))])
    solved = solve(scipy.sparse.csr_matrix(
        (grade, item, indptr), shape=shape), options, texts)
    liked = pool.label[rows] >= pool.positive
    like = float(grades(pool.label[rows][liked], pool.scale).mean()) if (
        liked.any()) else 1.0
    return solved, solved.queries(indptr, item, grade), like


def beside(query, candidate, solved, queries, like, beta) -> PlacedBlock:
    """Places a block beside trained vectors.

    Its scores get `beta` times the spread of the trained ones over the
    catalogue, in the mean of the users.

    Args:
        query, candidate: trained retrieval vectors by code.
        solved, queries, like: as of `solved_of_pool`.
        beta: see `BlockOptions`.
    """
    known = queries.any(axis=1)
    trained, own = (_spread(one[known], other[1:]) for one, other in (
        (query, candidate), (queries, solved.vectors)))
    scale = beta * (trained / own if trained > 0 and own > 0 else 1.0)
    return PlacedBlock(solved, queries, like, float(scale))


def _spread(query, candidate) -> float:
    """Returns the root of the mean variance of a user's scores."""
    if not len(query):
        return 0.0
    away = (candidate - candidate.mean(axis=0)).astype(np.float64)
    moments = away.T @ away / len(away)
    return float(np.sqrt(max(0.0, np.mean(np.einsum(
        "nd,de,ne->n", query, moments, query, optimize=True)))))
