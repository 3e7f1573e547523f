"""How long does a text query take, beside the plain SavedModel of a BERT?

`search` of texts of 10 tokens, one a request, over MovieLens-100K with
MiniLM, on `tfrecal serve` and over gRPC. Plain: TF-Text's tokenizer, Hugging
Face's `TFBertModel`, mean pooling, the same kernel and the same exact top 20,
saved and served in the same way. Ours is the export of the same model, in
float32 and, where the processor has it, in bfloat16; taking turns. At last
the same text again, with the client's cache on.

    python benchmarks/text_query.py [--quick]
"""
from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from helpers import served

from tfrecal import doctor
from tfrecal.data import assets
from tfrecal.export.export_model import export_model
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.serving.client.client import Recommender

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)
import tensorflow_text as tf_text  # isort: skip
from transformers import TFBertModel  # isort: skip

K, TOKENS = 20, 10
WORDS = """story of the night in a small town space war love dog piano river
king summer train island ghost music doctor winter road house girl boy
""".split()


class Plain(tf.Module):
    """What one would export without this package."""

    def __init__(self, model, pool, tokenizer):
        super().__init__()
        folder = assets.encoder_folder("minilm")
        self.bert = TFBertModel.from_pretrained(
            folder, add_pooling_layer=False, use_safetensors=True)
        self.tokenizer = tokenizer
        tower = model.candidate_tower
        self.centre = tf.constant(tower.text_centre)
        self.scale = tf.constant(tower.text_scale / tower.text_norm)
        half = model.query_tower.search_kernel.shape[1] // 2
        self.kernel = tf.constant(model.query_tower.search_kernel[:, half:])
        self.candidates = tf.constant(
            PoolScorer.of(model, pool).vectors("retrieval")[1][1:])
        self.ids = tf.constant([str(i) for i in pool.item_ids])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def search(self, text):
        ids = self.tokenizer.tokenize(text).merge_dims(1, -1)
        first, last = 101, 102  # [CLS] and [SEP]
        edge = tf.ones([ids.nrows(), 1], ids.dtype)
        ids = tf.concat([edge * first, ids, edge * last], 1).to_tensor()
        mask = tf.cast(ids > 0, tf.int32)
        hidden = self.bert(
            input_ids=ids, attention_mask=mask).last_hidden_state
        weight = tf.cast(mask, tf.float32)[..., tf.newaxis]
        vector = tf.reduce_sum(hidden * weight, 1) / tf.reduce_sum(weight, 1)
        query = tf.matmul((vector - self.centre) * self.scale, self.kernel)
        found = tf.math.top_k(
            tf.matmul(query, self.candidates, transpose_b=True), K)
        return {"item_ids": tf.gather(self.ids, found.indices),
                "scores": found.values}


def texts_of(tokenizer, count: int) -> list[str]:
    """Different texts of 10 tokens, both ends included."""
    rng, found = np.random.default_rng(0), []
    while len(found) < count:
        text = " ".join(rng.choice(WORDS, TOKENS - 2))
        if len(tokenizer.tokenize([text]).merge_dims(1, -1)[0]) == TOKENS - 2:
            found.append(text)
    return found


def export_all(folder: Path):
    """name -> base path of each model; and the tokenizer of plain."""
    found = {}
    precisions = ["float32"]
    if "avx512_bf16" in doctor.machine()["vector instructions"]:
        precisions.append("bfloat16")
    for precision in precisions:
        model, pool = served.movielens(precision)
        found[precision] = export_model(
            model, folder / precision, pool=pool, k=K, index="exact").parent
    vocabulary = (assets.encoder_folder("minilm") / "vocab.txt").read_text(
        encoding="utf-8").split("\n")[:-1]
    tokenizer = tf_text.FastBertTokenizer(
        vocabulary, token_out_type=tf.int32,
        lower_case_nfd_strip_accents=True)
    plain = Plain(model, pool, tokenizer)
    tf.saved_model.save(plain, str(folder / "plain" / "1"),
                        signatures={"search": plain.search})
    found["plain"] = folder / "plain"
    return found, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="100 in place of 600 queries")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        paths, tokenizer = export_all(Path(folder))
        texts = texts_of(tokenizer, 120 if options.quick else 620)
        seconds = {name: [] for name in paths}
        answers = {name: [] for name in paths}
        cached = []
        with contextlib.ExitStack() as stack:
            clients = {}
            for name, path in paths.items():
                address, _ = stack.enter_context(served.server(path))
                clients[name] = Recommender(address, name, timeout=30)
            again = Recommender(address, name, timeout=30, cache=10)
            for n, text in enumerate(texts):
                for name, client in clients.items():
                    start = time.perf_counter()
                    found = client.search([text])
                    if n >= 20:
                        seconds[name].append(time.perf_counter() - start)
                        answers[name].append(found.item_ids[0])
            again.search(texts[:1])
            for _ in range(100):
                start = time.perf_counter()
                again.search(texts[:1])
                cached.append(time.perf_counter() - start)
    p50 = {name: 1e3 * float(np.median(s)) for name, s in seconds.items()}
    print(f"{'search, 10 tokens':20} {'p50 ms':>8} {'p99 ms':>8} "
          f"{'/ plain':>8} {'same top 20':>12}")
    for name, times in seconds.items():
        same = np.mean([len(set(a) & set(b)) / K for a, b in zip(
            answers[name], answers["plain"])])
        print(f"{name:20} {p50[name]:8.2f} "
              f"{1e3 * np.quantile(times, 0.99):8.2f} "
              f"{p50[name] / p50['plain']:8.2f} {same:12.1%}")
    print(f"{'again, from cache':20} {1e3 * np.median(cached):8.4f}")
    best = min((n for n in p50 if n != "plain"), key=p50.get)
    print(json.dumps({
        "p50_over_plain": round(p50[best] / p50["plain"], 3),
        "precision": best, "p50_ms": {k: round(v, 3) for k, v in p50.items()},
        "p50_over_plain_float32": round(p50["float32"] / p50["plain"], 3),
        "cached_ms": round(1e3 * float(np.median(cached)), 4)}))


if __name__ == "__main__":
    main()
