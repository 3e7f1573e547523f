"""What does the linear block cost to solve, by both ways, and to serve?

Clicks of a made catalogue (popularity falls as rank^-0.9, users of four
tastes among 256, 17 clicks a user, five users an item) with text vectors of
384 numbers are solved at several sizes, each in a process of its own that
reads them from a file. Then both ways solve MovieLens-100K, Book-Crossing
and a made catalogue of 2,000 items (one click in ten held out), at equal
options, and NDCG@10 tells what iteration loses: the least share over the
data sets is in the JSON. A refresh is what `PoolScorer` does when labels of
MovieLens-100K arrive. Keys end with the number of items: `solve_s_1e5` is by
iteration, `solve_s_exact_8e3` exact. Last, one client asks two servers
(`tfrecal serve`, 20,000 items, the default index) by user id, with the block
in the export and without, in turns: `served_over_without` is the ratio of the
median times.

    python benchmarks/linear_block.py [--quick] [--seeds 3]
"""
from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import scipy.sparse  # noqa: E402
import server  # noqa: E402
from helpers import served  # noqa: E402

from tfrecal import Pool, datasets, splits  # noqa: E402
from tfrecal.export.export_model import export_model  # noqa: E402
from tfrecal.metrics.ranking import pairs, ranking  # noqa: E402
from tfrecal.model import block_solvers  # noqa: E402
from tfrecal.model.linear_block import BlockOptions, solve  # noqa: E402
from tfrecal.scoring.block import GradedHistories  # noqa: E402

EXACT = block_solvers.EXACT
WAYS = {"exact": sys.maxsize, "iterative": 0}
TASTES, DIM = 256, 384


def catalogue(items: int, seed: int = 0):
    """Clicks `[5 * items + 1, items + 1]` and texts `[items + 1, DIM]`."""
    rng = np.random.default_rng(seed)
    users = 5 * items
    popularity = rng.permutation((np.arange(items) + 20.0) ** -0.9)
    niche = np.sort(rng.integers(0, TASTES, items))
    reach = np.concatenate([[0], np.cumsum(popularity)])
    first, last = (reach[np.searchsorted(niche, np.arange(TASTES), side)]
                   for side in ("left", "right"))
    clicks = np.clip(rng.geometric(1 / 16, users) + 4, 5, 200)
    user = np.repeat(np.arange(users), clicks)
    tastes = rng.choice(TASTES, (users, 4), p=(last - first) / reach[-1])
    taste = tastes[user, rng.integers(0, 4, len(user))]
    within = rng.random(len(user)) < 0.7
    low = np.where(within, first[taste], 0)
    high = np.where(within, last[taste], reach[-1])
    item = np.searchsorted(
        reach, low + rng.random(len(user)) * (high - low), "right")
    history = scipy.sparse.csr_matrix(
        (np.ones(len(user), np.float32), (user + 1, np.clip(item, 1, items))),
        shape=(users + 1, items + 1))
    history.sum_duplicates()
    history.data[:] = 1
    spread = np.arange(1, DIM + 1, dtype=np.float32) ** -0.5
    texts = rng.standard_normal((items, DIM), np.float32)
    texts += rng.standard_normal((TASTES, DIM), np.float32)[niche]
    texts *= spread
    texts /= np.linalg.norm(texts, axis=1).mean()
    return history, np.vstack([np.zeros((1, DIM), np.float32), texts])


