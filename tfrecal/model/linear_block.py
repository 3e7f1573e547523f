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

from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, eigsh

from tfrecal import checks

EXACT = 8_000    # items up to which the regression is solved exactly
_RIDGE = 10.0    # of vectors from texts
_FLOOR = 0.05    # grade of the lowest label of a scale
_PROBES = 64
_FEW = 0.25      # quantile of the norms of graded items that new ones get


@dataclass(frozen=True)
class BlockOptions:
    """What decides a block; `scoring.block_choice` finds it by validation.

    Ridges and the kernel are in units of the data (see `l2`), so that one
    default serves dense ratings and sparse clicks.

    Args:
        beta: scale of its scores beside those of the trained block, after
            both have the same spread; 0 takes the block out.
        l2: ridge, in units of the mean sum of an item's squared grades.
        dropout: p of EDLAE: p / (1 - p) of an item's squared grades is its
            further ridge.
        text: weight of the kernel of the items' texts, in these units.
        rank: width of the vectors.
        decay: weight of an item of a history beside the next younger one.
        new_items: norm of an item that is known by its text only, beside
            that of an item of few labels. The larger, the more places of a
            list go to new items; 0 keeps them out.
    """

    beta: float = 0.7
    l2: float = 5.0
    dropout: float = 0.5
    text: float = 1.0
    rank: int = 128
    decay: float = 1.0
    new_items: float = 1.0

    def __post_init__(self):
        checks.at_least(0, beta=self.beta, text=self.text,
                        new_items=self.new_items)
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
        graded: which items have a grade, bool `[items + 1]`.
        decay: see `BlockOptions`.
    """

    rows: np.ndarray
    vectors: np.ndarray
    graded: np.ndarray
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
          texts: np.ndarray | None = None, seed: int = 0) -> Solved:
    """Solves the regression.

    Args:
        history: grades, `[users + 1, items + 1]` by code.
        options: what decides it.
        texts: vectors of the items' texts of mean norm 1, float32
            `[items + 1, dim]`, or None.
        seed: of random probes where the catalogue is large.

    Returns:
        The `Solved` block. Without a grade above 0 it is zero.
    """
    grade = history[:, 1:].astype(np.float32)
    size = grade.shape[1]
    own = np.asarray(grade.multiply(grade).sum(axis=0)).ravel()
    rank = min(options.rank, max(1, size - 1))
    if not own.any() or size < 2:
        return Solved(*np.zeros((2, size + 1, rank), np.float32),
                      np.zeros(size + 1, bool), options.decay)
    unit = float(own[own > 0].mean())
    ridge = (options.l2 * unit + options.dropout / (1 - options.dropout)
             * own).astype(np.float32)
    features = None
    if texts is not None and options.text:
        features = texts[1:] * np.float32(np.sqrt(options.text * unit))
    made = _exact if size <= EXACT else _iterative
    times, times_back = made(grade, ridge, features, seed)
    vectors = _leading(lambda vectors: times_back(
        grade.T @ (grade @ times(vectors))), size, rank, seed)
    rows = times(vectors).astype(np.float32)
    if texts is not None:
        vectors = _with_texts(vectors, texts[1:], grade)
    return Solved(*(np.vstack([np.zeros((1, rank), np.float32), one])
                    for one in (rows, vectors)),
                  np.append(False, own > 0), options.decay)


def _leading(spread, size, rank, seed) -> np.ndarray:
    """Returns the leading eigenvectors of a product, `[size, rank]`."""
    if rank >= size - 1:
        full = spread(np.eye(size, dtype=np.float32))
        found = np.linalg.eigh((full + full.T) / 2)[1][:, -rank:]
    else:
        start = np.random.default_rng(seed).standard_normal(size)
        _, found = eigsh(
            LinearOperator((size, size), matvec=spread, matmat=spread,
                           dtype=np.float32),
            k=rank, which="LA", tol=1e-3, v0=start.astype(np.float32))
    return np.ascontiguousarray(found[:, ::-1], np.float32)


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


def text_kernel(texts, vectors, graded) -> np.ndarray:
    """Returns a ridge regression from texts to candidates, `[dim, rank]`.

    Its vectors have the norm of items with few grades: that of a ridge
    regression is too small for a list.

    Args:
        texts: float32 `[n, dim]`.
        vectors: candidates, float32 `[n, rank]`.
        graded: items that teach, bool `[n]`.
    """
    some = texts[graded]
    gram = (some.T @ some).astype(np.float64)
    gram[np.diag_indices(len(gram))] += _RIDGE * max(
        np.trace(gram) / max(len(some), 1), 1e-9)
    kernel = scipy.linalg.solve(
        gram, some.T @ vectors[graded], assume_a="pos")
    norm, wanted = (np.linalg.norm(one, axis=1) for one in (
        some @ kernel, vectors[graded]))
    scale = np.quantile(wanted, _FEW) / max(np.median(norm), 1e-9)
    return (kernel * scale).astype(np.float32)


def _with_texts(vectors, texts, grade) -> np.ndarray:
    """Gives items without a grade their vectors by text."""
    graded = np.diff(grade.tocsc().indptr) > 0
    if graded.all():
        return vectors
    kernel = text_kernel(texts, vectors, graded)
    return np.where(graded[:, np.newaxis], vectors, texts @ kernel)
