"""Loop: the folder in which a served model is retrained."""
from __future__ import annotations

import dataclasses
import json
import re
import secrets
from pathlib import Path

import numpy as np

from tfrecal import acquisition
from tfrecal.export.export_model import check_server, export_model, next_version
from tfrecal.feedback import FeedbackStore, named_store
from tfrecal.files import damaged, lock_folder, replace_file
from tfrecal.retrain import models, promotion, records, versions
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.todays_tables import TablesWrong
from tfrecal.serving.server.version_folders import folders

# Options that say where things are and do not change a candidate.
_ELSEWHERE = ("run", "to", "feedback", "spill", "address", "model", "timeout",
              "questions", "expires", "force", "reset")


_NAME = re.compile(r"[^\n\0]*-[0-9a-f]{8}")


class Loop:
    """The folder of a loop, which retrains one served model.

    It holds `config.json`, `name`, and in `runs/<run id>/` the weights and
    tables of each retraining. The feedback store says how each one ended.

    Args:
        folder: the folder.
        config: what to do; None takes the folder's config.
    """

    def __init__(self, folder, config: RetrainConfig | None = None):
        self.folder = Path(folder)
        self.config = config or RetrainConfig.from_folder(folder)
        self.base = Path(self.config.to)

    @property
    def name(self) -> str:
        """The loop's name, which stays when the folder is moved.

        Raises:
            ValueError: the file is not one that a loop wrote.
        """
        path = self.folder / "name"
        if not path.exists():
            replace_file(path, lambda beside: beside.write_text(
                f"{self.folder.name}-{secrets.token_hex(4)}", "utf-8"))
        try:
            found = path.read_text("utf-8")
        except (OSError, UnicodeError) as error:
            found, why = "", f"which cannot be read: {error}"
        else:
            why = f"which holds {found[:60]!r}"
        if not _NAME.fullmatch(found):
            raise damaged(
                path, "A loop's name must be as it was written", why,
                "Bring it back from a copy. Where nothing was retrained yet, "
                "remove it: a new name is made.")
        return found

    def lock(self):
        """Returns a context in which no other process may retrain.

        Raises:
            ValueError: another process is retraining.
        """
        return lock_folder(
            self.folder,
            "One process at a time may retrain a model. Received: "
            f"{self.folder}, in which another one is at work. Wait for it "
            "to end, or leave it to that one (`--watch`).")

    def store(self, made: bool = True) -> FeedbackStore:
        """Opens the feedback store that the config or environment names.

        Args:
            made: whether the store must be there already; it need not where
                the config names `spill`, whose rows will fill it.
        """
        return named_store(self.config.feedback,
                           made=made and not self.config.spill)

    def served(self) -> tuple[int, str]:
        """Returns the newest version and the `run_id` of its retraining.

        The `run_id` is "" for the first run's own export.

        Raises:
            ValueError: no version was exported yet.
        """
        if not self.base.is_dir():
            raise ValueError(
                "Retraining needs a model that is served (`--to`). Received: "
                f"{self.base}, which is missing. Check the path, or export "
                f"the run first: `tfrecal export --run {self.config.run} "
                f"--to {self.base}`.")
        found = folders(self.base)
        if not found:
            raise ValueError(
                "Retraining needs a model that is served. Received: no "
                f"version in {self.base}. Export the run first: `tfrecal "
                f"export --run {self.config.run} --to {self.base}`.")
        version = max(found)
        return version, versions.run_of(found[version])

    def check(self) -> None:
        """Raises a ValueError for options that would fail after training.

        Raises:
            TablesWrong: a file of today's tables is missing.
        """
        self.served()
        if not Path(self.config.run).is_dir():
            raise ValueError(
                "`run` (`--run`) must be the folder of a run. Received: "
                f"{self.config.run}, which is missing. Check the path.")
        for name in ("users", "items"):
            path = getattr(self.config, name)
            if path is not None and not Path(path).is_file():
                raise TablesWrong(
                    f"`{name}` (`--{name}`) must be a file. Received: "
                    f"{path}, which is missing. Check the path.")
        acquisition.get(self.config.strategy)
        check_server(self.config.server, self.config.index)
        next_version(self.base)

    def check_files(self, store: FeedbackStore) -> None:
        """Checks the files that the next retraining reads.

        Raises:
            ValueError: one is missing or damaged.
        """
        name = self.name if (self.folder / "name").exists() else ""
        run = self.served()[1]
        self.check_owner(store, run)
        if run:
            models.check_model(self.of_run(run), name)
        retrainings = store.retrainings()
        for run_id in retrainings["run_id"][
                retrainings["outcome"] == "running"]:
            self.kept(run_id)

    def check_owner(self, store: FeedbackStore, run: str) -> None:
        """Checks that this loop made a model, and that the store knows it.

        Args:
            store: the feedback store.
            run: the retraining that made it; "" for the first run.

        Raises:
            ValueError: another one did, so a file or an option names the
                wrong folder, store or model.
        """
        owner = records.of_run(store, run).get("loop")
        path = self.folder / "name"
        name = self.name if owner and path.exists() else ""
        if owner and name != owner:
            raise damaged(
                path, "A loop must retrain the model that it made",
                f"{f'which holds {name!r}' if name else 'which is missing'}, "
                f"while retraining {run} in {store.url} is of {owner!r}",
                "Check the folder (`-o`), its config.json and the store; if "
                f"they are right, write {owner} into {path}.")
        self.until(store, run)

    def options(self) -> str:
        """Returns the options that decide a candidate and its verdict."""
        kept = dataclasses.asdict(self.config)
        return json.dumps({name: kept[name] for name in sorted(kept)
                           if name not in _ELSEWHERE})

    def of_run(self, run_id) -> Path:
        """Returns the folder of a retraining."""
        return self.folder / "runs" / str(run_id)

    def keep(self, run_id, record: dict) -> None:
        """Stores the record of a retraining that is not finished."""
        records.write(self.of_run(run_id) / "record.json", record)

    def kept(self, run_id) -> dict:
        """Returns what `keep` stored; empty where a kill came before it.

        Raises:
            ValueError: the record is damaged, or gone although the model
                that it tells of is there.
        """
        path = self.of_run(run_id) / "record.json"
        if not path.exists() and not (path.parent / "made.json").exists() and (
                self.served()[1] != str(run_id)):
            return {}
        return records.read(path)

    def exported(self, run_id, base_version: int) -> int | None:
        """Returns the version that a retraining was exported as, or None."""
        for version, folder in folders(self.base).items():
            if version > base_version and (
                    versions.run_of(folder) == str(run_id)):
                return version
        return None

    def load(self, origin: models.Origin, run: str):
        """Loads the model of a retraining, or with "" of the first run.

        Returns:
            `(model, tables, pool)`.
        """
        if not run:
            return origin.model, origin.tables, origin.pool
        return models.load_model(origin, self.of_run(run), self.name)

    def until(self, store: FeedbackStore, run: str) -> float:
        """Returns when the newest feedback of a retraining was received."""
        if not run:
            return -np.inf
        record = records.of_run(store, run)
        if "until" not in record:
            raise ValueError(
                "The feedback store must be the one of the served model. "
                f"Received: {store.url}, which knows no retraining {run}. "
                "Name the one that it was made from (--feedback), or serve "
                f"`{self.config.run}` anew and begin a new loop (-o).")
        return record["until"]

    def export(self, model, pool, run_id, **manifest) -> int:
        """Exports the model of a retraining; returns the version."""
        config = self.config
        path = export_model(
            model, self.base, pool=pool, k=config.k, index=config.index,
            target_recall=config.target_recall, server=config.server,
            run=str(run_id), seed=config.seed, **manifest)
        return int(path.name)

    def promote(self, version: int) -> str:
        """Waits until the server serves a version, if there is a server.

        A version that is not served is withdrawn.

        Returns:
            Why the version is not served; "" where it is.
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
