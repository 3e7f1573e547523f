"""Lists beside tuned peers, new items and fresh clicks, by data set.

Every label known, our model as `tfrecal run --rounds 0 --initial 1
--final-epochs 8 --tuning frozen` makes it. NDCG@10 and recall@10 over the
full catalogue, training and validation rows masked, beside EASE, item-kNN,
implicit's ALS, Cornac's BPR (implicit's draws popular items as negatives and
is no better than popularity), the cosine of untrained text vectors, popularity
and, where rows have an order and it is asked for (`--parts ... sasrec`),
RecTools' SASRec; peers' options are chosen on the validation part. Recall by
labels of the item. RMSE beside Cornac's matrix factorisation and biases, where
labels are graded. A fifth of the items held out with all rows: how they rank,
and what the others lose. One fresh click on ordered splits: the validation
item joins the history of the request, nothing is trained. Ablations: without
block, the block alone, without texts, without ids; on ordered splits with the
sequence query tower.

A seed draws the split and the model. Ordered splits with times are the same
for each seed; where a set has no times (`book-crossing-clicks`), what is last
is drawn.

    python benchmarks/quality.py [--quick] [--sets shop] [--seeds 0 1 2]
        [--keep FOLDER] [--peers-python PYTHON]

With `--keep` each result is kept in a folder, and a second call goes on where
the first one stopped.
"""
from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import quality_peers  # noqa: E402
from helpers import history_peers  # noqa: E402
from helpers.protocols import Judge, K, judge_new_items, new_items  # noqa: E402
from helpers.results import kept, mean, show  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    BlockOptions,
    TextEncoder,
    datasets,
    metrics,
    splits,
)
from tfrecal.data.templates import default_template  # noqa: E402
from tfrecal.export.index import build_index  # noqa: E402
from tfrecal.export.serving_model import ServingModel  # noqa: E402
from tfrecal.pool.positives import default_positive  # noqa: E402
from tfrecal.runs.build import assemble, training_callbacks  # noqa: E402
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.runs.plan import Plan  # noqa: E402
from tfrecal.scoring.block_choice import choose_linear_block  # noqa: E402
from tfrecal.scoring.scorer import PoolScorer  # noqa: E402

import tensorflow as tf  # noqa: E402  isort: skip
import tf_keras  # noqa: E402  isort: skip

# Name here -> data set, way of its split.
SETS = {
    "shop": ("shop", "random"),
    "ml-100k": ("ml-100k", "random"),
    "ml-100k-last": ("ml-100k", "last"),
    "ml-100k-plots": ("ml-100k-plots", "random"),
    "ml-100k-sparse": ("ml-100k-sparse", "random"),
    "book-crossing": ("book-crossing", "random"),
    "book-crossing-clicks-8": ("book-crossing-clicks-8", "last"),
    "book-crossing-clicks": ("book-crossing-clicks", "last")}
# Of `--new-items`: what it costs the other items.
SHARES = (1.0, 0.0, 1.5, 2.0, 3.0)
PARTS = ("ours", "peers", "ratings", "new_items", "ablations", "sasrec")
RATERS = ["biases only", "Cornac MF"]
ANSWERING = ("EASE", "item-kNN", "cosine")  # a history without training


def our_model(split, seed: int, change=None, **options):
    """Trains our model, and chooses its block, as `tfrecal run` does.

    Args:
        split: three parts.
        seed: of the model and of the order of rows.
        change: a function that changes the model before it is trained.
        **options: of the run, in place of the defaults.

    Returns:
        `(model, pool)`.
    """
    tf_keras.backend.clear_session()
    config = Plan.of(RunConfig(**{
        "data": split.train.name, "tuning": "frozen", "rounds": 0,
        "initial": 1.0, "final_epochs": 8, "seed": seed, **options}),
        split).config
    built = assemble(config, split)
    config, model, pool = built.config, built.model, built.pool
    if change:
        change(model)
    model.fit(
        pool.sequence(config.batch_size, config.seed), epochs=config.epochs,
        verbose=0, callbacks=training_callbacks(config, model, pool))
    if config.linear_block:
        print(choose_linear_block(model, pool, split.validation, seed=seed),
              file=sys.stderr)
    return model, pool


