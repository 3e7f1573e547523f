"""Searches for a run's settings with Keras Tuner: `tfrecal tune`.

Only this module knows Keras Tuner. Keras Tuner needs Keras 3 and our models
need Keras 2, so a trial gives it one number and no model.
"""
from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import tf_keras

from tfrecal import checks
from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.data.interactions import Interactions
from tfrecal.files import lock_folder, replace_file
from tfrecal.pool.pool import Pool
from tfrecal.runs.build import make_model, training_callbacks, with_rating_l2
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_data
from tfrecal.runs.encoders import fine_tuned_weights, fixed_encoder
from tfrecal.runs.tuning.check import OBJECTIVES, check
from tfrecal.runs.tuning.space import (
    COUNTS,
    SEARCHED,
    checked,
    default_space,
    types,
)

try:
    import keras_tuner
    from keras_tuner.engine.base_tuner import BaseTuner
    from keras_tuner.engine.trial import Trial
    from keras_tuner.errors import FatalError
    from keras_tuner.oracles import RandomSearchOracle
except ImportError as error:
    raise ImportError(
        f"A search needs Keras Tuner. Received: {error}. Install it: "
        "`pip install '.[tuner]'`.") from error


class Found(NamedTuple):
    """The result of a search.

    Attributes:
        trials: one row a trial, in the order in which they began: `trial`,
            `status`, the metrics of the validation part, `seconds`, and the
            settings.
        best: the config with the settings of the best trial.
    """

    trials: pd.DataFrame
    best: RunConfig


def search(config: RunConfig, data: Interactions | None = None, *, folder,
           space: dict | None = None, trials: int = 20,
           seconds: float | None = None, objective: str = "ndcg@10",
           seed: int | None = None, overwrite: bool = False,
           quiet: bool = True) -> Found:
    """Tries settings at random and judges them on the validation part.

    A trial trains on every label of the training part, with the config's
    epochs and learning-rate schedule. The test part is never looked at. The
    same seed tries the same settings in the same order. A search that was
    killed goes on when it is called again with the same folder, and begins
    the trial that was cut off anew; it may be given more trials then.

    Args:
        config: the settings that are not searched.
        data: the data; None loads the config's.
        folder: the folder of the search. It gets `trials.csv`, `best.json`
            (a config for `tfrecal run --config`) and Keras Tuner's own
            project.
        space: setting -> list of values, or `{"low": 0.1, "high": 10,
            "log": true}`; settings of an encoder count where there is one.
            None takes `default_space`.
        trials: number of trials in total, with those of earlier calls.
        seconds: time of all trials in total. No trial is begun after that,
            and the one under way is ended. None is no limit.
        objective: `"ndcg@10"` or `"rmse"`.
        seed: seed of the settings that are tried; None takes the config's.
        overwrite: whether to delete an earlier search in the folder.
        quiet: whether to print no line for each trial.

    Returns:
        The trials and the best config.

    Raises:
        ValueError: the space, the budget or the objective is wrong, the
            folder holds another search, there is no validation part, or no
            trial ended.
    """
    seed = config.seed if seed is None else seed
    data = load_data(config) if data is None else data
    plan, split = check(config, data, trials=trials, seconds=seconds,
                        objective=objective)
    config = with_rating_l2(plan.config, split, quiet=quiet)
    space = checked(default_space(config, data) if space is None else space,
                    config)
    begun = {"config": dataclasses.asdict(config), "space": space,
             "objective": objective, "seed": seed,
             "data": data.fingerprint()}
    folder = Path(folder)
    with lock_folder(folder, "One process at a time may search in a folder. "
                     f"Received: {folder}, in which another one is at work."):
        _begin(folder, begun, overwrite)
        tuner = _tuner(folder, config, split, space, trials, objective, seed,
                       seconds, quiet)
        with contextlib.suppress(_TimeIsUp):
            _run_trials(tuner)
        return _write_results(folder, tuner.table(), config, objective)


