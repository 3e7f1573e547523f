"""Is anything lost, bought twice or half visible when a process is killed?

Each scene is a piece of work in a folder that is started, killed with
SIGKILL, started again, and so on to its end: half of the kills come at a
random time, half at a random one of its steps (fsync, rename, a wait), where
damage would be done. At the end, the oracle's own ledger is compared with
what the work holds, and all that it holds with that of an undisturbed one.

    python benchmarks/kill.py [--quick] [--kills 210] [--scenes run] [--jobs 1]

The libraries are imported once; each process is a fork of this one, which
itself never runs an operation of TensorFlow. POSIX only.
"""
from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.kill_processes import call, kill_at, start
from helpers.kill_promote import PromoteScene
from helpers.kill_scenes import IngestScene, RetrainScene, Scene, digest

from tfrecal import splits
from tfrecal.data.datasets import load
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs import run
from tfrecal.runs.config import RunConfig

import tensorflow as tf  # isort: skip

CONFIG = RunConfig(
    data="shop", encoder="none", strategy="bald", initial=0.1, batch=40,
    rounds=3, final_epochs=1, batch_size=128, dropout=0.1)
_BILLED = 10  # tickets at once
# Times and steps at which to kill are drawn up to so many times those of the
# work that last went through at once: a life must end too. Each kill by time
# makes the times a little longer, as the machine may have become slower.
_BEYOND, _LONGER = 1.5, 1.1


