"""The main job: a config becomes data, model, one `fit` and a run folder."""
from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tf_keras

from tfrecal import __version__, callbacks
from tfrecal.callbacks.round_lines import RoundLines
from tfrecal.data.interactions import Interactions
from tfrecal.files import make_folder, make_private
from tfrecal.oracles import ReplayOracle
from tfrecal.pool.run_folder import RunFolder, cost_of_labels, measured_part
from tfrecal.runs import workers
from tfrecal.runs.build import (
    Run,
    assemble,
    linear_block,
    restore,
    training_callbacks,
    with_rating_l2,
)
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_data, load_split
from tfrecal.runs.plan import Plan
from tfrecal.scoring.block_choice import choose_linear_block


def run(config: RunConfig, folder, quiet: bool = False, oracle=None,
        data: Interactions | None = None) -> pd.DataFrame:
    """Trains and acquires in one `fit`.

    Each epoch is judged on the validation part, and the finished model on
    the test part, which nothing looks at before (`RunFolder.test`).

    Args:
        config: what to do.
        folder: the run folder; it must not hold a run yet.
        quiet: whether to print no line for each round, and of the plan only
            its notes.
        oracle: an `Oracle` that answers in place of the log's hidden
            labels, such as a service that bills.
        data: the config's data, where they are loaded and the plan is said
            already; None loads them.

    Returns:
        The history, one row an epoch, as in `history.csv`; `attrs["test"]`
        is what `test.json` holds.
    """
    with workers.join() as team, team.folder(folder) as folder:
        team.from_chief(folder.check_new)
        said = data is not None
        data = load_data(config) if data is None else data
        split = load_split(config, data)
        plan = Plan.of(config, split, asks=oracle is not None)
        config = plan.config
        if team.chief and not said:
            plan.say(quiet)
        _check_same(team, config, data)
        planned, chosen = config, None
        config = RunConfig(**team.from_chief(lambda: dataclasses.asdict(
            with_rating_l2(planned, split, quiet=quiet))))
        if config.tuning == "auto":
            def choose():
                # Imported here, because only `tuning="auto"` needs it.
                from tfrecal.runs.tuning import auto as auto_tuning
                nonlocal chosen
                chosen = auto_tuning.choose(config, split, quiet=quiet)
                return dataclasses.asdict(chosen.config)

            config = RunConfig(**team.from_chief(choose))
        with team.strategy.scope():
            built = assemble(config, split)
        with _locked(team, folder):
            if Path(config.data).is_file():
                folder.keep(data)  # the files may change
            if built.encoder:
                folder.keep_encoder(built.encoder)
            if chosen:
                chosen.write(folder / "tuning.json")
            folder.start(dataclasses.asdict(config))
            return _fit(built, {}, folder, quiet, oracle, team)


def resume(folder, quiet: bool = False, oracle=None) -> pd.DataFrame:
    """Goes on from the last whole epoch, as if nothing had happened.

    The epoch that was interrupted is trained again. Its questions and answers
    are in the journal and are not bought again.

    A finished run goes on for `final_epochs` more epochs if labels have come
    since (`tfrecal label`). Otherwise it stays as it is; only the test part
    is measured if it was not before.

    Args:
        folder: the run folder.
        quiet: whether to print no line for each round.
        oracle: see `run`.

    Returns:
        The history as `run` returns it, with the earlier epochs.
    """
    with workers.join() as team, team.folder(folder) as folder:
        team.from_chief(lambda: RunFolder.of_run(folder.path) and None)
        with _locked(team, folder):
            team.copy(folder)
            with team.strategy.scope():
                built, state = restore(folder)
            team.from_chief(lambda: folder.mend(built.pool))
            # Checked even if the run has ended.
            team.from_chief(lambda: len(folder.journal()))
            _check_same(team, built.config, built.split.train)
            return _fit(built, state, folder, quiet, oracle, team)


def _check_same(team, config, data) -> None:
    """Raises WorkersStopped where workers have other options or data."""
    if team.number > 1:
        team.check_same(
            "options", json.dumps(
                [__version__, dataclasses.asdict(config)], sort_keys=True),
            "Start the same command of the same version on all of them.")
        team.check_same("data", data.fingerprint(), "Give all of them the "
                        "same files.")


@contextlib.contextmanager
def _locked(team, folder):
    """Locks the run folder; a refusal stops the other workers too."""
    with contextlib.ExitStack() as stack:
        team.from_chief(
            lambda: stack.enter_context(folder.lock()) and None)
        yield


def _fit(built: Run, state: dict, folder: RunFolder, quiet: bool, oracle,
         team):
    config, pool, model = built.config, built.pool, built.model
    team.check_same("encoder", model.fingerprint,
                    "Give all of them the same folder of weights.")
    first = state.get("epoch", -1) + 1
    stop = _last_epoch(config, pool, state)
    quiet = quiet or not team.chief
    lines = RoundLines(folder.path, pool, first, quiet)
    if first < stop:
        (folder / "test.json").unlink(missing_ok=True)  # of fewer labels
        model.linear_block = linear_block(config)
        _train(built, state, folder, first, stop, lines, oracle, team)
    if config.linear_block:
        team.from_chief(lambda: _choose_linear_block(built, folder, quiet))
    history = lines.history
    history.attrs["test"] = team.from_chief(
        lambda: _measure_test(built, folder))
    if not quiet:
        print(test_line(history.attrs["test"]), flush=True)
    return history


