"""What `small_models.py` compares with: pruning, other runtimes, indexes."""
from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tfrecal.data import assets
from tfrecal.export import index as indexes
from tfrecal.export.index_tuning import single_query_ms
from tfrecal.text import student_checkpoint
from tfrecal.text.distill import student_of

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)
import tensorflow_text as tf_text  # isort: skip

LENGTH = 10


def tokenizer():
    """TF-Text's, of MiniLM."""
    vocabulary = (assets.encoder_folder("minilm") / "vocab.txt").read_text(
        encoding="utf-8").split("\n")[:-1]
    return tf_text.FastBertTokenizer(
        vocabulary, token_out_type=tf.int32,
        lower_case_nfd_strip_accents=True)


def in_parts(serving, rows: int = 128):
    """A served encoder as a function of a list of texts, to NumPy."""
    call = tf.function(serving, input_signature=[serving.spec])

    def encode(texts):
        return np.concatenate([
            call(tf.constant(texts[n:n + rows])).numpy()
            for n in range(0, len(texts), rows)])
    return encode


def left_out(teacher, folder: Path, layers: int):
    """Structured pruning: evenly spaced layers, nothing learned."""
    if not folder.exists():
        folder.mkdir()
        student_checkpoint.begin(teacher, folder, layers)
    return student_of(teacher, folder)


def magnitude(teacher, folder: Path, share: float):
    """The smallest weights of each kernel of a layer at 0."""
    if not folder.exists():
        shutil.copytree(assets.encoder_folder("minilm"), folder)
        made = student_of(teacher, folder)
        for weight in made.base.weights:
            if "layer_._" in weight.name and "kernel" in weight.name:
                values = weight.numpy()
                least = np.quantile(np.abs(values), share)
                weight.assign(np.where(np.abs(values) < least, 0, values))
        student_checkpoint.save(made, folder)
    return student_of(teacher, folder)


def runtimes(teacher, count: int) -> dict:
    """TFLite and ONNX Runtime on MiniLM's layers, ids in, vector out.

    Returns:
        name -> megabytes, p50_ms in process with two threads, and the mean
        cosine with the teacher's vectors; or why there is none.
    """
    bert = transformers_model()
    signature = [tf.TensorSpec([1, LENGTH], tf.int32, "ids")]

    @tf.function(input_signature=signature)
    def encode(ids):
        hidden = bert(input_ids=ids).last_hidden_state
        return tf.reduce_mean(hidden, 1)

    rng = np.random.default_rng(0)
    ids = rng.integers(1996, 20_000, (count, 1, LENGTH)).astype(np.int32)
    ids[:, 0, 0], ids[:, 0, -1] = 101, 102
    wanted = np.concatenate([encode(tf.constant(one)) for one in ids])
    found = {}
    for name, make in (("TFLite", _tflite), ("ONNX Runtime", _onnx)):
        for kind in ("float32", "int8"):
            label = f"{name} {kind}"
            try:
                size, call = make(encode, signature, kind == "int8")
                found[label] = {"megabytes": round(size / 1e6, 1),
                                **_measure(call, ids, wanted)}
            # Of converters: they raise what they like.
            except Exception as error:  # noqa: B902
                found[label] = f"{type(error).__name__}: {error}"[:200]
            print(f"{label:27}{json.dumps(found[label])}", flush=True)
    return found


def transformers_model():
    """Hugging Face's own."""
    from transformers import TFBertModel
    return TFBertModel.from_pretrained(
        assets.encoder_folder("minilm"), add_pooling_layer=False,
        use_safetensors=True)


def _measure(call, ids, wanted) -> dict:
    seconds, vectors = [], []
    for one in [*ids[:10], *ids]:
        start = time.perf_counter()
        vectors.append(call(one))
        seconds.append(time.perf_counter() - start)
    found = np.concatenate(vectors[10:])
    cosine = np.sum(found * wanted, 1) / np.linalg.norm(
        found, axis=1) / np.linalg.norm(wanted, axis=1)
    return {"p50_ms": round(1e3 * float(np.median(seconds[10:])), 3),
            "cosine": round(float(cosine.mean()), 4)}


def _tflite(encode, signature, int8: bool):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [encode.get_concrete_function()], encode)
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    made = converter.convert()
    interpreter = tf.lite.Interpreter(model_content=made, num_threads=2)
    interpreter.allocate_tensors()
    into = interpreter.get_input_details()[0]["index"]
    out = interpreter.get_output_details()[0]["index"]

    def call(ids):
        interpreter.set_tensor(into, ids)
        interpreter.invoke()
        return interpreter.get_tensor(out)
    return len(made), call


def _onnx(encode, signature, int8: bool):
    import onnxruntime
    import tf2onnx
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        tf2onnx.convert.from_function(
            encode, signature, opset=17, output_path=str(path))
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(str(path), str(path), per_channel=True,
                             weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 2
        session = onnxruntime.InferenceSession(str(path), options)
        size = path.stat().st_size
    return size, lambda ids: session.run(None, {"ids": ids})[0]


def indexes_of(count: int, dim: int = 64, k: int = 20) -> dict:
    """Exact indexes in other precisions beside ScaNN, which is int8 inside.

    Returns:
        name -> megabytes, p50_ms of a query in process, recall of the true
        `k`.
    """
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(max(50, count // 100), dim))
    vectors = (centres[rng.integers(len(centres), size=count)]
               + 0.5 * rng.normal(size=(count, dim))).astype(np.float32)
    queries = (vectors[rng.integers(count, size=400)]
               + 0.3 * rng.normal(size=(400, dim))).astype(np.float32)
    exact = indexes.build_index(vectors, k=k, kind="exact")
    half = tf.Variable(tf.cast(vectors, tf.bfloat16), trainable=False)
    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
    whole = tf.Variable(np.round(vectors / scale).astype(np.int8),
                        trainable=False)
    scales = tf.constant(scale[:, 0])
    searches = {
        "exact, float32": (vectors.nbytes, lambda q: exact.search(q, k)),
        "exact, bfloat16": (vectors.nbytes / 2, lambda q: tf.math.top_k(
            tf.cast(tf.matmul(tf.cast(q, tf.bfloat16), half,
                              transpose_b=True), tf.float32), k)),
        # Rows in int8 must be widened for the product.
        "exact, int8 rows": (vectors.nbytes / 4, lambda q: tf.math.top_k(
            tf.matmul(q, tf.cast(whole, tf.float32), transpose_b=True)
            * scales, k))}
    if count >= 20_000:
        try:
            scann = indexes.build_index(vectors, k=k, kind="scann")
            searches["ScaNN, tuned"] = (
                scann.report.bytes, lambda q: scann.search(q, k))
        except ImportError as error:
            print(error, file=sys.stderr)
    true = exact.search(tf.constant(queries), k)[1].numpy()
    found = {}
    for name, (size, search) in searches.items():
        search = tf.function(search, input_signature=[
            tf.TensorSpec([None, dim])])
        places = np.asarray(search(tf.constant(queries))[1])
        recall = np.mean([len(set(a) & set(b)) / k
                          for a, b in zip(places, true)])
        found[name] = {"megabytes": round(size / 1e6, 2),
                       "p50_ms": round(single_query_ms(search, queries), 3),
                       "recall": round(float(recall), 4)}
        print(f"index of {count:,}: {name:18}{json.dumps(found[name])}",
              flush=True)
    return found
