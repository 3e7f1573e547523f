"""RunFolder: the files from which a run goes on, all of one moment."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data.interactions import Interactions
from tfrecal.files import lock_folder, replace_file
from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import STATES, Pool


class RunFolder:
    """The files of a run.

    It holds `config.json`; `data/`, a copy of the user's own files, which
    may change, if the run read such; `journal.jsonl` (every question and
    answer, before it takes effect); `pool/00003.npz`, one for each save;
    `acquisitions.parquet` (who was asked, the answer, its cost);
    `explanations.jsonl` (why, in words); `weights/` (the model's);
    `history.csv`; and `state.json`, which is written last and names the files
    that belong together, so that half-written files are never named. Once
    the run has ended, `test.json` says how good the finished model is on the
    test part.

    Args:
        path: path of the folder.
    """

    def __init__(self, path):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def lock(self):
        """Returns a context in which no other process may write here.

        Raises:
            ValueError: another process is at work in the folder.
        """
        return lock_folder(
            self.path,
            "One process at a time may work in a run folder. Received: "
            f"{self.path}, in which another one is at work. Wait for it to "
            "end.")

    @classmethod
    def of_run(cls, path) -> "RunFolder":
        """Returns a folder that holds a run.

        Args:
            path: path of the folder.

        Raises:
            ValueError: it holds no run.
        """
        if not (Path(path) / "config.json").is_file():
            raise ValueError("A run folder must hold config.json. Received: "
                             f"{path}, which has none. Start a run there "
                             f"with `tfrecal run -o {path}`.")
        return cls(path)

    def check_new(self) -> None:
        """Raises ValueError where the folder holds a run."""
        if any((self / name).exists()
               for name in ("config.json", "journal.jsonl")):
            raise ValueError(
                f"A new run needs a folder of its own. Received: {self.path}"
                ", which holds a run. Choose another name, or go on with "
                f"`tfrecal run --resume {self.path}`.")

    def start(self, config: dict) -> None:
        """Writes the config of a new run."""
        self.check_new()
        replace_file(self / "config.json", lambda beside: beside.write_text(
            json.dumps(config, indent=1)))

    @property
    def state(self) -> dict:
        """What `write` has stored; empty before the first whole epoch."""
        path = self / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def test(self) -> dict[str, float]:
        """What `write_test` has stored; empty before the run has ended."""
        path = self / "test.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def write_test(self, figures: dict) -> None:
        """Stores figures of the test part, except those without a value.

        Args:
            figures: name -> number.
        """
        text = json.dumps({
            name: value if isinstance(value, int) else float(value)
            for name, value in figures.items() if np.isfinite(value)},
            indent=1)
        replace_file(self / "test.json", lambda path: path.write_text(text))

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the test part, `test_...`, once the run has ended.

        Before, figures of the last whole epoch on the validation part,
        `val_...`.
        """
        if self.test:
            return {name: value for name, value in self.test.items()
                    if name.startswith("test_")}
        history = pd.read_csv(self / "history.csv")
        prefix = {"validation": "val_", "test": "test_"}[
            measured_part(history).iloc[-1]]
        return {name.replace("val_", prefix, 1): float(value)
                for name, value in history.iloc[-1].items()
                if name.startswith("val_") and np.isfinite(value)}

    def write(self, pool: Pool, **changes) -> None:
        """Stores the pool and changes of the state in one step.

        Args:
            pool: the `Pool`.
            **changes: entries of `state.json`.
        """
        state = {**self.state, **changes}
        state["saves"] = state.get("saves", 0) + 1
        state["pool"] = f"pool/{state['saves']:05d}.npz"
        pool.save(self / state["pool"])
        replace_file(self / "acquisitions.parquet",
                     lambda path: acquisitions(pool).to_parquet(path))
        replace_file(self / "state.json",
                     lambda path: path.write_text(json.dumps(state)))

    def keep(self, data: Interactions) -> None:
        """Stores the data of the run as they were read and cleaned."""
        data.to_parquet(self / "data", overwrite=True)

    def data(self) -> Interactions | None:
        """Returns what `keep` stored; None for a named data set."""
        path = self / "data"
        return Interactions.load(path) if path.is_dir() else None

    def files_to_resume(self) -> list[str]:
        """Returns the files that `run.resume` reads, without the journal."""
        state = self.state
        names = ["config.json", "data/*"]
        if state:
            names += ["state.json", "history.csv", state["pool"],
                      f"weights/{state['checkpoint']}.*"]
        return [path.relative_to(self.path).as_posix() for name in names
                for path in sorted(self.path.glob(name))]

    def journal(self) -> Journal:
        """Returns the journal of the run."""
        return Journal(self / "journal.jsonl")

    def check_whole(self) -> None:
        """Checks that no epoch with purchases was interrupted.

        Otherwise, new tickets would be those that the journal has given out.

        Raises:
            ValueError: the journal has more records than the pool.
        """
        heard = self.state.get("acquire", {}).get("journal", 0)
        ahead = len(self.journal()) - heard
        if ahead > 0:
            raise ValueError(
                "Nothing can be asked while a round is interrupted. Received:"
                f" {self.path}, whose journal holds {ahead} records that the "
                "pool has not heard of. Finish the round first, with "
                f"`tfrecal run --resume {self.path}`.")

    def pool(self, interactions) -> Pool:
        """Returns the pool of the last `write`, over the same tables."""
        return Pool.load(self / self.state["pool"], interactions)


def measured_part(history: pd.DataFrame) -> pd.Series:
    """Returns which part of the split `val_...` of each epoch is of.

    Args:
        history: rows of `history.csv`. Files without a column `part` are of
            the test part.

    Returns:
        `"validation"` or `"test"` for each row.
    """
    if "part" not in history:
        return pd.Series("test", history.index)
    return history["part"].fillna("test")


def acquisitions(pool: Pool) -> pd.DataFrame:
    """Returns a frame with a row for each question, in the order asked."""
    rows = np.flatnonzero(pool.ticket >= 0)
    rows = rows[np.argsort(pool.ticket[rows])]
    pairs = pool.pairs(pool.user[rows], pool.item[rows])
    return pd.DataFrame({
        "ticket": pool.ticket[rows], "round": pool.round[rows],
        "user_id": pairs.user_id, "item_id": pairs.item_id,
        "strategy": [pool.strategies[s] for s in pool.strategy[rows]],
        "utility": pool.utility[rows],
        "state": np.array(STATES, object)[pool.state[rows]],
        "label": pool.label[rows], "cost": pool.cost[rows]})
