"""How many interactions a second does fine-tuning the item encoder train?

One step is a batch of MovieLens-100K interactions through an item tower with
MiniLM and a user embedding, in-batch softmax, Adam. Compared, in one run and
taking turns:

- naive: the usual TFRS tower: Hugging Face's model over every row, padded to
  the longest text of the batch;
- distinct: the same, each distinct text of the batch once;
- full: `TextEncoder(tuning="full")`, distinct texts without padding;
- top 1, top 2: the last layers, over hidden states computed once;
- frozen: encodings computed once.

    python benchmarks/training.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

import tfrecal  # noqa: F401  (selects Keras 2, so before TensorFlow)

import tensorflow as tf  # isort: skip
import tf_keras  # isort: skip
from transformers import TFBertModel  # isort: skip
from transformers.utils import logging  # isort: skip

from tfrecal import assets, datasets
from tfrecal.encoders import TextEncoder
from tfrecal.texts import default_template

DIM = 64
ROWS = tf.TensorSpec([None], tf.int32)


class Padded:
    """The naive item encoder, and the naive one over distinct texts."""

    def __init__(self, tokens: tf.Tensor, distinct: bool):
        folder = assets.encoder_folder("minilm")
        logging.set_verbosity_error()
        self.bert = TFBertModel.from_pretrained(
            folder, add_pooling_layer=False, use_safetensors=True
        )
        self.tokens = tokens
        self.distinct = distinct
        self.trainable_weights = self.bert.trainable_weights

    def __call__(self, items: tf.Tensor) -> tf.Tensor:
        place = None
        if self.distinct:
            items, place = tf.unique(items)
        ids = tf.gather(self.tokens, items)
        mask = tf.cast(ids > 0, tf.int32)
        longest = tf.reduce_max(tf.reduce_sum(mask, 1))
        ids, mask = ids[:, :longest], mask[:, :longest]
        hidden = self.bert(
            input_ids=ids, attention_mask=mask, training=False
        ).last_hidden_state
        weight = tf.cast(mask, tf.float32)[..., tf.newaxis]
        vectors = tf.reduce_sum(hidden * weight, 1) / tf.reduce_sum(weight, 1)
        return vectors if place is None else tf.gather(vectors, place)


class Table:
    """Ours: a `TextTable`."""

    def __init__(self, texts: list[str], max_length: int, **tuning):
        encoder = TextEncoder(max_length=max_length, **tuning)
        self.table = encoder.table(texts)
        self.trainable_weights = encoder.trainable_weights

    def __call__(self, items: tf.Tensor) -> tf.Tensor:
        return self.table(items, training=True)


class TwoTowers:
    """User embedding and item encoder with a dense layer on top."""

    def __init__(self, item_encoder, users: int):
        rng = np.random.default_rng(0)
        self.item_encoder = item_encoder
        self.users = tf.Variable(rng.normal(0, 0.05, [users + 1, DIM]),
                                 dtype=tf.float32)
        self.kernel = tf.Variable(rng.normal(0, 0.05, [384, DIM]),
                                  dtype=tf.float32)
        self.weights = [
            self.users, self.kernel, *item_encoder.trainable_weights
        ]
        self.optimizer = tf_keras.optimizers.Adam(1e-5)

    def loss_and_gradients(self, users, items):
        with tf.GradientTape() as tape:
            candidates = tf.matmul(self.item_encoder(items), self.kernel)
            queries = tf.gather(self.users, users)
            scores = tf.matmul(queries, candidates, transpose_b=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.range(tf.shape(items)[0]), scores
            )
            loss = tf.reduce_mean(losses)
        return loss, tape.gradient(loss, self.weights)

    def build(self) -> float:
        """Traces the step; returns the seconds that took."""

        @tf.function(autograph=False, input_signature=[ROWS, ROWS])
        def step(users, items):
            loss, gradients = self.loss_and_gradients(users, items)
            self.optimizer.apply_gradients(zip(gradients, self.weights))
            return loss

        start = time.perf_counter()
        self.step = step.get_concrete_function()
        return time.perf_counter() - start


def same_gradients(ours: TwoTowers, naive: TwoTowers, users, items) -> float:
    """Largest relative difference of the loss and of any weight's gradient.

    The weights of both must be as loaded. Gradients that are zero but for
    rounding (of key biases; of the last shift, which moves all scores of a
    row alike) are measured against a hundredth of the largest of all.
    """
    loss, gradients = ours.loss_and_gradients(users, items)
    other, others = naive.loss_and_gradients(users, items)
    worst = abs(float(loss - other) / float(other))
    pairs = [
        (np.asarray(tf.convert_to_tensor(a)), np.asarray(
            tf.convert_to_tensor(b)))
        for a, b in zip(gradients, others, strict=True)
    ]
    floor = 1e-2 * max(np.linalg.norm(b) for _, b in pairs)
    for a, b in pairs:
        scale = max(np.linalg.norm(b), floor)
        worst = max(worst, float(np.linalg.norm(a - b) / scale))
    return worst


def measure(texts, interactions, batch_size, rounds, max_length, say):
    """Rows/s of each variant, taking turns.

    Returns:
        name -> {"rows_per_s", "step_s", "build_s", "first_s"}, and the
        largest difference between the gradients of `full` and `naive`.
    """
    options = {"texts": texts, "max_length": max_length}
    tokens = TextEncoder(max_length=max_length).tokenize([""] + texts)
    tokens = tokens.to_tensor()
    makers = {
        "naive": lambda: Padded(tokens, distinct=False),
        "distinct": lambda: Padded(tokens, distinct=True),
        "full": lambda: Table(tuning="full", **options),
        "top 2": lambda: Table(tuning="top_n", top_n=2, **options),
        "top 1": lambda: Table(tuning="top_n", top_n=1, **options),
        "frozen": lambda: Table(tuning="frozen", **options),
    }
    users = len(interactions.users)
    models = {}
    for name, make in makers.items():
        models[name] = TwoTowers(make(), users)
        say(f"made {name}")
    rng = np.random.default_rng(0)

    def batch(size):
        rows = rng.choice(len(interactions.frame), size, replace=False)
        return (tf.constant(interactions.user_code[rows]),
                tf.constant(interactions.item_code[rows]))

    difference = same_gradients(models["full"], models["naive"], *batch(256))
    if not difference < 1e-3:
        raise SystemExit(
            "The gradients of the fast and of the naive tower must agree to "
            f"1e-3. Received: {difference:.1e}."
        )
    result, times = {}, {name: [] for name in models}
    warm = batch(batch_size)
    for name, model in models.items():
        built = model.build()
        start = time.perf_counter()
        model.step(*warm)
        first = time.perf_counter() - start
        result[name] = {"build_s": built, "first_s": first}
        say(f"built {name}: {built:.1f} s, first step {first:.1f} s")
    for turn in range(rounds):
        rows = batch(batch_size)
        for name, model in models.items():
            start = time.perf_counter()
            float(model.step(*rows))
            times[name].append(time.perf_counter() - start)
        say(f"round {turn + 1} of {rounds}")
    for name in models:
        step = float(np.median(times[name]))
        result[name].update(step_s=step, rows_per_s=batch_size / step)
    return result, difference


def show(title, result, difference):
    naive = result["naive"]["rows_per_s"]
    print(f"\n{title}")
    print(f"{'tower':10} {'rows/s':>9} {'x naive':>8} {'step s':>8} "
          f"{'trace s':>8} {'first s':>8}")
    for name, row in result.items():
        print(f"{name:10} {row['rows_per_s']:9.0f} "
              f"{row['rows_per_s'] / naive:8.2f} {row['step_s']:8.3f} "
              f"{row['build_s']:8.1f} {row['first_s']:8.1f}")
    print(f"largest relative difference of loss and gradients, full against "
          f"naive: {difference:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds and one kind of text: minutes")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--max-length", type=int, default=64)
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 7)
    start = time.perf_counter()

    def say(text):
        print(f"[{time.perf_counter() - start:5.0f} s] {text}", flush=True)

    interactions = datasets.load("ml-100k")
    items = interactions.items
    kinds = {"fields": default_template(items)(items)}
    if not options.quick:
        kinds["titles"] = [str(title) for title in items["title"]]
    found = {}
    for kind, texts in kinds.items():
        result, difference = measure(
            texts, interactions, options.batch_size, rounds,
            options.max_length, say,
        )
        found[kind] = result
        show(f"{kind}, such as {texts[0]!r}; {options.batch_size} rows a "
             f"step, median of {rounds}", result, difference)
    speedups = {
        kind: result["full"]["rows_per_s"] / result["naive"]["rows_per_s"]
        for kind, result in found.items()
    }
    fields = found["fields"]
    print(json.dumps({
        "speedup_vs_naive": round(speedups["fields"], 2),
        "speedup_vs_naive_by_text": {
            kind: round(value, 2) for kind, value in speedups.items()
        },
        "rows_per_s": {
            name: round(row["rows_per_s"], 1) for name, row in fields.items()
        },
        "gradients_agree": True,
        "batch_size": options.batch_size,
    }))


if __name__ == "__main__":
    main()
