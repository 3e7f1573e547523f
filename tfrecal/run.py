"""The main job from a config: data, model, one `fit`, a run folder."""
from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tf_keras

from tfrecal import callbacks, datasets, splits
from tfrecal.encoders import TextEncoder
from tfrecal.files import replace_file
from tfrecal.interactions import Interactions
from tfrecal.models import TwoTower
from tfrecal.oracles import ReplayOracle
from tfrecal.pool import Pool


@dataclasses.dataclass
class RunConfig:
    """Everything that decides a run; stored as `config.json`.

    Args:
        data: name of a data set, or a CSV file of interactions.
        users, items: CSV files of the tables, where `data` is a file.
        encoder: `"minilm"`, a folder, a Hugging Face name, or `"none"`.
        tuning, top_n: see `TextEncoder`.
        strategy: name of an acquisition strategy.
        initial: share (or number) of the pool that is labelled at first.
        batch: labels bought a round.
        rounds: of acquisition; one epoch each.
        final_epochs: epochs after the last round.
        budget: what all labels may cost, or None.
        batch_size, learning_rate, encoder_learning_rate, dropout: of `fit`.
        seed: of everything.
    """

    data: str = "ml-100k"
    users: str | None = None
    items: str | None = None
    encoder: str = "minilm"
    tuning: str = "top_n"
    top_n: int = 1
    strategy: str = "random"
    initial: float = 0.05
    batch: int = 8000
    rounds: int = 6
    final_epochs: int = 2
    budget: float | None = None
    batch_size: int = 1024
    learning_rate: float = 5e-3
    encoder_learning_rate: float = 5e-5
    dropout: float = 0.05
    seed: int = 0

    def __post_init__(self):
        for name in ("batch", "rounds", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be a positive number. "
                                 f"Received: {name}={getattr(self, name)}.")
        if self.budget is not None and not self.budget > 0:
            raise ValueError("`budget` must be a positive number. "
                             f"Received: budget={self.budget}.")
        if not 0 < self.initial:
            raise ValueError(
                "`initial` must be above 0: the first epoch needs labels. "
                f"Received: initial={self.initial}.")

    @property
    def epochs(self) -> int:
        """Epochs of the one `fit`."""
        return self.rounds + self.final_epochs

    @classmethod
    def from_file(cls, path) -> "RunConfig":
        """Reads a JSON file; unknown names are refused."""
        values = json.loads(Path(path).read_text())
        known = [f.name for f in dataclasses.fields(cls)]
        wrong = sorted(set(values) - set(known))
        if wrong:
            raise ValueError(f"A config may hold {known}. "
                             f"Received: {wrong} in {path}.")
        return cls(**values)


@dataclasses.dataclass
class Run:
    """The parts of a run, made from its config."""

    config: RunConfig
    split: splits.Split
    pool: Pool
    model: TwoTower


def load_data(config: RunConfig) -> Interactions:
    """The data set or the user's own files."""
    known = [data_set.name for data_set in datasets.names()]
    if config.data in known:
        return datasets.load(config.data)
    if not Path(config.data).is_file():
        raise ValueError(
            f"`data` must be a CSV file or one of {known}. "
            f"Received: data={config.data!r}.")
    return Interactions.from_csv(config.data, users=config.users,
                                 items=config.items)


def build(config: RunConfig) -> Run:
    """Data, split, pool and compiled model; deterministic by the seed."""
    tf_keras.utils.set_random_seed(config.seed)
    data = load_data(config)
    split = splits.random(data, seed=config.seed)
    initial = (config.initial if config.initial < 1
               else int(config.initial))
    pool = Pool.from_interactions(split.train, initial, seed=config.seed)
    encoder = None
    if config.encoder != "none" and len(data.items.columns):
        encoder = TextEncoder(config.encoder, tuning=config.tuning,
                              top_n=config.top_n)
    rows = pool.labelled_rows()
    model = TwoTower.from_interactions(
        data, encoder=encoder, dropout=config.dropout,
        mean=float(pool.label[rows].mean()) if len(rows) else None,
        seed=config.seed)
    model.compile(learning_rate=config.learning_rate,
                  encoder_learning_rate=config.encoder_learning_rate)
    return Run(config, split, pool, model)


