"""What Apache Beam costs beside one process, and whether it answers alike.

10^7 pairs (10,000 users, 1,000 items of the made-up shop, random weights, 64
dimensions), in one run: `PoolScorer.top` with `upper_bound` over 10 dropout
passes, best 1,000, beside `beam.top_pairs`; `best_items` for all users, k =
10, beside `beam.recommend`. Beam's Direct runner works in this process and
in two; its time includes making the pipeline, starting workers, and writing
the Parquet files. Encoding and `write_vectors` count in neither (they are
shown). Most of such a small job is its start; so the same jobs run over five
times the users too, and what they take longer is the rate, which the
projection multiplies.

    python benchmarks/beam.py [--quick]

`--quick` takes 10^6 pairs.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

K, BEST, PASSES, ITEMS = 10, 1000, 10, 1000
WAYS = {"one process": ["--direct_num_workers=1"], "two workers": [
    "--direct_num_workers=2", "--direct_running_mode=multi_processing",
    "--default_sdk_harness_log_level=ERROR"]}


def made(users: int):
    """A model of random weights and a pool of all pairs."""
    from tfrecal import datasets
    from tfrecal.model.two_tower import TwoTower
    from tfrecal.pool.pool import Pool

    data = datasets.shop(users=users, items=ITEMS, ratings=20 * users)
    model = TwoTower.from_interactions(
        data, embedding_dim=64, dropout=0.1, mean=3.0)
    model.compile()
    rng = np.random.default_rng(0)
    for tower in (model.query_tower, model.candidate_tower):
        tower.warm.assign(np.r_[0, np.ones(len(tower.ids))])
        for table in (tower.id_table, tower.bias_table):
            table.assign(rng.normal(0, 0.25, table.shape))
    return model, Pool.cross(data)


def timed(work, repeats: int):
    """`(median seconds, last result)` of `work`, called with the turn."""
    seconds = []
    for turn in range(repeats):
        start = time.perf_counter()
        found = work(turn)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), found


def top_alone(scorer):
    """Ids and utilities of the best pairs, in this process."""
    pool = scorer.pool
    user, item, utility = scorer.top("upper_bound", BEST, passes=PASSES)
    return list(zip(pool.user_ids[user - 1], pool.item_ids[item - 1],
                    utility.tolist()))


def lists_alone(scorer):
    """`{user: (items, scores)}`, in this process."""
    from tfrecal.metrics.top_k import best_items
    from tfrecal.pool.pool import LABELLED

    pool = scorer.pool
    query, candidate = scorer.vectors("retrieval")
    rows = pool.state == LABELLED
    places, scores = best_items(query[1:], candidate[1:], K, (
        pool.user[rows] - 1, pool.item[rows] - 1))
    return dict(zip(pool.user_ids, zip(
        pool.item_ids[places].tolist(), scores.tolist())))


def of_beam(job, folder):
    """What a job wrote, in the form of `top_alone` or `lists_alone`."""
    tables = [pq.read_table(path) for path in folder.glob("part-*")]
    rows = [tuple(row.values()) for one in tables for row in one.to_pylist()]
    return rows if job == "top_pairs" else {
        user: (items, scores) for user, items, scores in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="10^6 pairs")
    arguments = parser.parse_args()
    from tfrecal.scoring.beam import jobs
    from tfrecal.scoring.beam.vectors import write_vectors
    from tfrecal.scoring.scorer import PoolScorer

    users, repeats = (1000, 1) if arguments.quick else (10_000, 3)
    folder = Path(tempfile.mkdtemp())
    found, same = {}, True
    large, pool = made(5 * users)
    write_vectors(large, pool, folder / "5x", passes=PASSES, group=users // 5)
    model, pool = made(users)
    start = time.perf_counter()
    write_vectors(model, pool, folder / "v", passes=PASSES, group=users // 5)
    written = time.perf_counter() - start
    size = sum(p.stat().st_size for p in (folder / "v").iterdir())
    scorer = PoolScorer.of(model, pool)
    print("vectors written", file=sys.stderr)

    for job, alone, options in (
            ("top_pairs", top_alone, {"strategy": "upper_bound", "n": BEST}),
            ("recommend", lists_alone, {"k": K})):
        alone(scorer)  # traced, warm
        seconds, expected = timed(lambda turn: alone(scorer), repeats)
        found[job, "in process"] = seconds
        for way, flags in WAYS.items():
            for vectors in ("5x", "v"):
                def work(turn):
                    out = folder / f"{job}-{vectors}-{len(flags)}-{turn}"
                    getattr(jobs, job)(folder / vectors, out,
                                       options=flags, **options)
                    return out
                found[job, way, vectors], out = timed(work, repeats)
            same &= of_beam(job, out) == expected
            print(job, way, "done", file=sys.stderr)

    pairs = users * ITEMS
    print(f"{pairs:,} pairs; vectors of {PASSES} passes: {written:.1f} s, "
          f"{size / 1e6:,.0f} MB\n\n{'seconds':12}{'in process':>12}"
          f"{'way':>14}{'Beam':>9}{'ratio':>8}{'5 x pairs':>11}"
          f"{'pairs/s of the rest':>22}")
    rates, ratios = {}, {}
    for job in ("top_pairs", "recommend"):
        one = found[job, "in process"]
        for way in WAYS:
            whole, more = (found[job, way, name] for name in ("v", "5x"))
            # Less is the noise of starting workers.
            rates[job, way] = (4 * pairs / (more - whole)
                               if more > 1.2 * whole else None)
            shown = (f"{rates[job, way]:,.0f}" if rates[job, way]
                     else "-")
            ratios[job, way] = whole / one
            print(f"{job:12}{one:12.2f}{way:>14}{whole:9.2f}"
                  f"{whole / one:8.1f}{more:11.2f}{shown:>22}")
    rate = rates["top_pairs", "one process"]
    lists = rates["recommend", "one process"]
    if rate and lists:
        print(f"\n10^9 pairs, {PASSES} passes: {1e9 / rate:,.0f} core-seconds;"
              f" 10^8 users x {ITEMS:,} items: "
              f"{1e8 * ITEMS / lists:,.0f} core-seconds")
    print(f"the same as in one process: {'yes' if same else 'NO'}")
    print(json.dumps({
        "pairs": pairs, "identical_to_in_process": same,
        **{f"{job}_ratio_{way.replace(' ', '_')}": round(ratio, 2)
           for (job, way), ratio in ratios.items()},
        **{f"{job}_mpairs_per_s_{way.replace(' ', '_')}": round(
            rate / 1e6, 2) for (job, way), rate in rates.items() if rate},
        "top_pairs_in_process_s": round(found["top_pairs", "in process"], 3),
        "recommend_in_process_s": round(found["recommend", "in process"], 3),
        "write_vectors_s": round(written, 2), "vectors_mb": round(
            size / 1e6, 1)}))


if __name__ == "__main__":
    main()
