"""What idempotency costs: events a second into SQLite and PostgreSQL.

In turns, in one run and with the same batches: a plain `executemany` of the
driver (rows ready as tuples, no check, no conflict clause, one transaction a
batch) into tables of the same schema, and `FeedbackStore.add_shown` /
`add_responses` from DataFrames. Then the same events again (all known), and
`ingest` of them as CSV, with the growth of the process's memory from the
first tenth to the end. Rates are those of the median batch, for other work
on the machine disturbs some.

    python benchmarks/ingest.py [--events 200000] [--quick]
"""
from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.feedback import FeedbackStore, ingest
from tfrecal.feedback.store import schema

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import postgres  # noqa: E402

BATCH = 10_000
_TABLES = {"shown": schema.shown, "responses": schema.responses}


def events(count: int, first: int) -> dict[str, pd.DataFrame]:
    """`count` rows: lists of ten items, a tenth of them with a response."""
    shown = count * 10 // 11
    row = np.arange(first, first + shown)
    rng = np.random.default_rng(first)
    request = [f"{n:032x}" for n in row // 10]
    lists = pd.DataFrame({
        "request_id": request, "rank": row % 10 + 1,
        "time": 1.7e9 + row / 100, "user_id": [
            f"user{n}" for n in rng.integers(0, 20_000, shown)],
        "item_id": [f"item{n}" for n in rng.integers(0, 5_000, shown)],
        "score": rng.normal(size=shown), "propensity": 1.0, "model": "shop",
        "version": 7, "strategy": ""})
    chosen = lists.iloc[np.sort(rng.choice(
        shown, count - shown, replace=False))].reset_index(drop=True)
    responses = pd.DataFrame({
        "event_id": [f"e{n:031x}" for n in first + np.arange(len(chosen))],
        "request_id": chosen["request_id"], "user_id": chosen["user_id"],
        "item_id": chosen["item_id"], "time": chosen["time"] + 5,
        "kind": "click", "value": 1.0})
    return {"shown": lists, "responses": responses}


def batches(total: int):
    """Yields the events in batches; the same at each call."""
    for first in range(0, total, BATCH):
        yield events(min(BATCH, total - first), first)


class Plain:
    """`executemany` of the driver, nothing else."""

    def __init__(self, url: str):
        FeedbackStore(url).close()  # the tables
        if url.startswith("postgresql"):
            import psycopg

            self.connection, mark = psycopg.connect(url), "%s"
        else:
            self.connection, mark = sqlite3.connect(url), "?"
            # As the store has it.
            self.connection.execute("PRAGMA synchronous=FULL")
            self.connection.execute("PRAGMA secure_delete=ON")
        self.statements = {
            name: "INSERT INTO {} VALUES ({})".format(
                name, ", ".join([mark] * len(table.columns)))
            for name, table in _TABLES.items()}

    def add(self, frames) -> float:
        """Stores batches; seconds that it took."""
        ready = {name: [(*row, 1.7e9, None) for row in frame.astype(
            object).to_numpy().tolist()] for name, frame in frames.items()}
        begun = time.perf_counter()
        for name, rows in ready.items():
            cursor = self.connection.cursor()
            cursor.executemany(self.statements[name], rows)
            self.connection.commit()
        return time.perf_counter() - begun


def add(store: FeedbackStore, frames) -> float:
    """Stores batches; seconds that it took."""
    begun = time.perf_counter()
    store.add_shown(frames["shown"])
    store.add_responses(frames["responses"])
    return time.perf_counter() - begun


def compare(plain_url: str, url: str, total: int) -> dict[str, float]:
    """Events a second of each way in its median batch, in turns."""
    plain, seconds = Plain(plain_url), [[], [], []]
    with FeedbackStore(url) as store:
        for n, frames in enumerate(batches(total)):
            # Who is second finds warmer caches.
            ways = [(0, plain.add, ()), (1, add, (store,))][::-1 if n % 2
                                                            else 1]
            for place, way, before in ways:
                seconds[place].append(way(*before, frames))
        for frames in batches(total):
            seconds[2].append(add(store, frames))
        counts = store.counts()
    assert counts["shown"] + counts["responses"] == total, counts
    plain.connection.close()
    return dict(zip(("executemany", "store", "replay"),
                    (BATCH / np.median(seconds, axis=1)).tolist()))


def csv_ingest(url: str, folder: Path, total: int) -> tuple[float, float]:
    """Events a second of `ingest`, and MB of memory that it grew by."""
    seconds, peaks = 0.0, []
    with FeedbackStore(url) as store:
        parts = {name: (folder / f"{name}.csv").open("w") for name in _TABLES}
        for n, frames in enumerate(batches(total)):
            for name, frame in frames.items():
                frame.to_csv(parts[name], index=False, header=n == 0)
        for file in parts.values():
            file.close()

        add_shown = store.add_shown

        def watched(frame):
            added = add_shown(frame)
            peaks.append(resource.getrusage(
                resource.RUSAGE_SELF).ru_maxrss / 1e3)
            return added

        store.add_shown = watched
        for name in _TABLES:
            begun = time.perf_counter()
            ingest(store, folder / f"{name}.csv", chunk=BATCH,
                   progress=False)
            seconds += time.perf_counter() - begun
        counts = store.counts()
    assert counts["shown"] + counts["responses"] == total, counts
    return total / seconds, peaks[-1] - peaks[len(peaks) // 10]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=200_000,
                        help="a multiple of 10,000")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.events < BATCH or arguments.events % BATCH:
        parser.error("`--events` must be a multiple of 10,000. Received: "
                     f"{arguments.events}.")
    total = 40_000 if arguments.quick else arguments.events
    found, growth = {}, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [str(folder / f"{n}.db") for n in range(3)]
        # First, while the process has not grown by other things.
        csv_rate, growth = csv_ingest(paths[2], folder, total)
        found["sqlite"] = {**compare(paths[0], paths[1], total),
                           "csv": csv_rate}
        if reason := postgres.why_not():
            print(f"PostgreSQL left out: {reason}")
        else:
            with postgres.server() as server:
                urls = [server.new_database() for _ in range(2)]
                found["postgres"] = compare(*urls, total)
    print(f"{total:,} events in batches of {BATCH:,}; events a second")
    for database, rates in found.items():
        print(f"{database:9s} " + "  ".join(
            f"{way} {rate:9,.0f}" for way, rate in rates.items())
            + f"  store/executemany "
              f"{rates['store'] / rates['executemany']:.2f}")
    print(f"memory grew by {growth:.0f} MB while {total:,} events came in")
    print(json.dumps({
        **{f"{database}_over_executemany":
           round(rates["store"] / rates["executemany"], 3)
           for database, rates in found.items()},
        "events_per_s": {database: {way: round(rate)
                                    for way, rate in rates.items()}
                         for database, rates in found.items()},
        "peak_mb_growth": round(growth, 1)}))


if __name__ == "__main__":
    main()
