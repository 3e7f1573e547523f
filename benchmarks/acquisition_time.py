"""How long does choosing the next labels take, beside a training epoch?

One round of every strategy over MovieLens-100K's training pool with 5%
labelled: all 76,000 unlabelled pairs are candidates, 1,000 are chosen, and
strategies that need samples get 10 MC-dropout passes. A round is what
`AcquireLabels.choose` does: users and items are encoded, what the strategy
needs is computed, pairs are ranked and chosen; asking is not in it. Every
repeat encodes afresh. In a run a round often finds the encodings ready, for
the evaluation before it has just made them.

Epochs of the same model are timed over 5%, half and all of the pool. The
headline divides the slowest strategy by an epoch over half of the pool, with
the demo's model (MiniLM, top layer trained): the middle of a run that buys
the pool, although only half of the candidates would be left then. An epoch
over 5% is what the first round stands beside. The strict column is a frozen
encoder, whose epochs cost almost nothing but lookups.

    python benchmarks/acquisition_time.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from tfrecal import acquisition
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.pool import Pool
from tfrecal.runs.build import Run, build
from tfrecal.runs.config import RunConfig

import tf_keras  # isort: skip  (tfrecal selects Keras 2 before)

SHARES = {"5%": 0.05, "half": 0.5, "all": 1.0}


class EpochSeconds(tf_keras.callbacks.Callback):
    """Wall time of each epoch."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def epoch_seconds(built: Run, share: float, epochs: int) -> float:
    """Median time of an epoch over a share of the pool."""
    pool = Pool.from_interactions(built.split.train, share)
    watch = EpochSeconds()
    built.model.fit(pool.sequence(built.config.batch_size), epochs=epochs,
                    verbose=0, callbacks=[watch])
    return statistics.median(watch.seconds)


def round_seconds(built: Run, name: str, repeats: int) -> float:
    """Median time of one round of a strategy, after one to warm up."""
    acquire = built.acquire(ReplayOracle(built.split.train),
                            batch_size=1000)
    acquire.strategy = acquisition.get(name)
    acquire.set_model(built.model)
    seconds = []
    for _ in range(repeats + 1):
        built.pool.version += 1  # nothing encoded before counts
        start = time.perf_counter()
        user, _, _ = acquire.choose()
        seconds.append(time.perf_counter() - start)
        if len(user) != 1000:
            raise SystemExit("A round must choose 1,000 pairs. Received: "
                             f"{len(user)} by {name}.")
    return statistics.median(seconds[1:])


def measure(tuning: str, repeats: int, epochs: int) -> dict:
    """Seconds of rounds by strategy and of epochs by share."""
    built = build(RunConfig(tuning=tuning))
    epoch_seconds(built, 0.05, 1)  # traces the step
    print(f"{tuning}: model made and traced", file=sys.stderr)
    found = {"candidates": built.pool.counts["unlabelled"], "rounds": {}}
    for name in acquisition.names():
        found["rounds"][name] = round_seconds(built, name, repeats)
        print(f"{tuning}: {name}", file=sys.stderr)
    found["epochs"] = {
        share: epoch_seconds(built, part, max(epochs, 3 * (part < 0.1)))
        for share, part in SHARES.items()}
    return found


def show(demo: dict, frozen: dict) -> None:
    """Rounds and epochs of both models in seconds."""
    print(f"\n{'seconds':24}{'top layer (demo)':>18}{'frozen (strict)':>18}")
    for name in demo["rounds"]:
        print(f"round, {name:17}{demo['rounds'][name]:18.3f}"
              f"{frozen['rounds'][name]:18.3f}")
    for share in SHARES:
        print(f"epoch over {share:13}{demo['epochs'][share]:18.3f}"
              f"{frozen['epochs'][share]:18.3f}")
    print("slowest round / epoch over")
    for share in SHARES:
        title = share + " (left: headline)" * (share == "half")
        print(f"  {title:22}{ratio(demo, share):18.3f}"
              f"{ratio(frozen, share):18.3f}")


def ratio(found: dict, share: str) -> float:
    """The slowest strategy's round over an epoch."""
    return max(found["rounds"].values()) / found["epochs"][share]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="3 repeats of a round and 1 of long epochs")
    arguments = parser.parse_args()
    repeats, epochs = (3, 1) if arguments.quick else (7, 3)
    demo = measure("top_n", repeats, epochs)
    frozen = measure("frozen", repeats, max(epochs, 3))
    print(f"{demo['candidates']:,} candidates, medians of {repeats} rounds")
    show(demo, frozen)

    def rounded(values):
        return {key: round(value, 4) for key, value in values.items()}

    print(json.dumps({
        "slowest_strategy": max(demo["rounds"], key=demo["rounds"].get),
        "acquisition_over_epoch": round(ratio(demo, "half"), 4),
        "compared_with": "an epoch of the demo's model over half of the pool",
        **{f"over_epoch_{kind}": rounded({s: ratio(found, s) for s in SHARES})
           for kind, found in (("top_layer", demo), ("frozen", frozen))},
        "round_seconds": rounded(demo["rounds"]),
        "epoch_seconds": rounded(demo["epochs"]),
        "epoch_seconds_frozen": rounded(frozen["epochs"]),
        "candidates": demo["candidates"]}))


if __name__ == "__main__":
    main()