class Ours:
    """Our model as a method of `protocols`."""

    def __init__(self, model, pool):
        self.scorer = PoolScorer.of(model, pool)
        self.query, self.candidate = self.scorer.vectors("retrieval")

    def scores(self, users) -> np.ndarray:
        return self.query[users + 1] @ self.candidate[1:].T

    def requests(self, users, histories) -> np.ndarray:
        """Answers as the export does; see `history_peers.HistoryPeer`."""
        pool = self.scorer.pool
        ids = ([""] * len(histories) if users is None
               else [str(pool.user_ids[user]) for user in users])
        given = np.full((len(ids), max(map(len, histories))), "", object)
        for row, history in zip(given, histories):
            row[:len(history)] = [str(pool.item_ids[item])
                                  for item in history]
        queries = self._serving.functions["embed_queries"](
            user_id=tf.constant(ids), history=tf.constant(given))["embedding"]
        return queries.numpy() @ self.candidate[1:].T

    @functools.cached_property
    def _serving(self) -> ServingModel:
        return ServingModel(self.scorer, build_index(
            self.candidate[1:], k=K, kind="exact"), K)


def split_of(name: str, seed: int) -> splits.Split:
    """The split of a set; see the head of this file."""
    data, way = datasets.load(SETS[name][0]), SETS[name][1]
    if way == "random":
        return splits.random(data, seed=seed)
    if data.frame["timestamp"].nunique() == 1:
        data = data.take(np.random.default_rng(seed).permutation(len(data)))
    return splits.leave_last_n(data, 1, 1)


def ordered(name: str) -> bool:
    return SETS[name][1] == "last"


def ours(name: str, seed: int, options) -> dict:
    """Our lists, RMSE and fresh clicks, and the lists without the block."""
    split = split_of(name, seed)
    judge = Judge(split)
    started = time.perf_counter()
    model, pool = our_model(split, seed)
    method = Ours(model, pool)
    seconds = time.perf_counter() - started
    found = judge.lists(method.scores) | {
        "seconds": seconds,
        "options": dataclasses.asdict(model.linear_block)}
    if ordered(name):
        found["click"] = judge.fresh_click(method)
    if method.scorer.offers.labels:
        found["rmse"] = float(metrics.rmse(
            split.test.label, method.scorer.predict(
                split.test.user_code, split.test.item_code)))
    if not model.linear_block.beta:  # the choice took it out
        model.linear_block = BlockOptions()
    block = method.scorer.linear_block()
    found["block alone"] = judge.lists(
        lambda users: block.queries[users + 1] @ block.candidates[1:].T)
    model.linear_block = None
    found["without block"] = judge.lists(Ours(model, pool).scores)
    return found


def peers(name: str, seed: int, options) -> dict:
    """Peers' lists and fresh clicks, options chosen on validation."""
    split = split_of(name, seed)
    judge = Judge(split)
    best = {}
    for fit in history_peers.fits(
            judge.rows, texts_of(name),
            lambda peer: judge.ndcg(peer.scores), options.quick):
        take_better(best, *fit)
    return judged(name, seed, options, judge, best, [
        "implicit ALS", "Cornac BPR"])


def sasrec(name: str, seed: int, options) -> dict:
    """RecTools' SASRec; nothing where rows have no order."""
    if not ordered(name):
        return {}
    judge = Judge(split_of(name, seed))
    return judged(name, seed, options, judge, {}, ["RecTools SASRec"])


def ratings(name: str, seed: int, options) -> dict:
    """RMSE of peers; nothing where labels are not graded."""
    split = split_of(name, seed)
    if split.train.frame["label"].nunique() < 3:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        quality_peers.save_split(split, folder, default_positive(
            split.train.scale))
        return {one["name"]: one["rmse"] for one in quality_peers.peers(
            folder, python=options.peers_python, quick=options.quick,
            seed=seed, only=RATERS)}


