"""Do the model, the export and the server give the same ids and scores?

MovieLens-100K, frozen MiniLM, exact index. Asked in four ways: the Keras
model (its towers, ranked by NumPy), `tf.saved_model.load`, the session
loader that TensorFlow Serving uses, and gRPC to a server process. For known
users, unknown ones and cold ones with a history, with and without
exclusions, in batches of 1 to 512. Scores must agree to 1e-5; ids must be
equal, but for items whose scores are closer than that.

    python benchmarks/parity.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import grpc
import numpy as np
from helpers import served
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrecal.export.export_model import export_model

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)

K, CLOSE = 20, 1e-5


def by_keras(model, pool, users, history, exclude):
    """Ids and scores from the towers; the popular ones for the unknown."""
    known = pool.item_vocabulary
    indptr, items = pool.histories()
    codes = pool.user_vocabulary.codes(users)
    history, exclude = (
        [row[row > 0] for row in map(known.codes, lists)]
        for lists in (history, exclude))
    rows = [row.tolist() or items[indptr[c]:indptr[c + 1]][-200:].tolist()
            for row, c in zip(history, codes)]
    query = model.embed_queries({
        "user_id": tf.constant(codes),
        "history": tf.ragged.constant(rows, tf.int32, ragged_rank=1)})
    candidate = model.embed_candidates({"item_id": tf.range(
        1, known.size)})["retrieval"].numpy()
    query = query["retrieval"].numpy()
    likes = strangers(model, pool)
    for n, (c, row) in enumerate(zip(codes, rows)):
        if c == 0 and row:
            query[n] = likes(row)
    scores = query @ candidate.T
    traffic = pool.item_traffic[1:] + 1.0
    popular = np.log(traffic / traffic.sum()).astype(np.float32)
    scores[[c == 0 and not row for c, row in zip(codes, rows)]] = popular
    for row, out in zip(scores, exclude):
        row[out - 1] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return pool.item_ids[order], np.take_along_axis(scores, order, 1)


def strangers(model, pool):
    """Item codes to the query of an unknown user who likes them."""
    indptr, items = pool.histories()
    number = np.diff(indptr)
    users = np.arange(1, len(number))
    vectors = model.embed_queries({
        "user_id": tf.constant(users, tf.int32),
        "history": tf.ragged.constant(
            [items[indptr[u]:indptr[u + 1]][-200:].tolist() for u in users],
            tf.int32, ragged_rank=1)})["retrieval"].numpy().astype(float)
    vectors = np.concatenate([0 * vectors[:1], vectors])
    mean = np.average(vectors, axis=0, weights=number)
    prior = 30 * number[number > 0].mean()
    of = np.repeat(np.arange(len(number)), number)

    def query(likes):
        away = []
        for item in likes:
            fans = of[items == item]
            weight = number[fans]
            away.append(weight @ (vectors[fans] - mean)
                        / (weight.sum() + prior))
        n = len(likes)
        return mean + np.mean(away, axis=0) * 3 * n / (n + 2)

    return query


def by_loaded(path):
    signature = tf.saved_model.load(str(path)).signatures["recommend"]

    def ask(inputs):
        found = signature(**{n: tf.constant(v) for n, v in inputs.items()})
        return found["item_ids"].numpy(), found["scores"].numpy()

    return ask


def by_session(path):
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
    signature = meta.signature_def["recommend"]

    def ask(inputs):
        return session.run(
            [signature.outputs[n].name for n in ("item_ids", "scores")],
            {signature.inputs[n].name: v for n, v in inputs.items()})

    return ask


def by_grpc(address, name):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(
        grpc.insecure_channel(address))

    def ask(inputs):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        request.model_spec.signature_name = "recommend"
        for alias, values in inputs.items():
            request.inputs[alias].CopyFrom(
                tf.make_tensor_proto(values, tf.string))
        answer = stub.Predict(request, timeout=60).outputs
        return tuple(tf.make_ndarray(answer[n])
                     for n in ("item_ids", "scores"))

    return ask


def padded(rows):
    width = max(map(len, rows))
    return np.array([[*row, *[""] * (width - len(row))] for row in rows],
                    object).reshape(len(rows), width)


def cases(pool, sizes):
    """`(what, users, history, exclude)` of every request."""
    rng = np.random.default_rng(0)
    for size in sizes:
        known = rng.choice(pool.user_ids, size).astype(object)
        some = [list(rng.choice(pool.item_ids, 5)) for _ in range(size)]
        others = [list(rng.choice(pool.item_ids, n, replace=False))
                  for n in rng.integers(0, 200, size)]
        new = np.array([f"new{n}" for n in range(size)], object)
        none = [[]] * size
        for exclude in (none, others):
            for what, users, history in (
                    ("known", known, none), ("unknown", new, none),
                    ("cold, with a history", new, some)):
                yield what, size, users, history, exclude


def difference(ours, other) -> tuple[float, bool]:
    """Largest difference of scores; whether ids agree up to close scores."""
    ids, scores = ours
    other_ids = np.asarray(other[0]).astype(str)
    finite = np.isfinite(scores)
    if not np.array_equal(finite, np.isfinite(other[1])):
        return float("inf"), False
    gap = np.abs(np.where(finite, scores - other[1], 0.0))
    equal = ids.astype(str) == other_ids
    near = np.zeros_like(equal)
    step = np.abs(np.diff(scores, axis=1)) < CLOSE
    near[:, 1:] |= step
    near[:, :-1] |= step
    near[:, -1] = True  # its neighbour in rank is not in the answer
    return float(gap.max()), bool((equal | near | ~finite).all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="fewer batch sizes")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    sizes = (1, 7, 512) if options.quick else (1, 2, 7, 32, 128, 512)
    model, pool = served.movielens()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = export_model(model, Path(folder) / "recommender", pool=pool,
                            k=K, index="exact")
        with served.server(path.parent) as (address, _):
            ways = {"tf.saved_model.load": by_loaded(path),
                    "session loader": by_session(path),
                    "gRPC": by_grpc(address, "recommender")}
            for what, size, *case in cases(pool, sizes):
                expected = by_keras(model, pool, *case)
                inputs = dict(zip(("user_id", "history", "exclude"), (
                    case[0], padded(case[1]), padded(case[2]))))
                for way, ask in ways.items():
                    found.setdefault((what, way), []).append(
                        difference(expected, ask(inputs)))
    print(f"{'users':22} {'way':20} {'requests':>8} {'largest gap':>12} ids")
    for (what, way), rows in found.items():
        gaps, equal = zip(*rows)
        print(f"{what:22} {way:20} {len(rows):8} {max(gaps):12.1e} "
              f"{'equal' if all(equal) else 'DIFFER'}")
    rows = [row for some in found.values() for row in some]
    print(json.dumps({
        "max_abs_score_diff": max(gap for gap, _ in rows),
        "ids_equal": all(equal for _, equal in rows),
        "requests": len(rows), "batch_sizes": sizes}))


if __name__ == "__main__":
    main()
