"""Does any file or config go in wrong, or end in a traceback?

Valid files and configs are mutated, for each reader: tables (text files,
Parquet, frames, `tfrecal check`), files of feedback, answers of people,
configs and queries. What the package takes must be what a strict reader in
plain Python (`helpers/strict_*.py`) takes, value by value, and all else must
be refused in one error. Then `tfrecal check` reads 10^6 rows beside
`pandas.read_csv` alone, each as a process, in turns; the best of each counts.

    python benchmarks/fuzz.py [--inputs 24000] [--seed 0] [--quick]

A failure is printed with the smallest input that still shows it.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

_STEP = 200  # inputs of a piece of work
_SHOWN = 3  # failures of a reader that are printed
_SMALLER = 300  # tries to make one smaller
_REFUSALS = (ValueError, TypeError, FileNotFoundError, FileExistsError)
_READ_CSV = "import sys, pandas; pandas.read_csv(sys.argv[1])"


def readers() -> dict:
    """Returns the readers by name; imported late, for `--help` is quick."""
    from helpers.fuzz_answers import Answers
    from helpers.fuzz_check import Check
    from helpers.fuzz_configs import Configs, Values
    from helpers.fuzz_feedback import Feedback
    from helpers.fuzz_objects import ObjectFrames
    from helpers.fuzz_parquet import Frames, Parquet
    from helpers.fuzz_queries import Queries
    from helpers.fuzz_tables import Texts
    from helpers.fuzz_today import Today

    return {one.name: one for one in (
        Texts(), Check(), Parquet(), Frames(), ObjectFrames(), Today(),
        Feedback(), Answers(), Queries(), Configs(), Values())}


def outcome(reader, case, folder: Path) -> tuple[str, str]:
    """Returns what becomes of one input, and what there is to say."""
    from helpers.strict_reader import Refused

    try:
        wanted, refused = reader.expect(case), ""
    except Refused as error:
        wanted, refused = None, str(error)
    try:
        got = reader.take(case, folder)
    except _REFUSALS as error:
        if "Received" not in str(error):  # no error of ours
            return "traceback", traceback.format_exc(limit=-3)
        said = refused or wanted is None or getattr(reader, "partial", False)
        return "refused" if said else "refused_though_read", str(error)
    except Exception:
        return "traceback", traceback.format_exc(limit=-3)
    if refused:
        return "silent_change", f"taken, and the rules refuse it: {refused}"
    differs = reader.differs(got, wanted)
    return ("silent_change", differs) if differs else ("taken", "")


def smallest(reader, case, kind: str, folder: Path):
    """Returns a smaller input with the same outcome, and its message."""
    message, tries = outcome(reader, case, folder)[1], _SMALLER
    found = True
    while found:
        found = False
        for less in case.smaller():
            tries -= 1
            if not tries:
                return case, message
            try:
                what, said = outcome(reader, less, folder)
            except Exception:  # no input of this reader
                continue
            if what == kind:
                case, message, found = less, said, True
                break
    return case, message


def work(name: str, first: int, count: int, seed: int) -> dict:
    """Reads some inputs; returns counts, the slowest and the failures."""
    warnings.simplefilter("ignore")
    reader, counts = readers()[name], Counter()
    slowest, failures, reasons = 0.0, [], Counter()
    with tempfile.TemporaryDirectory(dir=_memory()) as path:
        folder = Path(path)
        for number in range(first, first + count):
            case = reader.make(random.Random(f"{seed} {name} {number}"))
            began = time.perf_counter()
            kind, message = outcome(reader, case, folder)
            slowest = max(slowest, time.perf_counter() - began)
            counts[kind] += 1
            if kind == "refused_though_read":
                reasons[message[:300]] += 1
            if kind in ("traceback", "silent_change") and (
                    len(failures) < _SHOWN):
                case, message = smallest(reader, case, kind, folder)
                failures.append(f"{name} {number}, {kind}: {case}\n"
                                f"    {message}")
    return {"name": name, "counts": counts, "slowest": slowest,
            "failures": failures, "reasons": reasons}


def _memory() -> str | None:
    # A file that is read once need not reach a disk.
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def check_beside_pandas(rows: int, times: int) -> dict:
    """Seconds of `tfrecal check` and of `pandas.read_csv` on one file."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w") as file:
            file.write("user_id,item_id,label,timestamp\n")
            file.writelines(
                f"u{rng.randrange(50_000)},{rng.randrange(20_000)},"
                f"{rng.randint(1, 5)},{1_600_000_000 + number}\n"
                for number in range(rows))
        ways = {"check_s": ["-m", "tfrecal", "check", str(path),
                            "--duplicates", "last"],
                "read_csv_s": ["-c", _READ_CSV, str(path)]}
        seconds = {name: [] for name in ways}
        for _ in range(times):
            for name, words in ways.items():
                began = time.perf_counter()
                subprocess.run([sys.executable, *words], check=True,
                               stdout=subprocess.DEVNULL)
                seconds[name].append(time.perf_counter() - began)
    best = {name: round(min(some), 2) for name, some in seconds.items()}
    return {**best, "check_ratio": round(
        min(seconds["check_s"]) / min(seconds["read_csv_s"]), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of "
                        "the file for `tfrecal check`; 0 leaves it out")
    parser.add_argument("--reasons", action="store_true", help="say why "
                        "inputs were refused that the rules read")
    parser.add_argument("--quick", action="store_true",
                        help="1,000 inputs, 10^5 rows")
    options = parser.parse_args()
    inputs, rows, times = (1_000, 100_000, 1) if options.quick else (
        options.inputs, options.rows, 5)
    chosen = {name: one for name, one in readers().items()
              if name in (options.readers or readers())}
    shares = sum(one.share for one in chosen.values())
    pieces = [(name, first, min(_STEP, count - first), options.seed)
              for name, one in chosen.items()
              for count in [math.ceil(inputs * one.share / shares)]
              for first in range(0, count, _STEP)]
    found = {name: Counter() for name in chosen}
    failures = {name: [] for name in chosen}
    slowest, reasons = 0.0, Counter()
    with ProcessPoolExecutor(options.jobs) as jobs:
        for part in jobs.map(work, *zip(*pieces)):
            found[part["name"]].update(part["counts"])
            slowest = max(slowest, part["slowest"])
            failures[part["name"]] += part["failures"]
            reasons.update(part["reasons"])
    for some in failures.values():
        print("".join(f"{failure}\n" for failure in some[:_SHOWN]), end="")
    for name, counts in found.items():
        print(f"{name:12s} " + "  ".join(
            f"{kind} {count:,}" for kind, count in sorted(counts.items())))
    if options.reasons:
        for reason, count in reasons.most_common(40):
            print(count, reason)
    total = sum(found.values(), Counter())
    print(json.dumps({
        "inputs": sum(total.values()), "tracebacks": total["traceback"],
        "silent_changes": total["silent_change"],
        "slowest_s": round(slowest, 3),
        "readers": {name: dict(counts) for name, counts in found.items()},
        **(check_beside_pandas(rows, times) if rows else {})}))


if __name__ == "__main__":
    main()
