"""Does a round need training from nothing, or a short warm start?

MovieLens-100K with frozen MiniLM, random acquisition in six rounds to half
of the pool (the learner of `tfrecal compare`). After each round the model
that went on from the round before (`--steps` steps) is compared with one
trained from fresh weights on the same labels, for several numbers of steps:
what a round costs is counted in seconds of training, and the scratch model
that is compared is the cheapest whose RMSE is within 0.001 of the best one.

    python benchmarks/warm_start.py [--quick] [--seeds 3]
"""
from __future__ import annotations

import argparse
import json
import time

import numpy as np

from tfrecal import datasets
from tfrecal.callbacks.learning_rate import RoundCosine
from tfrecal.compare import scenarios
from tfrecal.compare.learner import Judge, Learner
from tfrecal.metrics import t_interval
from tfrecal.pool.pool import Pool
from tfrecal.text.encoder import TextEncoder

ROUNDS, SCRATCH = 6, (250, 500, 1000)


def scratch(learner, problem, stages, steps: int, seed: int) -> list:
    """`(RMSE, seconds)` after each stage, trained from fresh weights."""
    found = []
    for rows in stages:
        pool = problem.pool = Pool.from_interactions(problem.answers, rows)
        model = learner.reset(pool, seed)
        sequence = pool.sequence(learner.batch_size, seed, steps=steps)
        start = time.perf_counter()
        model.fit(sequence, epochs=1, verbose=0,
                  callbacks=[RoundCosine(learner.learning_rate)])
        seconds = time.perf_counter() - start
        found.append((Judge(problem).evaluate(model)["rmse"], seconds))
    return found


def warm(learner, problem, rounds: int, seed: int) -> tuple[list, list]:
    """`(RMSE, seconds)` after each round; the labelled rows then."""
    size = int((problem.pool.state == 0).sum())
    curve, _ = learner.run(problem, "random", rounds=rounds,
                           batch=size // 2 // rounds, seed=seed)
    pool = problem.pool
    known = pool.labelled_rows()
    stages = []
    for number in range(rounds):
        stages.append(np.isin(np.arange(len(pool)),
                              known[pool.round[known] <= number]))
    seconds = np.diff(curve["seconds"] - curve["acquire_seconds"])
    return list(zip(curve["rmse"][1:], seconds)), stages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="two seeds, two rounds, few steps")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=1e-2)
    arguments = parser.parse_args()
    number, rounds, lengths = ((2, 2, SCRATCH[:1]) if arguments.quick
                               else (arguments.seeds, ROUNDS, SCRATCH))
    data = datasets.load("ml-100k")
    learner = Learner(data, TextEncoder("minilm", tuning="frozen"),
                      steps=arguments.steps,
                      learning_rate=arguments.learning_rate)
    # Traces the step, so that no seed pays for it.
    learner.run(scenarios.standard(data, 99), "random", rounds=1, batch=500,
                seed=0)
    rows: dict = {"warm": []} | {steps: [] for steps in lengths}
    seeds = range(arguments.first_seed, arguments.first_seed + number)
    for seed in seeds:
        problem = scenarios.standard(data, seed)
        found, stages = warm(learner, problem, rounds, seed)
        rows["warm"].append(found)
        for steps in lengths:
            rows[steps].append(
                scratch(learner, problem, stages, steps, seed))
        print(f"seed {seed} done", flush=True)
    table = {name: np.array(values) for name, values in rows.items()}
    print(f"{'':14}{'RMSE after each round':>46}{'seconds a round':>18}")
    for name, values in table.items():
        title = (f"warm, {arguments.steps} steps" if name == "warm"
                 else f"scratch, {name}")
        print(f"{title:16}" + "".join(
            f"{v:8.4f}" for v in values[..., 0].mean(axis=0))
            + f"{np.median(values[..., 1]):14.2f}")
    means = {steps: table[steps][..., 0].mean() for steps in lengths}
    enough = next(steps for steps in lengths
                  if means[steps] <= min(means.values()) + 0.001)
    difference = (table["warm"][..., 0] - table[enough][..., 0]).mean(axis=1)
    mean, *ends = t_interval(difference)
    print(json.dumps({
        "speedup": round(float(np.median(table[enough][..., 1])
                               / np.median(table["warm"][..., 1])), 2),
        "scratch_steps": enough,
        "rmse_difference": round(mean, 5),
        "interval": [round(end, 5) for end in ends]}))


if __name__ == "__main__":
    main()
