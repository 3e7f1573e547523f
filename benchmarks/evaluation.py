"""One evaluation over 5,000 items: FactorizedTopK against encode once.

Both evaluate the same towers on the same users (one held-out item each) with
the same k, and must find the same hits. `FactorizedTopK` gets the catalogue
as in TFRS's tutorials, `items.batch(128).map(tower)`, and so encodes it anew
for every batch of queries. Ours encodes users and items once and calls
`metrics.ranking`. The headline is the case that flatters us least: text
encodings frozen, so that a tower is lookups and small products; with trained
encoder layers re-encoding costs more. Without `--quick` both are timed.

    python benchmarks/evaluation.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from tfrecal import datasets, metrics
from tfrecal.model.two_tower import TwoTower
from tfrecal.text.encoder import TextEncoder

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)
import tensorflow_recommenders as tfrs  # isort: skip

USERS, ITEMS, K, CANDIDATE_BATCH = 1_000, 5_000, 10, 128


def make_model(shop, tuning: str, encoder_name: str) -> TwoTower:
    """A two-tower model over the shop, every id known to it."""
    model = TwoTower.from_interactions(
        shop, encoder=TextEncoder(encoder_name, tuning=tuning))
    for tower in (model.query_tower, model.candidate_tower):
        tower.warm.assign(tf.ones_like(tower.warm))
    return model


def by_factorized_top_k(model, users, items, batch_size: int):
    """A function that evaluates as `tfrs` does; returns top-k accuracy."""
    codes = np.arange(1, ITEMS + 1, dtype=np.int32)
    catalogue = tf.data.Dataset.from_tensor_slices(codes).batch(
        CANDIDATE_BATCH).map(lambda code: (code, model.embed_candidates(
            {"item_id": code})["retrieval"]))
    metric = tfrs.metrics.FactorizedTopK(candidates=catalogue, ks=(K,))
    held_out = tf.data.Dataset.from_tensor_slices(
        (users, items)).batch(batch_size).cache()

    @tf.function(reduce_retracing=True)
    def test_step(user, item):
        metric.update_state(
            model.embed_queries({"user_id": user})["retrieval"],
            model.embed_candidates({"item_id": item})["retrieval"],
            true_candidate_ids=item)

    def evaluate():
        metric.reset_states()
        for user, item in held_out:
            test_step(user, item)
        return float(metric.result()[0])

    return evaluate


def by_encode_once(model, users, items, seen=None):
    """A function that evaluates as tfrecal does; returns recall@k."""
    codes = tf.TensorSpec([None], tf.int32)
    query = tf.function(lambda code: model.embed_queries(
        {"user_id": code})["retrieval"], input_signature=[codes])
    candidate = tf.function(lambda code: model.embed_candidates(
        {"item_id": code})["retrieval"], input_signature=[codes])
    relevant = metrics.pairs(np.arange(USERS), items - 1, (USERS, ITEMS))

    def encode(tower, values):
        return np.concatenate([tower(values[i:i + 2048]).numpy()
                               for i in range(0, len(values), 2048)])

    def evaluate():
        return metrics.ranking(
            encode(query, users),
            encode(candidate, np.arange(1, ITEMS + 1, dtype=np.int32)),
            relevant, seen, k=K).mean()[f"recall@{K}"]

    return evaluate


def side_by_side(evaluations: dict, repeats: int):
    """Medians of seconds and the values, taken in turn after a warm-up."""
    values = {name: run() for name, run in evaluations.items()}
    seconds = {name: [] for name in evaluations}
    for _ in range(repeats):
        for name, run in evaluations.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return ({name: statistics.median(s) for name, s in seconds.items()},
            values)


def held_out(model, rng):
    """Users and one item each, drawn near the top of the user's ranking."""
    users = np.arange(1, USERS + 1, dtype=np.int32)
    scores = tf.matmul(
        model.embed_queries({"user_id": users})["retrieval"],
        model.embed_candidates({"item_id": np.arange(
            1, ITEMS + 1, dtype=np.int32)})["retrieval"], transpose_b=True)
    order = np.argsort(-scores.numpy(), axis=1)
    rank = rng.integers(0, 4 * K, USERS)
    return users, np.int32(order[np.arange(USERS), rank] + 1)


def run(tuning: str, batch_sizes, repeats: int, encoder_name: str) -> dict:
    """Prints a table; returns batch size -> speed-up."""
    shop = datasets.shop(users=USERS, items=ITEMS, ratings=20 * USERS)
    model = make_model(shop, tuning, encoder_name)
    users, items = held_out(model, np.random.default_rng(0))
    seen = metrics.pairs(shop.user_code - 1, shop.item_code - 1,
                         (USERS, ITEMS))
    evaluations = {f"FactorizedTopK, {size} users a batch":
                   by_factorized_top_k(model, users, items, size)
                   for size in batch_sizes}
    ours = "tfrecal, encode once"
    evaluations[ours] = by_encode_once(model, users, items)
    evaluations[f"{ours}, seen items masked"] = by_encode_once(
        model, users, items, seen)
    seconds, values = side_by_side(evaluations, repeats)
    print(f"\n{tuning} encoder, {USERS} users, {ITEMS} items, k={K}, "
          f"median of {repeats}")
    for name in evaluations:
        print(f"{name:44}{seconds[name]:9.3f} s"
              f"{seconds[name] / seconds[ours]:8.1f} x"
              f"   top-{K} accuracy {values[name]:.4f}")
    for name, value in values.items():
        if "masked" not in name and abs(value - values[ours]) > 1e-6:
            raise AssertionError(f"{name} found {value}, not {values[ours]}.")
    return {size: seconds[f"FactorizedTopK, {size} users a batch"]
            / seconds[ours] for size in batch_sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--encoder", default="minilm",
                        help='"minilm", a folder or a Hugging Face name')
    options = parser.parse_args()
    sizes = (128,) if options.quick else (128, 1_000)
    speedup = run("frozen", sizes, 5 if options.quick else 11,
                  options.encoder)
    numbers = {"speedup_vs_factorized_top_k": round(speedup[128], 1)}
    if not options.quick:
        numbers["speedup_in_one_batch_of_users"] = round(speedup[1_000], 1)
        numbers["speedup_trained_top_layer"] = round(run(
            "top_n", (128,), 1, options.encoder)[128], 1)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
