"""What do towers of one's own cost beside a `TwoTower`?

MovieLens-100K, ids only, vectors of one width. Plain TFRS towers (a
`StringLookup` and an `Embedding` each, a layer on top of the items', a rating
and a retrieval task) and a `TwoTower` go through the same rounds: train on
every label, evaluate over the whole catalogue, choose and buy 1,000 labels by
`vopt`, `bald` and `core_set`; then both are exported and answer a request. A
round's time is the median over two runs in turns and their rounds after the
first, which traces graphs; of `bald` both sample the last layers
(`uncertainty="heads"`), since plain towers have no dropout passes.

`twin_identical`: a model of other classes around the weights of a `TwoTower`,
which offers what the protocol names and nothing else, buys the same pairs and
has the same utilities in each round, for each of the three strategies.

    python benchmarks/own_towers.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from tfrecal import (  # noqa: E402  (selects Keras 2 before TensorFlow)
    AcquireLabels,
    EvaluateRetrieval,
    Pool,
    ReplayOracle,
    TwoTower,
    datasets,
    splits,
)

import tensorflow as tf  # noqa: E402  isort: skip
import tensorflow_recommenders as tfrs  # noqa: E402  isort: skip
import tf_keras  # noqa: E402  isort: skip
from plain_towers import PlainTowers, Twin  # noqa: E402  isort: skip

from tfrecal.export import export_model  # noqa: E402

STRATEGIES = ("vopt", "bald", "core_set")
WIDTH, BATCH, PER_ROUND = 64, 1024, 1000


class TwoTasks(PlainTowers):
    """As TFRS's tutorial on several tasks: ratings and retrieval."""

    def __init__(self, pool, mean):
        super().__init__(pool.user_ids, pool.item_ids, mean, WIDTH)
        self.retrieval = tfrs.tasks.Retrieval()
        self.positive = pool.positive

    def compute_loss(self, features, training=False):
        query = self.embed_queries(features)
        candidate = self.embed_candidates(features)
        rating = self.task(labels=features["label"], predictions=(
            self.predict_label(tf.reduce_sum(query * candidate, axis=1))))
        liked = features["label"] >= self.positive
        return rating + 0.3 / BATCH * self.retrieval(
            tf.boolean_mask(query, liked), tf.boolean_mask(candidate, liked),
            compute_metrics=False)


class Clock(tf_keras.callbacks.Callback):
    """Seconds of each epoch, other callbacks included."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def fresh(split, kind):
    """A pool with a twentieth of the labels, and a compiled model."""
    pool = Pool.from_interactions(split.train, initial=0.05, seed=0)
    mean = float(pool.label[pool.labelled_rows()].mean())
    if kind == "own_towers":
        model = TwoTasks(pool, mean)
        model.compile(tf_keras.optimizers.Adam(5e-3))
        return pool, model
    model = TwoTower.from_interactions(
        split.train, embedding_dim=WIDTH, dropout=0.1, query_columns=[],
        candidate_columns=[], mean=mean)
    model.compile(learning_rate=5e-3)
    if kind == "twin":
        model = Twin(model)
        model.compile()
    return pool, model


def rounds(split, kind, strategy, number, uncertainty="heads"):
    """Pool and model after some rounds, and the seconds of each."""
    pool, model = fresh(split, kind)
    clock = Clock()
    model.fit(
        pool.sequence(BATCH, ids="strings" if kind == "own_towers"
                      else "codes"),
        epochs=number, verbose=0, shuffle=False, callbacks=[
            EvaluateRetrieval(pool, split.validation),
            AcquireLabels(pool, strategy, ReplayOracle(split.train),
                          per_round=PER_ROUND, uncertainty=uncertainty),
            clock])
    return pool, model, clock.seconds


def answers(model, pool, folder) -> bool:
    """Whether an export recommends what the model ranks first."""
    path = export_model(model, folder, pool=pool, k=10, index="exact")
    users = pool.user_ids[:32].tolist()
    found = tf.saved_model.load(str(path)).signatures["recommend"](
        user_id=tf.constant(users), history=tf.zeros([0, 0], tf.string),
        exclude=tf.zeros([0, 0], tf.string))["item_ids"].numpy().astype(str)
    query = np.asarray(model.embed_queries({"user_id": tf.constant(users)}))
    items = np.asarray(model.embed_candidates(
        {"item_id": tf.constant(pool.item_ids.tolist())}))
    order = np.argsort(-query @ items.T, axis=1)[:, :10]
    return bool((found == pool.item_ids[order].astype(str)).all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four rounds")
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    number = 4 if arguments.quick else arguments.rounds
    split = splits.random(datasets.load("ml-100k"), seed=0)
    seconds, identical, last = {}, True, None
    for strategy in STRATEGIES:
        times = {"own_towers": [], "two_tower": []}
        for kind in 2 * list(times):  # in turns: the machine has moods
            pool, model, found = rounds(split, kind, strategy, number)
            times[kind] += found[1:]
            if kind == "own_towers":
                last = pool, model
        for kind, found in times.items():
            seconds[strategy, kind] = statistics.median(found)
        # With dropout passes where the strategy samples.
        ours, twins = (rounds(split, kind, strategy, min(number, 3),
                              "dropout")[0] for kind in ("two_tower", "twin"))
        same = (np.array_equal(ours.ticket, twins.ticket)
                and np.array_equal(ours.utility, twins.utility,
                                   equal_nan=True))
        identical &= bool(same and ours.ticket.max() > 0)
        print(f"{strategy}: a round of own towers "
              f"{seconds[strategy, 'own_towers']:.2f} s, of a TwoTower "
              f"{seconds[strategy, 'two_tower']:.2f} s; the twin buys the "
              f"same: {same}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        exported = answers(last[1], last[0], f"{folder}/towers")
    over = {strategy: seconds[strategy, "own_towers"]
            / seconds[strategy, "two_tower"] for strategy in STRATEGIES}
    print(json.dumps({
        "twin_identical": identical,
        "round_over_two_tower": round(max(over.values()), 3),
        "exported": exported,
        "rounds": {name: round(value, 3) for name, value in over.items()}}))


if __name__ == "__main__":
    main()