def validate(config: RunConfig, split) -> dict[str, float]:
    """Trains on all labels of the training part; judges on validation."""
    tf_keras.utils.set_random_seed(config.seed)
    pool = Pool.from_interactions(split.train, initial=1.0, seed=config.seed)
    encoder = None
    if config.tuning == "beeformer" and config.encoder != "none":
        encoder = fixed_encoder(
            config, fine_tuned_weights(config, split.train, pool))
    model = make_model(config, split.train, float(pool.label.mean()),
                       warm=True, encoder=encoder)
    model.fit(
        pool.sequence(config.batch_size, config.seed), epochs=config.epochs,
        verbose=0, callbacks=training_callbacks(config, model, pool))
    found = EvaluateRetrieval(pool, split.validation).evaluate(model)
    return {name: float(value) for name, value in found.items()}


def _begin(folder: Path, begun: dict, overwrite: bool) -> None:
    """Writes down what the search is, or checks that it is the same."""
    path = folder / "search.json"
    if overwrite:
        # These are deleted first, so that a kill leaves no mixture.
        for name in ("search.json", "best.json", "trials.csv"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "keras_tuner", ignore_errors=True)
    if not path.exists():
        shutil.rmtree(folder / "keras_tuner", ignore_errors=True)
        replace_file(path, lambda beside: beside.write_text(
            json.dumps(begun, indent=1)))
        return
    before = checks.read_json(path, "The plan of a search")
    begun = json.loads(json.dumps(begun))
    other = [name for name in begun if before.get(name) != begun[name]]
    if other:
        raise ValueError(
            "A search goes on as it was begun. Received: another "
            f"{', '.join(other)} than that of {folder}. Choose another "
            "folder, or throw the search away with `overwrite` "
            "(`--overwrite`).")


def _tuner(folder, config, split, space, trials, objective, seed, seconds,
           quiet) -> "_Tuner":
    # Keras Tuner takes 0 as "no seed", and seed + 1 for the next value.
    oracle = _Oracle(
        keras_tuner.Objective(objective, OBJECTIVES[objective]),
        max_trials=trials, seed=1 + 10_000 * seed,
        hyperparameters=_declared(space))
    # Keras Tuner says on stdout that it goes on; stdout is for the table.
    with contextlib.redirect_stdout(io.StringIO()):
        return _Tuner(config, split, seconds, quiet, oracle=oracle,
                      directory=str(folder), project_name="keras_tuner")


def _declared(space: dict) -> keras_tuner.HyperParameters:
    """Returns the space in Keras Tuner's form."""
    hp = keras_tuner.HyperParameters()
    for name, given in space.items():
        with contextlib.ExitStack() as scopes:
            counts = {parent: [value for value in space[parent] if fits(value)]
                      for parent, fits in COUNTS.get(name, {}).items()
                      if parent in space}
            if not all(counts.values()):
                continue
            for parent, values in counts.items():
                scopes.enter_context(hp.conditional_scope(parent, values))
            if isinstance(given, list):
                hp.Choice(name, given)
                continue
            make = hp.Int if isinstance(given["low"], int) else hp.Float
            make(name, given["low"], given["high"],
                 sampling="log" if given["log"] else "linear")
    return hp


class _TimeIsUp(Exception):
    """The seconds of the search are spent."""


class _Oracle(RandomSearchOracle):
    """Keras Tuner's random search, with files that a kill leaves whole."""

    def save(self):
        _write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        _write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json",
                    trial.get_state())

    def reload(self):
        super().reload()
        # A trial is written before the oracle's state. A kill in between
        # leaves a trial that never began, or one whose end is not known.
        for number in set(self.trials) - set(self.start_order):
            del self.trials[number]
        for number in set(self.trials) - set(self.end_order):
            self.trials[number] = Trial(
                self.trials[number].hyperparameters, number)
        # The state that is written when a trial ends still calls it running.
        self._retry_queue = [number for number in self._retry_queue
                             if number not in self.end_order]


