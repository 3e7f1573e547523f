"""Is retraining on 10% new feedback cheaper than training from nothing?

MovieLens-100K with frozen MiniLM, random 80/10/10. 5% of the users and 5% of
the items join after the first training, with all their rows (about a tenth of
all). The served model grows by them and goes on as `tfrecal retrain` does;
beside it a model is trained on the same rows from fresh weights, as
`--reset` does. Test rows judge both, paired by seed.

    python benchmarks/retrain.py [--quick] [--seeds 5]
"""
from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402

from tfrecal import (  # noqa: E402  (tfrecal selects Keras 2)
    EvaluateRetrieval,
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    splits,
)
from tfrecal.callbacks.learning_rate import RoundCosine  # noqa: E402
from tfrecal.metrics import t_interval  # noqa: E402
from tfrecal.model.transfer import transfer  # noqa: E402
from tfrecal.retrain.config import RetrainConfig  # noqa: E402
from tfrecal.retrain.job import RESET  # noqa: E402

CONFIG = RetrainConfig(run="-", to="-")


def fresh(data, columns, encoder, seed: int) -> TwoTower:
    """A model with fresh weights over the tables of `data`."""
    model = TwoTower.from_interactions(
        data, encoder=encoder, query_columns=columns[0],
        candidate_columns=columns[1], mean=3.53, seed=seed)
    model.compile(learning_rate=CONFIG.learning_rate)
    return model


def fit(model, train, longer: int, seed: int) -> float:
    """Trains as a retraining does; seconds, tracing of graphs excluded."""
    pool = Pool.from_interactions(train, initial=1.0)
    watch = [RoundCosine(CONFIG.learning_rate)]
    start = model.get_weights()
    tiny = pool.sequence(CONFIG.batch_size, seed)
    model.fit(tiny, epochs=1, steps_per_epoch=1, verbose=0)
    model.set_weights(start)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype.name))
    sequence = pool.sequence(
        CONFIG.batch_size, seed, steps=longer * CONFIG.steps,
        passes=longer * CONFIG.passes)
    began = time.perf_counter()
    model.fit(sequence, epochs=1, verbose=0, callbacks=watch)
    return time.perf_counter() - began


def judge(model, split) -> dict:
    pool = Pool.from_interactions(split.train, initial=1.0)
    return EvaluateRetrieval(
        pool, split.test, seen=split.validation).evaluate(model)


def once(data, encoder, seed: int) -> dict:
    """Seconds and metrics of both ways of one seed."""
    split = splits.random(data, seed=seed)
    rng = np.random.default_rng(seed)
    joined = [rng.random(len(table)) < 0.05
              for table in (data.users, data.items)]
    train = split.train
    new = (joined[0][train.user_code - 1] | joined[1][train.item_code - 1])
    old = replace(train, frame=train.frame[~new].reset_index(drop=True),
                  users=train.users[~joined[0]],
                  items=train.items[~joined[1]])
    columns = [list(table.columns) for table in (data.users, data.items)]
    columns[1] = [name for name in columns[1] if name != "title"]
    served = fresh(old, columns, encoder, seed)
    fit(served, old, RESET, seed)
    warm = fresh(train, columns, encoder, seed + 1)
    began = time.perf_counter()
    transfer(served, warm)
    seconds = time.perf_counter() - began
    found = {"new": float(new.mean())}
    for name, model, longer in (("warm", warm, 1), (
            "zero", fresh(train, columns, encoder, seed + 2), RESET)):
        spent = fit(model, train, longer, seed)
        metrics = judge(model, split)
        found[name] = {"seconds": spent + seconds * (name == "warm"),
                       "ndcg": metrics["ndcg@10"], "rmse": metrics["rmse"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    data = datasets.load("ml-100k")
    encoder = TextEncoder("minilm", tuning="frozen")
    found = [once(data, encoder, seed)
             for seed in range(2 if arguments.quick else arguments.seeds)]

    def all_of(way, key):
        return np.array([one[way][key] for one in found])

    print(f"{'':8}{'s a fit':>10}{'NDCG@10':>10}{'RMSE':>10}")
    for way in ("warm", "zero"):
        print(f"{way:8}" + "".join(
            f"{all_of(way, key).mean():10.4f}"
            for key in ("seconds", "ndcg", "rmse")))
    shares = [one["new"] for one in found]
    print(f"new feedback: {np.mean(shares):.1%} of the rows")
    gap = all_of("warm", "ndcg") - all_of("zero", "ndcg")
    mean, *ends = t_interval(gap)
    rmse = all_of("warm", "rmse") - all_of("zero", "rmse")
    speed = np.median(all_of("zero", "seconds") / all_of("warm", "seconds"))
    print("NDCG@10, warm minus zero: {:+.4f} [{:+.4f}, {:+.4f}]".format(
        mean, *ends))
    print(json.dumps({
        "speedup": round(float(speed), 2),
        "ndcg_difference": round(mean, 4),
        "interval": [round(end, 4) for end in ends],
        "rmse_difference": round(float(rmse.mean()), 4)}))


if __name__ == "__main__":
    main()
