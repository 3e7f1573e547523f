"""Does fine-tuning the encoder on histories help items without a label?

A fifth of the items is held out with all rows, as in `quality.py`: NDCG@10 of
them among themselves, and of the other items. Our model with MiniLM as
published (`--tuning frozen`), and with its top layer fine-tuned on the
training part's histories first (`--tuning beeformer`), both frozen in the fit.
Beside them the cosine of a user's liked items by the same text vectors,
without towers. Paired by seed, of the split, the model and the fine-tuning.

With `--choose` options of `beeformer.fine_tune` are tried on another fifth of
the items, held out of the training part: cosine only, no test item is looked
at.

    python benchmarks/beeformer.py [--quick] [--sets ml-100k] [--seeds 0 1 2]
        [--layers 1 2] [--keep FOLDER] [--choose]
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
from helpers.history_peers import Cosine  # noqa: E402
from helpers.protocols import Judge, judge_new_items, new_items  # noqa: E402
from helpers.results import kept, show  # noqa: E402
from quality import Ours, centred, our_model  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    Pool,
    TextEncoder,
    datasets,
    metrics,
    splits,
)
from tfrecal.data.templates import default_template  # noqa: E402
from tfrecal.scoring.block import GradedHistories  # noqa: E402
from tfrecal.text import beeformer  # noqa: E402

SETS = ("shop", "ml-100k", "ml-100k-plots", "book-crossing-clicks-8")
RATES = (1e-4, 3e-4)  # tried by `--choose`
TOLD = {"NDCG among new": "among", "cosine among new": "cosine",
        "recall, all items": "recall", "NDCG warm items": "warm",
        "and without new": "warm_alone", "seconds": "seconds"}


def arm(name: str, seed: int, layers: int, epochs: int) -> dict:
    """Judges our model on new items, and the cosine of its text vectors.

    Args:
        name: the data set.
        seed: of the split, the model and the fine-tuning.
        layers: number of layers that are fine-tuned; 0 for none.
        epochs: of the fit.
    """
    warm, new = new_items(datasets.load(name), seed)
    started = time.perf_counter()
    model, pool = our_model(
        warm, seed, tuning="beeformer" if layers else "frozen",
        top_n=max(layers, 1), final_epochs=epochs)
    seconds = time.perf_counter() - started
    texts = np.array(model.candidate_tower.table.initial)[1:]
    cosine = Cosine(Judge(new).rows["likes"], centred(texts))
    return judge_new_items(Ours(model, pool).scores, warm, new) | {
        "seconds": seconds, "cosine": judge_new_items(
            cosine.scores, warm, new)["among"]}


def choose(name: str, seed: int) -> None:
    """Prints NDCG@10 by cosine of items held out of the training part."""
    outer = splits.cold_items(datasets.load(name), 0.2, seed=seed)
    split = splits.cold_items(outer.train, 0.2, seed=seed + 100)
    texts = list(default_template(split.train.items)(split.train.items))
    judge = Judge(split)
    is_new = np.zeros(judge.shape[1], bool)
    is_new[split.test.item_code - 1] = True
    histories = GradedHistories.of_pool(
        Pool.from_interactions(split.train, initial=1.0)).matrix[:, 1:]

    def among(encoder):
        cosine = Cosine(judge.rows["likes"], centred(encoder.encode(texts)))
        return judge.ranked(cosine.scores, mask=is_new).mean()["ndcg@10"]

    print(f"{name}, seed {seed}, as published: "
          f"{among(TextEncoder('minilm')):.4f}", flush=True)
    for rate in RATES:
        encoder = TextEncoder("minilm", tuning="top_n", top_n=1)
        started = time.perf_counter()
        losses = beeformer.fine_tune(
            encoder, texts, histories, learning_rate=rate, seed=seed)["loss"]
        seconds = time.perf_counter() - started
        print(f"  learning_rate={rate:g}: {among(encoder):.4f}, loss "
              f"{losses[0]:.4f} -> {losses[-1]:.4f}, {seconds:.0f} s",
              flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="the shop, one seed, two epochs of the fit")
    parser.add_argument("--sets", nargs="+", choices=SETS,
                        default=list(SETS[1:]))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--layers", type=int, nargs="+", default=[1])
    parser.add_argument("--keep", help="folder for each result")
    parser.add_argument("--choose", action="store_true",
                        help="try options, on items of the training part")
    options = parser.parse_args()
    if options.quick:
        options.sets, options.seeds = ["shop"], options.seeds[:1]
    if options.choose:
        for name in options.sets:
            choose(name, options.seeds[0])
        return
    arms = {"frozen": 0} | {
        f"beeformer, top {n}": n for n in options.layers}
    found = {name: {title: [] for title in arms} for name in options.sets}
    for seed in options.seeds:
        for name in options.sets:
            for title, layers in arms.items():
                found[name][title].append(kept(
                    options.keep, f"{name}-{layers}-{seed}", lambda: arm(
                        name, seed, layers, 2 if options.quick else 8)))
                print(name, seed, title, found[name][title][-1],
                      file=sys.stderr, flush=True)
    print(f"seeds {options.seeds}; mean (standard deviation)")
    gains = {}
    for name, rows in found.items():
        show(name, rows, TOLD)
        gains[name] = {}
        for title in list(arms)[1:]:
            gains[name][title] = {}
            for key in ("among", "cosine", "recall", "warm", "warm_alone"):
                middle, low, high = metrics.t_interval([
                    b[key] - a[key] for a, b in zip(
                        rows["frozen"], rows[title])])
                gains[name][title][key] = [middle, low, high] if (
                    np.isfinite(low)) else middle
                print(f"{title}, less frozen: {key} {middle:+.4f} "
                      f"[{low:+.4f}, {high:+.4f}]")
    print(json.dumps({"found": found, "gains": gains,
                      "seeds": options.seeds}))


if __name__ == "__main__":
    main()
