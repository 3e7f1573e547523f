"""Finds the fastest settings of a ScaNN index that reach a recall.

For growing numbers of re-ordered candidates it finds the fewest leaves that
reach the recall on sample queries, and takes the fastest of these pairs. Few
queries are hard, so thousands of queries are needed to be sure.
"""
from __future__ import annotations

import time

import numpy as np
import tensorflow as tf

_REORDER = (5, 10, 25, 50)  # times k
_FEW = 500


def tune(index, queries, truth) -> bool:
    """Sets the index's settings; returns False if none reaches the recall.

    Args:
        index: a `ScannIndex`; its `report` holds the recall to be reached,
            and gets settings and times.
        queries: float32 `[q, dim]`.
        truth: positions of their true nearest, `[q, k]`.
    """
    report, started = index.report, time.perf_counter()
    search = tf.function(index.neighbours, input_signature=[
        tf.TensorSpec([None, report.dim]), *[
            tf.TensorSpec([], tf.int32)] * 3])
    k, tried = report.k, []
    for factor in _REORDER:
        reorder = min(factor * k, report.candidates)

        def recalls(leaves, some=slice(None)):
            return hits(positions(lambda part: search(
                part, k, reorder, leaves), queries[some]), truth[some])

        leaves = _fewest(recalls, report)
        if leaves is not None:
            tried.append((_batch_seconds(
                lambda part: search(part, k, reorder, leaves), queries),
                reorder, leaves))
    if tried:
        _, reorder, leaves = min(tried)
        report.settings.update(reorder=reorder, leaves_to_search=leaves)
        report.single_query_ms = single_query_ms(
            lambda query: search(query, k, reorder, leaves), queries)
    report.tune_seconds = round(time.perf_counter() - started, 2)
    return bool(tried)


def _fewest(recalls, report):
    """Returns the fewest leaves that reach the recall, or None.

    The number is found on some of the queries. It is then raised until the
    mean recall of all queries, less two standard errors, is enough.
    """
    target, highest = report.target_recall, report.settings["leaves"]
    few = slice(_FEW)
    low, high = 0, 1
    while recalls(high, few).mean() < target and high < highest:
        low, high = high, min(2 * high, highest)
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        if recalls(middle, few).mean() >= target:
            high = middle
        else:
            low = middle
    while True:
        found = recalls(high)
        error = found.std() / np.sqrt(len(found))
        if found.mean() - 2 * error >= target or found.min() == 1:
            return high
        if high == highest:
            return None
        high = min(high + max(1, high // 12), highest)


def positions(search, queries, size=64) -> np.ndarray:
    """Returns the positions that a search finds, int32 `[q, k]`."""
    return np.concatenate([
        search(tf.constant(queries[n:n + size]))[1].numpy()
        for n in range(0, len(queries), size)])


def hits(found, truth) -> np.ndarray:
    """Returns the share of each row's true neighbours that were found."""
    same = found[:, :, np.newaxis] == truth[:, np.newaxis]
    return same.any(axis=1).mean(axis=1)


def _batch_seconds(search, queries, size=64):
    """Returns the median time of a batch, in seconds.

    The time of a single query would be mostly that of a call of TensorFlow.
    """
    seconds = []
    for _ in range(3):
        for start in range(0, len(queries) - size + 1, size):
            part = tf.constant(queries[start:start + size])
            started = time.perf_counter()
            search(part)[1].numpy()
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) if seconds else 0.0


def single_query_ms(search, queries, times=200) -> float:
    """Returns the median time of a call with one query, in milliseconds."""
    seconds = []
    for row in range(min(times, len(queries))):
        query = tf.constant(queries[row:row + 1])
        started = time.perf_counter()
        search(query)[1].numpy()
        seconds.append(time.perf_counter() - started)
    return round(1e3 * float(np.median(seconds)), 4)