def _train(built, state, folder, first, stop, lines, oracle, team):
    config, pool, model = built.config, built.pool, built.model
    if not lines.quiet and model.candidate_tower.encoder is not None:
        print(model.candidate_tower.encoder.summary, file=sys.stderr)
    watch = [callbacks.EvaluateRetrieval(pool, built.split.validation)]
    acquire = None
    if config.oracle == "replay" and config.rounds:
        if oracle is None:
            oracle = ReplayOracle(built.split.train, cost=config.cost,
                                  seed=config.seed)
        # Only the chief has a journal; the other workers repeat its rounds.
        acquire = built.acquire(
            oracle, rounds=config.rounds,
            journal=folder.journal() if team.chief else None)
        if state:
            acquire.restore(state["acquire"])
        watch += [acquire, callbacks.StopAtBudget(
            acquire, config.final_epochs, verbose=0)]
    after = [lines]
    if team.chief:
        make_folder(folder / "tensorboard")
        after.append(tf_keras.callbacks.TensorBoard(
            str(folder / "tensorboard"), write_graph=False))
    sequence = pool.sequence(config.batch_size, config.seed)
    sequence.start(first)
    try:
        model.fit(
            sequence, initial_epoch=first, epochs=stop, verbose=0, callbacks=[
                *training_callbacks(config, model, pool, epochs=stop,
                                    acquire=acquire, share=team.arrays),
                callbacks.ChiefDecides(team, pool, watch), *after,
                callbacks.SavePool(pool, folder.path, acquire, lines=lines)])
    finally:
        make_private(folder / "tensorboard")


def _choose_linear_block(built: Run, folder: RunFolder, quiet) -> None:
    """Chooses options of the finished model's linear block, once.

    As it is chosen from what the folder holds, a run that is killed before
    chooses the same when it is resumed.
    """
    if "linear_block" in folder.state:
        return
    choice = choose_linear_block(
        built.model, built.pool, built.split.validation,
        fixed=built.config.block_given, seed=built.config.seed)
    folder.write_linear_block(dataclasses.asdict(choice.options))
    if not quiet:
        print(choice, flush=True)


def _measure_test(built: Run, folder: RunFolder) -> dict[str, float]:
    """Returns how good the finished model is; writes it, if it is not there.

    It is measured as the folder holds the model, so that a run that is
    killed before this gives the same figures when it is resumed.
    """
    if not folder.test:
        judge = callbacks.EvaluateRetrieval(
            built.pool, built.split.test, seen=built.split.validation,
            part="test")
        found = judge.evaluate(built.model)
        folder.write_test({**judge.counts, **{
            f"test_{name}": value for name, value in found.items()}})
    return folder.test


def _last_epoch(config, pool, state) -> int:
    """The number of epochs at which `fit` ends."""
    if not state:
        return config.epochs
    if state["finished"] and pool.counts["labelled"] > state["rows"]:
        return state["epoch"] + 1 + max(config.final_epochs, 1)
    return state["epoch"] + 1 if state["finished"] else state["stop"]


def verdict(history: pd.DataFrame) -> str:
    """Says in one line what labels and training brought, and what it is now.

    Args:
        history: what `run` or `resume` returned.
    """
    trained = int(history["rows"].iloc[-1] - history["rows"].iloc[0])
    part = measured_part(history)
    # A run begun by an earlier version has rows of the test part first.
    judged = history[part == part.iloc[-1]]
    first, last = judged.iloc[0], judged.iloc[-1]
    # Labels of the last round count only where another epoch followed.
    left = int(last.get("acquired", 0))
    epochs = f"{len(judged) - 1} epoch{'s' * (len(judged) != 2)}"
    cost = cost_of_labels(history).iloc[-1]
    bought = (f"{trained:,} labels ({cost:,.0f} spent) and {epochs} "
              "of training brought" if trained else
              f"trained on {int(last['rows']):,} labels,")
    gains = [f"{title} {first[f'val_{name}']:.4f} -> {last[f'val_{name}']:.4f}"
             f" ({last[f'val_{name}'] - first[f'val_{name}']:+.4f})"
             for title, name in _TITLES.items()
             if np.isfinite(last.get(f"val_{name}", np.nan))]
    test = history.attrs.get("test")
    figures = _figures(test) if test else ""
    end = f"; at the end on the test part: {figures}" if figures else ""
    spent = last.get("acquired_cost", np.nan)
    rest = (" What labels bring beyond training, `tfrecal compare` tells."
            if trained else "")
    rest += (f" {left:,} more"
             + (f" ({spent:,.0f} spent)" if np.isfinite(spent) else "")
             + " came after the last epoch and are not trained on yet."
             if left else "")
    measured = ", ".join(gains) or "nothing to measure by"
    return f"{bought} on the {part.iloc[-1]} part: {measured}{end}.{rest}"


_TITLES = {"NDCG@10": "ndcg@10", "RMSE": "rmse", "AUC": "auc"}


def test_line(test: dict) -> str:
    """Says how good the model is on the test part, and how large that is.

    Args:
        test: what `RunFolder.test` holds.
    """
    return (f"test part ({test['rows']:,} rows, {test['users']:,} users): "
            + (_figures(test) or "nothing to measure by"))


def _figures(test):
    return ", ".join(f"{title} {test[f'test_{name}']:.4f}"
                     for title, name in _TITLES.items()
                     if f"test_{name}" in test)