def solved(folder: str, way: str) -> dict:
    """What a child measures: seconds, and the peak of its memory."""
    block_solvers.EXACT = WAYS[way]
    history = scipy.sparse.load_npz(Path(folder) / "history.npz")
    texts = np.load(Path(folder) / "texts.npy")
    wall, cpu = time.perf_counter(), time.process_time()
    solve(history, BlockOptions(), texts)
    return {"solve_s": time.perf_counter() - wall,
            "cpu_s": time.process_time() - cpu,
            "peak_gb": resource.getrusage(
                resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "clicks": history.nnz}


def measure(items: int, ways) -> dict:
    """Way -> what was measured in a process of its own."""
    history, texts = catalogue(items)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        scipy.sparse.save_npz(
            Path(folder) / "history.npz", history, compressed=False)
        np.save(Path(folder) / "texts.npy", texts)
        del history, texts
        for way in ways:
            done = subprocess.run(
                [sys.executable, __file__, "--solve", folder, way],
                check=True, capture_output=True, text=True)
            found[way] = json.loads(done.stdout.splitlines()[-1])
            print(f"{items:8,} items {way:10}"
                  "{clicks:11,} clicks {solve_s:7.1f} s {cpu_s:7.1f} s of "
                  "cores {peak_gb:6.2f} GB".format(**found[way]), flush=True)
    return found


def held_out(items: int, seed: int):
    """Made grades to learn from, held out pairs, texts."""
    history, texts = catalogue(items, seed)
    held = np.random.default_rng(seed).random(history.nnz) < 0.1
    relevant = pairs(
        *(codes[held] for codes in history.nonzero()), history.shape)
    history.data[held] = 0
    history.eliminate_zeros()
    return history, relevant, texts


def ratings(name: str, seed: int):
    """Grades to learn from and liked test pairs of a data set; no texts."""
    split = splits.random(datasets.load(name), seed=seed)
    pool = Pool.from_interactions(split.train, initial=1.0)
    known = GradedHistories.of_pool(pool)
    test = split.test
    liked = test.label >= pool.positive
    return known.matrix, pairs(
        test.user_code[liked], test.item_code[liked], known.shape), None


def ndcg(history, relevant, texts) -> dict:
    """Way -> NDCG@10 over the full catalogue."""
    found = {}
    for way, most in WAYS.items():
        block_solvers.EXACT = most
        block = solve(history, BlockOptions(), texts)
        found[way] = ranking(
            history @ block.rows, block.vectors, relevant,
            history.astype(bool),
            item_mask=np.arange(history.shape[1]) > 0).mean()["ndcg@10"]
    return found


def refresh() -> float:
    """Seconds to solve the block of all labels of MovieLens-100K anew."""
    pool = Pool.from_interactions(datasets.load("ml-100k"), initial=1.0)
    began = time.perf_counter()
    known = GradedHistories.of_pool(pool)
    known.queries(known.solve(BlockOptions()))
    return time.perf_counter() - began


def serve(seconds: int, rounds: int) -> dict:
    """Median ms of `recommend` by user id, with the block and without."""
    model, pool = served.random_model(20_000, dim=128)
    with tempfile.TemporaryDirectory() as folder:
        paths = {}
        for name, block in (("with", BlockOptions()), ("without", None)):
            model.linear_block = block
            paths[name] = export_model(
                model, Path(folder) / name, pool=pool).parent
        with served.server(paths["with"]) as (one, _), served.server(
                paths["without"]) as (other, _):
            found = {name: row["p50_ms"] for name, row in server.turns(
                pool, {"with": one, "without": other}, 1, 1, seconds,
                rounds)}
    print("served, median: {with:.2f} ms with the block, {without:.2f} "
          "without".format(**found), flush=True)
    return {"served_ms": round(found["with"], 3), "served_over_without":
            round(found["with"] / found["without"], 3)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--solve", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.solve:
        print(json.dumps(solved(*args.solve)))
        return
    both, large, seeds = (8_000, 13_000), (30_000, 100_000), args.seeds
    if args.quick:
        both, large, seeds = (1_000,), (3_000,), 1
    found = {}
    for items in both + large:
        ways = WAYS if items in both else ["iterative"]
        for way, one in measure(items, ways).items():
            short = np.format_float_scientific(
                items, trim="-", exp_digits=1).replace("+", "")
            if way == "exact":
                short = "exact_" + short
            found |= {f"{key}_{short}": round(one[key], 2)
                      for key in ("solve_s", "cpu_s", "peak_gb")}
    shares = []
    for name in ("ml-100k", "book-crossing", "made"):
        lists = [ndcg(*(held_out(2_000, seed) if name == "made" else
                        ratings(name, seed))) for seed in range(seeds)]
        exact, iterative = (
            np.array([one[way] for one in lists]) for way in WAYS)
        shares.append(float(np.mean(iterative / exact)))
        print(f"{name:15} NDCG@10 exact {exact.mean():.4f}, by iteration "
              f"{iterative.mean():.4f}: {shares[-1]:.4f} of it", flush=True)
    block_solvers.EXACT = EXACT
    found |= serve(*((1, 2) if args.quick else (3, 5)))
    print(json.dumps(found | {
        "refresh_s": round(refresh(), 2),
        "iterative_over_exact_ndcg": round(min(shares), 4),
        "exact_up_to": EXACT}))


if __name__ == "__main__":
    main()
