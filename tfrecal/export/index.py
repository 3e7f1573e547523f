"""Indexes that find the nearest candidates of a query, exactly or by ScaNN.

Only this module knows ScaNN. Both kinds are `tf.Module`s that trace into an
export.
"""
from __future__ import annotations

import dataclasses
import time

import numpy as np
import tensorflow as tf
from tensorflow_recommenders.layers import factorized_top_k

from tfrecal.export import index_tuning

# Scores in a tile of queries and all candidates: float32 of 64 MB.
_TILE = 1 << 24
# With fewer candidates an exact search takes about as long as a call of
# TensorFlow.
_SMALL = 20_000
_SMALLEST = 1_000
_QUERIES = 4_000
KINDS = ("auto", "exact", "scann")
_MUST = {"k": "`k` must be from 1 to the number of candidates.",
         "target_recall": "`target_recall` must lie in (0, 1].",
         "kind": f"`kind` must be one of {', '.join(KINDS)}."}
_NO_SCANN = ("An index of kind \"scann\" needs the package scann, built for "
             "this TensorFlow. Received: {}. Install it: "
             "`pip install '.[scann]'`.")


@dataclasses.dataclass
class IndexReport:
    """What was measured of an index; it goes into an export's manifest.

    Attributes:
        kind: `"exact"` or `"scann"`.
        candidates, dim: rows and width of the vectors.
        k: number of neighbours for which the index was tuned.
        recall: share of the true `k` nearest that it finds, on queries that
            took no part in tuning; 1.0 for an exact index.
        target_recall: the recall that was asked for.
        single_query_ms: median time of a call with one query, milliseconds.
        exact_single_query_ms: the same for the exact index, or None.
        build_seconds, tune_seconds: wall time.
        bytes: size of the index, vectors included.
        settings: ScaNN's settings: leaves, leaves_to_search,
            dimensions_per_block, reorder.
        note: why this kind was chosen.
    """

    kind: str
    candidates: int
    dim: int
    k: int
    recall: float = 1.0
    target_recall: float = 1.0
    single_query_ms: float | None = None
    exact_single_query_ms: float | None = None
    build_seconds: float = 0.0
    tune_seconds: float = 0.0
    bytes: int = 0
    settings: dict = dataclasses.field(default_factory=dict)
    note: str = ""


