"""Quality on the full pool, beside tuned matrix factorisation, ALS and BPR.

MovieLens-100K, random 80/10/10, every label known. Our models are fitted
with the package's defaults, with frozen MiniLM and with its top layer
trained; the peers' options are chosen on the validation part
(`quality_peers.py`). Then a fifth of the items is held out with all rows and
ranked among themselves, with texts and by ids only. The last table says what
training the encoder adds, paired by seed.

    python benchmarks/quality.py [--quick] [--seeds 0 1 2] [--keep FOLDER]

With `--keep` the result of each fit is kept in a folder, and a second call
goes on where the first one stopped.
"""
from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import quality_peers  # noqa: E402

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
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.scoring.scorer import PoolScorer  # noqa: E402

import tf_keras  # noqa: E402  isort: skip

MODELS = ("frozen", "top_n")
LISTED = ("Cornac MF", "implicit ALS", "Cornac BPR", "LensKit BiasedMF",
          "LensKit ImplicitMF", "Surprise SVD", "Surprise SVD++",
          "biases only")


def fit(split, tuning: str, seed: int, epochs: int) -> dict:
    """Fits a model on all of the training part.

    Args:
        split: three parts.
        tuning: of MiniLM, or "ids only" for towers of ids and histories.
        seed: of the model and of the order of rows.
        epochs: along one cosine.

    Returns:
        metric -> value on the test part, and `seconds` of the fit.
    """
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    pool = Pool.from_interactions(split.train, initial=1.0)
    options = ({"candidate_columns": [], "query_columns": []}
               if tuning == "ids only" else
               {"encoder": TextEncoder("minilm", tuning=tuning)})
    model = TwoTower.from_interactions(
        split.train, mean=float(pool.label.mean()), seed=seed, **options)
    model.compile()
    config = RunConfig(final_epochs=epochs)
    started = time.perf_counter()
    model.fit(
        pool.sequence(seed=seed), epochs=epochs, verbose=0,
        callbacks=[FinalCosine(
            config.learning_rate, epochs, config.final_epochs)])
    seconds = time.perf_counter() - started
    seen = split.validation if len(split.validation) else None
    found = EvaluateRetrieval(pool, split.test, seen=seen).evaluate(model)
    return {**{key: float(value) for key, value in found.items()},
            "cold ndcg@10": cold_ndcg(model, pool, split.test),
            "seconds": seconds}


def cold_ndcg(model, pool, test) -> float:
    """NDCG@10 of items without a training row, ranked among themselves."""
    query, candidate = PoolScorer.of(model, pool).vectors("retrieval")
    shape = len(query) - 1, len(candidate) - 1
    good = test.label >= pool.positive
    cold = ~np.isin(np.arange(shape[1]), pool.item - 1)
    if not cold.any():
        return float("nan")
    return metrics.item_slices(
        query[1:], candidate[1:], metrics.pairs(
            test.user_code[good] - 1, test.item_code[good] - 1, shape),
        groups={"cold": cold}, among="themselves", k=10)["cold"]["ndcg@10"]


def fit_peers(split, options, seed: int) -> list[dict]:
    """Results of the peers on the same split; see `quality_peers`."""
    with tempfile.TemporaryDirectory() as folder:
        quality_peers.save_split(split, folder)
        return quality_peers.peers(
            folder, python=options.peers_python, quick=options.quick,
            seed=seed)


def kept(folder: str | None, name: str, make):
    """What `make` returns; from the folder where it is there already."""
    path = folder and Path(folder) / f"{name}.json"
    if path and path.exists():
        return json.loads(path.read_text())
    print(f"{name} ...", file=sys.stderr, flush=True)
    result = make()
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result))
    return result


def show(title: str, rows: dict, keys: dict) -> None:
    """Prints means and standard deviations over seeds."""
    print(f"\n{title:24}" + "".join(f"{name:>22}" for name in keys))
    for name, found in rows.items():
        cells = []
        for key in keys.values():
            values = [one[key] for one in found]
            spread = f" ({np.std(values, ddof=1):.4f})" * (len(values) > 1)
            cells.append(f"{np.mean(values):.4f}{spread}")
        print(f"{name:24}" + "".join(f"{cell:>22}" for cell in cells),
              flush=True)


def mean(found: list[dict], key: str) -> float:
    return float(np.mean([one[key] for one in found]))


def fit_all(options, seeds, models) -> tuple[dict, dict, list]:
    """Results by model of the full pool and of cold items, and the peers'.

    Returns:
        `(warm, cold, peers)`: model -> one dict a seed, and a list a seed.
    """
    data = datasets.load("ml-100k")
    warm = {name: [] for name in models}
    cold = {name: [] for name in ("ids only", *models)}
    peers = []
    for seed in seeds:
        split = splits.random(data, seed=seed)
        held_out = splits.cold_items(data, 0.2, seed=seed)
        peers.append(kept(options.keep, f"peers-{seed}", lambda: (
            fit_peers(split, options, seed))))
        for kind, found, part in (("warm", warm, split),
                                  ("cold", cold, held_out)):
            for name in found:
                found[name].append(kept(
                    options.keep, f"{kind}-{name}-{options.epochs}-{seed}",
                    lambda: fit(part, name, seed, options.epochs)))
    return warm, cold, peers


def show_gain(warm: dict, cold: dict) -> None:
    """Prints what training the encoder adds to the frozen one."""
    print("\ntraining the top layer adds (95% interval, paired by seed)")
    for title, found, key in (
            ("RMSE", warm, "rmse"), ("NDCG@10", warm, "ndcg@10"),
            ("RMSE, cold items", cold, "rmse"),
            ("NDCG@10, cold items", cold, "cold ndcg@10")):
        middle, low, high = metrics.t_interval([
            b[key] - a[key] for a, b in zip(
                found["frozen"], found["top_n"])])
        print(f"{title:24}{middle:+.4f} [{low:+.4f}, {high:+.4f}]")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, "
                        "frozen MiniLM, one option set a peer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--peers-python", help="interpreter with the peers")
    parser.add_argument("--keep", help="folder for the result of each fit")
    options = parser.parse_args()
    seeds = options.seeds[:1] if options.quick else options.seeds
    models = MODELS[:1] if options.quick else MODELS
    warm, cold, by_peers = fit_all(options, seeds, models)

    print(f"MovieLens-100K, seeds {seeds}; mean (standard deviation)")
    peers = quality_peers.show(by_peers)
    show("full pool, test part", warm, {
        "RMSE": "rmse", "NDCG@10": "ndcg@10", "recall@10": "recall@10",
        "s a fit": "seconds"})
    show("items without a row", cold, {
        "NDCG@10 among them": "cold ndcg@10", "RMSE": "rmse"})
    if len(models) > 1:
        show_gain(warm, cold)
    best = min(models, key=lambda name: mean(warm[name], "rmse"))
    listed = [peer for peer in peers if peer["name"] in LISTED]
    print(json.dumps({
        "rmse": mean(warm[best], "rmse"),
        "rmse_best_peer": min(p["rmse"] for p in listed if p["rmse"]),
        "ndcg10": mean(warm[best], "ndcg@10"),
        "ndcg10_best_peer": max(p["ndcg10"] for p in listed),
        "ndcg10_ease": next((p["ndcg10"] for p in peers
                             if "EASE" in p["name"]), None),
        "cold_item_ndcg": mean(cold[best], "cold ndcg@10"),
        "cold_item_ndcg_id_only": mean(
            cold["ids only"], "cold ndcg@10"),
        "model": best, "seeds": seeds}))


if __name__ == "__main__":
    main()