def judged(name, seed, options, judge, best: dict, libraries) -> dict:
    """Judges the best of each method, and of the libraries' fits.

    Args:
        best: method -> `(worth, method, options)`; the libraries' join it.
        libraries: names of peers of `quality_peers`.
    """
    with tempfile.TemporaryDirectory() as folder:
        quality_peers.save_split(judge.split, folder, judge.positive)
        for fit in quality_peers.fit(folder, options.peers_python,
                                     options.quick, seed, libraries):
            scores = quality_peers.scores_of(Path(folder, fit["file"]))
            take_better(best, judge.ndcg(scores), fit["name"], scores,
                        fit["options"])
        found = {}
        for peer, (_, method, told) in best.items():
            scores = getattr(method, "scores", method)
            found[peer] = judge.lists(scores) | {"options": told}
            if ordered(name) and peer in ANSWERING:
                found[peer]["click"] = judge.fresh_click(method)
    return found


def take_better(best: dict, worth: float, name: str, method, told) -> None:
    """Keeps the method of a name that is worth most."""
    if worth > best.get(name, (-np.inf,))[0]:
        best[name] = worth, method, told


@functools.cache
def texts_of(name: str) -> np.ndarray:
    """Centred MiniLM vectors of norm 1 of a set, float32 `[items, dim]`."""
    items = datasets.load(SETS[name][0]).items
    texts = list(default_template(items)(items))
    return centred(np.array(TextEncoder("minilm").table(texts).initial)[1:])


def centred(vectors: np.ndarray) -> np.ndarray:
    """Returns vectors less their mean, of norm 1."""
    away = vectors - vectors.mean(axis=0)
    return away / np.maximum(
        np.linalg.norm(away, axis=1, keepdims=True), 1e-9)


def judge_new(name: str, seed: int, options) -> dict:
    """New items: ours, and the cosine of untrained text vectors."""
    warm, new = new_items(datasets.load(SETS[name][0]), seed)
    cosine = history_peers.Cosine(
        Judge(new).rows["likes"], texts_of(name))
    model, pool = our_model(warm, seed)
    found, chosen = {}, model.linear_block
    for share in SHARES:
        model.linear_block = dataclasses.replace(chosen, new_items=share)
        title = "ours" if share == 1 else f"ours, new_items={share:g}"
        found[title] = judge_new_items(Ours(model, pool).scores, warm, new)
    return {**found, "cosine": judge_new_items(cosine.scores, warm, new)}


def ablations(name: str, seed: int, options) -> dict:
    """Our lists without texts, without what is learned of ids, and in order.

    Without ids there is no block and no table of users and items; the mean of
    a history's rows stays. Where rows have an order: those of the sequence
    query tower, with the block and alone.
    """
    split = split_of(name, seed)
    judge = Judge(split)
    found = {"without texts": judge.lists(
        Ours(*our_model(split, seed, encoder="none")).scores)}
    model, pool = our_model(split, seed, without_ids, linear_block=False)
    found["without ids"] = judge.lists(Ours(model, pool).scores)
    if ordered(name):
        model, pool = our_model(
            split, seed, query="sequence", learning_rate=2e-3)
        found["sequence tower"] = judge.lists(Ours(model, pool).scores)
        model.linear_block = None
        found["sequence alone"] = judge.lists(Ours(model, pool).scores)
    return found


def without_ids(model) -> None:
    """Holds the tables of ids at zero."""
    for tower in (model.query_tower, model.candidate_tower):
        tower.id_table.assign(tf.zeros_like(tower.id_table))
        tower.id_table._constraint = tf.zeros_like


def show_set(name: str, found: dict) -> dict:
    """Prints the tables of a set; returns its part of the JSON."""
    print(f"\n## {name}")
    lists = {"NDCG@10": "ndcg", "recall@10": "recall",
             "coverage@10": "coverage"}
    mine, others = found.get("ours", []), found.get("peers", [])
    others = [{**one, **more} for one, more in zip(
        others, found.get("sasrec", [{}] * len(others)))]
    names = sorted(set.intersection(*map(set, others))) if others else []
    rows = {"ours": mine} if mine else {}
    rows |= {peer: [one[peer] for one in others] for peer in names}
    told = {}
    if rows:
        show("lists", rows, lists)
        tails = {title: [one["tail"] for one in by_seed]
                 for title, by_seed in rows.items()}
        show("recall, labels of item", tails, {
            key: key for key in next(iter(tails.values()))[0]})
    if mine:
        without = {title: [one[title] for one in mine]
                   for title in ("without block", "block alone")}
        for one in found.get("ablations", [])[:1]:
            without |= {title: [other[title] for other in found["ablations"]]
                        for title in one}
        show("ablations", without, lists)
        told |= {"ndcg10": mean(mine, "ndcg"), "recall10": mean(
            mine, "recall")}
        if "rmse" in mine[0]:
            told |= beside_raters(mine, found.get("ratings"))
    if mine and names:
        told |= beside_best(mine, others, names)
    clicks = {title: [one["click"] for one in by_seed]
              for title, by_seed in rows.items() if "click" in by_seed[0]}
    if clicks:
        show("one fresh click, NDCG@10", clicks, {
            key: key for key in ("before", "known", "one_click")})
        if {"ours", *ANSWERING} <= set(clicks):
            told["click_over_ease"] = mean(clicks["ours"], "known") / mean(
                clicks["EASE"], "known")
            told["one_click_over_best"] = mean(
                clicks["ours"], "one_click") / max(
                    mean(clicks[peer], "one_click") for peer in ANSWERING)
    if found.get("new_items"):
        told |= show_new(found["new_items"])
    return told


