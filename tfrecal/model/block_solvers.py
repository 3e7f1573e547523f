"""Solvers of the linear block: exact for small catalogues, else iterative."""
from __future__ import annotations

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, eigsh

EXACT = 8_000    # items up to which the regression is solved exactly
_PROBES = 64


def low_rank(grade, ridge, features, rank, seed):
    """Solves the regression and cuts it to low rank.

    Args:
        grade: grades, csr float32 `[users, items]`.
        ridge: diagonal that is added to the Gram matrix, `[items]`.
        features: factor of the items' kernel, float32 `[items, dim]`, or
            None.
        rank: width of the vectors.
        seed: of random probes where the catalogue is large.

    Returns:
        `(rows, vectors)`, float32 `[items, rank]`: predictions are
        `grade @ rows @ vectors.T`.
    """
    size = grade.shape[1]
    made = _exact if size <= EXACT else _iterative
    times, times_back = made(grade, ridge, features, seed)
    vectors = _leading(lambda vectors: times_back(
        grade.T @ (grade @ times(vectors))), size, rank, seed)
    return times(vectors).astype(np.float32), vectors


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
