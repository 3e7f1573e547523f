"""Does FGM on the word embeddings help where the encoder is trained in full?

MovieLens-100K with a tenth of the training labels, so that a fit is short
and labels are few, where regularisation should tell. A fifth of the items is
held out with all rows and ranked among themselves by their texts, as in
`quality.py`. MiniLM with `tuning="full"`, without FGM and with
`compile(adversarial=)`, paired by seed.

    python benchmarks/fgm.py [--quick] [--seeds 0 1 2] [--epsilons 1]
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import quality  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    EvaluateRetrieval,
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    splits,
)
from tfrecal.run import learning_rate  # noqa: E402
from tfrecal.run_config import RunConfig  # noqa: E402

import tf_keras  # noqa: E402  isort: skip


def fit(split, epsilon: float, seed: int, epochs: int) -> dict:
    """Metrics of one fit, and its seconds."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    pool = Pool.from_interactions(split.train, initial=0.1, seed=seed)
    rows = pool.labelled_rows()
    model = TwoTower.from_interactions(
        split.train, mean=float(pool.label[rows].mean()), seed=seed,
        encoder=TextEncoder("minilm", tuning="full"))
    model.compile(adversarial=epsilon)
    config = RunConfig(final_epochs=epochs)
    started = time.perf_counter()
    model.fit(
        pool.sequence(seed=seed), epochs=epochs, verbose=0,
        callbacks=[tf_keras.callbacks.LearningRateScheduler(
            lambda epoch: learning_rate(epoch, epochs, config))])
    seconds = time.perf_counter() - started
    found = EvaluateRetrieval(pool, split.test).evaluate(model)
    return {"ndcg": quality.cold_ndcg(model, pool, split.test),
            "rmse": float(found["rmse"]), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="one seed, one epoch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0])
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    seeds = options.seeds[:1] if options.quick else options.seeds
    epochs = 1 if options.quick else options.epochs
    data = datasets.load("ml-100k")
    found = {"no FGM": [], **{f"epsilon {e:g}": [] for e in options.epsilons}}
    for seed in seeds:
        split = splits.cold_items(data, 0.2, seed=seed)
        for (name, rows), epsilon in zip(
                found.items(), [0.0, *options.epsilons]):
            rows.append(fit(split, epsilon, seed, epochs))
            print(seed, name, rows[-1], file=sys.stderr, flush=True)

    print(f"MovieLens-100K, a tenth of the labels, {epochs} epochs, seeds "
          f"{seeds}; mean (standard deviation)")
    quality.show("items without a row", found, {
        "NDCG@10 among them": "ndcg", "RMSE": "rmse", "s a fit": "seconds"})
    for name in list(found)[1:]:
        for title, key in (("NDCG@10", "ndcg"), ("RMSE", "rmse")):
            middle, low, high = quality.interval([
                b[key] - a[key] for a, b in zip(found["no FGM"],
                                                found[name])])
            print(f"{name}, less no FGM: {title} {middle:+.4f} "
                  f"[{low:+.4f}, {high:+.4f}]")
    print(json.dumps({"found": found, "seeds": seeds}))


if __name__ == "__main__":
    main()
