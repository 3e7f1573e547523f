"""Models of a loop: made over tables, stored for each retraining, loaded."""
from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrecal.data.interactions import Interactions
from tfrecal.files import (
    check_file,
    damaged,
    make_private,
    read_sealed,
    sums_of,
    sync_tree,
    write_sealed,
)
from tfrecal.model.transfer import transfer
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain.material import base_labels
from tfrecal.runs.build import make_model, restore_trained
from tfrecal.runs.config import RunConfig

_MUST = "The folder of a retraining must hold its whole model"
_CURE = ("Bring it back from a copy, or go back to a version whose folder is "
         "whole: `tfrecal rollback`.")


class Origin:
    """The run whose export was served first.

    Attributes:
        config: the run's `RunConfig`, whose encoder, dropout and losses hold
            for all models of the loop.
        model: the run's trained model.
        tables: the `Interactions` whose users and items the model knows.
        pool: the pool that the model was trained on.
        labels: the labels of the pool, see `base_labels`.
        mean: the mean of these labels, where fresh models start.
    """

    def __init__(self, folder):
        built = restore_trained(RunFolder.of_run(folder), "Retraining")
        self.config: RunConfig = built.config
        self.model = built.model
        self.tables = built.split.train
        self.pool = built.pool
        self.labels = base_labels(built.pool)
        self.mean = float(self.labels["label"].mean())

    def fresh(self, tables: Interactions, seed: int,
              warm: bool = False) -> TwoTower:
        """Makes a model with fresh weights over other tables.

        Args:
            tables: the `Interactions` whose users and items it covers.
            seed: seed of its weights.
            warm: whether to warm the encoder up; not needed where trained
                weights are loaded next.
        """
        columns = [
            [] if tower.categories is None else list(tower.categories.columns)
            for tower in (self.model.query_tower, self.model.candidate_tower)]
        return make_model(
            self.config, tables, self.mean, seed, warm,
            query_columns=columns[0], candidate_columns=columns[1],
            linear_block=self.model.linear_block,
            # What was fine-tuned before training stays fixed in the loop.
            encoder=self.model.candidate_tower.encoder
            if self.config.tuning == "beeformer" else None,
            embedding_dim=self.model.query_tower.embedding_dim)


def save_model(model: TwoTower, pool: Pool, tables: Interactions, folder,
               loop: str = "") -> None:
    """Writes weights, pool and tables; `made.json` is written last.

    It holds the sums of all of them. What a killed call left goes first.

    Args:
        model, pool, tables: what is written.
        folder: the folder of the retraining, named by its `run_id`.
        loop: the loop's name.
    """
    folder = Path(folder)
    (folder / "made.json").unlink(missing_ok=True)
    for left in ("tables", "weights"):
        shutil.rmtree(folder / left, ignore_errors=True)
    tables.take(np.zeros(0, int)).to_parquet(folder / "tables")
    pool.save(folder / "pool.npz")
    try:
        tf.train.Checkpoint(model=model).write(
            str(folder / "weights" / "model"))
    except tf.errors.OpError as error:  # such as a full disk
        raise OSError(
            f"The weights could not be written to {folder}: {error.message}. "
            "Mend this and retrain again.") from error
    make_private(folder)
    sync_tree(folder)
    names = ["pool.npz", *(
        path.relative_to(folder).as_posix() for part in ("tables", "weights")
        for path in sorted((folder / part).iterdir()))]
    write_sealed(folder / "made.json", {
        "users": len(tables.users), "items": len(tables.items),
        "encoder": model.fingerprint, "loop": loop, "run": folder.name,
        "files": sums_of(folder, names)})


def load_model(origin: Origin, folder, loop: str = ""
               ) -> tuple[TwoTower, Interactions, Pool]:
    """Loads what `save_model` wrote: model, tables and pool.

    Raises:
        ValueError: see `check_model`.
    """
    folder = Path(folder)
    made = check_model(folder, loop)
    tables = _read(lambda path: Interactions.load(path), folder / "tables")
    have = {"users": len(tables.users), "items": len(tables.items)}
    if any(made[name] != size for name, size in have.items()):
        raise damaged(folder / "tables", _MUST, f"which holds {have} where "
                      f"{made['users']} and {made['items']} were written",
                      _CURE)
    pool = _read(lambda path: Pool.load(path, tables), folder / "pool.npz")
    model = origin.fresh(tables, 0)
    model.check_encoder(made.get("encoder", ""), folder)
    _read(lambda path: tf.train.Checkpoint(model=model).read(
        str(path)).expect_partial(), folder / "weights" / "model")
    model.compile()
    return model, tables, pool


def _read(reader, path: Path):
    """Calls a reader of a file; its errors name the file."""
    try:
        return reader(path)
    except (ValueError, TypeError, LookupError, OSError, EOFError,
            AttributeError, RecursionError, zipfile.BadZipFile,
            tf.errors.OpError) as error:
        said = " ".join(str(getattr(error, "message", error)).split())
        raise damaged(path, _MUST, f"which cannot be read: {said[:200]}",
                      _CURE) from error


def check_model(folder, loop: str = "") -> dict:
    """Checks that all files of `save_model` are as they were written.

    Args:
        folder: the folder of the retraining.
        loop: the loop's name; "" for any.

    Returns:
        What `made.json` holds.

    Raises:
        ValueError: a file is missing or differs, or the folder is that of
            another retraining.
    """
    folder = Path(folder)
    made = read_sealed(folder / "made.json", _MUST, _CURE)
    if not isinstance(made.get("encoder", ""), str) or not isinstance(
            made.get("files", {}), dict) or not all(
            isinstance(made.get(name), int) for name in ("users", "items")):
        raise damaged(folder / "made.json", _MUST, "which is no such file",
                      _CURE)
    for name, mine in (("loop", loop), ("run", folder.name)):
        if mine and made.get(name, mine) != mine:
            raise damaged(folder / "made.json", _MUST, f"which is of {name} "
                          f"{str(made[name])[:60]!r}, not {mine!r}", _CURE)
    for name in made.get("files", {}):
        check_file(folder, name, made["files"], _CURE)
    return made


def grown(origin: Origin, model: TwoTower, tables: Interactions, seed: int,
          forget=frozenset()) -> TwoTower:
    """Makes the same model over larger tables; see `model.transfer`.

    Args:
        origin: the loop's `Origin`.
        model: the served model.
        tables: the tables as they are today.
        seed: seed of the rows of new ids.
        forget: users from whom nothing is taken over.
    """
    new = origin.fresh(tables, seed)
    rows = 1 + np.flatnonzero(tables.users.index.isin(forget))
    tower = new.query_tower
    own = [(table, tf.gather(table, rows)) for table in (
        tower.id_table, tower.bias_table, tower.warm)]
    transfer(model, new)
    for table, fresh in own:
        table.scatter_update(tf.IndexedSlices(fresh, rows))
    return new