class ExactIndex(tf.Module):
    """Inner products with every candidate, in tiles of bounded memory.

    Args:
        vectors: float32 `[n, dim]`.
        report: an `IndexReport`.
    """

    exact = True

    def __init__(self, vectors, report: IndexReport):
        super().__init__(name="exact_index")
        self.vectors = tf.Variable(vectors, trainable=False)
        self.report = report

    def search(self, queries, k, excluded=None):
        """Finds the `k` best candidates of each query, best first.

        Args:
            queries: float32 `[B, dim]`.
            k: int32 scalar, at most the number of candidates.
            excluded: int32 `[B, E]` positions that must not come back, or
                None; -1 excludes nothing.

        Returns:
            `(scores [B, k] float32, positions [B, k] int32)`; excluded
            candidates have score -inf.
        """
        count = tf.shape(queries)[0]
        step = max(1, _TILE // max(1, self.vectors.shape[0]))
        tiles = tf.maximum(1, (count + step - 1) // step)

        def search_tile(n, *found):
            rows = slice(n * step, (n + 1) * step)
            best = self._search(
                queries[rows], k,
                None if excluded is None else excluded[rows])
            return n + 1, *(array.write(n, values)
                            for array, values in zip(found, best))

        found = [tf.TensorArray(kind, tiles, infer_shape=False,
                                element_shape=[None, None])
                 for kind in (tf.float32, tf.int32)]
        _, scores, positions = tf.while_loop(
            lambda n, *_: n < tiles, search_tile, (0, *found))
        return scores.concat(), positions.concat()

    def _search(self, queries, k, excluded):
        scores = tf.matmul(queries, self.vectors, transpose_b=True)
        if excluded is not None:
            row = tf.broadcast_to(
                tf.range(tf.shape(excluded)[0])[:, tf.newaxis],
                tf.shape(excluded))
            place = tf.boolean_mask(
                tf.stack([row, excluded], axis=-1), excluded >= 0)
            scores = tf.tensor_scatter_nd_update(
                scores, place, tf.fill([tf.shape(place)[0]], -np.inf))
        found = tf.math.top_k(scores, k)
        return found.values, found.indices


class ScannIndex(tf.Module):
    """TFRS's ScaNN layer, searched with the settings that were tuned.

    Args:
        vectors: float32 `[n, dim]`.
        report: an `IndexReport` with its `settings`.
        k: number of neighbours that the layer finds by default.
    """

    exact = False

    def __init__(self, vectors, report: IndexReport):
        super().__init__(name="scann_index")
        self._searcher = _scann_ops().searcher_from_module
        settings = report.settings
        self.layer = factorized_top_k.ScaNN(
            k=report.k, num_leaves=settings["leaves"],
            num_leaves_to_search=settings["leaves_to_search"],
            dimensions_per_block=settings["dimensions_per_block"],
            num_reordering_candidates=settings["reorder"])
        self.layer.index(tf.constant(vectors, tf.float32))
        self.report = report

    def search(self, queries, k, excluded=None):
        """Finds candidates like `ExactIndex.search`, but approximately.

        It searches for more neighbours than asked for, so that `k` are left
        without the excluded ones.
        """
        settings = self.report.settings
        reorder, leaves = settings["reorder"], settings["leaves_to_search"]
        if excluded is None:
            return self.neighbours(queries, k, max(reorder, k), leaves)
        wanted = tf.minimum(
            k + tf.shape(excluded)[1], self.report.candidates)
        scores, positions = self.neighbours(
            queries, wanted, tf.maximum(reorder, wanted), leaves)
        return best_without(scores, positions, excluded, k)

    def neighbours(self, queries, k, reorder, leaves):
        """Searches with other settings, where `k` is at most `reorder`.

        Returns:
            `(scores, positions)`, `[B, k]` each.
        """
        # Not in parallel, because a server runs requests in parallel.
        found = self._searcher(
            self.layer._serialized_searcher).search_batched(
                queries, final_num_neighbors=k,
                pre_reorder_num_neighbors=reorder,
                leaves_to_search=leaves)
        return found.distances, found.indices


def best_without(scores, positions, excluded, k):
    """Returns the best of what was found, with the excluded at -inf.

    Args:
        scores, positions: `[B, n]`, n at least k.
        excluded: int32 `[B, E]` positions; -1 excludes nothing.
        k: int32 scalar.

    Returns:
        `(scores [B, k], positions [B, k])`, best first.
    """
    out = tf.reduce_any(
        positions[:, :, tf.newaxis] == excluded[:, tf.newaxis], axis=2)
    scores, order = tf.math.top_k(tf.where(out, -np.inf, scores), k)
    return scores, tf.gather(positions, order, batch_dims=1)


def build_index(vectors, *, k: int = 20, target_recall: float = 0.97,
                kind: str = "auto", queries=None, seed: int = 0):
    """Builds an index of candidate vectors for inner products.

    `index_tuning` tunes ScaNN.

    Args:
        vectors: float32 `[n, dim]`, finite.
        k: number of neighbours for which recall is measured.
        target_recall: share of the true `k` nearest that must be found.
        kind: `"exact"`, `"scann"`, or `"auto"`. `"auto"` takes ScaNN for
            catalogues where it is faster. It takes exact for small
            catalogues, where scann is not installed, and where ScaNN does
            not reach the recall.
        queries: float32 `[q, dim]`, such as vectors of users. A quarter of
            them measures, the others tune. None takes candidates with
            noise.
        seed: seed of the sample of queries.

    Returns:
        An `ExactIndex` or `ScannIndex`; its `report` says what was measured.

    Raises:
        ImportError: `kind="scann"`, and no scann for this TensorFlow is
            installed.
        ValueError: the vectors are no finite matrix, an option is wrong, or
            ScaNN does not reach the recall with `kind="scann"`.
    """
    vectors = _matrix("vectors", vectors)
    for name, value, good in (
            ("k", k, 1 <= k <= len(vectors)),
            ("target_recall", target_recall, 0 < target_recall <= 1),
            ("kind", kind, kind in KINDS)):
        if not good:
            raise ValueError(f"{_MUST[name]} Received: {name}={value!r}, "
                             f"{len(vectors)} candidates.")
    asked, (kind, note) = kind, _choose(kind, len(vectors))
    report = IndexReport(kind, *vectors.shape, k=k, note=note,
                         target_recall=target_recall, bytes=vectors.nbytes)
    if kind == "exact":
        return ExactIndex(vectors, report)
    rng = np.random.default_rng([seed, 12])
    queries = _sample(vectors, queries, rng)
    exact = ExactIndex(vectors, report)
    search = tf.function(lambda part: exact.search(part, k), input_signature=[
        tf.TensorSpec([None, vectors.shape[1]])])
    truth = index_tuning.positions(search, queries)
    report.exact_single_query_ms = index_tuning.single_query_ms(
        search, queries)
    report.settings = {
        # Leaves are many and small: with a quarter of them a search takes
        # longer.
        "leaves": 4 * int(round(np.sqrt(len(vectors)))),
        "leaves_to_search": 1, "dimensions_per_block": 2, "reorder": k}
    started = time.perf_counter()
    index = ScannIndex(vectors, report)
    report.build_seconds = round(time.perf_counter() - started, 2)
    held_out = np.arange(len(queries)) % 4 == 3
    if not index_tuning.tune(index, queries[~held_out], truth[~held_out]):
        problem = (f"ScaNN does not reach a recall of {target_recall} with "
                   "every leaf searched")
        if asked == "scann":
            raise ValueError(
                f"`target_recall` must be in reach. Received: {problem}. "
                "Lower it, or choose `kind=\"exact\"`.")
        exact.report = IndexReport(
            "exact", *vectors.shape, k=k, target_recall=target_recall,
            bytes=vectors.nbytes, note=f"exact: {problem}")
        return exact
    found = index_tuning.positions(
        lambda part: index.search(part, k), queries[held_out])
    report.recall = round(float(
        index_tuning.hits(found, truth[held_out]).mean()), 4)
    report.bytes = int(sum(
        variable.numpy().nbytes for variable
        in index.layer._serialized_searcher.variables))
    return index


def _choose(kind, count):
    """Returns the kind of index to build, and why."""
    if kind == "exact":
        return kind, "exact, as asked for"
    if count < _SMALLEST:
        return "exact", (f"exact: {count:,} candidates are too few for "
                         f"ScaNN's leaves, {_SMALLEST:,} are needed")
    if kind == "scann":
        return kind, "scann, as asked for"
    if count < _SMALL:
        return "exact", (f"exact: ScaNN is no faster for {count:,} "
                         f"candidates, below {_SMALL:,}")
    try:
        _scann_ops()
    except ImportError as error:
        return "exact", f"exact: {error}"
    return "scann", f"scann: {count:,} candidates"


def _scann_ops():
    try:
        from scann.scann_ops.py import scann_ops
    except Exception as error:  # an op library of another TensorFlow
        raise ImportError(_NO_SCANN.format(error)) from error
    return scann_ops


def _matrix(name, values):
    values = np.ascontiguousarray(values, np.float32)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"`{name}` must be a matrix of finite numbers with a row each. "
            f"Received: shape {values.shape}"
            f"{'' if values.ndim != 2 else ', or NaN among them'}.")
    return values


def _sample(vectors, queries, rng):
    """Returns up to 4,000 queries, `[q, dim]`."""
    if queries is None:
        rows = rng.integers(len(vectors), size=_QUERIES)
        noise = rng.normal(size=(_QUERIES, vectors.shape[1]))
        spread = 0.3 * vectors.std(axis=0)
        return vectors[rows] + (spread * noise).astype(np.float32)
    queries = _matrix("queries", queries)
    if queries.shape[1] != vectors.shape[1] or len(queries) < 4:
        raise ValueError(
            "`queries` must be four or more vectors of the candidates' width. "
            f"Received: shape {queries.shape} beside {vectors.shape}.")
    return queries[rng.permutation(len(queries))[:_QUERIES]]
