"""What a second worker brings, and whether a killed one harms a run.

Weak scaling on loopback: rows a second of one process on one core with
batches of B rows, beside two workers (`tf.distribute`, gRPC between them) on
a core each with batches of 2 B rows; the same 2 B rows by one process; and
two processes that know nothing of each other at once, which shows what
sharing the machine costs by itself. MovieLens-100K with ids only and with
MiniLM's top layer. Then a run of two workers, one of which is killed in the
second epoch, resumed, beside one that was left alone.

    python benchmarks/workers.py [--quick] [--parts scaling kill]

`--quick` takes the made-up shop without texts. Linux only (core affinity).
"""
from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH, EPOCHS, SECONDS = 1024, 4, 400
RUN = ["run", "--data", "shop", "--encoder", "none", "--strategy", "bald",
       "--rounds", "2", "--batch", "100", "--initial", "0.1", "--quiet",
       "--final-epochs", "1", "--batch-size", "128", "--dropout", "0.1"]


def train(data: str, encoder: str, batch: int, rows: int) -> None:
    """A child: prints the seconds of each epoch after the first."""
    import numpy as np

    from tfrecal import datasets
    from tfrecal.pool.pool import Pool
    from tfrecal.runs import workers
    from tfrecal.runs.build import make_model
    from tfrecal.runs.config import RunConfig

    import tf_keras  # isort: skip

    class Clock(tf_keras.callbacks.Callback):
        seconds: list = []

        def on_epoch_begin(self, epoch, logs=None):
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            assert logs["rows"] == len(pool.labelled_rows())
            self.seconds.append(time.perf_counter() - self.started)

    with workers.join() as team:
        interactions = datasets.load(data)
        mask = np.zeros(len(interactions), bool)
        mask[np.random.default_rng(0).permutation(len(mask))[:rows]] = True
        pool = Pool.from_interactions(interactions, mask)
        with team.strategy.scope():
            model = make_model(RunConfig(encoder=encoder), interactions, 3.5)
        clock = Clock()
        model.fit(pool.sequence(batch), epochs=EPOCHS, verbose=0,
                  callbacks=[clock])
        print(json.dumps(clock.seconds[1:]), flush=True)


def killed(*arguments) -> None:
    """A child: `tfrecal`, killed as worker 1 in the second epoch."""
    from tfrecal import cli
    from tfrecal.pool.sequence import PoolSequence

    real, calls = PoolSequence.share, []

    def deadly(*args):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), 9)
        return real(*args)

    if '"index": 1' in os.environ["TF_CONFIG"]:
        PoolSequence.share = deadly
    sys.exit(cli.main(list(arguments)))