class Service(ReplayOracle):
    """A service that bills: each ticket once, into a ledger of its own.

    It knows nothing of the run's files. The ticket is its idempotency key: a
    ticket that comes again gets the answer that was billed, and is counted.
    """

    def __init__(self, interactions, folder):
        super().__init__(interactions)
        self.ledger = Path(folder) / "ledger.jsonl"

    def reply(self, questions):
        billed = {line["ticket"] for line in read_lines(self.ledger)}
        for part in np.array_split(
                np.arange(len(questions)), -(-len(questions) // _BILLED)):
            part = questions.take(part)
            answers = super().reply(part)
            lines = [{"ticket": ticket, "user_id": user, "item_id": item,
                      "label": label, "again": ticket in billed}
                     for ticket, user, item, label in zip(
                         part.ticket.tolist(), part.user_id, part.item_id,
                         answers.label.tolist())]
            with open(self.ledger, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
        return super().reply(questions)


class RunScene(Scene):
    """`tfrecal run`, and `--resume` after each kill."""

    name = "run"
    share = 3

    def work(self, folder: Path) -> None:
        """Goes on to the end, from whatever a kill has left."""
        oracle = Service(splits.random(load("shop"), seed=0).train, folder)
        if (folder / "run" / "config.json").exists():
            run.resume(folder / "run", quiet=True, oracle=oracle)
        else:
            run.run(CONFIG, folder / "run", quiet=True, oracle=oracle)

    def half_visible(self, folder: Path) -> list[str]:
        """Files that are there and cannot be used, after a kill."""
        found, place = [], RunFolder(folder / "run")
        readers = {".json": lambda path: json.loads(path.read_text()),
                   ".csv": pd.read_csv, ".parquet": pd.read_parquet}
        for path in place.path.glob("[!.]*"):
            try:
                readers.get(path.suffix, str)(path)
            except Exception as error:
                found.append(f"{path.name}: {error}")
        if place.state:
            try:
                place.journal()
                place.pool(splits.random(load("shop"), seed=0).train)
                weights(place)
            except Exception as error:
                found.append(f"state.json: {error}")
        return found

    def bought(self, folder: Path) -> dict[str, int]:
        """What the ledger has, beside what the run has."""
        ledger = pd.DataFrame(read_lines(folder / "ledger.jsonl"))
        billed = ledger[~ledger["again"]]
        have = pd.read_parquet(folder / "run" / "acquisitions.parquet")
        same = billed.merge(have, on=["ticket", "user_id", "item_id",
                                      "label"])
        return {"billed": len(billed), "lost": len(billed) - len(same),
                "twice": int(billed.duplicated(["user_id", "item_id"]).sum()
                             + billed.duplicated("ticket").sum()),
                "asked_again": int(ledger["again"].sum())}

    def outcome(self, folder: Path) -> dict[str, str]:
        """Digests of all that the run has come to."""
        place = RunFolder(folder / "run")
        history = pd.read_csv(place / "history.csv", dtype=str)
        state = place.state
        # Seconds, and files named by the number of saves.
        for name in ("saves", "pool", "files", "history"):
            state.pop(name)
        pool = np.load(place / place.state["pool"])
        return {
            "history": digest(history.drop(columns=[
                name for name in history if name.endswith("_seconds")]
            ).to_csv().encode()),
            "test": digest((place / "test.json").read_bytes()),
            "acquisitions": digest(pd.read_parquet(
                place / "acquisitions.parquet").to_csv().encode()),
            "explanations": digest(
                (place / "explanations.jsonl").read_bytes()),
            "state": digest(json.dumps(state).encode()),
            "pool": digest(*(pool[name].tobytes() for name in pool.files)),
            "weights": digest(*(
                value.tobytes() for value in weights(place).values()))}


SCENES = {scene.name: scene for scene in (
    RunScene(), IngestScene(), RetrainScene(), PromoteScene())}


def weights(place: RunFolder) -> dict[str, np.ndarray]:
    """All variables of the last whole epoch, the optimizers' included."""
    reader = tf.train.load_checkpoint(
        str(place / "weights" / place.state["checkpoint"]))
    return {name: np.asarray(reader.get_tensor(name))
            for name in sorted(reader.get_variable_to_shape_map())
            if "OBJECT_GRAPH" not in name and "save_counter" not in name}


def read_lines(path: Path) -> list[dict]:
    """JSON lines; a last line that a kill tore was never answered."""
    if not path.exists():
        return []
    content = path.read_text(encoding="utf-8")
    whole = content[:content.rfind("\n") + 1]
    if len(whole) < len(content):
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def measure(scene, kills: int, folder: Path, rng) -> dict:
    """Lives of a scene, each killed at random to its end.

    Returns:
        `kills`, `lives`, `half_visible`, what the scene has `bought`, and
        `identical`, whether all ended as the undisturbed one.
    """
    log = folder / "log"
    call(log, scene.prepare, folder)
    scene.warm(folder)
    whole = folder / "undisturbed"
    whole.mkdir()
    with scene.beside(whole):
        began = time.monotonic()
        _, steps = call(log, scene.work, whole)
        pace = Pace(time.monotonic() - began)
        expected, _ = call(log, scene.outcome, whole)
    print(f"{scene.name}: undisturbed {pace.seconds:.1f} s, {steps} steps",
          flush=True)
    found = collections.Counter(kills=0, lives=0, half_visible=0)
    identical = True
    while found["kills"] < kills:
        life = folder / f"life{found['lives']}"
        life.mkdir()
        with scene.beside(life):
            for half in killed_to_the_end(scene, life, pace, steps, rng):
                found["kills"] += 1
                found["half_visible"] += len(half)
                for line in half:
                    print(f"  half visible in {life.name}: {line}",
                          flush=True)
            found.update(call(log, scene.bought, life)[0])
            outcome, _ = call(log, scene.outcome, life)
        found["lives"] += 1
        differs = [f"{name}: {outcome[name]} for {value}" for name, value
                   in expected.items() if outcome[name] != value]
        print("\n    DIFFERS in ".join([
            f"  {scene.name}, life {found['lives']}: {found['kills']} kills",
            *differs]), flush=True)
        identical &= not differs
        if not differs:
            shutil.rmtree(life)
    return {**found, "identical": identical}


@dataclasses.dataclass
class Pace:
    """How long the work takes, on a machine with other jobs."""

    seconds: float


def killed_to_the_end(scene, life: Path, pace: Pace, steps, rng):
    """Yields after each kill what is half visible; ends with the work."""
    log, fresh = life.parent / "work.log", True
    while True:
        # SQLite's own steps are not seen here.
        by_time = not steps or rng.random() < 0.5
        child = start(lambda: scene.work(life), log,
                      0 if by_time else int(
                          rng.integers(1, _BEYOND * steps + 1)))
        began = time.monotonic()
        try:
            killed = kill_at(
                child, rng.uniform(0, _BEYOND * pace.seconds)
                if by_time else np.inf)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{log.read_text()}") from error
        if not killed:
            if fresh:
                pace.seconds = time.monotonic() - began
            return
        fresh = False
        if by_time:
            pace.seconds *= _LONGER
        yield call(life.parent / "log", scene.half_visible, life)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=210)
    parser.add_argument("--quick", action="store_true", help="12 kills")
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES),
                        default=list(SCENES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1,
                        help="scenes at a time")
    options = parser.parse_args()
    kills = 12 if options.quick else options.kills
    shares = sum(SCENES[name].share for name in options.scenes)

    stdout = os.dup(1)

    def work(name: str) -> dict:
        os.dup2(stdout, 1)  # what it prints is seen at once
        return measure(
            SCENES[name], -(-kills * SCENES[name].share // shares),
            folder / name, np.random.default_rng(
                [options.seed, list(SCENES).index(name)]))

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(
            options.jobs) as jobs:
        folder = Path(folder)
        for name in options.scenes:
            (folder / name).mkdir()
        parts = dict(zip(options.scenes, jobs.map(
            lambda name: call(folder / name / "scene.log", work, name)[0],
            options.scenes)))
    total = {name: sum(part[name] for part in parts.values())
             for name in ("kills", "lost", "twice", "half_visible")}
    print(json.dumps({
        **total, "identical": all(p["identical"] for p in parts.values()),
        "scenes": parts}))


if __name__ == "__main__":
    main()
