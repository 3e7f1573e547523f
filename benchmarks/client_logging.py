"""What does a FeedbackLog add to the time of a `recommend`?

One client asks a `tfrecal serve` process for ten of 20,000 items, one user a
request, without a pause (a log is busiest so): series of requests with a
log, without one, and without one again take turns, so that the second
difference shows the noise. One log writes into a SQLite feedback store; where
`tfrecal.feedback` or its libraries are not installed, into a table of the
same columns by plain `executemany`. Another has no store and leaves its rows
to files, which a process beside it would take. A second measure asks with
pauses, as one of a site's many processes does at 50 requests a second.

    python benchmarks/client_logging.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from helpers import served

from tfrecal.export.export_model import export_model
from tfrecal.feedback.log.delivery import COLUMNS
from tfrecal.feedback.log.feedback_log import FeedbackLog
from tfrecal.serving.client.client import Recommender


class PlainStore:
    """A stand-in for the feedback store."""

    def __init__(self, path: Path):
        self._base = sqlite3.connect(path, check_same_thread=False)
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = full")
        columns = COLUMNS["shown"]
        self._base.execute(
            f"create table shown ({', '.join(columns)}, "
            "primary key (request_id, rank))")
        self._insert = "insert or ignore into shown values " \
            f"({', '.join('?' * len(columns))})"
        self._lock = threading.Lock()

    def add_shown(self, frame):
        with self._lock, self._base:
            self._base.executemany(
                self._insert, frame.itertuples(index=False, name=None))
        return SimpleNamespace(rejected=frame[:0])


def store_of(path: Path):
    try:
        from tfrecal.feedback.store.store import FeedbackStore
        return FeedbackStore(f"sqlite:///{path}"), "FeedbackStore"
    except ImportError:
        return PlainStore(path), "executemany"


def request_seconds(client, users, pause: float) -> list[float]:
    """Returns the seconds of each request."""
    found = []
    for user in users:
        started = time.perf_counter()
        client.recommend([user], k=10)
        found.append(time.perf_counter() - started)
        if pause:
            time.sleep(pause)
    return found


def turns(clients: dict, users, rounds: int, size: int, pause: float) -> dict:
    """Latencies by client; the order of turns is drawn."""
    rng = np.random.default_rng(0)
    found = {name: [] for name in clients}
    for name in clients:
        request_seconds(clients[name], users[:50], 0)
    for _ in range(rounds):
        asked = rng.choice(users, size)
        for name in rng.permutation(list(clients)):
            found[name].append(request_seconds(clients[name], asked, pause))
            if clients[name].log is not None:
                clients[name].log.flush()  # others are not to wait for it
    return {name: np.array(times) for name, times in found.items()}


def difference(one, other, rng) -> tuple[float, list[float]]:
    """p50 over p50, less 1, and a 95% interval: rounds are drawn again."""
    def ratio(rounds):
        return np.median(one[rounds]) / np.median(other[rounds]) - 1

    every = np.arange(len(one))
    drawn = [ratio(rng.choice(every, len(every))) for _ in range(1000)]
    return float(ratio(every)), np.quantile(drawn, [0.025, 0.975]).tolist()


def measure(address, folder, users, rounds, size, pause) -> dict:
    store, kind = store_of(folder / f"feedback-{pause}.db")
    logs = {"none": None, "again": None,
            "log": FeedbackLog(store, folder / "spill"),
            "files": FeedbackLog(None, folder / f"files-{pause}")}
    clients = {name: Recommender(address, "model", log=log, timeout=30)
               for name, log in logs.items()}
    times = turns(clients, users, rounds, size, pause)
    for client in clients.values():
        client.close()
        if client.log is not None:
            client.log.close()
    rng = np.random.default_rng(1)
    row = {"store": kind, "counts": {
        name: logs[name].counts for name in ("log", "files")}}
    for name, key in (("log", "p50_overhead"), ("files", "files_overhead"),
                      ("again", "noise")):
        row[key], row[f"{key}_interval"] = difference(
            times[name], times["none"], rng)
    for name, values in times.items():
        for share in (50, 99):
            row[f"p{share}_ms_{name}"] = 1e3 * float(
                np.quantile(values, share / 100))
    row["p99_overhead"] = row["p99_ms_log"] / row["p99_ms_none"] - 1
    asked = (rounds * size + 50) * 10
    if (logs["log"].counts["written"], logs["files"].counts["spilled"]) != (
            asked, asked):
        raise SystemExit(f"{asked} rows were shown. {row['counts']}")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="fewer requests")
    options = parser.parse_args()
    # A series must see its rows written, and the machine's speed drifts from
    # second to second. So there are many series of a second each.
    rounds, size = (6, 700) if options.quick else (100, 700)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model, pool = served.random_model(20_000)
        export_model(model, folder / "model", pool=pool, index="exact")
        users = np.array([str(user) for user in pool.user_ids])
        del model, pool
        with served.server(folder / "model") as (address, _):
            found = {
                "busy": measure(address, folder, users, rounds, size, 0),
                "with pauses": measure(address, folder, users, rounds,
                                       40, 0.02)}
    print(f"{'':12} {'':6} {'p50 ms':>8} {'p99 ms':>8} {'over none':>10}")
    for case, row in found.items():
        for name, key in (("none", None), ("again", "noise"),
                          ("log", "p50_overhead"),
                          ("files", "files_overhead")):
            more = f"{row[key]:+.1%}" if key else ""
            print(f"{case:12} {name:6} {row[f'p50_ms_{name}']:8.3f} "
                  f"{row[f'p99_ms_{name}']:8.3f} {more:>10}")
    print(json.dumps({**found["busy"], "with_pauses": found["with pauses"]}))


if __name__ == "__main__":
    main()
