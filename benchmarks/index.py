"""How fast does the tuned index answer one query, at what recall?

Vectors of 64 dimensions in clusters that overlap (as much noise within a
cluster as there is between their centres), queries from the same, recall of
the true 20 nearest by inner product. `build_index` finds ScaNN's settings
itself, on queries of its own. Beside it, in one run and one query a call:
TFRS's exact layer, TFRS's ScaNN layer with its default settings, and FAISS
IVF and hnswlib (`pip install faiss-cpu hnswlib`; left out where missing),
whose search width is doubled until they reach the same recall. What
TensorFlow runs is saved and run by a session, as a server does; all may use
every core.

    python benchmarks/index.py [--quick]

`--quick` leaves out the million.
"""
from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time

import numpy as np

from tfrecal.export.index import build_index

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)
from tensorflow_recommenders.layers import factorized_top_k  # isort: skip

K, DIM, TARGET = 20, 64, 0.97


def clustered(count: int, queries: int, seed: int = 0):
    """Vectors around count / 100 centres, and queries around the same."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(50, count // 100), DIM))

    def draw(number):
        rows = centres[rng.integers(len(centres), size=number)]
        return (rows + rng.normal(size=rows.shape)).astype(np.float32)

    return draw(count), draw(queries)


def true_nearest(vectors, queries) -> np.ndarray:
    found = []
    for query in np.array_split(queries, max(1, len(queries) // 20)):
        scores = query @ vectors.T
        part = np.argpartition(-scores, K, axis=1)[:, :K]
        found.append(part)
    return np.concatenate(found)


def recall(found, truth) -> float:
    return float(np.mean([
        len(set(a) & set(b)) / K for a, b in zip(found, truth)]))


def measure(search, queries, truth) -> dict:
    """Recall and single-query rate of a function of `[1, DIM]`."""
    for query in queries[:3]:
        search(query[np.newaxis])
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        ids = search(query[np.newaxis])
        seconds.append(time.perf_counter() - start)
        found.append(np.asarray(ids)[0])
    return {"recall": recall(found, truth),
            "qps": 1 / float(np.median(seconds))}


def as_served(search, index):
    """A search by the session of a SavedModel, as a server runs it.

    Args:
        search: float32 `[None, DIM]` to `(scores, positions)`.
        index: what `search` reads; saved with it.
    """
    module = tf.Module()
    module.index = index
    signature = tf.function(
        lambda query: {"positions": search(query)[1]}, input_signature=[
            tf.TensorSpec([None, DIM], tf.float32, "query")])
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(
            module, folder, signatures={"serving_default": signature},
            options=tf.saved_model.SaveOptions(
                namespace_whitelist=["Scann"]))
        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            meta = tf.compat.v1.saved_model.load(session, ["serve"], folder)
    signature = meta.signature_def["serving_default"]
    return session.make_callable(
        signature.outputs["positions"].name,
        [signature.inputs["query"].name])


def widened(make_search, queries, truth) -> dict:
    """Doubles the search width until the recall is reached."""
    width = 4
    while True:
        row = measure(make_search(width), queries, truth)
        if row["recall"] >= TARGET or width > 4096:
            return {**row, "settings": f"width {width}"}
        width *= 2


def faiss_rows(vectors, queries, truth):
    try:
        import faiss
    except ImportError:
        return
    start = time.perf_counter()
    leaves = int(np.sqrt(len(vectors)))
    quantiser = faiss.IndexFlatIP(DIM)
    index = faiss.IndexIVFFlat(quantiser, DIM, leaves,
                               faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:100_000])
    index.add(vectors)
    built = time.perf_counter() - start

    def make(width):
        index.nprobe = width
        return lambda query: index.search(query, K)[1]

    yield "FAISS IVF", {**widened(make, queries, truth), "build_s": built}


def hnsw_rows(vectors, queries, truth):
    try:
        import hnswlib
    except ImportError:
        return
    start = time.perf_counter()
    index = hnswlib.Index("ip", DIM)
    index.init_index(len(vectors), ef_construction=100, M=16)
    index.add_items(vectors)
    built = time.perf_counter() - start

    def make(width):
        index.set_ef(max(width, K))
        return lambda query: index.knn_query(query, K)[0]

    yield "hnswlib", {**widened(make, queries, truth), "build_s": built}


def rows_of(count: int, number: int):
    """`(name, figures)` of every index over `count` vectors."""
    vectors, queries = clustered(count, number)
    truth = true_nearest(vectors, queries)
    exact = factorized_top_k.BruteForce(k=K)
    exact.index(tf.constant(vectors))
    yield "TFRS exact", measure(
        as_served(exact, exact), queries[:100], truth[:100])
    del exact
    gc.collect()
    start = time.perf_counter()
    default = factorized_top_k.ScaNN(k=K)
    default.index(tf.constant(vectors))
    built = time.perf_counter() - start
    yield "TFRS ScaNN, defaults", {
        **measure(as_served(default, default), queries, truth),
        "build_s": built}
    del default
    gc.collect()
    ours = build_index(vectors, k=K, target_recall=TARGET, kind="scann",
                       queries=clustered(count, 4000 + number)[1][number:])
    report = ours.report
    yield "tfrecal, tuned", {
        **measure(as_served(lambda query: ours.search(query, K), ours),
                  queries, truth),
        "build_s": report.build_seconds + report.tune_seconds,
        "settings": " ".join(f"{k} {v}" for k, v in report.settings.items())}
    yield from faiss_rows(vectors, queries, truth)
    yield from hnsw_rows(vectors, queries, truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="10^4 and 10^5 vectors only")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    sizes = {"1e4": 10_000, "1e5": 100_000, "1e6": 1_000_000}
    if options.quick:
        del sizes["1e6"]
    found, line = {}, {}
    for name, count in sizes.items():
        print(f"\n{count:,} vectors, {DIM} dimensions")
        print(f"{'index':22} {'recall@20':>9} {'queries/s':>10} "
              f"{'x exact':>8} {'build s':>8}")
        found[name] = {}
        for label, row in rows_of(count, 200 if options.quick else 500):
            found[name][label] = row
            times = row["qps"] / found[name]["TFRS exact"]["qps"]
            built = f"{row['build_s']:8.1f}" if "build_s" in row else " " * 8
            print(f"{label:22} {row['recall']:9.3f} {row['qps']:10.0f} "
                  f"{times:8.1f} {built}  {row.get('settings', '')}",
                  flush=True)
        ours = found[name]["tfrecal, tuned"]
        line[f"recall_{name}"] = round(ours["recall"], 4)
        line[f"speedup_{name}"] = round(
            ours["qps"] / found[name]["TFRS exact"]["qps"], 2)
    print(json.dumps({**line, "rows": found}))


if __name__ == "__main__":
    main()
