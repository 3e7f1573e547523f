"""The main job from a config: data, model, one `fit`, a run folder."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

from tfrecal import __version__, callbacks, datasets, simcse, splits, workers
from tfrecal.encoders import TextEncoder
from tfrecal.files import replace_file
from tfrecal.interactions import Interactions
from tfrecal.models import TwoTower, default_tasks
from tfrecal.oracles import ReplayOracle
from tfrecal.pool import Pool
from tfrecal.run_config import RunConfig
from tfrecal.run_folder import RunFolder
from tfrecal.target import Target
from tfrecal.texts import default_template

# As SimCSE's paper has it; only in the warm-up.
_WARM_UP_DROPOUT = 0.1


@dataclasses.dataclass
class Run:
    """The parts of a run, made from its config."""

    config: RunConfig
    split: splits.Split
    pool: Pool
    model: TwoTower

    def target(self) -> Target | None:
        """The audience that the config names; None for the whole pool."""
        config, traffic = self.config, self.split.train
        if config.target_users or config.target_items:
            return Target.segment(
                traffic, users=config.target_users,
                items=config.target_items, uniform=config.target_uniform)
        if config.target_uniform:
            return Target.from_interactions(
                traffic, uniform=config.target_uniform)
        return None

    def acquire(self, oracle, **options) -> callbacks.AcquireLabels:
        """The callback that buys labels as the config says."""
        config = self.config
        return callbacks.AcquireLabels(
            self.pool, config.strategy, oracle, budget=config.budget,
            seed=config.seed, target=self.target(),
            calibration=self.split.validation,
            **{"batch_size": config.batch, **options})


def load_data(config: RunConfig) -> Interactions:
    """The data set or the user's own files."""
    known = [data_set.name for data_set in datasets.names()]
    if config.data in known:
        if config.users or config.items:
            raise ValueError(
                "A named data set brings its own tables. Received: --users "
                f"or --items beside --data {config.data}. Leave them out.")
        return datasets.load(config.data)
    if not Path(config.data).is_file():
        raise ValueError(
            f"`data` must be a CSV file or one of {known}. "
            f"Received: data={config.data!r}.")
    data = Interactions.from_csv(
        config.data, users=config.users, items=config.items,
        bad_rows=config.bad_rows, duplicates=config.duplicates)
    if data.scale[0] == data.scale[1]:
        raise ValueError(
            "Labels must differ, or there is nothing to learn. Received: "
            f"{len(data)} rows with label={data.scale[0]:g}. If they are all "
            "positives, make them 1.")
    if data.report.counts:
        print(data.report, file=sys.stderr)
    return data


def load_split(config: RunConfig,
               data: Interactions | None = None) -> splits.Split:
    """The config's data, loaded unless they are given, in three parts."""
    data = load_data(config) if data is None else data
    if config.split in ("temporal", "leave_last_n"):
        return getattr(splits, config.split)(data)
    if config.split == "random":
        return splits.random(data, seed=config.seed)
    return getattr(splits, config.split)(
        data, fraction=0.2, validation=0.1, seed=config.seed)


def build(config: RunConfig, data: Interactions | None = None,
          warm: bool = True) -> Run:
    """Data, split, pool and compiled model; deterministic by the seed.

    Args:
        config: of the run.
        data: in place of the config's.
        warm: whether to warm the encoder up, where the config wants it;
            not where stored weights come next.
    """
    tf_keras.utils.set_random_seed(config.seed)
    split = load_split(config, data)
    pool = first_pool(config, split)
    mean = float(pool.label[pool.labelled_rows()].mean())
    model = make_model(config, split.train, mean, warm=warm)
    return Run(config, split, pool, model)


def first_pool(config: RunConfig, split: splits.Split) -> Pool:
    """The pool that a run begins with.

    Raises:
        ValueError: not one of its rows has a label.
    """
    if config.oracle == "people":
        pool = Pool.cross(split.train, [split.validation, split.test])
    else:
        initial = (float(config.initial) if config.initial <= 1
                   else int(config.initial))
        pool = Pool.from_interactions(split.train, initial, seed=config.seed)
    if not len(pool.labelled_rows()):
        raise ValueError(
            "Training needs at least one labelled row. Received: initial="
            f"{config.initial} of {len(pool)} pairs. Choose a larger share.")
    return pool


