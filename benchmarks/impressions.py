"""Are lists that were shown ordered well for users known by a history only?

Book-Crossing, 20-core, ratings of 8 and more are clicks. A fifth of the
readers is unknown to training, and half of their clicks is the history of the
request. Each of the others is shown in a list with 19 books, drawn by
popularity, that the reader never touched. Training sees such lists of the
other readers, and ends where the AUC of a tenth of them, held out, is best.
Ours answers as its export does (`embed_queries` without a user); beside it
stand its parts alone, the same model that is not told of lists, and the cosine
of untrained MiniLM vectors with the mean of the history (centred or not,
whichever is better).

    python benchmarks/impressions.py [--quick] [--seeds 0 1 2]
"""
from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from tfrecal import (  # noqa: E402  (tfrecal selects Keras 2)
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
    splits,
)
from tfrecal.callbacks import EvaluateRetrieval  # noqa: E402
from tfrecal.data.interactions import Interactions  # noqa: E402
from tfrecal.export.index import build_index  # noqa: E402
from tfrecal.export.serving_model import ServingModel  # noqa: E402
from tfrecal.scoring.scorer import PoolScorer  # noqa: E402

import tf_keras  # noqa: E402  isort: skip

CLICK, HELD_OUT, SHOWN, SHOWN_IN_TRAINING = 8, 0.2, 19, 4


def shown_lists(user, item, taken, popularity, others, rng) -> np.ndarray:
    """Draws lists: each click first, then `others` items by popularity.

    Args:
        user, item: codes of the clicks, `[n]`.
        taken: bool `[users + 1, items + 1]`, what is never drawn for a user.
        popularity: chance of each item, float `[items + 1]`.
        others: items of a list beside the click.
        rng: draws them.

    Returns:
        Codes of items, int `[n, 1 + others]`, each once in a row.
    """
    lists = np.zeros((len(user), 1 + others), np.int64)
    lists[:, 0] = item
    for place in range(1, 1 + others):
        left = np.arange(len(user))
        while len(left):
            drawn = rng.choice(len(popularity), len(left), p=popularity)
            bad = taken[user[left], drawn] | (
                lists[left] == drawn[:, np.newaxis]).any(axis=1)
            lists[left[~bad], place] = drawn[~bad]
            left = left[bad]
    return lists


