"""Finds by short trials how much of an encoder to train (`tuning="auto"`).

Fine-tuning an encoder costs many times what a frozen one does, and often
brings nothing (benchmarks/RESULTS.md). So each way is tried on the labels
that are there and judged on the validation part. A dearer way is taken only
if it is better beyond chance, and by enough to be worth its time.
"""
from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import NamedTuple

import numpy as np
import tf_keras

from tfrecal.callbacks import EvaluateRetrieval
from tfrecal.files import replace_file
from tfrecal.metrics import t_interval
from tfrecal.runs.build import first_pool, make_model, training_callbacks
from tfrecal.runs.config import RunConfig
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.text.checkpoints import architecture_of

# Ways of tuning, from the cheapest to the dearest. BitFit costs as much as
# LoRA.
TRIED = ("frozen", "top_n", "lora", "full")
EPOCHS = 10
# With fewer users that have something to find, an interval says nothing.
FEWEST_USERS = 20
# The least gain, as a share of NDCG@10 or of the squared error: with many rows
# a smaller gain can be beyond chance and still not be worth the time.
WORTH = 0.005


class Trial(NamedTuple):
    """A trial of one way of tuning.

    Attributes:
        tuning: the name of the way.
        seconds: time of training, without the making of the model.
        ndcg: NDCG@10 of each user of the validation part; None where the
            trial was cut off.
        error: squared error of each row of the validation part; None where
            the trial was cut off, or where the losses predict no labels.
        epochs: number of epochs that were trained.
    """

    tuning: str
    seconds: float
    ndcg: np.ndarray | None
    error: np.ndarray | None
    epochs: int


class Choice(NamedTuple):
    """The way of tuning that was chosen, and why.

    Attributes:
        config: the config with the tuning that was chosen.
        why: lines of text, one for each trial and one for the choice.
        trials: the figures of these lines, for JSON.
    """

    config: RunConfig
    why: list[str]
    trials: list[dict]

    def write(self, path) -> None:
        """Writes the choice as a JSON file."""
        text = json.dumps({"tuning": self.config.tuning, "why": self.why,
                           "trials": self.trials}, indent=1)
        replace_file(path, lambda beside: beside.write_text(text))


def choose(config: RunConfig, split, *, tried=TRIED, seconds: float = 300.0,
           epochs: int = EPOCHS, quiet: bool = True) -> Choice:
    """Tries ways of tuning an encoder on the labels that are known.

    The labels are those that the run begins with; no label is bought. A way
    replaces a cheaper one on two conditions. First, NDCG@10 of the validation
    part's users, or else the squared error of its rows, is better by at least
    a share `WORTH`, with a 95% interval (paired t) that leaves out 0. Second,
    the other measure is not worse beyond its interval. The interval is over
    users or rows of one fit each, so it does not cover what another seed
    would change.

    Args:
        config: the run's config as it was planned, whose `tuning` is
            chosen.
        split: the run's `splits.Split`; its test part is not looked at.
        tried: ways of tuning, from the cheapest to the dearest; the first is
            never cut off.
        seconds: time that all training may take. A way that would take more
            than what is left is cut off after its first epoch.
        epochs: number of epochs of each trial.
        quiet: whether to print no line for each trial on stderr.

    Returns:
        The `Choice`. It is the first way where the validation part has fewer
        than `FEWEST_USERS` users to judge by.
    """
    trials, left = [], seconds
    first = dataclasses.replace(config, tuning=tried[0])
    if config.encoder == "none" or not len(split.train.items.columns):
        return Choice(first, ["no texts are encoded: nothing to tune"], [])
    if not len(split.validation):
        return Choice(first, [
            f"chosen: {tried[0]} (no validation rows to judge by)"], [])
    able = architecture_of(config.encoder).tunings
    tried = [tuning for tuning in tried if tuning in able]
    for tuning in tried:
        trial = _try(dataclasses.replace(config, tuning=tuning), split,
                     left if trials else np.inf, epochs)
        left -= trial.seconds
        trials.append(trial)
        if not quiet:
            print(f"trial of tuning={tuning}: {trial.seconds:.0f} s",
                  file=sys.stderr)
        users = len(trials[0].ndcg)
        if users < FEWEST_USERS:
            return Choice(first, [
                f"chosen: {tried[0]} ({users} users of the validation part "
                f"have something to find, at least {FEWEST_USERS} are needed "
                "to judge)"], [])
    return _chosen(config, trials)


