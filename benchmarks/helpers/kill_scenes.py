"""Scenes of `kill.py` beyond `tfrecal run`: ingest, retrain with export."""
from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data.world.clicks import seen
from tfrecal.data.world.world import World
from tfrecal.export import op_audit
from tfrecal.feedback import FeedbackStore, ingest
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain.config import RetrainConfig
from tfrecal.runs import run
from tfrecal.runs.build import restore_trained
from tfrecal.runs.config import RunConfig
from tfrecal.serving.server.version_folders import folders

import tensorflow as tf  # isort: skip

K, EVENTS = 10, 30_000


def digest(*parts: bytes) -> str:
    """A short hash."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def content(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def week(world: World, days: int = 4):
    """Lists of popular items that were shown, and what came back."""
    lists, told = [], []
    for _ in range(days):
        visits = world.visits()
        users, time = (visits[name].to_numpy() for name in (
            "user_id", "time"))
        rng = np.random.default_rng(world.day)
        items = np.stack([rng.permutation(world.items.index)[:K]
                          for _ in users]).astype(object)
        clicks = world.respond(users, items, time)
        request = [f"{world.day}-{n}" for n in range(len(users))]
        shown = pd.DataFrame({
            "request_id": np.repeat(request, K),
            "rank": np.tile(np.arange(1, K + 1), len(users)),
            "time": np.repeat(time, K), "user_id": np.repeat(users, K),
            "item_id": items.ravel(), "propensity": 1.0})
        mask = seen(clicks).ravel()
        told.append(shown[mask].assign(
            event_id=lambda f: f["request_id"] + "-" + f["item_id"],
            kind=np.where(clicks.ravel()[mask], "click", "skip")))
        lists.append(shown)
        world.next_day()
    return pd.concat(lists), pd.concat(told)


def rows(path: Path, table: str, columns: str) -> pd.DataFrame:
    """A table of the store's file, read without opening the store."""
    with sqlite3.connect(path) as base:
        return pd.read_sql_query(
            f"select {columns} from {table} order by 1, 2", base)


class Scene:
    """A piece of work that is killed, and what is looked at afterwards."""

    share = 1  # of the kills, beside the other scenes'

    def prepare(self, folder: Path) -> None:
        """Makes in `folder` what all lives start from."""

    def warm(self, folder: Path) -> None:
        """What the parent may know beforehand; runs no operation."""

    def beside(self, folder: Path):
        """A context of what lives through all the kills of a life."""
        return contextlib.nullcontext()


class IngestScene(Scene):
    """`tfrecal feedback ingest` of a file of responses."""

    name = "ingest"
    share = 12  # its lives are short

    def prepare(self, folder: Path) -> None:
        number = np.arange(EVENTS)
        pd.DataFrame({
            "event_id": [f"e{n}" for n in number], "request_id": "",
            "user_id": [f"u{n % 997}" for n in number],
            "item_id": [f"i{n % 1009}" for n in number],
            "time": 1.7e9 + number, "kind": "click"}).to_json(
                folder / "events.jsonl", orient="records", lines=True)

    def work(self, folder: Path) -> None:
        with FeedbackStore(folder / "feedback.db") as store:
            ingest(store, folder.parent / "events.jsonl", chunk=1000,
                   rejected=folder / "rejected.csv", progress=False)

    def half_visible(self, folder: Path) -> list[str]:
        if not (folder / "feedback.db").exists():
            return []
        with sqlite3.connect(folder / "feedback.db") as base:
            found, = base.execute("pragma integrity_check").fetchone()
        return [] if found == "ok" else [found]

    def bought(self, folder: Path) -> dict[str, int]:
        have = rows(folder / "feedback.db", "responses", "event_id, user_id")
        return {"billed": EVENTS,
                "lost": EVENTS - have["event_id"].nunique(),
                "twice": int(have["event_id"].duplicated().sum())}

    def outcome(self, folder: Path) -> dict[str, str]:
        have = rows(folder / "feedback.db", "responses",
                    "event_id, request_id, user_id, item_id, time, kind, "
                    "value")
        return {"responses": digest(have.to_csv().encode())}