def make_model(config: RunConfig, data: Interactions, mean: float,
               seed: int | None = None, warm: bool = False,
               **options) -> TwoTower:
    """The config's model over tables, with fresh weights, compiled.

    Args:
        config: whose model settings hold.
        data: whose tables it covers.
        mean: of the known labels.
        seed: in place of the config's.
        warm: whether to warm the encoder up, where the config wants it.
        **options: of `TwoTower.from_interactions`.
    """
    encoder = make_encoder(config, data, warm)
    model = TwoTower.from_interactions(
        data, encoder=encoder, dropout=config.dropout, mean=mean,
        tasks=default_tasks(
            data.scale, mean, encoder is not None, config.loss_names,
            config.temperature, config.loss_weights),
        seed=config.seed if seed is None else seed, **options)
    model.compile(learning_rate=config.learning_rate,
                  encoder_learning_rate=config.encoder_learning_rate,
                  encoder_every=config.encoder_every,
                  adversarial=config.adversarial if encoder else 0.0)
    return model


def make_encoder(config: RunConfig, data: Interactions,
                 warm: bool = False) -> TextEncoder | None:
    """The config's encoder; None without one, or without texts.

    Args:
        config: whose settings of the encoder hold.
        data: whose item texts warm it up.
        warm: whether they do, where the config wants it.
    """
    if config.encoder == "none" or not len(data.items.columns):
        return None

    def made(dropout):
        return TextEncoder(
            config.encoder, tuning=config.tuning, top_n=config.top_n,
            rank=config.rank, alpha=config.alpha, dropout=dropout,
            projections=[name.strip() for name
                         in config.projections.split(",")],
            max_length=config.max_length, precision=config.precision)

    encoder = made(0.0)
    if warm and config.warm_up:
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            raise ValueError(
                "A warm-up trains on one device. Received: warm_up="
                f"{config.warm_up} with several workers or devices. Leave it "
                "out, or begin the run on one and resume it on several.")
        warmed = made(_WARM_UP_DROPOUT)
        simcse.warm_up(warmed, default_template(data.items)(data.items),
                       epochs=config.warm_up, seed=config.seed)
        for weight, value in zip(encoder.weights, warmed.weights):
            weight.assign(value)
    return encoder


def restore(folder: RunFolder) -> tuple[Run, dict]:
    """The parts of a stored run as of its last whole epoch, and its state."""
    parts = build(RunConfig.from_file(folder / "config.json"),
                  folder.data(), warm=not folder.state)
    state = folder.state  # of now: a run that is under way has gone on
    if state:
        parts.pool = folder.pool(parts.split.train)
        parts.model.check_encoder(
            state.get("encoder", ""), folder.path)
        tf.train.Checkpoint(model=parts.model).restore(
            str(folder / "weights" / state["checkpoint"])).expect_partial()
    return parts, state


def restore_trained(folder: RunFolder, purpose: str) -> Run:
    """As `restore`, of a run with a trained model.

    Args:
        folder: of the run.
        purpose: what needs the model, for the error.

    Raises:
        ValueError: no epoch of the run has ended.
    """
    parts, state = restore(folder)
    if not state:
        raise ValueError(
            f"{purpose} needs a trained model. Received: {folder.path}, "
            "whose first epoch never ended. Go on with "
            f"`tfrecal run --resume {folder.path}`.")
    return parts


