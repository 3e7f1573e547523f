"""Example requests: they warm a server up and test that a version loads."""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal.export.serving_model import ServingModel


def example_requests(serving: ServingModel, pool) -> list[tuple[str, dict]]:
    """Makes requests of every signature: `(signature, name -> array)`."""
    rng = np.random.default_rng(0)
    found = []
    for rows in (1, 32):
        users = rng.choice(pool.user_ids, rows).astype(object)
        users[-1:] = "" if rows > 1 else users[-1:]
        items = rng.choice(pool.item_ids, (rows, 4)).astype(object)
        texts = np.array(["something new to try"] * rows, object)
        inputs = {"user_id": users, "item_id": items[:, 0], "text": texts,
                  "token_ids": np.zeros((rows, 4), np.int32),
                  "history": items[:, 1:3], "exclude": items[:, 3:]}
        candidates = items.copy()
        candidates[:, 0] = "an item that is new"
        lists = {"item_id": candidates, "text": np.tile(texts, (4, 1)).T,
                 "token_ids": np.zeros((rows, 4, 4), np.int32)}
        for name, function in serving.functions.items():
            given = {**inputs, **lists} if name == "rank" else inputs
            names = [spec.name for spec in function.input_signature]
            found.append((name, {n: given[n] for n in names}))
        # Without lists `recommend` takes a shorter way. Every input still has
        # a row for each user, because a server that batches needs that.
        found.append(("recommend", {
            "user_id": users, "history": items[:, :0],
            "exclude": items[:, :0]}))
    return found


def write_warm_up(path, model_name, requests):
    from tensorflow_serving.apis import (
        model_pb2,
        predict_pb2,
        prediction_log_pb2,
    )
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(
                    name=model_name, signature_name=signature))
            for name, values in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(
                    values, tf.string if values.dtype == object else None))
            writer.write(prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(
                    request=request)).SerializeToString())


def check_loads(folder, requests):
    """Loads and runs a version the way TensorFlow Serving does."""
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        for name, inputs in requests:
            signature = meta.signature_def[name]
            feed = {signature.inputs[n].name: v for n, v in inputs.items()}
            for alias, info in signature.inputs.items():
                if alias not in inputs:
                    feed[info.name] = tf.make_ndarray(
                        signature.defaults[alias])
            session.run({alias: info.name for alias, info
                         in signature.outputs.items()}, feed)