def run(config: RunConfig, folder, quiet: bool = False) -> pd.DataFrame:
    """Trains and acquires in one `fit`.

    Args:
        config: what to do.
        folder: the run folder; must not hold a run yet.
        quiet: no line a round.

    Returns:
        history, one row an epoch, as in `history.csv`.
    """
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise ValueError(f"A run folder must be new. Received: {folder}, "
                         "which holds a run. Choose another name.")
    parts = build(config)
    pool, model = parts.pool, parts.model
    replace_file(folder / "config.json", lambda path: path.write_text(
        json.dumps(dataclasses.asdict(config), indent=1)))
    oracle = ReplayOracle(parts.split.train, seed=config.seed)
    acquire = callbacks.AcquireLabels(
        pool, config.strategy, oracle, batch_size=config.batch,
        rounds=config.rounds, budget=config.budget, seed=config.seed,
        calibration=parts.split.validation)
    lines = RoundLines(folder, quiet)
    model.fit(
        pool.sequence(config.batch_size, config.seed), epochs=config.epochs,
        verbose=0, callbacks=[
            tf_keras.callbacks.LearningRateScheduler(
                lambda epoch: cosine(epoch, config)),
            callbacks.EvaluateRetrieval(
                pool, parts.split.test, seen=parts.split.validation),
            acquire,
            callbacks.StopAtBudget(acquire, config.final_epochs, verbose=0),
            callbacks.SavePool(pool, folder, acquire), lines])
    return lines.history


def cosine(epoch: int, config: RunConfig) -> float:
    """Learning rate of an epoch: full while labels come, then down to 5%.

    The decay starts after the last round, so that late labels are learned
    at the same rate as early ones.
    """
    last = max(config.final_epochs, 1)
    place = np.clip((epoch - config.rounds + 1) / last, 0, 1)
    return float(config.learning_rate
                 * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * place))))


class RoundLines(tf_keras.callbacks.Callback):
    """One readable line a round, and `history.csv`.

    Args:
        folder: the run folder.
        quiet: writes the file only.
    """

    columns = (("round", "epoch", "d"), ("labelled", "rows", ",.0f"),
               ("cost", "cost", ",.0f"), ("loss", "loss", ".3f"),
               ("NDCG@10", "val_ndcg@10", ".4f"),
               ("recall@10", "val_recall@10", ".4f"),
               ("RMSE", "val_rmse", ".4f"), ("AUC", "val_auc", ".4f"),
               ("train s", "train_seconds", ".1f"),
               ("acquire s", "acquire_seconds", ".2f"))

    def __init__(self, folder, quiet: bool = False):
        super().__init__()
        self.folder = Path(folder)
        self.quiet = quiet
        self._rows: list[dict] = []

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.DataFrame(self._rows)

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        logs = dict(logs or {}, epoch=epoch)
        logs["train_seconds"] = seconds - sum(
            logs.get(f"{part}_seconds", 0) for part in (
                "acquire", "evaluate"))
        self._rows.append(logs)
        replace_file(self.folder / "history.csv",
                     lambda path: self.history.to_csv(path, index=False))
        if not self.quiet:
            shown = [(title, format(logs[key], form))
                     for title, key, form in self.columns if key in logs]
            widths = [max(len(title), len(text), 8) for title, text in shown]
            if epoch == 0:
                print("  ".join(title.rjust(w) for (title, _), w
                                in zip(shown, widths)))
            print("  ".join(text.rjust(w) for (_, text), w
                            in zip(shown, widths)), flush=True)


def verdict(history: pd.DataFrame) -> str:
    """What the labels bought, in one line."""
    first, last = history.iloc[0], history.iloc[-1]
    bought = int(last["rows"] - first["rows"])
    parts = [f"{name} {first[key]:.4f} -> {last[key]:.4f} "
             f"({last[key] - first[key]:+.4f})"
             for name, key in (("NDCG@10", "val_ndcg@10"),
                               ("RMSE", "val_rmse"), ("AUC", "val_auc"))
             if key in history]
    return (f"{bought:,} labels at a cost of {last['cost']:,.0f} bought: "
            + ", ".join(parts) + ".")
