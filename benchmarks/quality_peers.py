"""Well-kept libraries on a split of ours: test RMSE, NDCG@10, recall@10.

`peers(folder)` fits matrix factorisations, ALS, BPR and EASE from Cornac,
LensKit, Surprise and implicit on the training part, chooses each peer's
options on the validation part, and reports the test part, all by
`tfrecal.metrics`; `quality.py` takes ALS, BPR and SASRec from here. The
libraries need not be installed beside TensorFlow: they run in another
interpreter (`--peers-python`, TFRECAL_PEERS_PYTHON) and hand over scores or
vectors as .npy and .npz (`peer_fits.py`).

    python benchmarks/quality_peers.py [--quick] [--seeds 0 1 2]
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

FITS = Path(__file__).resolve().parent / "helpers/peer_fits.py"


def save_split(split, folder, positive: float = 4.0) -> Path:
    """Writes what the peers read: positions and labels of the three parts.

    Args:
        split: train, validation and test `Interactions` with shared tables.
        folder: where `split.npz` goes; made if missing.
        positive: labels at or above this are relevant.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name in ("train", "validation", "test"):
        part = getattr(split, name)
        arrays |= {f"{name}_user": part.user_code - 1,
                   f"{name}_item": part.item_code - 1,
                   f"{name}_label": part.frame["label"].to_numpy(np.float32)}
    np.savez(folder / "split.npz", **arrays, positive=np.float32(positive),
             shape=np.int64([len(split.train.users), len(split.train.items)]),
             scale=np.float32(split.train.scale))
    return folder


def fit(split_folder, python: str | None = None, quick: bool = False,
        seed: int = 0, only=()) -> list[dict]:
    """Fits all peers that can be imported, with each of their options.

    Args:
        split_folder: folder that `save_split` wrote; scores go there too.
        python: interpreter that has the peers; by default the variable
            TFRECAL_PEERS_PYTHON, or this interpreter.
        quick: one option set a peer, no slow peers.
        seed: of the peers' own randomness.
        only: names of peers; see `peer_fits.fit_all`.

    Returns:
        One dict a fit: `name`, `kind` ("rating" or "ranking", what its
        options are chosen for), `file` for `scores_of`, `seconds`,
        `options`.

    Raises:
        RuntimeError: the other interpreter failed.
    """
    folder = Path(split_folder)
    python = python or os.environ.get("TFRECAL_PEERS_PYTHON", sys.executable)
    command = [python, "-I", str(FITS), str(folder), "--seed", str(seed)]
    command += ["--quick"] * quick + ["--only", *only] * bool(only)
    try:  # nested BLAS threads slow the peers' own threads down
        subprocess.run(command, check=True, env=os.environ | {
            "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(
            f"The peers' interpreter must run peer_fits.py. Received: {error}"
            " Name one that has cornac, implicit, lenskit or "
            "scikit-surprise by --peers-python.") from error
    return json.loads((folder / "fits.json").read_text())


def scores_of(path: Path) -> Callable:
    """A function from positions of users to the scores of a fit."""
    if path.suffix == ".npz":
        vectors = np.load(path)
        users, items = vectors["users"], vectors["items"]
        return lambda rows: users[rows] @ items.T
    scores = np.load(path, mmap_mode="r")
    return lambda rows: np.array(scores[rows])


def peers(split_folder, k: int = 10, **options) -> list[dict]:
    """Fits and measures all peers that can be imported.

    Args:
        split_folder, **options: see `fit`.
        k: cut-off of the ranking metrics.

    Returns:
        One dict a peer: `name`, `kind`, `rmse` (None for "ranking"),
        `ndcg{k}`, `recall{k}`, `seconds` of the fit, `options`.
    """
    folder = Path(split_folder)
    fits = fit(folder, **options)
    data = np.load(folder / "split.npz")
    best = {}
    for one in fits:
        scores = scores_of(folder / one["file"])
        found = _measure(data, scores, "validation", one["kind"], k)
        worth = (-found["rmse"] if one["kind"] == "rating"
                 else found[f"ndcg{k}"])
        if worth > best.get(one["name"], (-np.inf,))[0]:
            best[one["name"]] = worth, one, _measure(
                data, scores, "test", one["kind"], k)
    return [{"name": name, "kind": one["kind"], **test,
             "seconds": one["seconds"], "options": one["options"]}
            for name, (_, one, test) in best.items()]


def _measure(data, scores, part: str, kind: str, k: int) -> dict:
    """RMSE and ranking of one part; what came before it is masked."""
    from tfrecal import metrics

    shape, label = tuple(data["shape"]), data[f"{part}_label"]
    pair = data[f"{part}_user"], data[f"{part}_item"]
    good = label >= data["positive"]
    before = ["train"] + ["validation"] * (part == "test")
    seen = metrics.pairs(*(np.concatenate([data[f"{b}_{of}"] for b in before])
                           for of in ("user", "item")), shape)
    mean = metrics.ranking_from_scores(
        scores, metrics.pairs(pair[0][good], pair[1][good], shape), seen,
        k=k).mean()
    rmse = (metrics.rmse(label, np.clip(
        scores(np.arange(shape[0]))[pair], *data["scale"]))
        if kind == "rating" else None)
    return {"rmse": rmse, f"ndcg{k}": mean[f"ndcg@{k}"],
            f"recall{k}": mean[f"recall@{k}"]}


def show(rows_by_seed: list[list[dict]], k: int = 10) -> list[dict]:
    """Prints means and standard deviations over seeds, best first.

    Returns:
        The means, one dict a peer.
    """
    means = []
    for row in rows_by_seed[0]:
        same = [r for rows in rows_by_seed for r in rows
                if r["name"] == row["name"]]
        means.append({"name": row["name"], "kind": row["kind"]})
        for key in ("rmse", f"ndcg{k}", f"recall{k}", "seconds"):
            values = [r[key] for r in same if r[key] is not None]
            means[-1][key] = float(np.mean(values)) if values else None
            means[-1][key + "_sd"] = float(np.std(
                values, ddof=min(1, len(values) - 1))) if values else None
    means.sort(key=lambda m: (m["kind"] != "rating", m["rmse"] or 0,
                              -m[f"ndcg{k}"]))
    print(f"{'peer':20}{'RMSE':>17}{f'NDCG@{k}':>17}{f'recall@{k}':>17}"
          f"{'s a fit':>9}")
    for mean in means:
        cells = ["" if mean[key] is None else
                 f"{mean[key]:.4f} ({mean[key + '_sd']:.4f})"
                 for key in ("rmse", f"ndcg{k}", f"recall{k}")]
        print(f"{mean['name']:20}" + "".join(f"{c:>17}" for c in cells)
              + f"{mean['seconds']:9.1f}")
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--data", default="ml-100k")
    parser.add_argument("--peers-python", help="interpreter with the peers")
    options = parser.parse_args()
    from tfrecal import datasets, splits

    data, found = datasets.load(options.data), []
    low, high = data.scale
    for seed in options.seeds[:1] if options.quick else options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            save_split(splits.random(data, seed=seed), folder,
                       low + 0.75 * (high - low))
            found.append(peers(folder, python=options.peers_python,
                               quick=options.quick, seed=seed))
    means = show(found)
    print(json.dumps({
        "rmse_best_peer": min(m["rmse"] for m in means if m["rmse"]),
        "ndcg10_best_peer": max(m["ndcg10"] for m in means)}))


if __name__ == "__main__":
    main()
