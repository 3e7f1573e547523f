"""Loop: the folder in which a served model is retrained."""
from __future__ import annotations

import os
from pathlib import Path

import filelock

from tfrecal import export
from tfrecal.feedback import FeedbackStore
from tfrecal.retrain.config import RetrainConfig
from tfrecal.serving.versions import folders


class Loop:
    """The folder of a loop, which retrains one served model.

    `config.json`; `runs/<run id>/`, the weights and tables of each
    retraining. What became of each stands in the feedback store.

    Args:
        folder: of the loop.
        config: what to do; by default the folder's.
    """

    def __init__(self, folder, config: RetrainConfig | None = None):
        self.folder = Path(folder)
        self.config = config or RetrainConfig.from_folder(folder)
        self.base = Path(self.config.to)

    def lock(self):
        """A context in which no other process may retrain.

        Raises:
            ValueError: another process is at it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            return filelock.FileLock(
                self.folder / ".lock", timeout=0).acquire()
        except filelock.Timeout:
            raise ValueError(
                "One process at a time may retrain a model. Received: "
                f"{self.folder}, in which another one is at work. Wait for "
                "it to end, or leave it to that one (`--watch`).") from None

    def store(self) -> FeedbackStore:
        """The feedback store that the config or the environment names."""
        url = self.config.feedback or os.environ.get("TFRECAL_FEEDBACK")
        if not url:
            raise ValueError(
                "`feedback` must be a file or a URL. Received: none, and no "
                "TFRECAL_FEEDBACK in the environment.")
        return FeedbackStore(url)

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
        return version, export.read_manifest(found[version]).get("run", "")