class Scene:
    """The rows that train, the requests and the lists to be ordered.

    Attributes:
        train: `Interactions` with lists.
        history: ids of each request, padded with "", object `[users, n]`.
        request, items: of each list: its request, and codes of its items
            (the click first), `[lists]` and `[lists, 1 + SHOWN]`.
    """

    def __init__(self, data, seed, share=1.0):
        rng = np.random.default_rng([seed, 19])
        taken = np.zeros((data.user_vocabulary.size,
                          data.item_vocabulary.size), bool)
        taken[data.user_code, data.item_code] = True
        clicks = data.take(data.label >= CLICK)
        user, item = clicks.user_code, clicks.item_code
        readers = np.flatnonzero(np.bincount(user) >= 2)
        readers = rng.permutation(readers)[:int(share * len(readers))]
        new = readers[:int(HELD_OUT * len(readers))]
        old = np.isin(user, readers) & ~np.isin(user, new)
        popularity = np.bincount(
            item[old], minlength=data.item_vocabulary.size) / old.sum()
        lists = shown_lists(user[old], item[old], taken, popularity,
                            SHOWN_IN_TRAINING, rng)
        width = lists.shape[1]
        self.train = Interactions.from_frame(pd.DataFrame({
            "user_id": data.user_vocabulary.ids(np.repeat(user[old], width)),
            "item_id": data.item_vocabulary.ids(lists.ravel()),
            "label": np.tile(np.eye(1, width).ravel(), len(lists)),
            "list_id": np.repeat(np.arange(len(lists)), width)}),
            items=data.items, scale=(0, 1))
        histories, request, found = [], [], []
        for number, reader in enumerate(new):
            own = rng.permutation(item[user == reader])
            histories.append(own[:(len(own) + 1) // 2])
            found.append(own[(len(own) + 1) // 2:])
            request.append(np.full(len(found[-1]), number))
        self.request = np.concatenate(request)
        self.items = shown_lists(
            new[self.request], np.concatenate(found), taken, popularity,
            SHOWN, rng)
        codes = np.zeros((len(new), max(map(len, histories))), np.int64)
        for row, own in zip(codes, histories):
            row[:len(own)] = own
        self.codes = codes
        self.history = np.append("", data.item_ids)[codes]

    def auc(self, queries, candidates) -> float:
        """Returns the mean AUC of the lists.

        Args:
            queries: `[users, d]`.
            candidates: by code, `[items + 1, d]`.
        """
        score = np.einsum("nd,nkd->nk", queries[self.request],
                          candidates[self.items])
        rows, width = score.shape
        return metrics.within_lists(
            np.repeat(np.arange(rows), width),
            np.tile(np.arange(width) == 0, rows), score.ravel())["list_auc"]

    def cosine(self, vectors) -> float:
        """Returns the AUC of vectors `[items, d]` that nobody trained."""
        found = []
        for middle in (0.0, vectors.mean(axis=0)):
            moved = vectors - middle
            moved = moved / np.linalg.norm(moved, axis=1, keepdims=True)
            moved = np.vstack([np.zeros_like(moved[:1]), moved])
            found.append(self.auc(moved[self.codes].sum(axis=1), moved))
        return max(found)


def fit(scene, seed: int, epochs: int, told=True) -> dict[str, float]:
    """Returns the AUC of a model and of its parts.

    Args:
        scene: what to train on, and what is asked.
        seed: draws weights and order.
        epochs: most epochs.
        told: whether training knows which rows were shown together.
    """
    import tensorflow as tf

    tf_keras.utils.set_random_seed(seed)
    train, validation, _ = splits.random(scene.train, (0.9, 0.1, 0), seed)
    if not told:
        train = train.with_frame(train.frame.drop(columns="list_id"))
    pool = Pool.from_interactions(train, initial=1.0)
    model = TwoTower.from_interactions(
        train, encoder=TextEncoder("minilm", tuning="frozen"), dropout=0.05,
        mean=float(train.label.mean()), seed=seed)
    model.compile(learning_rate=5e-3)
    model.fit(pool.sequence(batch_size=1024, seed=seed), epochs=epochs,
              verbose=0, shuffle=False, callbacks=[
                  EvaluateRetrieval(pool, validation),
                  tf_keras.callbacks.EarlyStopping(
                      "val_list_auc", mode="max", patience=1,
                      restore_best_weights=True)])
    scorer = PoolScorer.of(model, pool)
    candidates = scorer.vectors("retrieval")[1]
    serving = ServingModel(scorer, build_index(
        candidates[1:], k=10, kind="exact"), 10)
    queries = np.concatenate([serving.functions["embed_queries"](
        user_id=tf.constant([""] * len(some)),
        history=tf.constant(some, tf.string))["embedding"]
        for some in np.split(scene.history, range(
            256, len(scene.history), 256))])
    width = scorer.trained_vectors("retrieval")[1].shape[1]
    return {"ours": scene.auc(queries, candidates),
            "trained part": scene.auc(
                queries[:, :width], candidates[:, :width]),
            "linear block": scene.auc(
                queries[:, width:], candidates[:, width:]),
            "cosine": scene.cosine(
                np.array(model.candidate_tower.table.initial)[1:])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="one seed, a third of the readers, two epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    seeds = options.seeds[:1] if options.quick else options.seeds
    epochs = 2 if options.quick else options.epochs
    data = datasets.load("book-crossing")
    found: dict[str, list[float]] = {}
    for seed in seeds:
        started = time.perf_counter()
        scene = Scene(data, seed, 1 / 3 if options.quick else 1.0)
        results = fit(scene, seed, epochs)
        if not options.quick:
            results["not told of lists"] = fit(
                scene, seed, epochs, told=False)["ours"]
        for name, value in results.items():
            found.setdefault(name, []).append(value)
        print(f"seed {seed}: {len(scene.train):,} rows, "
              f"{len(scene.history):,} requests, {len(scene.items):,} lists, "
              f"{time.perf_counter() - started:.0f} s; " + ", ".join(
                  f"{name} {value:.4f}" for name, value in results.items()),
              flush=True)
    mean = {name: float(np.mean(values)) for name, values in found.items()}
    for name, value in mean.items():
        print(f"{name:18} AUC {value:.4f} ({np.std(found[name]):.4f})")
    gains = np.subtract(found["ours"], found["cosine"])
    print(json.dumps({
        "auc": mean["ours"], "cosine_auc": mean["cosine"],
        "gain": float(gains.mean()), "gain_least": float(gains.min()),
        "auc_not_told": mean.get("not told of lists"),
        "auc_trained": mean["trained part"],
        "auc_block": mean["linear block"], "seeds": seeds}))


if __name__ == "__main__":
    main()
