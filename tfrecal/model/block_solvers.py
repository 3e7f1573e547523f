"""Solvers of the linear block: exact for small catalogues, else iterative.

With X the grades, D the ridge, F the texts' features, P = (X'X + D + FF')^-1
and B = I - P / diag(P), both ways find the leading eigenvectors of B'X'XB by
block Krylov (Musco & Musco 2015, algorithm 2). The exact one inverts a dense
matrix. The iterative one never makes one: X'X is replaced by a diagonal and a
Nystroem factor (Frangella, Tropp & Udell 2023, algorithm 2.1), so that P and
its diagonal are closed forms. This rough P is the preconditioner of conjugate
gradients and the control variate of the diagonal, and its eigenvectors are
the start of the others.
"""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.linalg

from tfrecal.doctor import cores

EXACT = 6_000      # items up to which the regression is solved exactly
_NYSTROEM = 256    # columns of the factor of X'X
_PROBES = 128      # random signs at a time that estimate diag(P)
_TIMES = 2         # of these
_EXTRA = 16        # columns of a block beyond the rank
_STEPS = 4         # Krylov blocks beyond the start
_REFINE = 2        # of these with conjugate gradients
_TOLERANCE = 1e-2  # residual of conjugate gradients
_COLUMNS = 32      # of a product at a time: they stay in the cache
_ROWS = 1_024      # of a dense matrix that are filled at a time


def low_rank(grade, ridge, features, rank, seed):
    """Solves the regression and cuts it to low rank.

    Args:
        grade: grades, csr float32 `[users, items]`.
        ridge: diagonal that is added to the Gram matrix, `[items]`.
        features: factor of the items' kernel, float32 `[items, dim]`, or
            None.
        rank: width of the vectors.
        seed: of the start, and of random signs where there are more than
            `EXACT` items.

    Returns:
        `(rows, vectors)`, float32 `[items, rank]`: predictions are
        `grade @ rows @ vectors.T`.
    """
    rng = np.random.default_rng(seed)
    gram = gram_product(grade)
    size = len(ridge)
    start = gram(rng.standard_normal(
        (size, min(size, rank + _EXTRA)), np.float32))
    if size <= EXACT:
        inverse, own = _exact(grade, ridge, features)
        return _leading(gram, inverse, own, start, rank, _STEPS)
    rough, rough_own, inverse, own = _iterative(
        grade, gram, ridge, features, rng)
    start = _leading(gram, rough, rough_own, start, start.shape[1],
                     _STEPS)[1]
    return _leading(gram, inverse, own, start, rank, _REFINE)


def gram_product(grade):
    """Returns a function: the product of X'X with vectors `[items, n]`.

    Columns do not change each other, so results do not depend on the number
    of threads; SciPy's products leave Python's lock.
    """
    back = grade.T

    def times(vectors):
        found = np.empty(vectors.shape, np.float32)

        def some(start):
            columns = slice(start, start + _COLUMNS)
            found[:, columns] = back @ (
                grade @ np.ascontiguousarray(vectors[:, columns]))

        with ThreadPoolExecutor(cores()) as threads:
            list(threads.map(some, range(0, vectors.shape[1], _COLUMNS)))
        return found

    return times


def _leading(gram, inverse, own, start, rank, steps):
    """Returns B @ vectors and vectors, the leading eigenvectors of B'X'XB.

    Args:
        gram: product with X'X.
        inverse: product with P.
        own: diag(P), `[items]`.
        start: first block of the Krylov space, `[items, rank or more]`.
        rank: width of what is returned; zeros stand where X has less.
        steps: further blocks.
    """
    own = own[:, np.newaxis]
    size, width = start.shape
    space, rows = np.empty((2, size, width * (steps + 1)), np.float32)
    small = np.zeros((space.shape[1],) * 2)
    block, used = _orthonormal(start, space[:, :0]), 0
    for step in range(steps + 1):
        new = slice(used, used + block.shape[1])
        used = new.stop
        space[:, new] = block
        rows[:, new] = block - inverse(block / own)
        moved = gram(rows[:, new])
        small[:used, new] = rows[:, :used].T @ moved
        if step < steps:
            block = _orthonormal(moved - inverse(moved) / own,
                                 space[:, :used])
        if not block.shape[1]:
            break
    small = np.linalg.eigh(small[:used, :used], UPLO="U")[1]
    turn = np.zeros((used, rank), np.float32)
    turn[:, :min(rank, used)] = small[:, ::-1][:, :rank]
    return rows[:, :used] @ turn, space[:, :used] @ turn


