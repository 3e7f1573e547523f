"""The best items of many queries, exactly, on any machine the same."""
from __future__ import annotations

import numpy as np

_BLOCK = 1 << 22  # scores held at once, in floats (16 MB)


def best_items(queries, items, k: int, taken=None):
    """The `k` items of the largest inner product with each query.

    A matrix product in float32 finds the contenders, with a margin for its
    rounding; their scores are summed in float64, rounded to float32 and
    sorted. So the lists do not hang on the BLAS library, on the processor or
    on which queries are taken together. Equal scores go by the lower
    position, as in `ExactIndex`.

    Args:
        queries: float32 `[q, dim]`.
        items: float32 `[n, dim]`.
        k: length of the lists, >= 1.
        taken: `(row, position)` int `[t]`: items that are not listed for a
            query; None for none.

    Returns:
        `(positions [q, k] int32, scores [q, k] float32)`, best first; -1
        and -inf where no item is left.
    """
    positions = np.full((len(queries), k), -1, np.int32)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    if not len(items):
        return positions, scores
    row, column = (np.zeros(0, int),) * 2 if taken is None else taken
    order = np.argsort(row, kind="stable")
    row, column = row[order], column[order]
    longest = np.sqrt(np.einsum("nd,nd->n", items, items).max())
    height = max(1, _BLOCK // len(items))
    for top in range(0, len(queries), height):
        part = slice(top, top + height)
        out = slice(*np.searchsorted(row, [top, top + height]))
        found = queries[part] @ items.T
        found[row[out] - top, column[out]] = -np.inf
        places, values = _best(found, queries[part], items, k, longest)
        positions[part], scores[part] = places, values
    return positions, scores


def _best(rough, queries, items, k, longest):
    row, column = _contenders(rough, queries, k, longest)
    score = np.einsum("nd,nd->n", queries[row], items[column],
                      dtype=np.float64).astype(np.float32)
    order = np.lexsort((column, -score, row))
    row, column, score = row[order], column[order], score[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(
        len(queries)))[row]
    keep = rank < k
    places = np.full((len(queries), k), -1, np.int32)
    values = np.full((len(queries), k), -np.inf, np.float32)
    places[row[keep], rank[keep]] = column[keep]
    values[row[keep], rank[keep]] = score[keep]
    return places, values


def _contenders(rough, queries, k, longest):
    """`(row, column)` of all that may be among the `k` best."""
    # The k-th largest of the maxima of groups of columns is a score that at
    # least k columns reach.
    count, width = rough.shape
    size = int(np.clip(width // (4 * k), 1, 32))
    whole = width // size * size
    maxima = np.concatenate([
        rough[:, :whole].reshape(count, size, -1).max(axis=1),
        rough[:, whole:]], axis=1)
    at = max(maxima.shape[1] - k, 0)
    floor = np.partition(maxima, at, axis=1)[:, at]
    # Twice the error that a float32 sum of products can have (Higham 2002,
    # "Accuracy and Stability of Numerical Algorithms", section 3.1).
    length = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    margin = 2 * (queries.shape[1] + 2) * 2.0 ** -24 * length * longest
    low = np.maximum(floor - 2 * margin, np.finfo(np.float32).min)
    return np.nonzero(rough >= low.astype(np.float32)[:, None])
