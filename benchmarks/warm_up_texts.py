"""Does a SimCSE warm-up on the items' texts help items without a label?

MovieLens-100K: a fifth of the items is held out with all rows and ranked
among themselves by their texts (title, year, genres), as in `quality.py`.
MiniLM as published, and with its top layer warmed up on all items' texts
(`tfrecal.text.simcse`) for 3 and for 10 epochs. All encoders are frozen in the
fit itself. Paired by seed, of the split, the model and the warm-up.

    python benchmarks/warm_up_texts.py [--quick] [--seeds 0 1 2]
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from helpers.protocols import cold_ndcg  # noqa: E402
from helpers.results import show  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    EvaluateRetrieval,
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
    splits,
)
from tfrecal.callbacks.learning_rate import FinalCosine  # noqa: E402
from tfrecal.data.templates import default_template  # noqa: E402
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.text import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    simcse,
)

import tf_keras  # noqa: E402  isort: skip

ARMS = {"as published": 0, "3 epochs": 3, "10 epochs": 10}


def encoder_of(texts, epochs: int, seed: int):
    """A frozen MiniLM, its top layer warmed up for so many epochs.

    Returns:
        the encoder and what the warm-up reported: first and last loss,
        accuracy, alignment, uniformity, and its seconds.
    """
    frozen = TextEncoder("minilm")
    if not epochs:
        return frozen, {}
    warmed = TextEncoder("minilm", tuning="top_n", top_n=1, dropout=0.1)
    started = time.perf_counter()
    history = simcse.warm_up(warmed, texts, epochs=epochs, seed=seed)
    seconds = time.perf_counter() - started
    warmed.trainable = False  # then weights come in the frozen one's order
    frozen.set_weights(warmed.get_weights())
    return frozen, {**{key: [float(values[0]), float(values[-1])]
                       for key, values in history.items()},
                    "seconds": seconds}


def fit(split, encoder, seed: int, epochs: int) -> dict:
    """Metrics of one fit on the items without a row."""
    pool = Pool.from_interactions(split.train, initial=1.0)
    model = TwoTower.from_interactions(
        split.train, mean=float(pool.label.mean()), seed=seed,
        encoder=encoder)
    model.compile()
    config = RunConfig(final_epochs=epochs)
    model.fit(
        pool.sequence(seed=seed), epochs=epochs, verbose=0,
        callbacks=[FinalCosine(
            config.learning_rate, epochs, config.final_epochs)])
    found = EvaluateRetrieval(pool, split.test, seen=split.validation if len(
        split.validation) else None).evaluate(model)
    return {"ndcg": cold_ndcg(model, pool, split.test),
            "rmse": float(found["rmse"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="one seed, two epochs of training, no 10 epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    arms = dict(list(ARMS.items())[:2]) if options.quick else ARMS
    seeds = options.seeds[:1] if options.quick else options.seeds
    data = datasets.load("ml-100k")
    texts = default_template(data.items)(data.items)
    found, warmed = {name: [] for name in arms}, {name: [] for name in arms}
    for seed in seeds:
        split = splits.cold_items(data, 0.2, seed=seed)
        for name, epochs in arms.items():
            tf_keras.backend.clear_session()
            encoder, told = encoder_of(texts, epochs, seed)
            tf_keras.utils.set_random_seed(seed)
            found[name].append(
                fit(split, encoder, seed, 2 if options.quick else 10))
            warmed[name].append(told)
            print(seed, name, found[name][-1], told, file=sys.stderr,
                  flush=True)

    print(f"MovieLens-100K, {len(set(texts)):,} texts, seeds {seeds}; mean "
          "(standard deviation)")
    show("items without a row", found, {
        "NDCG@10 among them": "ndcg", "RMSE": "rmse"})
    base = next(iter(arms))
    for name in list(arms)[1:]:
        for title, key in (("NDCG@10", "ndcg"), ("RMSE", "rmse")):
            middle, low, high = metrics.t_interval([
                b[key] - a[key] for a, b in zip(found[base], found[name])])
            print(f"{name}, less {base}: {title} {middle:+.4f} "
                  f"[{low:+.4f}, {high:+.4f}]")
        for key in ("loss", "accuracy", "alignment", "uniformity"):
            first, last = warmed[name][0][key]
            print(f"  {key}, first and last epoch, seed {seeds[0]}: "
                  f"{first:.4f} -> {last:.4f}")
        print(f"  {warmed[name][0]['seconds']:.0f} s of warm-up")
    print(json.dumps({"found": found, "seeds": seeds}))


if __name__ == "__main__":
    main()
