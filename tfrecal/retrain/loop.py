"""Loop: the folder in which a served model is retrained."""
from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path

import numpy as np

from tfrecal import acquisition
from tfrecal.export.export_model import check_server, export_model
from tfrecal.export.manifest import read_manifest
from tfrecal.feedback import FeedbackStore, named_store
from tfrecal.files import lock_folder, replace_file
from tfrecal.retrain import models, promotion
from tfrecal.retrain.config import RetrainConfig
from tfrecal.serving.server.version_folders import folders

# Options of where things are and who is asked, which change no candidate.
_ELSEWHERE = ("run", "to", "feedback", "spill", "address", "model", "timeout",
              "questions", "expires", "force", "reset")


class Loop:
    """The folder of a loop, which retrains one served model.

    `config.json`; `name`; `runs/<run id>/`, the weights and tables of each
    retraining. What became of each stands in the feedback store.

    Args:
        folder: of the loop.
        config: what to do; by default the folder's.
    """

    def __init__(self, folder, config: RetrainConfig | None = None):
        self.folder = Path(folder)
        self.config = config or RetrainConfig.from_folder(folder)
        self.base = Path(self.config.to)

    @property
    def name(self) -> str:
        """Whose a retraining is, wherever the folder is moved to."""
        path = self.folder / "name"
        if not path.exists():
            replace_file(path, lambda beside: beside.write_text(
                f"{self.folder.name}-{secrets.token_hex(4)}", "utf-8"))
        return path.read_text("utf-8")

    def lock(self):
        """A context in which no other process may retrain.

        Raises:
            ValueError: another process is at it.
        """
        return lock_folder(
            self.folder,
            "One process at a time may retrain a model. Received: "
            f"{self.folder}, in which another one is at work. Wait for it "
            "to end, or leave it to that one (`--watch`).")

    def store(self, made: bool = True) -> FeedbackStore:
        """The feedback store that the config or the environment names.

        Args:
            made: whether it must be there already, where no logs are named
                that would fill it.
        """
        return named_store(self.config.feedback,
                           made=made and not self.config.spill)

    def served(self) -> tuple[int, str]:
        """The newest version, and which retraining it is of ("" for none).

        Raises:
            ValueError: nothing was exported yet.
        """
        found = folders(self.base) if self.base.is_dir() else {}
        if not found:
            raise ValueError(
                "Retraining needs a model that is served. Received: no "
                f"version in {self.base}. Export the run first: `tfrecal "
                f"export --run {self.config.run} --to {self.base}`.")
        version = max(found)
        return version, read_manifest(found[version]).get("run", "")

    def check(self) -> None:
        """Raises a ValueError for options of which only training would say
        that they cannot be."""
        self.served()
        acquisition.get(self.config.strategy)
        check_server(self.config.server, self.config.index)

    def options(self) -> str:
        """Of what decides a candidate and its verdict, as text."""
        kept = dataclasses.asdict(self.config)
        return json.dumps({name: kept[name] for name in sorted(kept)
                           if name not in _ELSEWHERE})

    def of_run(self, run_id) -> Path:
        """The folder of a retraining."""
        return self.folder / "runs" / str(run_id)

    def keep(self, run_id, record: dict) -> None:
        """Stores the record of a retraining that is not finished."""
        replace_file(self.of_run(run_id) / "record.json", lambda path:
                     path.write_text(json.dumps(record), "utf-8"))

    def kept(self, run_id) -> dict:
        """What `keep` stored; empty where it was killed before."""
        path = self.of_run(run_id) / "record.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def exported(self, run_id, base_version: int) -> int | None:
        """The version that a retraining of `base_version` was exported as."""
        for version, folder in folders(self.base).items():
            if version > base_version and read_manifest(
                    folder).get("run") == str(run_id):
                return version
        return None

    def load(self, origin: models.Origin, run: str):
        """The model of a retraining, or with "" of the first run.

        Returns:
            `(model, tables, pool)`.
        """
        if not run:
            return origin.model, origin.tables, origin.pool
        return models.load_model(origin, self.of_run(run))

    def until(self, store: FeedbackStore, run: str) -> float:
        """When the feedback that a retraining used was received, at most."""
        if not run:
            return -np.inf
        retrainings = store.retrainings()
        record = retrainings["record"][retrainings["run_id"].astype(str) == run]
        if not len(record) or "until" not in json.loads(record.iloc[0]):
            raise ValueError(
                "The feedback store must be the one of the served model. "
                f"Received: {store.url}, which knows no retraining {run}. "
                "Name the one that it was made from (--feedback), or serve "
                f"`{self.config.run}` anew and begin a new loop (-o).")
        return json.loads(record.iloc[0])["until"]

    def export(self, model, pool, run_id, **manifest) -> int:
        """Exports the model of a retraining; the version."""
        config = self.config
        path = export_model(
            model, self.base, pool=pool, k=config.k, index=config.index,
            target_recall=config.target_recall, server=config.server,
            run=str(run_id), seed=config.seed, **manifest)
        return int(path.name)

    def promote(self, version: int) -> str:
        """Waits until the server serves a version, where there is one.

        Returns:
            why it does not, and the version is withdrawn; "" where it does.
        """
        config = self.config
        if config.address is None:
            return ""
        try:
            promotion.wait_served(
                config.address, config.model or self.base.name, version,
                config.timeout)
        except promotion.NotServed as error:
            promotion.withdraw(self.base, version)
            return str(error)
        return ""
