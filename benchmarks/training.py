"""How many interactions a second does fine-tuning the item encoder train?

One step is a batch of MovieLens-100K interactions through an item tower with
MiniLM and a user embedding, in-batch softmax, Adam. Compared, in one run and
taking turns:

- naive: the usual TFRS tower: Hugging Face's model over every row, padded to
  the longest text of the batch;
- distinct: the same, each distinct text of the batch once;
- buckets: as distinct, in 16 buckets of like length, each padded to its
  own longest text;
- full: `TextEncoder(tuning="full")`, distinct texts without padding;
- bfloat16: the same with `precision="bfloat16"`;
- lora, bitfit: updates of rank 8 to all queries and values; all biases;
- top 1, top 2: the last layers, over hidden states computed once;
- frozen: encodings computed once.

All activations of a naive step of 1,024 rows take 11 GB. So the first three
compute their gradients in chunks of 64 rows, sum them, and make one step of
Adam. Work a row stays the same but for the softmax, which is smaller.

    python benchmarks/training.py [--quick] [--texts titles]
"""
from __future__ import annotations

import argparse
import copy
import json
import resource
import sys
import time

import numpy as np

import tfrecal  # noqa: F401  (selects Keras 2, so before TensorFlow)

import tensorflow as tf  # isort: skip
import tf_keras  # isort: skip
from transformers import TFBertModel  # isort: skip
from transformers.utils import logging  # isort: skip

from tfrecal import datasets
from tfrecal.data import assets
from tfrecal.data.templates import default_template
from tfrecal.text.encoder import TextEncoder

DIM = 64
CHUNK = 64
ROWS = tf.TensorSpec([None], tf.int32)
WIDTH = tf.TensorSpec([], tf.int32)


