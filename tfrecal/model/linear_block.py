"""LinearBlock: a closed-form item-item regression in the retrieval vectors.

Graded interactions X (users x items) are regressed on themselves with a zero
diagonal, as EASE does (Steck 2019, arXiv 1905.03375, eq. 8), with the dropout
penalty of EDLAE (Steck 2020, eq. 12) and, added to the Gram matrix, the kernel
of the items' texts (CEASE, L3AE: arXiv 2508.13500). The regression is cut to
low rank, so that a prediction is an inner product: a query is the sum of rows
over the items of a history, a candidate is a vector. So a fresh click moves a
list at once, for users whom training never saw too, and a new item has its
vector from its text.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, cg, eigsh

from tfrecal import checks

EXACT = 8_000    # items up to which the regression is solved exactly
_RIDGE = 10.0    # of vectors from texts
_FLOOR = 0.05    # grade of the lowest label of a scale
_PROBES = 64


@dataclass(frozen=True)
class BlockOptions:
    """What decides a `LinearBlock`; `choose` finds it on validation rows.

    Args:
        beta: scale of its scores beside those of the trained block, after
            both have the same spread; 0 takes the block out.
        l2: ridge, in units of an item's mean squared grades.
        dropout: p of EDLAE: p / (1 - p) of an item's squared grades is its
            further ridge.
        text: weight of the texts' kernel, in the units of `l2`.
        rank: width of the vectors.
        decay: weight of an item of a history beside the next younger one.
    """

    beta: float = 1.0
    l2: float = 3.0
    dropout: float = 0.5
    text: float = 0.1
    rank: int = 128
    decay: float = 1.0

    def __post_init__(self):
        checks.at_least(0, beta=self.beta, text=self.text)
        checks.positive(l2=self.l2)
        checks.whole(1, rank=self.rank)
        checks.lies_in("[0, 1)", dropout=self.dropout)
        checks.lies_in("(0, 1]", decay=self.decay)


@dataclass(frozen=True)
class Solved:
    """A solved block.

    Attributes:
        rows: what an item of a history adds to a query, float32
            `[items + 1, rank]`; row 0, of unknown items, is zero.
        vectors: candidates, float32 `[items + 1, rank]`.
        of_text: kernel from a standardised text vector to a candidate,
            float32 `[dim, rank]`, or None without texts.
        like: grade of an item that a request calls liked.
        decay: see `BlockOptions`.
    """

    rows: np.ndarray
    vectors: np.ndarray
    of_text: np.ndarray | None
    like: float
    decay: float

    def queries(self, indptr, items, grades) -> np.ndarray:
        """Returns queries of histories, float32 `[n, rank]`.

        Args:
            indptr: int64 `[n + 1]`: history n is
                `items[indptr[n]:indptr[n + 1]]`, oldest first.
            items: codes, int32.
            grades: float32, of each item.
        """
        number = np.diff(indptr)
        age = np.repeat(indptr[1:], number) - 1 - np.arange(len(items))
        weight = np.asarray(grades, np.float32) * np.float32(
            self.decay) ** age.astype(np.float32)
        history = scipy.sparse.csr_matrix(
            (weight, items, indptr), shape=(len(number), len(self.rows)))
        return np.asarray(history @ self.rows, np.float32)


def grades(label, scale) -> np.ndarray:
    """Returns grades from 0 to 1 of labels, float32 `[n]`.

    The lowest rating of a scale says a little: people rate what they chose.
    Of labels of 0 and 1, 0 says nothing.

    Args:
        label: `[n]`.
        scale: (lowest, highest) label.
    """
    low, high = scale
    grade = (np.asarray(label, np.float32) - low) / np.float32(high - low)
    if (low, high) == (0, 1):
        return grade
    return np.maximum(grade, np.float32(_FLOOR))


def solve(history: scipy.sparse.csr_matrix, options: BlockOptions,
          texts: np.ndarray | None = None, like: float = 1.0,
          seed: int = 0) -> Solved:
    """Solves the regression.

    Args:
        history: grades, `[users + 1, items + 1]` by code.
        options: what decides it.
        texts: standardised text vectors of the items, float32
            `[items + 1, dim]`, or None.
        like: see `Solved`.
        seed: of random probes where the catalogue is large.

    Returns:
        The `Solved` block. Without a grade above 0 it is zero.
    """
    grade = history[:, 1:].astype(np.float32)
    size = grade.shape[1]
    own = np.asarray(grade.multiply(grade).sum(axis=0)).ravel()
    unit = float(own[own > 0].mean()) if own.any() else 0.0
    rank = min(options.rank, max(1, size - 1))
    if not unit or size < 2:
        empty = np.zeros((size + 1, rank), np.float32)
        kernel = None if texts is None else np.zeros(
            (texts.shape[1], rank), np.float32)
        return Solved(empty, empty.copy(), kernel, like, options.decay)
    ridge = (options.l2 * unit + options.dropout / (1 - options.dropout)
             * own).astype(np.float32)
    features = None
    if texts is not None and options.text:
        features = texts[1:] * np.float32(np.sqrt(options.text * unit))
    made = _exact if size <= EXACT else _iterative
    times, times_back = made(grade, ridge, features, seed)

    def spread(vectors):  # of predictions
        return times_back(grade.T @ (grade @ times(vectors)))

    start = np.random.default_rng(seed).standard_normal(size).astype(
        np.float32)
    if rank >= size - 1:
        full = spread(np.eye(size, dtype=np.float32))
        vectors = np.linalg.eigh((full + full.T) / 2)[1][:, -rank:]
    else:
        _, vectors = eigsh(
            LinearOperator((size, size), matvec=spread, matmat=spread,
                           dtype=np.float32),
            k=rank, which="LA", tol=1e-3, v0=start)
    vectors = np.ascontiguousarray(vectors[:, ::-1], np.float32)
    rows = times(vectors).astype(np.float32)
    kernel = None
    if texts is not None:
        kernel = _text_kernel(texts[1:], vectors, own > 0)
        vectors = _with_texts(vectors, texts[1:] @ kernel, grade)
    return Solved(*(np.vstack([np.zeros((1, rank), np.float32), one])
                    for one in (rows, vectors)), kernel, like, options.decay)


def _exact(grade, ridge, features, seed):
    """Returns products with B and its transpose, by a Cholesky factor."""
    size = len(ridge)
    matrix = (grade.T @ grade).toarray()
    if features is not None:
        matrix += features @ features.T
    matrix[np.diag_indices(size)] += ridge
    factor = scipy.linalg.cholesky(
        matrix, lower=True, overwrite_a=True, check_finite=False)
    inverse, _ = scipy.linalg.lapack.spotri(factor, lower=True,
                                            overwrite_c=True)
    inverse = np.tril(inverse)
    inverse += np.tril(inverse, -1).T
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices(size)] = 0
    return lambda vectors: weights @ vectors, (
        lambda vectors: weights.T @ vectors)


def _iterative(grade, ridge, features, seed):
    """Returns products with B, by conjugate gradients; nothing is dense.

    B = I - P / diag(P) with P the inverse; its diagonal is estimated with
    random signs (Bekas et al. 2007).
    """
    diagonal = ridge + np.asarray(grade.multiply(grade).sum(axis=0)).ravel()
    if features is not None:
        diagonal = diagonal + (features ** 2).sum(axis=1)
    back = grade.T.tocsr()

    def matrix(vectors):
        found = back @ (grade @ vectors) + ridge[:, np.newaxis] * vectors
        if features is not None:
            found += features @ (features.T @ vectors)
        return found

    def inverse(vectors):
        flat = vectors.ndim == 1
        found = _conjugate_gradients(
            matrix, vectors.reshape(len(ridge), -1), diagonal[:, np.newaxis])
        return found.ravel() if flat else found

    signs = np.random.default_rng(seed).choice(
        np.array([-1, 1], np.float32), (len(ridge), _PROBES))
    own = (signs * inverse(signs)).mean(axis=1)
    own = np.maximum(own, 0.5 / diagonal).astype(np.float32)

    def of(scale, vectors):
        return scale * vectors if vectors.ndim == 1 else (
            scale[:, np.newaxis] * vectors)

    return (lambda vectors: vectors - inverse(of(1 / own, vectors)),
            lambda vectors: vectors - of(1 / own, inverse(vectors)))


def _conjugate_gradients(matrix, right, diagonal, tolerance=1e-4,
                         most=200) -> np.ndarray:
    """Solves for all columns at once; preconditioned by the diagonal."""
    found = np.zeros_like(right)
    rest = right.copy()
    step = rest / diagonal
    direction, size = step.copy(), (rest * step).sum(axis=0)
    goal = tolerance ** 2 * np.maximum((right ** 2).sum(axis=0), 1e-30)
    for _ in range(most):
        moved = matrix(direction)
        length = size / np.maximum((direction * moved).sum(axis=0), 1e-30)
        found += length * direction
        rest -= length * moved
        if ((rest ** 2).sum(axis=0) <= goal).all():
            break
        step = rest / diagonal
        before, size = size, (rest * step).sum(axis=0)
        direction = step + size / np.maximum(before, 1e-30) * direction
    return found


def _text_kernel(texts, vectors, known) -> np.ndarray:
    """Returns the ridge regression from texts to vectors, `[dim, rank]`."""
    some = texts[known]
    gram = some.T @ some
    gram[np.diag_indices(len(gram))] += _RIDGE
    return scipy.linalg.solve(
        gram, some.T @ vectors[known], assume_a="pos").astype(np.float32)


def _with_texts(vectors, by_text, grade) -> np.ndarray:
    """Gives items without a grade their vectors by text.

    The norm of a ridge regression is too small: they get that of items with
    few grades.
    """
    number = np.diff(grade.tocsc().indptr)
    new = number == 0
    if not new.any():
        return vectors
    few = (number > 0) & (number <= np.quantile(number[number > 0], 0.25))
    norm, wanted = (np.linalg.norm(one, axis=1) for one in (
        by_text[new], vectors[few]))
    scale = np.median(wanted) / max(np.median(norm), 1e-9)
    vectors = vectors.copy()
    vectors[new] = by_text[new] * np.float32(scale)
    return vectors
