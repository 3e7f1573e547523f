"""The k best of each row, fast and the same on every machine."""
from __future__ import annotations

import numpy as np

from tfrecal.hashes import noise

_CELLS = 1 << 22  # scores held at once, in floats (16 MB)


def top_k(scores, k: int, rows, seed: int) -> np.ndarray:
    """Returns the columns of the `k` best scores of each row, ties at random.

    Args:
        scores: `[b, N]` floats without NaN; -inf is never listed.
        k: length of the lists.
        rows: numbers of the rows, `[b]`; with `seed` they fix the ties, so
            that it does not matter which rows are taken together.
        seed: orders ties.

    Returns:
        int32 `[b, k]`, best first; -1 where no column is left.
    """
    count, width = scores.shape
    floor = np.maximum(_floor(scores, k), np.finfo(scores.dtype).min)
    row, column = np.divmod(np.flatnonzero(scores >= floor[:, None]), width)
    start = np.searchsorted(row, np.arange(count + 1))
    keep = np.ones(len(row), bool)
    for crowded in np.flatnonzero(np.diff(start) > 8 * k):
        own = slice(start[crowded], start[crowded + 1])
        keep[own] = _mask_of_first(scores[crowded, column[own]], k, noise(
            seed, rows[crowded], column[own]))
    row, column = row[keep], column[keep]
    order = np.lexsort((noise(seed, rows[row], column),
                        -scores[row, column], row))
    return _write_lists(row[order], k, np.full((count, k), -1, np.int32),
                        column[order])


def best_items(queries, items, k: int, taken=None):
    """Returns the `k` items of the largest inner product with each query.

    A matrix product in float32 finds the contenders, with a margin for its
    rounding; their scores are summed in float64, rounded to float32 and
    sorted. So the lists do not depend on the BLAS library, the processor or
    which queries are taken together. Equal scores go by the lower position,
    as in `ExactIndex`.

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
    height = max(1, _CELLS // len(items))
    for top in range(0, len(queries), height):
        tile = slice(top, top + height)
        out = slice(*np.searchsorted(row, [top, top + height]))
        rough = queries[tile] @ items.T
        rough[row[out] - top, column[out]] = -np.inf
        _list_exactly(rough, queries[tile], items, k, longest,
                      positions[tile], scores[tile])
    return positions, scores


def _list_exactly(rough, queries, items, k, longest, positions, scores):
    """Fills `positions` and `scores`; `longest` is an item's length."""
    # Twice the error that a float32 sum of products can have (Higham 2002,
    # "Accuracy and Stability of Numerical Algorithms", section 3.1).
    length = np.sqrt(np.einsum("nd,nd->n", queries, queries))
    margin = 2 * (queries.shape[1] + 2) * 2.0 ** -24 * length * longest
    low = np.maximum(_floor(rough, k) - 2 * margin, np.finfo(np.float32).min)
    row, column = np.nonzero(rough >= low.astype(np.float32)[:, None])
    score = np.einsum("nd,nd->n", queries[row], items[column],
                      dtype=np.float64).astype(np.float32)
    order = np.lexsort((column, -score, row))
    _write_lists(row[order], k, positions, column[order])
    _write_lists(row[order], k, scores, score[order])


def _floor(scores, k: int) -> np.ndarray:
    """Returns a score of each row that `k` of its columns reach, `[b]`.

    It is the k-th largest of the maxima of groups of columns: scores below it
    need no sorting.
    """
    count, width = scores.shape
    size = int(np.clip(width // (4 * k), 1, 32))
    whole = width // size * size
    best = np.concatenate([
        scores[:, :whole].reshape(count, size, -1).max(axis=1),
        scores[:, whole:]], axis=1)
    place = max(best.shape[1] - k, 0)
    return np.partition(best, place, axis=1)[:, place]


def _write_lists(row, k: int, lists, values) -> np.ndarray:
    """Writes the first `k` values of each row, which are in order."""
    rank = np.arange(len(row)) - np.searchsorted(
        row, np.arange(len(lists)))[row]
    keep = rank < k
    lists[row[keep], rank[keep]] = values[keep]
    return lists


def _mask_of_first(score, k: int, noise) -> np.ndarray:
    """Returns a mask of the `k` first by score, then by noise."""
    last = np.partition(score, -k)[-k]
    keep = score > last
    tied = np.flatnonzero(score == last)
    missing = k - np.count_nonzero(keep)
    keep[tied[np.argpartition(noise[tied], missing - 1)[:missing]]] = True
    return keep
