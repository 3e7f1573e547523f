"""Models of a loop: made over tables, stored for each retraining, loaded."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrecal.data.interactions import Interactions
from tfrecal.files import replace_file, sync_tree
from tfrecal.model.transfer import transfer
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain.material import base_labels
from tfrecal.runs.build import make_model, restore_trained
from tfrecal.runs.config import RunConfig


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
        self.labels = base_labels(built.pool, built.split.train)
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
            embedding_dim=self.model.query_tower.embedding_dim)


def save_model(model: TwoTower, pool: Pool, tables: Interactions,
               folder) -> None:
    """Writes weights, pool and tables; `made.json` is written last."""
    folder = Path(folder)
    tables.take(np.zeros(0, int)).to_parquet(
        folder / "tables", overwrite=True)
    pool.save(folder / "pool.npz")
    try:
        tf.train.Checkpoint(model=model).write(
            str(folder / "weights" / "model"))
    except tf.errors.OpError as error:  # such as a full disk
        raise OSError(
            f"The weights could not be written to {folder}: {error.message}. "
            "Mend this and retrain again.") from error
    sync_tree(folder)
    replace_file(folder / "made.json", lambda path: path.write_text(
        json.dumps({"users": len(tables.users), "items": len(tables.items),
                    "encoder": model.fingerprint})))


def load_model(origin: Origin,
               folder) -> tuple[TwoTower, Interactions, Pool]:
    """Loads what `save_model` wrote: model, tables and pool.

    Raises:
        ValueError: the folder does not hold a whole model.
    """
    folder = Path(folder)
    if not (folder / "made.json").exists():
        raise ValueError(
            "The folder of a retraining must hold its model. Received: "
            f"{folder}, which has none. Bring it back from a copy, or start "
            "from the first run with `reset`.")
    tables = Interactions.load(folder / "tables")
    model = origin.fresh(tables, 0)
    made = json.loads((folder / "made.json").read_text("utf-8"))
    model.check_encoder(made.get("encoder", ""), folder)
    tf.train.Checkpoint(model=model).read(
        str(folder / "weights" / "model")).expect_partial()
    model.compile()
    return model, tables, Pool.load(folder / "pool.npz", tables)


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
