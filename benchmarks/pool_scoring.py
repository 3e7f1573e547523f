"""How fast are all pairs of users and items scored, and the best chosen?

The score is the mean of 10 MC-dropout passes plus their standard deviation
(`upper_bound`; the prediction without dropout is computed too), and the best
1,000 are kept: `PoolScorer.top`, in memory bounded by a tile.

Synthetic pairs, 64 dimensions: 10^8 of them, beside what one large matrix
product reaches in the same run (what share of it the products alone make
up); and a part of 10^9, with the peak memory of the process, vectors of all
11 passes included, before TensorFlow is loaded. 4 million pairs, an eighth
of them taken, at most 3 a user and 5 an item: the same choice as sorting all
of them and walking down the list?

MovieLens-100K, all 943 x 1,682 pairs, by the default model (128 dimensions,
frozen MiniLM, its weights random), encoding included, beside `model.predict`
on pairs, 8,192 a batch, on a sample. `speedup_vs_predict` sets all of that
beside one predict, which gives a mean and no passes;
`speedup_same_work` counts predict 11 times. MiniLM's vectors are looked up
in both; a model that trains its top layer would make `predict` far slower.

    python benchmarks/pool_scoring.py [--quick]

`--quick` takes 10^7 pairs for 10^8.
"""
from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from types import SimpleNamespace

import numpy as np

from tfrecal.hashes import hashed
from tfrecal.scoring.labels import Labels
from tfrecal.scoring.stream.best_pairs import TIE, top_pairs
from tfrecal.scoring.stream.block_scores import Moments, Products
from tfrecal.scoring.stream.pair_blocks import Block, CrossPairs

PASSES, DIM, BEST = 10, 64, 1000
STARS = SimpleNamespace(loss="mse", scale=(1.0, 5.0), offset=3.5)


def synthetic(users: int, items: int, kind: str = "upper_bound") -> Moments:
    """Scores of vectors that the passes drop a tenth of."""
    rng = np.random.default_rng(0)
    sides = [rng.normal(0, 0.25, (size + 1, DIM)).astype(np.float32)
             for size in (users, items)]

    def dropped(vectors):
        return vectors * (rng.random(vectors.shape, np.float32) > 0.1)

    return Moments(kind, Products(*sides), [
        Products(*map(dropped, sides)) for _ in range(PASSES)], Labels(STARS))


def codes(size: int) -> np.ndarray:
    return np.arange(1, size + 1, dtype=np.int32)


def sgemm() -> float:
    """GFLOP/s of a large matrix product; the best of five."""
    matrix = np.random.default_rng(0).random((3072, 3072), np.float32)
    matrix @ matrix
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2 * len(matrix) ** 3 / min(seconds) / 1e9


def rate(score: Moments, users: int, items: int, repeats: int):
    """Medians: million pairs a second with the best chosen; cores used."""
    found, cores = [], []
    for _ in range(repeats):
        start, busy = time.perf_counter(), time.process_time()
        top_pairs(CrossPairs(codes(users), codes(items)), score, BEST)
        seconds = time.perf_counter() - start
        found.append(users * items / seconds / 1e6)
        cores.append((time.process_time() - busy) / seconds)
    return statistics.median(found), statistics.median(cores)