class RetrainScene(Scene):
    """`tfrecal retrain`: fit, gate, export, promotion."""

    name = "retrain"

    def prepare(self, folder: Path) -> None:
        # Not above: its import runs operations, and the parent must not.
        from tfrecal.export.export_model import export_model

        made = folder / "made"
        made.mkdir()
        world = World(users=100, items=60, topics=4, seed=1)
        world.log(days=14).frame.to_csv(made / "log.csv", index=False)
        world.users.to_csv(made / "users.csv")
        world.items.to_csv(made / "items.csv")
        run.run(RunConfig(
            data=str(made / "log.csv"), users=str(made / "users.csv"),
            items=str(made / "items.csv"), encoder="none", oracle="people",
            rounds=1, final_epochs=2, batch_size=256), made / "run",
            quiet=True)
        built = restore_trained(RunFolder(made / "run"), "The scene")
        export_model(built.model, made / "models" / "shop", pool=built.pool,
                     k=K)
        with FeedbackStore(made / "feedback.db") as store:
            shown, told = week(world)
            store.add_shown(shown)
            store.add_responses(told)

    def warm(self, folder: Path) -> None:
        # Half of a life would be a process that imports TensorFlow to tell
        # whose an operation is: the same answer in each, and no file.
        op_audit.audit(folder / "made" / "models" / "shop" / "1")

    def lay_out(self, folder: Path) -> None:
        """Copies what the life starts from."""
        made = folder.parent / "made"
        if not (folder / "begun").exists():
            for name in ("models", "feedback.db"):
                copy = shutil.copytree if name == "models" else shutil.copy
                shutil.rmtree(folder / name, ignore_errors=True)
                copy(made / name, folder / name)
            (folder / "begun").touch()

    def options(self, folder: Path) -> RetrainConfig:
        return RetrainConfig(
            run=str(folder.parent / "made" / "run"),
            to=str(folder / "models" / "shop"),
            feedback=str(folder / "feedback.db"), force=True, steps=5,
            questions=20, k=K)

    def work(self, folder: Path) -> None:
        from tfrecal.retrain import job

        self.lay_out(folder)
        with FeedbackStore(folder / "feedback.db") as store:
            runs = store.retrainings()
            if len(runs) and (runs["outcome"] == "promoted").all():
                return
        job.retrain(folder / "loop", self.options(folder), now=2e9,
                    quiet=True)

    def half_visible(self, folder: Path) -> list[str]:
        from tfrecal.export.manifest import read_manifest

        if not (folder / "begun").exists():
            return []
        made = folder.parent / "made" / "models" / "shop" / "1"
        found = []
        for version, path in folders(folder / "models" / "shop").items():
            try:
                read_manifest(path)
                if version == 1:
                    if content(path) != content(made):
                        raise ValueError("its files are not as they were")
                    continue
                tf.saved_model.load(str(path))
            except Exception as error:
                found.append(f"version {version}: {error}")
        return found

    def bought(self, folder: Path) -> dict[str, int]:
        made = folder.parent / "made"
        before, after = (rows(place / "feedback.db", "responses",
                              "event_id, value") for place in (made, folder))
        asked = rows(folder / "feedback.db", "questions", "user_id, item_id")
        return {"billed": len(before),
                "lost": len(before) - len(before.merge(after)),
                "twice": int(asked.duplicated().sum())}

    def outcome(self, folder: Path) -> dict[str, str]:
        runs = rows(folder / "feedback.db", "runs",
                    "run_id, outcome, reason, record")
        record = json.loads(runs["record"].iloc[-1])
        # A number that a killed export had taken is not used again.
        for name in ("started", "seconds", "fit_seconds", "version"):
            record.pop(name)
        used = rows(folder / "feedback.db", "responses", "event_id, run_id")
        asked = rows(folder / "feedback.db", "questions",
                     "user_id, item_id, strategy, utility, state")
        reader = tf.train.load_checkpoint(
            str(folder / "loop" / "runs" / "1" / "weights" / "model"))
        weights = [np.asarray(reader.get_tensor(name)).tobytes()
                   for name in sorted(reader.get_variable_to_shape_map())
                   if "OBJECT_GRAPH" not in name]
        return {"runs": digest(
                    runs.drop(columns="record").to_csv().encode()),
                "record": digest(json.dumps(record, sort_keys=True).encode()),
                "used": digest(used.to_csv().encode()),
                "asked": digest(asked.to_csv().encode()),
                "weights": digest(*weights),
                "versions": str(len(folders(folder / "models" / "shop")))}