def run(config: RunConfig, folder, quiet: bool = False,
        oracle=None) -> pd.DataFrame:
    """Trains and acquires in one `fit`.

    Args:
        config: what to do.
        folder: the run folder; must not hold a run yet.
        quiet: no line a round.
        oracle: an `Oracle` that answers in place of the log's hidden
            labels, such as a service that bills.

    Returns:
        history, one row an epoch, as in `history.csv`.
    """
    with workers.join() as team, team.folder(folder) as folder:
        team.from_chief(folder.check_new)
        data = load_data(config)
        _check_same(team, config, data)
        chosen = None
        if config.tuning == "auto":
            def choose():
                # It makes models as this module does.
                from tfrecal import auto_tuning
                nonlocal chosen
                chosen = auto_tuning.choose(
                    config, load_split(config, data), quiet=quiet)
                return dataclasses.asdict(chosen.config)

            config = RunConfig(**team.from_chief(choose))
        with team.strategy.scope():
            parts = build(config, data)
        with _locked(team, folder):
            if Path(config.data).is_file():
                folder.keep(data)  # the files may change
            if chosen:
                chosen.write(folder / "tuning.json")
            folder.start(dataclasses.asdict(config))
            return _fit(parts, {}, folder, quiet, oracle, team)


def resume(folder, quiet: bool = False, oracle=None) -> pd.DataFrame:
    """Goes on from the last whole epoch, as if nothing had happened.

    The epoch that was interrupted is trained again; what was asked and
    answered in it stands in the journal and is not bought again.

    A run that was finished goes on for `final_epochs` more where labels have
    come since (`tfrecal label`), and is left alone otherwise.

    Args:
        folder: the run folder.
        quiet: no line a round.
        oracle: as in `run`.

    Returns:
        history, one row an epoch, those before included.
    """
    with workers.join() as team, team.folder(folder) as folder:
        team.from_chief(lambda: RunFolder.of_run(folder.path) and None)
        with _locked(team, folder):
            team.copy(folder)
            with team.strategy.scope():
                parts, state = restore(folder)
            _check_same(team, parts.config, parts.split.train)
            return _fit(parts, state, folder, quiet, oracle, team)


def _check_same(team, config, data) -> None:
    """Raises WorkersStopped where workers were told to do different things."""
    if team.number > 1:
        team.check_same(
            "options", json.dumps(
                [__version__, dataclasses.asdict(config)], sort_keys=True),
            "Start the same command of the same version on all of them.")
        team.check_same("data", data.fingerprint(), "Give all of them the "
                        "same files.")


@contextlib.contextmanager
def _locked(team, folder):
    """`RunFolder.lock`, with its refusal told to the other workers."""
    with contextlib.ExitStack() as stack:
        team.from_chief(
            lambda: stack.enter_context(folder.lock()) and None)
        yield


def _fit(parts: Run, state: dict, folder: RunFolder, quiet: bool, oracle,
         team):
    config, pool, model = parts.config, parts.pool, parts.model
    team.check_same("encoder", model.fingerprint,
                    "Give all of them the same folder of weights.")
    first = state.get("epoch", -1) + 1
    stop = _last_epoch(config, pool, state)
    quiet = quiet or not team.chief
    lines = RoundLines(folder.path, pool, first, quiet)
    if first >= stop:
        return lines.history
    if not quiet and model.candidate_tower.encoder is not None:
        print(model.candidate_tower.encoder.summary, file=sys.stderr)
    watch = [callbacks.EvaluateRetrieval(
        pool, parts.split.test, seen=parts.split.validation)]
    acquire = None
    if config.oracle == "replay":
        if oracle is None:
            oracle = ReplayOracle(parts.split.train, cost=config.cost,
                                  seed=config.seed)
        # The others repeat what the chief's journal holds.
        acquire = parts.acquire(
            oracle, rounds=config.rounds,
            journal=folder.journal() if team.chief else None)
        if state:
            acquire.restore(state["acquire"])
        watch += [acquire, callbacks.StopAtBudget(
            acquire, config.final_epochs, verbose=0)]
    after = [lines]
    if team.chief:
        after.append(tf_keras.callbacks.TensorBoard(
            str(folder / "tensorboard"), write_graph=False))
    sequence = pool.sequence(config.batch_size, config.seed)
    sequence.start(first)
    model.fit(
        sequence, initial_epoch=first, epochs=stop, verbose=0, callbacks=[
            tf_keras.callbacks.LearningRateScheduler(
                lambda epoch: learning_rate(epoch, stop, config, acquire)),
            callbacks.ChiefDecides(team, pool, watch), *after,
            callbacks.SavePool(pool, folder.path, acquire)])
    return lines.history


