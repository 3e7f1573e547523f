"""The k best of each row, fast, with equal scores in random order."""
from __future__ import annotations

import numpy as np

from tfrecal.hashes import noise


def top_k(scores, k: int, rows, seed: int) -> np.ndarray:
    """Columns of the `k` best scores of each row, ties at random.

    Args:
        scores: `[b, N]` floats without NaN; -inf is never listed.
        k: length of the lists.
        rows: numbers of the rows, `[b]`; with `seed` they fix the ties, so
            that it does not matter which rows are taken together.
        seed: of the ties.

    Returns:
        int32 `[b, k]`, best first; -1 where no column is left.
    """
    # The k-th largest of the maxima of groups of columns is a score that at
    # least k columns reach: what falls below it needs no sorting.
    count, width = scores.shape
    size = int(np.clip(width // (4 * k), 1, 32))
    whole = width // size * size
    best = np.concatenate([
        scores[:, :whole].reshape(count, size, -1).max(axis=1),
        scores[:, whole:]], axis=1)
    at = max(best.shape[1] - k, 0)
    floor = np.partition(best, at, axis=1)[:, at:at + 1]
    floor = np.maximum(floor, np.finfo(scores.dtype).min)
    row, column = np.divmod(np.flatnonzero(scores >= floor), width)
    start = np.searchsorted(row, np.arange(count + 1))
    keep = np.ones(len(row), bool)
    for crowded in np.flatnonzero(np.diff(start) > 8 * k):
        part = slice(start[crowded], start[crowded + 1])
        keep[part] = _contenders(scores[crowded, column[part]], k, noise(
            seed, rows[crowded], column[part]))
    row, column = row[keep], column[keep]
    order = np.lexsort((noise(seed, rows[row], column),
                        -scores[row, column], row))
    row, column = row[order], column[order]
    rank = np.arange(len(row)) - np.searchsorted(row, np.arange(count))[row]
    listed = np.full((count, k), -1, np.int32)
    listed[row[rank < k], rank[rank < k]] = column[rank < k]
    return listed


def _contenders(score, k: int, noise) -> np.ndarray:
    """Mask of the `k` first by score, then noise, when many are equal."""
    last = np.partition(score, -k)[-k]
    keep = score > last
    tied = np.flatnonzero(score == last)
    missing = k - np.count_nonzero(keep)
    keep[tied[np.argpartition(noise[tied], missing - 1)[:missing]]] = True
    return keep