def identical(size: int) -> bool:
    """Whether a full sort and a plain walk choose the same pairs."""
    score = synthetic(size, size)
    rng = np.random.default_rng(1)
    taken = np.unique(rng.integers(0, size * size, size * size // 8))
    taken = taken // size + 1, taken % size + 1
    pairs = CrossPairs(codes(size), codes(size), *taken)
    chosen = top_pairs(pairs, score, BEST, max_per_user=3, max_per_item=5,
                       seed=7)
    utility = np.concatenate([
        score(Block(codes(size)[i:i + 200], codes(size), True)).copy()
        for i in range(0, size, 200)]).reshape(size, size)
    free = np.ones(utility.shape, bool)
    free[taken[0] - 1, taken[1] - 1] = False
    user, item = (part.astype(np.int32) + 1 for part in np.nonzero(free))
    order = np.lexsort((hashed(user, item, 7, TIE), utility[free]))[::-1]
    users, items, expected = [0] * (size + 1), [0] * (size + 1), []
    for u, i in zip(user[order].tolist(), item[order].tolist()):
        if users[u] < 3 and items[i] < 5:
            users[u] += 1
            items[i] += 1
            expected.append((u, i))
        if len(expected) == BEST:
            break
    return list(zip(chosen[0].tolist(), chosen[1].tolist())) == expected


def movielens(repeats: int) -> dict:
    """Million pairs a second of `top` and of `predict`."""
    # Not at the top: TensorFlow would count in the peak of memory.
    from tfrecal import datasets
    from tfrecal.model.two_tower import TwoTower
    from tfrecal.pool.histories import ragged_histories
    from tfrecal.pool.pool import Pool
    from tfrecal.scoring.scorer import PoolScorer
    from tfrecal.text.encoder import TextEncoder

    data = datasets.load("ml-100k")
    model = TwoTower.from_interactions(
        data, encoder=TextEncoder("minilm", tuning="frozen"), dropout=0.1,
        mean=3.5)
    model.compile()
    for tower in (model.query_tower, model.candidate_tower):
        tower.warm.assign(np.r_[0, np.ones(len(tower.ids))])
    pool = Pool.cross(data)
    scorer = PoolScorer(model, pool)
    total = len(pool.user_ids) * len(pool.item_ids)
    seconds = {"upper_bound": [], "closed_form_variance": [], "predict": []}
    sample = 16 * 8192
    rng = np.random.default_rng(0)
    user = rng.integers(1, len(pool.user_ids) + 1, sample).astype(np.int32)
    item = rng.integers(1, len(pool.item_ids) + 1, sample).astype(np.int32)
    pairs = {"user_id": user, "item_id": item, "history": ragged_histories(
        *pool.histories(), user, 200)}
    for _ in range(repeats + 1):
        for kind in ("upper_bound", "closed_form_variance"):
            pool.version += 1  # nothing encoded before counts
            start = time.perf_counter()
            scorer.top(kind, BEST, passes=PASSES)
            seconds[kind].append(time.perf_counter() - start)
        start = time.perf_counter()
        predicted = model.predict(pairs, batch_size=8192, verbose=0)
        seconds["predict"].append(time.perf_counter() - start)
    np.testing.assert_allclose(
        predicted, scorer.predict(user, item), atol=1e-4)
    sizes = {"predict": sample}
    return {kind: sizes.get(kind, total) / statistics.median(times[1:]) / 1e6
            for kind, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="10^7 synthetic pairs for 10^8")
    arguments = parser.parse_args()
    side, repeats = (3200, 2) if arguments.quick else (10_000, 3)
    peaks = [sgemm()]
    speed, cores = rate(synthetic(side, side), side, side, repeats)
    peaks.append(sgemm())
    mean_only, _ = rate(synthetic(side, side, "mean"), side, side, repeats)
    print(f"{side:,} x {side:,} pairs done", file=sys.stderr)
    limit = max(peaks) * 1e3 / (2 * DIM * (PASSES + 1))
    large, _ = rate(synthetic(100_000, 10_000), side // 5, 10_000, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    same = identical(2000)
    films = movielens(repeats)
    one = films["upper_bound"] / films["predict"]

    print(f"\n{'million pairs a second':44}{'':>10}")
    for name, value in (
            (f"{side:,} x {side:,}, 10 passes, best 1,000", speed),
            ("  what products alone would allow", limit),
            ("  mean only", mean_only),
            ("100,000 x 10,000 (a part), 10 passes", large),
            ("MovieLens-100K, 10 passes, encoding included",
             films["upper_bound"]),
            ("  closed-form variance", films["closed_form_variance"]),
            ("  model.predict, mean only", films["predict"])):
        print(f"{name:46}{value:10.3f}")
    print(f"10^9 pairs: {1e3 / large:.0f} s by that part; the process held "
          f"at most {peak:,.0f} MB")
    print(f"cores that the first line got: {cores:.2f} (fewer than the "
          "machine has where others use it)")
    print(f"same choice as a full sort: {'yes' if same else 'NO'}")
    print(json.dumps({
        "speedup_vs_predict": round(one, 1),
        "speedup_same_work": round(one * (PASSES + 1), 1),
        "mpairs_per_s": round(speed, 1),
        "share_of_sgemm": round(speed / limit, 3),
        "top_b_identical": same, "peak_mb": round(peak),
        "mpairs_per_s_mean_only": round(mean_only, 1),
        "mpairs_per_s_1e9": round(large, 1),
        "mpairs_per_s_ml100k": round(films["upper_bound"], 2),
        "mpairs_per_s_closed_form": round(films["closed_form_variance"], 2),
        "mpairs_per_s_predict": round(films["predict"], 4),
        "cores_used": round(cores, 2),
        "sgemm_gflops": round(max(peaks), 1)}))


if __name__ == "__main__":
    main()