class _Tuner(BaseTuner):
    """Runs trials that fit and judge a config, in one process."""

    def __init__(self, config, split, seconds, quiet, **options):
        self.config = config
        self.split = split
        self.seconds = seconds
        self.quiet = quiet
        super().__init__(**options)

    def save(self):
        self.oracle.save()
        _write_json(self._get_tuner_fname(), self.get_state())

    def pre_create_trial(self):
        spent = sum(self._metrics_of(number).get("seconds", 0.0)
                    for number in self.oracle.end_order)
        if self.seconds is not None and spent >= self.seconds:
            raise _TimeIsUp

    def run_trial(self, trial, **options):
        started = time.perf_counter()
        try:
            metrics = validate(dataclasses.replace(
                self.config, **trial.hyperparameters.values), self.split)
            name = self.oracle.objective.name
            if name not in metrics:
                raise ValueError(
                    f"This objective needs ratings. Received: {name} with "
                    "losses that predict none. Choose ndcg@10.")
        except (ValueError, OSError, ImportError) as error:
            raise FatalError(str(error)) from error  # later ones would fail
        # Slices without a row have no value, and JSON has no NaN.
        _write_json(self._metrics_path(trial.trial_id), {
            **{key: value for key, value in metrics.items()
               if math.isfinite(value)},
            "seconds": time.perf_counter() - started})
        return {name: metrics[name]}

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if not self.quiet:
            metrics = self._metrics_of(trial.trial_id)
            shown = [f"{name} {metrics[name]:.4f}" for name in OBJECTIVES
                     if name in metrics] or [trial.status.lower()]
            settings = ", ".join(
                f"{name}={value:.4g}" if isinstance(value, float)
                else f"{name}={value}" for name, value
                in trial.hyperparameters.values.items())
            print(f"trial {trial.trial_id}: {', '.join(shown)} "
                  f"({metrics.get('seconds', 0):.1f} s) {settings}",
                  file=sys.stderr, flush=True)

    def _metrics_path(self, number) -> Path:
        return Path(self.get_trial_dir(number)) / "metrics.json"

    def _metrics_of(self, number) -> dict:
        path = self._metrics_path(number)
        return (checks.read_json(path, "The metrics of a trial")
                if path.exists() else {})

    def table(self) -> pd.DataFrame:
        """Returns one row a trial; see `Found.trials`."""
        rows = []
        names = [hp.name for hp in self.oracle.hyperparameters.space]
        for number in self.oracle.end_order:
            trial = self.oracle.trials[number]
            metrics = self._metrics_of(number)
            rows.append({
                "trial": int(number), "status": trial.status,
                **{name: metrics.get(name, math.nan)
                   for name in (*OBJECTIVES, "seconds")},
                **{name: trial.hyperparameters.values.get(name)
                   for name in names}})
        return pd.DataFrame(rows)


def _run_trials(tuner: _Tuner) -> None:
    """Runs Keras Tuner's loop and turns its errors into plain ones."""
    try:
        tuner.search(verbose=0)
    except FatalError as error:
        raise error.__cause__ or error
    except RuntimeError as error:  # so many trials in a row failed
        last = str(error).strip().splitlines()[-1]
        raise ValueError(
            "Trials must not fail one after another. Received: "
            f"{tuner.oracle.max_consecutive_failed_trials} in a row; the "
            f"last one ended with: {last}. Narrow the space.") from error


def _write_results(folder: Path, table: pd.DataFrame, config: RunConfig,
                   objective: str) -> Found:
    """Writes and returns the table and the best config."""
    ended = table[table["status"] == "COMPLETED"] if len(table) else table
    if not len(ended):
        raise ValueError(
            "A search needs a trial that ends with a number. Received: "
            f"{len(table)} trials, none of which did. Narrow the space.")
    sign = 1 if OBJECTIVES[objective] == "min" else -1
    row = ended.iloc[(sign * ended[objective].to_numpy()).argmin()]
    values = {name: row[name] for name in SEARCHED if name in row.index
              and row[name] is not None and row[name] == row[name]}
    kinds = types()
    best = dataclasses.replace(config, **{
        name: kinds[name](value) for name, value in values.items()})
    replace_file(folder / "trials.csv", lambda path: table.to_csv(
        path, index=False))
    replace_file(folder / "best.json", lambda path: path.write_text(
        json.dumps(dataclasses.asdict(best), indent=1)))
    return Found(table, best)


def _write_json(path, content) -> None:
    replace_file(Path(path), lambda beside: beside.write_text(
        json.dumps(content)))
