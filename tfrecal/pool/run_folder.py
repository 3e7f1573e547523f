"""RunFolder: the files from which a run goes on, all of one moment."""
from __future__ import annotations

import io
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.checks import read_json
from tfrecal.data.interactions import Interactions
from tfrecal.files import (
    SUMS,
    check_file,
    damaged,
    file_sum,
    lock_folder,
    read_sums,
    sums_of,
    write_bytes,
    write_sealed,
    write_sums,
)
from tfrecal.pool import run_files
from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import STATES, Pool, read_arrays

RESUME = "Go on with `tfrecal run --resume FOLDER`, which writes it anew."
AGAIN = ("Bring the folder back from a backup. Without one, start a new run "
         "(`tfrecal run -o FOLDER`).")

_ASKED = "acquisitions.parquet"
_ENCODER = "encoder.npz"
_DATA = ("data/interactions.parquet", "data/users.parquet",
         "data/items.parquet", "data/meta.json")


class RunFolder:
    """The files of a run.

    `state.json` is written after what it names, and names the files that
    belong together: the pool (`pool/00003.npz`, one for each save), the
    weights (`weights/`), with their checksums. It also holds what the
    files for people show: `history.csv`, `explanations.jsonl` (why was asked,
    in words) and `test.json` (how good the finished model is on the test
    part). These and `acquisitions.parquet` (who was asked, the answer, its
    cost) are written anew by `mend` where they are damaged. `journal.jsonl`
    has every question and answer, before it takes effect. `config.json` and
    `data/`, a copy of the user's own files, which may change, stay as they
    are, as does `encoder.npz`, layers of the encoder that were fine-tuned
    before training; `sums.json` has their checksums. Folders of earlier
    versions have no checksums: their files are checked by their form. All of
    it is private (see `tfrecal.files`).

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
        folder = cls(path)
        if not (folder / "config.json").is_file():
            why = ("which has none" if folder.path.is_dir() else
                   "which is no folder" if folder.path.exists() else
                   "which is missing")
            cure = (AGAIN if folder._is_begun() else
                    f"Start a run there with `tfrecal run -o {path}`.")
            raise ValueError("A run folder must hold config.json. Received: "
                             f"{path}, {why}. {cure}")
        return folder

    def _is_begun(self) -> bool:
        return any((self / name).exists()
                   for name in ("config.json", "journal.jsonl"))

    def check_new(self) -> None:
        """Raises ValueError where the folder holds a run."""
        if self._is_begun():
            raise ValueError(
                f"A new run needs a folder of its own. Received: {self.path}"
                ", which holds a run. Choose another name, or go on with "
                f"`tfrecal run --resume {self.path}`.")

    def start(self, config: dict) -> None:
        """Writes the config of a new run, and the sums of its data."""
        self.check_new()
        text = json.dumps(config, indent=1).encode()
        write_sums(self.path, {
            "config.json": [[len(text), zlib.crc32(text)]],
            **sums_of(self.path, [
                *self._data_names(),
                *([_ENCODER] if (self / _ENCODER).exists() else [])])})
        write_bytes(self / "config.json", text)

    def _data_names(self) -> list[str]:
        return [path.relative_to(self.path).as_posix()
                for path in sorted(self.path.glob("data/*"))]

    def checked(self, name: str) -> Path:
        """Returns the path of a file of the run, if it is as it was written.

        Raises:
            ValueError: it is missing or damaged.
        """
        sums, cure = read_sums(self.path), AGAIN
        if name == _ASKED:
            cure = RESUME
        elif name in sums:
            cure = ("Bring it back from a backup; if you changed it on "
                    f"purpose, delete {self / SUMS}.")
        return check_file(
            self.path, name, {**sums, **self.state.get("files", {})}, cure)

    def _run_sum(self) -> str | None:
        """Returns what tells runs apart: config and data; None in old ones."""
        found = self._sum(SUMS)
        return found and f"{found[1]:08x}"

    @property
    def state(self) -> dict:
        """What `write` has stored; empty before the first whole epoch.

        Raises:
            ValueError: the file is damaged, or missing while a run that has
                ended an epoch needs it.
        """
        path = self / "state.json"
        if path.exists():
            state = run_files.read_state(path)
            run = self._run_sum()
            if run and state.get("run") not in (None, run):
                raise damaged(path, run_files.STATE, "which is that of "
                              "another run than sums.json",
                              run_files.STATE_CURE)
            return state
        # A kill in the first save leaves the first pool, without a state.
        if any(one.stem.isdecimal() and int(one.stem) > 1
               for one in self.path.glob("pool/*.npz")):
            raise damaged(path, run_files.STATE, "which is missing",
                          run_files.STATE_CURE)
        return {}

    @property
    def test(self) -> dict[str, float]:
        """What `write_test` has stored; empty before the run has ended."""
        state, path = self.state, self / "test.json"
        if "history" in state or not path.exists():
            return state.get("test", {})
        return run_files.read_test(path)

    def write_test(self, figures: dict) -> None:
        """Stores figures of the test part, except those without a value.

        Args:
            figures: name -> number.
        """
        figures = {
            name: value if isinstance(value, int) else float(value)
            for name, value in figures.items() if np.isfinite(value)}
        write_bytes(self / "test.json", run_files.test_text(figures))
        state = self.state
        if "history" in state:
            write_sealed(self / "state.json", {**state, "test": figures})

    def write_linear_block(self, options: dict) -> None:
        """Stores the options of the linear block that were chosen.

        Figures of the test part are dropped: they are of other options.
        """
        state = self.state
        state.pop("test", None)
        (self / "test.json").unlink(missing_ok=True)
        write_sealed(self / "state.json", {
            **state, "linear_block": options})

    def history(self) -> pd.DataFrame:
        """Returns the rows of `history.csv`, one for each epoch.

        Raises:
            ValueError: the file of an older folder is damaged.
        """
        state = self.state
        if "history" in state:
            return pd.DataFrame(state["history"])
        return run_files.read_history(
            self / "history.csv", state.get("epoch", -1))

    def explanations(self) -> list[dict]:
        """Returns why pairs were asked, as in `explanations.jsonl`."""
        acquire = self.state.get("acquire", {})
        if "explanations" in acquire:
            return acquire["explanations"]
        return run_files.read_lines(
            self / "explanations.jsonl",
            "Delete it, or bring it back from a backup.")

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the test part, once the run has ended.

        They are named `test_...`. Before, figures of the last whole epoch on
        the validation part, `val_...`.
        """
        if self.test:
            return {name: value for name, value in self.test.items()
                    if name.startswith("test_")}
        history = self.history()
        prefix = {"validation": "val_", "test": "test_"}[
            measured_part(history).iloc[-1]]
        return {name.replace("val_", prefix, 1): float(value)
                for name, value in history.iloc[-1].items()
                if name.startswith("val_") and np.isfinite(value)}

    def write(self, pool: Pool, **changes) -> None:
        """Stores the pool and changes of the state in one step.

        Args:
            pool: the `Pool`.
            **changes: entries of `state.json`. With those of a new epoch,
                what was chosen and measured after the last one is dropped.
        """
        before = self.state
        state = {**before, **changes}
        if "epoch" in changes:
            for name in ("test", "linear_block"):
                state.pop(name, None)
        state["run"] = self._run_sum()
        state["saves"] = state.get("saves", 0) + 1
        state["pool"] = f"pool/{state['saves']:05d}.npz"
        pool.save(self / state["pool"])
        asked = run_files.parquet(acquisitions(pool))
        state["files"] = {
            **sums_of(self.path, [state["pool"]]),
            **self._weight_sums(state, before),
            _ASKED: [[len(asked), zlib.crc32(asked)],
                     *self._asked_before(before)]}
        # Those for people come after the state: a kill leaves the files of
        # before, which it knows too. Before the first, there are none.
        if not before:
            write_bytes(self / _ASKED, asked)
        write_sealed(self / "state.json", state)
        if before:
            write_bytes(self / _ASKED, asked)
        for name, text in run_files.texts(state).items():
            if name != "history.csv":
                write_bytes(self / name, text)

    def _weight_sums(self, state, before) -> dict[str, list]:
        name = state.get("checkpoint")
        if not name:
            return {}
        if name == before.get("checkpoint") and "files" in before:
            return {file: sums for file, sums in before["files"].items()
                    if file.startswith("weights/")}
        return sums_of(self.path, [
            path.relative_to(self.path).as_posix()
            for path in sorted(self.path.glob(f"weights/{name}.*"))])

    def _asked_before(self, before) -> list[list[int]]:
        """Returns the sum of the file that is there, if it is the run's."""
        found = self._sum(_ASKED)
        if found is None:
            return []
        known = before.get("files", {}).get(_ASKED, [found])
        return [found] if found in known else []

    def mend(self, pool: Pool) -> None:
        """Writes the files for people anew where they are not as they were.

        Args:
            pool: the pool of the state.
        """
        state = self.state
        if not state:
            return
        known = state.get("files", {}).get(_ASKED)
        found = self._sum(_ASKED)
        whole = found == known[0] if known else self._has_questions()
        if not whole:
            self._rewrite(_ASKED, run_files.parquet(acquisitions(pool)),
                          found is not None and found not in (known or ()))
        for name, text in run_files.texts(state).items():
            content = self._content(name)
            if content != text:
                self._rewrite(name, text, not _left_by_kill(
                    name, content, text))

    def odd_files(self) -> list[Path]:
        """Returns the files for people that are not as the state says."""
        return [self / name for name, text
                in run_files.texts(self.state).items()
                if self._content(name) != text]

    def _content(self, name: str) -> bytes | None:
        path = self / name
        return path.read_bytes() if path.is_file() else None

    def _sum(self, name: str) -> list[int] | None:
        return file_sum(self / name) if (self / name).is_file() else None

    def _has_questions(self) -> bool:
        """Returns whether the questions of an older folder can be read."""
        try:
            return self.acquisitions() is not None
        except ValueError:
            return False

    def _rewrite(self, name: str, content: bytes, damaged: bool) -> None:
        write_bytes(self / name, content)
        if damaged:
            print(f"{self / name} was not as it was written; it is written "
                  "anew.", file=sys.stderr)

    def keep(self, data: Interactions) -> None:
        """Stores the data of the run as they were read and cleaned."""
        data.to_parquet(self / "data", overwrite=True)

    def data(self) -> Interactions | None:
        """Returns what `keep` stored; None for a named data set.

        Raises:
            ValueError: a file is damaged.
        """
        path, names = self / "data", set(self._data_names())
        names.update(name for name in read_sums(self.path)
                     if name.startswith("data/"))
        if not names and not path.exists():
            return None
        for name in sorted(names.union(_DATA)):
            self.checked(name)
        read_json(path / "meta.json", "The facts of a run's data", AGAIN)
        try:
            return Interactions.load(path)
        except (ValueError, OSError, KeyError, TypeError,
                AttributeError) as error:
            if str(path) in str(error):
                raise
            raise damaged(path, "The data of a run must be as they were kept",
                          f"which cannot be read: {error}", AGAIN) from error

    def keep_encoder(self, weights) -> None:
        """Stores weights of the encoder that training does not change.

        Args:
            weights: list of arrays.
        """
        content = io.BytesIO()
        np.savez(content, *weights)
        write_bytes(self / _ENCODER, content.getvalue())

    def encoder(self) -> list[np.ndarray]:
        """Returns what `keep_encoder` stored.

        Raises:
            ValueError: the file is missing or damaged.
        """
        path = self.checked(_ENCODER)
        try:
            with np.load(path, allow_pickle=False) as found:
                return [found[f"arr_{n}"] for n in range(len(found.files))]
        # Damaged bytes raise errors of many classes in zipfile and NumPy.
        except Exception as error:
            raise damaged(path, "The encoder's weights must be as they were "
                          "kept", f"which cannot be read: {error}",
                          AGAIN) from error

    def files_to_resume(self) -> list[str]:
        """Returns the files that `run.resume` reads, without the journal."""
        state = self.state
        names = ["config.json", SUMS, _ENCODER, "data/*"]
        if state:
            names += ["state.json", "history.csv", state["pool"],
                      f"weights/{state['checkpoint']}.*"]
        return [path.relative_to(self.path).as_posix() for name in names
                for path in sorted(self.path.glob(name))]

    def journal(self) -> Journal:
        """Returns the journal of the run.

        Raises:
            ValueError: it is damaged, or not that of the state.
        """
        journal = Journal(self / "journal.jsonl")
        acquire = self.state.get("acquire", {})
        journal.check_heard(acquire.get("journal", 0),
                            acquire.get("journal_sum"))
        return journal

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
        """Returns the pool of the last `write`, over the same tables.

        Raises:
            ValueError: the file is damaged, or of other tables.
        """
        return Pool.load(self.checked(self._named("pool")), interactions)

    def arrays(self, *names: str) -> dict[str, np.ndarray]:
        """Returns arrays of the pool of the last `write`, without tables.

        Raises:
            ValueError: the file is damaged.
        """
        return read_arrays(self.checked(self._named("pool")), names)

    def acquisitions(self) -> pd.DataFrame:
        """Returns the rows of `acquisitions.parquet`.

        Raises:
            ValueError: the file is missing or damaged.
        """
        return run_files.read_acquisitions(self.checked(_ASKED))

    def weights(self) -> Path:
        """Returns the path of the checkpoint of the last `write`.

        Raises:
            ValueError: a file of it is missing or damaged.
        """
        name = f"weights/{self._named('checkpoint')}"
        parts = [file for file in self.state.get("files", {})
                 if file.startswith(f"{name}.")]
        for part in parts or [f"{name}.index"]:
            self.checked(part)
        return self / name

    def _named(self, kind: str) -> str:
        if kind not in self.state:
            raise damaged(
                self / "state.json", "The state of a run must name its pool "
                "and its weights", f"which names no {kind}",
                run_files.STATE_CURE)
        return self.state[kind]


def cost_of_labels(history: pd.DataFrame) -> pd.Series:
    """Returns what the labels that each epoch trained on had cost.

    An earlier version wrote what had been spent after the epoch's round.

    Args:
        history: rows of `history.csv`.
    """
    before = history["cost"].shift(fill_value=0.0)
    if "acquired_cost" not in history:
        return before
    return history["cost"].where(history["acquired_cost"].notna(), before)


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
        "strategy": np.array([*pool.strategies, ""], object)[
            pool.strategy[rows]],
        "utility": pool.utility[rows],
        "state": np.array(STATES, object)[pool.state[rows]],
        "label": pool.label[rows], "cost": pool.cost[rows]})


def _left_by_kill(name: str, content: bytes | None, text: bytes) -> bool:
    """Returns whether a kill may have left a file behind or ahead of it."""
    if content is None or content.startswith(text):
        return True
    rows = text.count(b"\n") - content.count(b"\n")
    return (text.startswith(content) and content[-1:] == b"\n"
            and (rows == 1 or name != "history.csv"))