def _try(config, split, left: float, epochs: int) -> Trial:
    tf_keras.utils.set_random_seed(config.seed)
    pool = first_pool(config, split)
    rows = pool.labelled_rows()
    model = make_model(config, split.train, float(pool.label[rows].mean()))
    clock = _Clock(left, epochs)
    plan = dataclasses.replace(config, final_epochs=epochs)
    model.fit(
        pool.sequence(config.batch_size, config.seed), epochs=epochs,
        verbose=0, callbacks=[
            clock, *training_callbacks(plan, model, pool, epochs=epochs)])
    if clock.epochs < epochs:
        return Trial(config.tuning, clock.seconds, None, None, clock.epochs)
    held_out = split.validation
    watch = EvaluateRetrieval(pool, held_out)
    scorer = PoolScorer.of(model, pool)
    ranked = watch.ranked(scorer)[-1]
    error = None
    if scorer.offers.labels:
        error = (held_out.label - scorer.predict(
            held_out.user_code, held_out.item_code)) ** 2
    return Trial(config.tuning, clock.seconds, ranked.per_user["ndcg@10"],
                 error, epochs)


class _Clock(tf_keras.callbacks.Callback):
    """Counts seconds of training, without the tracing of graphs.

    It stops training after the first epoch if the rest would take too long.
    """

    def __init__(self, left: float, planned: int):
        super().__init__()
        self.left, self.planned = left, planned
        self.seconds, self.epochs = 0.0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        if not self.epochs and not batch:
            # The clock starts anew after the first batch, which traces the
            # graphs.
            self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds += time.perf_counter() - self._began
        self.epochs += 1
        if self.seconds / self.epochs * self.planned > self.left:
            self.model.stop_training = True


def _chosen(config, trials) -> Choice:
    best, others = trials[0], trials[1:]
    figures = _figures(best)
    rmse = f", RMSE {figures['rmse']:.4f}" if "rmse" in figures else ""
    lines = [f"{best.tuning}: NDCG@10 {figures['ndcg@10']:.4f}{rmse}, "
             f"{best.seconds:.1f} s"]
    found = [{"tuning": best.tuning, "seconds": best.seconds, **figures}]
    for trial in others:
        row = {"tuning": trial.tuning, "seconds": trial.seconds}
        if trial.ndcg is None:
            lines.append(f"{trial.tuning}: cut off, {trial.seconds:.1f} s an "
                         "epoch is more than the trial may take")
            found.append({**row, "cut_off": True})
            continue
        gains, said = _compared(trial, best)
        times = trial.seconds / max(best.seconds, 1e-9)
        lines.append(f"{trial.tuning}: {said} beside {best.tuning}, "
                     f"{times:.1f} x the time")
        found.append({**row, **_figures(trial), "beside": best.tuning,
                      **gains})
        better = any(
            gain[1] > 0 and gain[0] >= WORTH * values.mean() for gain, values
            in zip(gains.values(), (best.ndcg, best.error)))
        worse = any(gain[2] < 0 for gain in gains.values())
        if better and not worse:
            best = trial
    reason = (f"nothing dearer is better by {WORTH:.1%} and beyond chance"
              if best is trials[0] else "better than the cheaper ones by "
              f"{WORTH:.1%} and beyond chance, and what costs more is not")
    lines.append(f"chosen: {best.tuning} ({reason})")
    return Choice(dataclasses.replace(config, tuning=best.tuning), lines,
                  found)


def _compared(trial, best) -> tuple[dict, str]:
    """Returns the intervals of what a trial gains, and says them."""
    ndcg = t_interval(trial.ndcg - best.ndcg)
    said = f"NDCG@10 {ndcg[0]:+.4f} [{ndcg[1]:+.4f}, {ndcg[2]:+.4f}]"
    if best.error is None:
        return {"ndcg_gain": ndcg}, said
    error = t_interval(best.error - trial.error)
    return {"ndcg_gain": ndcg, "error_gain": error}, (
        f"{said}, squared error {-error[0]:+.4f} [{-error[2]:+.4f}, "
        f"{-error[1]:+.4f}]")


def _figures(trial) -> dict[str, float]:
    found = {"ndcg@10": float(trial.ndcg.mean())}
    if trial.error is not None:
        found["rmse"] = float(np.sqrt(trial.error.mean()))
    return found