def start(arguments, together: bool, number: int):
    """Children on a core each; together as workers of one job.

    Returns:
        exit codes and the last lines that they printed.
    """
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    cluster = {"worker": [
        f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    cores = sorted(os.sched_getaffinity(0))
    children = []
    for index in range(number):
        env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3",
               "CUDA_VISIBLE_DEVICES": ""}
        if together:
            env["TF_CONFIG"] = json.dumps({
                "cluster": cluster, "task": {
                    "type": "worker", "index": index}})
        children.append(subprocess.Popen(
            [sys.executable, __file__, "--child", str(
                cores[index % len(cores)]), *map(str, arguments)],
            env=env, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE))
    try:
        said = [child.communicate(timeout=SECONDS) for child in children]
    finally:
        for child in children:
            child.kill()
    codes = [child.returncode for child in children]
    if "train" in arguments and any(codes):
        raise RuntimeError(said)
    return codes, [(out.strip().splitlines() or [""])[-1] for out, _ in said]


def rate(data, encoder, batch, rows, together=False, number=1) -> float:
    """Rows a second of each child; of the job where they are together."""
    _, lines = start(["train", data, encoder, batch, rows], together, number)
    return statistics.mean(
        rows / statistics.median(json.loads(line)) for line in lines)


def scaling(name, data, encoder, rows) -> dict:
    """One row of the table."""
    one = rate(data, encoder, BATCH, rows)
    apart = rate(data, encoder, BATCH, rows, number=2)
    two = rate(data, encoder, 2 * BATCH, rows, True, 2)
    large = rate(data, encoder, 2 * BATCH, rows)
    found = {"one": one, "apart": apart, "two": two, "large": large,
             "two_over_one": two / one, "two_over_apart": two / apart,
             "two_over_large": two / large, "sharing": apart / one}
    print(f"{name:22}{one:10,.0f}{apart:12,.0f}{large:12,.0f}{two:10,.0f}"
          f"{two / one:10.2f}{two / apart:10.2f}{two / large:10.2f}",
          flush=True)
    return {key: round(value, 3) for key, value in found.items()}


def outcome(folder) -> str:
    """All that a run has come to, but for times, as text."""
    import numpy as np
    import pandas as pd
    import tensorflow as tf

    state = json.loads((folder / "state.json").read_text())
    history = pd.read_csv(folder / "history.csv", dtype=str)
    weights = tf.train.load_checkpoint(
        str(folder / "weights" / state["checkpoint"]))
    return "\n".join([
        history.drop(columns=[name for name in history
                              if name.endswith("seconds")]).to_csv(),
        (folder / "test.json").read_text(),
        pd.read_parquet(folder / "acquisitions.parquet").to_csv(),
        *(f"{name} {np.asarray(weights.get_tensor(name)).tobytes().hex()}"
          for name in sorted(weights.get_variable_to_shape_map())
          if "OBJECT_GRAPH" not in name and "save_counter" not in name)])


def kill(folder) -> dict:
    """A run that loses a worker and is resumed, beside one that does not."""
    whole, life = folder / "whole", folder / "life"
    codes, _ = start(["cli", *RUN, "-o", whole], True, 2)
    dead, said = start(["killed", *RUN, "-o", life], True, 2)
    began = time.monotonic()
    again, _ = start(["cli", "run", "--resume", life, "--quiet"], True, 2)
    journal = (life / "journal.jsonl").read_text().splitlines()
    same = outcome(whole) == outcome(life)
    print(f"killed: exit codes {dead}; resumed: {again}, "
          f"{time.monotonic() - began:.0f} s; {len(journal)} records in the "
          f"journal (4 are due); the same end: {'yes' if same else 'NO'}")
    good = (codes == again == [0, 0] and dead[1] == -9
            and dead[0] == 1 and len(journal) == 4)
    return {"resumed_after_kill": bool(good and same)}


def child(core: str, kind: str, *arguments) -> None:
    """One process of a measurement, on one core."""
    os.sched_setaffinity(0, {int(core)})
    if kind == "train":
        data, encoder, batch, rows = arguments
        train(data, encoder, int(batch), int(rows))
    elif kind == "killed":
        killed(*arguments)
    else:
        from tfrecal import cli
        sys.exit(cli.main(list(arguments)))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", nargs="+", default=["scaling", "kill"],
                        choices=["scaling", "kill"])
    options = parser.parse_args()
    cases = {"shop, ids only": ("shop", "none", 3800)} if options.quick else {
        "ML-100K, ids only": ("ml-100k", "none", 81920),
        "ML-100K, MiniLM top": ("ml-100k", "minilm", 20480)}
    found, result = {}, {}
    if "scaling" in options.parts:
        print(f"rows/s, a core each; batches of {BATCH} and {2 * BATCH}\n"
              f"{'':22}{'one':>10}{'each of 2':>12}{'one, 2 B':>12}"
              f"{'workers':>10}{'/ one':>10}{'/ each':>10}{'/ 2 B':>10}")
        found = {name: scaling(name, *case) for name, case in cases.items()}
        result = {"two_workers_over_one": list(found.values())[-1][
            "two_over_one"], "scaling": found}
    if "kill" in options.parts:
        with tempfile.TemporaryDirectory() as folder:
            result.update(kill(Path(folder)))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