class Padded:
    """Hugging Face's model over texts padded to `width` tokens."""

    distinct = False

    def __init__(self, tokens: tf.Tensor):
        folder = assets.encoder_folder("minilm")
        logging.set_verbosity_error()
        self.bert = TFBertModel.from_pretrained(
            folder, add_pooling_layer=False, use_safetensors=True)
        self.tokens = tokens
        self.trainable_weights = self.bert.trainable_weights

    def __call__(self, items: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        place = None
        if self.distinct:
            items, place = tf.unique(items)
        ids = tf.gather(self.tokens, items)[:, :width]
        mask = tf.cast(ids > 0, tf.int32)
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

    def __call__(self, items: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
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
            self.users, self.kernel, *item_encoder.trainable_weights]
        self.optimizer = tf_keras.optimizers.Adam(1e-5)

    def loss_and_gradients(self, users, items, width):
        with tf.GradientTape() as tape:
            candidates = tf.matmul(
                self.item_encoder(items, width), self.kernel)
            queries = tf.gather(self.users, users)
            scores = tf.matmul(queries, candidates, transpose_b=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.range(tf.shape(items)[0]), scores)
            loss = tf.reduce_mean(losses)
        return loss, tape.gradient(loss, self.weights)

    def build(self) -> None:
        """Traces the step."""

        @tf.function(autograph=False, input_signature=[ROWS, ROWS])
        def step(users, items):
            loss, gradients = self.loss_and_gradients(users, items, 0)
            self.optimizer.apply_gradients(zip(gradients, self.weights))
            return loss

        self._step = step.get_concrete_function()

    def step(self, users, items) -> None:
        """One step, done when this returns."""
        float(self._step(tf.constant(users), tf.constant(items)))


class InChunks(TwoTowers):
    """The same over `Padded`, with gradients summed over chunks of a batch.

    Args:
        item_encoder, users: as before.
        lengths: tokens of each item's text, `[items + 1]`.
    """

    buckets = False  # whether a chunk is padded to its own longest text

    def __init__(self, item_encoder: Padded, users: int, lengths):
        super().__init__(item_encoder, users)
        self.lengths = lengths
        self.sums = [tf.Variable(tf.zeros_like(w)) for w in self.weights]

    def distinct(self, buckets: bool) -> InChunks:
        """The same weights and optimizer, each distinct text once."""
        other = copy.copy(self)
        other.item_encoder = copy.copy(self.item_encoder)
        other.item_encoder.distinct = True
        other.buckets = buckets
        return other

    def build(self) -> None:
        sums = self.sums

        @tf.function(autograph=False, input_signature=[ROWS, ROWS, WIDTH])
        def chunk(users, items, width):
            loss, gradients = self.loss_and_gradients(users, items, width)
            for total, gradient in zip(sums, gradients):
                if isinstance(gradient, tf.IndexedSlices):
                    total.scatter_add(gradient)
                else:
                    total.assign_add(gradient)
            return loss

        @tf.function(autograph=False, input_signature=[])
        def apply():
            self.optimizer.apply_gradients(
                (total.value(), weight)
                for total, weight in zip(sums, self.weights))
            for total in sums:
                total.assign(tf.zeros_like(total))

        self._chunk = chunk.get_concrete_function()
        self._apply = apply.get_concrete_function()

    def step(self, users, items) -> None:
        # By length, then item: the rows of an item are in one chunk.
        order = np.lexsort([items, self.lengths[items]])
        for start in range(0, len(order), CHUNK):
            rows = order[start:start + CHUNK]
            longest = items[rows] if self.buckets else items
            width = tf.constant(self.lengths[longest].max(), tf.int32)
            float(self._chunk(
                tf.constant(users[rows]), tf.constant(items[rows]), width))
        self._apply()


def same_gradients(ours: TwoTowers, naive: InChunks, users, items) -> float:
    """Largest relative difference of the loss and of any weight's gradient.

    The weights of both must be as loaded. Gradients that are zero but for
    rounding (of key biases; of the last shift, which moves all scores of a
    row alike) are measured against a hundredth of the largest of all.
    """
    width = int(naive.lengths[items].max())
    loss, gradients = ours.loss_and_gradients(users, items, width)
    other, others = naive.loss_and_gradients(users, items, width)
    worst = abs(float(loss - other) / float(other))
    pairs = [
        (np.asarray(tf.convert_to_tensor(a)),
         np.asarray(tf.convert_to_tensor(b)))
        for a, b in zip(gradients, others, strict=True)]
    floor = 1e-2 * max(np.linalg.norm(b) for _, b in pairs)
    for a, b in pairs:
        scale = max(np.linalg.norm(b), floor)
        worst = max(worst, float(np.linalg.norm(a - b) / scale))
    return worst


def make_towers(texts, users, max_length, say) -> dict[str, TwoTowers]:
    """The towers to be compared, by name."""
    tokens = TextEncoder(max_length=max_length).tokenize([""] + texts)
    lengths = tokens.row_lengths().numpy()
    tokens = tokens.to_tensor()

    def table(**tuning):
        return TwoTowers(Table(texts, max_length, **tuning), users)

    makers = {
        "naive": lambda: InChunks(Padded(tokens), users, lengths),
        "distinct": lambda: found["naive"].distinct(buckets=False),
        "buckets": lambda: found["naive"].distinct(buckets=True),
        "full": lambda: table(tuning="full"),
        "bfloat16": lambda: table(tuning="full", precision="bfloat16"),
        "lora": lambda: table(tuning="lora"),
        "bitfit": lambda: table(tuning="bitfit"),
        "top 2": lambda: table(tuning="top_n", top_n=2),
        "top 1": lambda: table(tuning="top_n", top_n=1),
        "frozen": lambda: table(tuning="frozen")}
    found = {}
    for name, make in makers.items():
        found[name] = make()
        say(f"made {name}")
    return found


def measure(texts, interactions, batch_size, rounds, max_length, say):
    """Rows/s of each tower, taking turns.

    Returns:
        name -> {"rows_per_s", "step_s", "start_s"}, and the largest
        difference between the gradients of `full` and `naive`.
    """
    towers = make_towers(texts, len(interactions.users), max_length, say)
    rng = np.random.default_rng(0)

    def batch(size):
        rows = rng.choice(len(interactions), size, replace=False)
        return interactions.user_code[rows], interactions.item_code[rows]

    difference = same_gradients(towers["full"], towers["naive"], *batch(64))
    if not difference < 1e-3:
        raise SystemExit(
            "The gradients of the fast and of the naive tower must agree to "
            f"1e-3. Received: {difference:.1e}.")
    starts, times = {}, {name: [] for name in towers}
    warm = batch(batch_size)
    for name, tower in towers.items():
        start = time.perf_counter()
        tower.build()
        tower.step(*warm)
        starts[name] = time.perf_counter() - start
        say(f"{name}: traced, first step after {starts[name]:.1f} s")
    for turn in range(rounds):
        rows = batch(batch_size)
        for name, tower in towers.items():
            start = time.perf_counter()
            tower.step(*rows)
            times[name].append(time.perf_counter() - start)
        say(f"round {turn + 1} of {rounds}")
    steps = {name: float(np.median(times[name])) for name in towers}
    return {name: {"rows_per_s": batch_size / step, "step_s": step,
                   "start_s": starts[name]}
            for name, step in steps.items()}, difference


def show(title, result, difference):
    naive = result["naive"]["rows_per_s"]
    print(f"\n{title}")
    print(f"{'tower':10} {'rows/s':>9} {'x naive':>8} {'step s':>8} "
          f"{'start s':>8}")
    for name, row in result.items():
        print(f"{name:10} {row['rows_per_s']:9.0f} "
              f"{row['rows_per_s'] / naive:8.2f} {row['step_s']:8.3f} "
              f"{row['start_s']:8.1f}")
    print(f"largest relative difference of loss and gradients, full against "
          f"naive: {difference:.1e}")


def peak_memory() -> float:
    """GB that this process has taken at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="3 rounds in place of 7")
    parser.add_argument("--texts", choices=("fields", "titles"),
                        default="fields", help="title, year and genres, as "
                        "in a run, or titles only")
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--max-length", type=int, default=64)
    options = parser.parse_args()
    rounds = options.rounds or (3 if options.quick else 7)
    start = time.perf_counter()

    def say(text):
        print(f"[{time.perf_counter() - start:5.0f} s] {text}",
              file=sys.stderr, flush=True)

    interactions = datasets.load("ml-100k")
    items = interactions.items
    texts = (default_template(items)(items) if options.texts == "fields"
             else [str(title) for title in items["title"]])
    result, difference = measure(
        texts, interactions, options.batch_size, rounds, options.max_length,
        say)
    show(f"{options.texts}, such as {texts[0]!r}; {options.batch_size} rows "
         f"a step, median of {rounds}", result, difference)
    naive = result["naive"]["rows_per_s"]
    print(f"peak memory {peak_memory():.1f} GB")
    print(json.dumps({
        "speedup_vs_naive": round(result["full"]["rows_per_s"] / naive, 2),
        "speedup_of_bfloat16": round(
            result["bfloat16"]["rows_per_s"] / naive, 2),
        "speedup_of_buckets": round(
            result["buckets"]["rows_per_s"] / naive, 2),
        "rows_per_s": {
            name: round(row["rows_per_s"], 1) for name, row in result.items()},
        "texts": options.texts,
        "gradients_agree": True,
        "batch_size": options.batch_size,
        "peak_memory_gb": round(peak_memory(), 1)}))


if __name__ == "__main__":
    main()