def _last_epoch(config, pool, state) -> int:
    """The number of epochs at which `fit` ends."""
    if not state:
        return config.epochs
    if state["finished"] and pool.counts["labelled"] > state["rows"]:
        return state["epoch"] + 1 + max(config.final_epochs, 1)
    return state["epoch"] + 1 if state["finished"] else state["stop"]


def learning_rate(epoch: int, stop: int, config: RunConfig,
                  acquire=None) -> float:
    """Of an epoch: full while labels come, then along a cosine down to 5%.

    The decay starts after the last round, so that late labels are learned
    at the same rate as early ones.
    """
    last = max(config.final_epochs, 1)
    if acquire is not None and acquire.exhausted:
        stop = min(stop, acquire.last_labels + 1 + last)
    place = np.clip((epoch - (stop - last) + 1) / last, 0, 1)
    return float(config.learning_rate
                 * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * place))))


class RoundLines(tf_keras.callbacks.Callback):
    """One readable line a round, and `history.csv`.

    Args:
        folder: the run folder.
        pool: whose labels and cost are reported.
        first: epoch at which this `fit` starts; earlier rows of the file
            are kept.
        quiet: writes the file only.
    """

    columns = (("round", "epoch", "d"), ("labelled", "rows", ",.0f"),
               ("cost", "cost", ",.0f"), ("loss", "loss", ".3f"),
               ("NDCG@10", "val_ndcg@10", ".4f"),
               ("recall@10", "val_recall@10", ".4f"),
               ("RMSE", "val_rmse", ".4f"), ("AUC", "val_auc", ".4f"),
               ("train s", "train_seconds", ".1f"),
               ("acquire s", "acquire_seconds", ".2f"))

    def __init__(self, folder, pool, first: int = 0, quiet: bool = False):
        super().__init__()
        self.pool = pool
        self.path = Path(folder) / "history.csv"
        self.first = first
        self.quiet = quiet
        self._rows: list[dict] = []
        if first:
            # The parser that is exact: a row read is a row written.
            self._rows = pd.read_csv(
                self.path, float_precision="round_trip",
            )[:first].to_dict("records")

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch."""
        return pd.DataFrame(self._rows)

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        logs = {"labelled": self.pool.counts["labelled"],
                "cost": self.pool.spent, **(logs or {}), "epoch": epoch}
        logs["train_seconds"] = seconds - sum(
            logs.get(f"{part}_seconds", 0) for part in (
                "acquire", "evaluate"))
        # As in the file: a column of float32 is written shorter than one
        # that holds rows read back, which are float64.
        self._rows.append({
            name: float(str(value)) if isinstance(value, np.float32)
            else value for name, value in logs.items()})
        replace_file(self.path, lambda path: self.history.to_csv(
            path, index=False))
        if not self.quiet:
            shown = [(title, format(logs[key], form))
                     for title, key, form in self.columns if key in logs]
            widths = [max(len(title), len(text), 8) for title, text in shown]
            if epoch == self.first:
                print("  ".join(title.rjust(w) for (title, _), w
                                in zip(shown, widths)))
            print("  ".join(text.rjust(w) for (_, text), w
                            in zip(shown, widths)), flush=True)


def verdict(history: pd.DataFrame) -> str:
    """What the labels bought, in one line."""
    first, last = history.iloc[0], history.iloc[-1]
    trained = int(last["rows"] - first["rows"])
    # Labels of the last round count only where another epoch followed.
    left = int(last.get("acquired", 0))
    parts = [f"{name} {first[key]:.4f} -> {last[key]:.4f} "
             f"({last[key] - first[key]:+.4f})"
             for name, key in (("NDCG@10", "val_ndcg@10"),
                               ("RMSE", "val_rmse"), ("AUC", "val_auc"))
             if key in history]
    rest = (f" {left:,} more came after the last epoch and are not trained "
            "on yet." if left else "")
    bought = (f"{trained:,} labels ({last['cost']:,.0f} spent) bought: "
              if trained or last["cost"] else
              f"trained on {int(last['rows']):,} labels: ")
    return (bought + ", ".join(parts) + "." + rest)
