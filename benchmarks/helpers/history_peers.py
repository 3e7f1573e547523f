"""Peers that answer any history: EASE, item-kNN, text cosine, popularity.

Plain NumPy and SciPy. The scores of a history are its row times weights from
item to item, so that a request that brings a fresh click is answered without
training.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import scipy.linalg
from scipy import sparse

EASE_L2 = (10.0, 30.0, 100.0, 200.0, 400.0, 800.0, 1500.0, 3000.0, 6000.0,
           12_000.0, 25_000.0, 50_000.0)
NEIGHBOURS, SHRINKAGE = (20, 100, 500), (0.0, 20.0, 100.0)


class HistoryPeer:
    """A peer that scores histories.

    Args:
        rows: what it knows of each user, sparse float32 `[users, items]`.
        like: what a liked item is in a row.
    """

    def __init__(self, rows: sparse.csr_matrix, like: float = 1.0):
        self.rows = rows
        self.like = np.float32(like)

    def of_matrix(self, histories) -> np.ndarray:
        """Scores of histories, sparse `[n, items]`: float32 `[n, items]`."""
        raise NotImplementedError

    def scores(self, users) -> np.ndarray:
        """Scores of users by what is known of them, float32 `[n, items]`."""
        return self.of_matrix(self.rows[users])

    def requests(self, users, histories) -> np.ndarray:
        """Scores of requests that bring a history, float32 `[n, items]`.

        Args:
            users: positions `[n]`; what is known of them counts as well.
                None for users that nobody knows.
            histories: positions of items, one array a request.
        """
        matrix = indicator(histories, self.rows.shape[1]) * self.like
        if users is not None:
            matrix = matrix.maximum(self.rows[users])
        return self.of_matrix(matrix)


class ItemToItem(HistoryPeer):
    """Weights from item to item, dense or sparse `[items, items]`."""

    def __init__(self, rows, weights, like=1.0):
        super().__init__(rows, like)
        self.weights = weights

    def of_matrix(self, histories):
        found = histories @ self.weights
        return found.toarray() if sparse.issparse(found) else found


class Cosine(HistoryPeer):
    """Cosine of the mean text vector of a history with each item's."""

    def __init__(self, rows, texts):
        super().__init__(rows)
        self.texts = texts

    def of_matrix(self, histories):
        return (histories @ self.texts) @ self.texts.T


class Popularity(HistoryPeer):
    """The same list for everybody: how often an item is in `rows`."""

    def of_matrix(self, histories):
        count = np.asarray(self.rows.sum(axis=0), np.float32)
        return np.repeat(count, histories.shape[0], axis=0)


def indicator(histories, items: int) -> sparse.csr_matrix:
    """Histories as a sparse matrix of 0 and 1, float32 `[n, items]`."""
    number = [len(history) for history in histories]
    found = sparse.csr_matrix((
        np.ones(sum(number), np.float32), np.concatenate(histories),
        np.concatenate([[0], np.cumsum(number)])),
        shape=(len(histories), items))
    found.sum_duplicates()
    found.data[:] = 1
    return found


def gram(rows: sparse.csr_matrix) -> np.ndarray:
    """`rows.T @ rows`, dense float32 `[items, items]`, in tiles."""
    back, size = rows.T.tocsr(), rows.shape[1]
    found = np.empty((size, size), np.float32)
    for start in range(0, size, 1024):
        found[start:start + 1024] = (back[start:start + 1024] @ rows).toarray()
    return found


def ease(together: np.ndarray, l2: float) -> np.ndarray:
    """Weights of EASE (Steck 2019, arXiv 1905.03375, eq. 8).

    Args:
        together: `gram` of the interactions.
        l2: lambda.
    """
    matrix = together.copy()
    matrix[np.diag_indices(len(matrix))] += np.float32(l2)
    factor = scipy.linalg.cholesky(matrix, lower=True, overwrite_a=True)
    weights, _ = scipy.linalg.lapack.spotri(factor, lower=1, overwrite_c=1)
    weights += np.tril(weights, -1).T
    weights /= -np.diag(weights).copy()
    weights[np.diag_indices(len(weights))] = 0
    return weights


def item_knn(together: np.ndarray, neighbours: int,
             shrinkage: float) -> sparse.csr_matrix:
    """Cosines of items, of the nearest `neighbours` of each item.

    Args:
        together: `gram` of the interactions.
        neighbours: how many, >= 1.
        shrinkage: is added to the denominator.
    """
    norm = np.sqrt(np.diag(together))
    found = []
    for start in range(0, len(together), 1024):
        some = slice(start, start + 1024)
        near = together[some] / np.maximum(
            norm[some, np.newaxis] * norm + np.float32(shrinkage), 1e-9)
        place = np.arange(len(near))
        near[place, start + place] = 0
        if neighbours < len(together):
            least = np.partition(near, -neighbours, axis=1)[:, -neighbours]
            near[near < least[:, np.newaxis]] = 0
        found.append(sparse.csr_matrix(near))
    return sparse.vstack(found).T.tocsr()


def fits(rows: dict[str, sparse.csr_matrix], texts, worth: Callable,
         quick: bool = False) -> Iterator[tuple]:
    """Fits each peer with each of its options.

    Args:
        rows: name of an input -> `rows` of peers that learn from it; text
            cosine takes those of "likes", which are 0 and 1.
        texts: centred text vectors of norm 1, float32 `[items, dim]`.
        worth: a function from a peer to what it is worth on the validation
            part; by it the L2 of EASE climbs to its best.
        quick: whether to fit one option of each only.

    Yields:
        `(worth, name, peer, options)`.
    """
    def worthed(name, peer, **options):
        return worth(peer), name, peer, options

    yield worthed("cosine", Cosine(rows["likes"], texts))
    for name in ("likes",) if quick else rows:
        known = rows[name]
        yield worthed("popularity", Popularity(known), rows=name)
        together = gram(known)
        like = known.multiply(rows["likes"]).sum() / rows["likes"].sum()
        for neighbours in NEIGHBOURS[1:2] if quick else NEIGHBOURS:
            for shrinkage in SHRINKAGE[1:2] if quick else SHRINKAGE:
                peer = ItemToItem(
                    known, item_knn(together, neighbours, shrinkage), like)
                yield worthed("item-kNN", peer, rows=name,
                              neighbours=neighbours, shrinkage=shrinkage)
        yield from climb(
            EASE_L2[4:5] if quick else EASE_L2,
            lambda l2: worthed("EASE", ItemToItem(
                known, ease(together, l2), like), rows=name, l2=l2))


def climb(values, make: Callable) -> Iterator[tuple]:
    """Makes things from the middle of sorted values up to the best.

    Args:
        values: sorted; what they make is taken to have one peak.
        make: a function from a value to a tuple that begins with its worth.

    Yields:
        What `make` returned.
    """
    known = {-1: -np.inf, len(values): -np.inf}
    at = len(values) // 2
    while True:
        for place in (at, at - 1, at + 1):
            if place not in known:
                made = make(values[place])
                known[place] = made[0]
                yield made
        best = max((at, at - 1, at + 1), key=known.get)
        if best == at:
            return
        at = best