def beside_best(mine, others, names) -> dict:
    """Ours less the best peer by mean, paired by seed."""
    best = max(names, key=lambda peer: np.mean(
        [one[peer]["ndcg"] for one in others]))
    gain, low, high = metrics.t_interval([
        one["ndcg"] - other[best]["ndcg"]
        for one, other in zip(mine, others)])
    print(f"\nours - {best}: {gain:+.4f} [{low:+.4f}, {high:+.4f}]")
    return {"best_peer": mean([one[best] for one in others], "ndcg"),
            "best_peer_name": best, "gain": gain,
            "gain_low": low if math.isfinite(low) else None}


def beside_raters(mine, others) -> dict:
    """Prints the RMSE of ours and of peers; returns their part of the JSON."""
    rows = {"ours": mine}
    if others and others[0]:
        rows |= {peer: [{"rmse": one[peer]} for one in others]
                 for peer in others[0]}
    show("ratings", rows, {"RMSE": "rmse"})
    told = {title: mean(by_seed, "rmse") for title, by_seed in rows.items()}
    found = {"rmse": told.pop("ours")}
    return found | ({"rmse_over_best": found["rmse"] / min(told.values())}
                    if told else {})


def show_new(found) -> dict:
    """Prints how new items rank; returns its part of the JSON."""
    rows = {name: [one[name] for one in found] for name in found[0]}
    show("new items", rows, {
        "NDCG among them": "among", "recall, all items": "recall",
        "share of places": "places", "NDCG warm items": "warm",
        "and without new": "warm_alone"})
    gain, low, high = metrics.t_interval([
        one["ours"]["among"] - one["cosine"]["among"] for one in found])
    print(f"among themselves, ours - cosine: {gain:+.4f} "
          f"[{low:+.4f}, {high:+.4f}]")
    return {"new_items_gain": gain,
            "new_items_recall": mean(rows["ours"], "recall"),
            "cosine_recall": mean(rows["cosine"], "recall"),
            "warm_cost": 1 - mean(rows["ours"], "warm") / mean(
                rows["ours"], "warm_alone")}


MEASURED = {"ours": ours, "peers": peers, "ratings": ratings,
            "new_items": judge_new,
            "ablations": ablations, "sasrec": sasrec}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the shop, one "
                        "seed, one option set a peer")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[
        name for name in SETS if name != "book-crossing-clicks"],
        help="book-crossing-clicks only if it is named: it takes hours")
    parser.add_argument("--parts", nargs="+", choices=PARTS,
                        default=list(PARTS[:-1]))
    parser.add_argument("--seeds", type=int, nargs="+",
                        default=list(range(10)))
    parser.add_argument("--peers-python", help="interpreter with the peers")
    parser.add_argument("--keep", help="folder for each result")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.seeds = ["shop"], options.seeds[:1]
    found = {name: {part: [] for part in options.parts}
             for name in options.sets}
    for seed in options.seeds:
        for name in options.sets:
            for part in options.parts:
                found[name][part].append(kept(
                    options.keep, f"{name}-{part}-{seed}",
                    lambda: MEASURED[part](name, seed, options)))
    print(f"seeds {options.seeds}; mean (standard deviation)")
    print(json.dumps({name: show_set(name, parts)
                      for name, parts in found.items()}))


if __name__ == "__main__":
    sys.exit(main())