def _orthonormal(block, space) -> np.ndarray:
    """Returns an orthonormal basis of what `block` adds to `space`."""
    least = 1e-11 * np.square(block).sum(axis=0, dtype=np.float64).max(
        initial=0)
    for _ in range(2):
        block = (block - space @ (space.T @ block)).astype(np.float64)
        values, vectors = np.linalg.eigh(block.T @ block)
        kept = values > least
        block = (block @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(
            np.float32)
        least = 1e-2
    return block


def _exact(grade, ridge, features):
    """Returns the product with P, and diag(P); one dense matrix is held."""
    size = len(ridge)
    matrix, back = np.empty((size, size), np.float32), grade.T.tocsr()
    for start in range(0, size, _ROWS):
        some = slice(start, start + _ROWS)
        matrix[some] = (back[some] @ grade).toarray()
        if features is not None:
            matrix[some] += features[some] @ features.T
    matrix[np.diag_indices(size)] += ridge
    factor = scipy.linalg.cholesky(
        matrix.T, lower=True, overwrite_a=True, check_finite=False)
    matrix, _ = scipy.linalg.lapack.spotri(
        factor, lower=True, overwrite_c=True)
    return lambda vectors: scipy.linalg.blas.ssymm(
        1, matrix, vectors, lower=True), np.diag(matrix)


def _iterative(grade, gram, ridge, features, rng):
    """Returns the product with P and diag(P), roughly and by iteration."""
    own = np.asarray(grade.multiply(grade).sum(axis=0)).ravel()
    factor = _nystroem(gram, ridge + own, rng)
    diagonal = ridge + np.maximum(
        own - np.einsum("nd,nd->n", factor, factor), 0)
    if features is not None:
        factor = np.hstack([features, factor])
    rough, rough_own = _woodbury(diagonal, factor)

    def matrix(vectors):
        found = gram(vectors) + ridge[:, np.newaxis] * vectors
        if features is not None:
            found += features @ (features.T @ vectors)
        return found

    def inverse(vectors):
        return _conjugate_gradients(matrix, vectors, rough)

    # Signs of mean 0 and variance 1 leave the diagonal of what is missing
    # in the closed form (Bekas, Kokiopoulou & Saad 2007).
    missing = np.zeros(len(ridge), np.float32)
    for _ in range(_TIMES):
        signs = 2 * rng.integers(
            0, 2, (len(ridge), _PROBES), np.int8) - np.float32(1)
        missing += np.einsum(
            "nd,nd->n", signs, inverse(signs) - rough(signs))
    missing /= _TIMES * _PROBES
    least = ridge + own
    if features is not None:
        least += np.einsum("nd,nd->n", features, features)
    return rough, rough_own, inverse, np.maximum(
        rough_own + missing, 1 / least)


def _nystroem(gram, scale, rng) -> np.ndarray:
    """Returns the factor of a low rank below X'X, `[items, n]`.

    Args:
        gram: product with X'X.
        scale: a diagonal; errors are small in its units.
        rng: of the sketch.
    """
    root = np.sqrt(scale)[:, np.newaxis]
    size = len(scale)
    sketch = rng.standard_normal((size, min(size, _NYSTROEM)), np.float32)
    sketch = _orthonormal(gram(sketch / root) / root, sketch[:, :0])
    found = gram(sketch / root)
    values, vectors = np.linalg.eigh(
        (sketch.T @ (found / root)).astype(np.float64))
    kept = values > 1e-5 * values[-1]
    return found @ (vectors[:, kept] / np.sqrt(values[kept])).astype(
        np.float32)


def _woodbury(diagonal, factor):
    """Returns the product with (diagonal + factor @ factor')^-1, and its own
    diagonal."""
    root = np.sqrt(diagonal)[:, np.newaxis]
    factor = factor / root
    small = (factor.T @ factor).astype(np.float64)
    small[np.diag_indices(len(small))] += 1
    turn = np.linalg.inv(np.linalg.cholesky(small)).T.astype(np.float32)
    factor = factor @ turn / root
    start = 1 / diagonal
    return lambda vectors: start[:, np.newaxis] * vectors - factor @ (
        factor.T @ vectors), start - np.einsum("nd,nd->n", factor, factor)


def _conjugate_gradients(matrix, right, preconditioner,
                         most=100) -> np.ndarray:
    """Solves for all columns at once."""
    found, rest = np.zeros_like(right), right.copy()
    direction = step = preconditioner(rest)
    size = _products(rest, step)
    goal = _TOLERANCE ** 2 * _products(right, right)
    for _ in range(most):
        moved = matrix(direction)
        length = size / np.maximum(_products(direction, moved), 1e-30)
        found += length * direction
        rest -= length * moved
        if (_products(rest, rest) <= goal).all():
            break
        step = preconditioner(rest)
        before, size = size, _products(rest, step)
        direction = step + size / np.maximum(before, 1e-30) * direction
    return found


def _products(one, other) -> np.ndarray:
    """Returns the inner products of columns."""
    return np.einsum("nc,nc->c", one, other)
