"""How fast is V-optimal selection, and is it the plain greedy?

10^7 candidate pairs of 20,000 users and 5,000 items with 64-d vectors,
200,000 labelled pairs, a target of 500,000 pairs; 1,000 are chosen. The time
is all of `VOpt.select`: features, posteriors, gains, greedy picks. Peak
memory is that of the process, the 10^7 pairs themselves included.

Beside it, on a part, a plain NumPy greedy that computes every gain anew at
every pick, one pair after another: are the picks the same?

    python benchmarks/vopt.py [--quick] [--pairs 10000000]

`--quick` takes 10^6 pairs once; `seconds_1e7` is then ten times what it took.
"""
from __future__ import annotations

import argparse
import json
import resource
import statistics
import time

import numpy as np

from tfrecal.acquisition import View, VOpt
from tfrecal.acquisition.math.posterior import PairPosterior

USERS, ITEMS, DIM, PICKS = 20_000, 5_000, 64, 1_000


def made(pairs: int, users: int, items: int, labelled: int, target: int,
         seed: int = 0) -> View:
    """A view of random pairs and vectors."""
    rng = np.random.default_rng(seed)
    keys = np.unique(rng.integers(0, users * items, 2 * pairs))
    keys = rng.choice(keys, pairs, replace=False, shuffle=False)
    known = rng.integers(0, users * items, labelled)
    served = rng.integers(0, users * items // 5, target)
    user, item = (keys // items + 1).astype(np.int32), (
        keys % items + 1).astype(np.int32)
    return View(
        user, item,
        labelled_user=(known // items + 1).astype(np.int32),
        labelled_item=(known % items + 1).astype(np.int32),
        labelled_label=np.ones(labelled, np.float32),
        target_user=(served // items + 1).astype(np.int32),
        target_item=(served % items + 1).astype(np.int32),
        target_weight=np.full(target, 1 / target),
        user_traffic=np.bincount(user, minlength=users + 1).astype(float),
        item_traffic=np.bincount(item, minlength=items + 1).astype(float),
        query_vectors=rng.normal(size=(users + 1, DIM)).astype(np.float32),
        candidate_vectors=rng.normal(size=(items + 1, DIM)).astype(
            np.float32))


def plain(view: View, n: int) -> list[int]:
    """The greedy choice by its definition."""
    posterior = PairPosterior(view)
    covariance = [part.copy() for part in posterior.covariance]
    phi, psi = posterior.features
    served = [np.zeros_like(part) for part in covariance]
    for u, i, w in zip(view.target_user, view.target_item,
                       view.target_weight):
        served[0][u] += w * np.outer(phi[i], phi[i])
        served[1][i] += w * np.outer(psi[u], psi[u])
    picks: list[int] = []
    for _ in range(n):
        values = np.full(len(view), -np.inf)
        for row in range(len(view)):
            if row not in picks:
                u, i = view.user[row], view.item[row]
                a, b = covariance[0][u] @ phi[i], covariance[1][i] @ psi[u]
                values[row] = (a @ served[0][u] @ a + b @ served[1][i] @ b
                               ) / (1 + phi[i] @ a + psi[u] @ b)
        picks.append(int(values.argmax()))
        u, i = view.user[picks[-1]], view.item[picks[-1]]
        a, b = covariance[0][u] @ phi[i], covariance[1][i] @ psi[u]
        total = 1 + phi[i] @ a + psi[u] @ b
        covariance[0][u] -= np.outer(a, a) / total
        covariance[1][i] -= np.outer(b, b) / total
    return picks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="10^6 pairs, once")
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    pairs, repeats = ((1_000_000, 1) if arguments.quick
                      else (arguments.pairs, arguments.repeats))
    part = made(2_000, 60, 80, 300, 500)
    start = time.perf_counter()
    expected = plain(part, 60)
    plain_seconds = time.perf_counter() - start
    start = time.perf_counter()
    chosen = VOpt().select(part, 60, np.random.default_rng(0))
    seconds = time.perf_counter() - start
    identical = chosen.tolist() == expected
    print(f"2,000 pairs, 60 picks: {seconds:.3f} s, plain greedy "
          f"{plain_seconds:.1f} s, same picks: {identical}")
    view = made(pairs, USERS, ITEMS, 200_000, 500_000)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        picks = VOpt().select(view, PICKS, np.random.default_rng(0))
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{pairs:,} pairs, {len(picks):,} picks: "
          f"{', '.join(f'{t:.1f}' for t in times)} s, peak {peak:.2f} GB")
    print(json.dumps({
        "seconds_1e7": round(statistics.median(times)
                             * 1e7 / pairs, 2),
        "peak_gb": round(peak, 2), "picks_identical": identical}))


if __name__ == "__main__":
    main()
