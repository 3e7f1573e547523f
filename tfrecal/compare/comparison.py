"""A paired comparison of strategies: many runs, resumable, in processes.

A comparison folder holds `config.json`, one folder a run under `runs/`, and,
once all are done, `curves.parquet`, `asked.parquet`, `calibration.parquet`
and `explanations.jsonl`, which `savings` and `report` read.
"""
from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import re
import sys
import threading
import time
from concurrent.futures import process
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tfrecal import checks
from tfrecal.compare import config as comparison_config
from tfrecal.compare import savings, scenarios, tables, verdicts
from tfrecal.compare.config import BASELINE, ComparisonConfig
from tfrecal.data.interactions import Interactions
from tfrecal.data.templates import check_texts
from tfrecal.files import lock_folder, make_folder
from tfrecal.runs.data import load_data
from tfrecal.runs.plan import counted

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_FEW_ROWS = 20_000  # of a log whose scenarios are checked with every seed


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of a comparison."""

    scenario: str
    strategy: str
    seed: int
    draw: int = 0

    @property
    def folder(self) -> str:
        """Where its results lie, below the comparison folder."""
        name = re.sub(r"[^\w.=+-]", "_", self.strategy)
        return f"runs/{self.scenario}/{name}/{self.seed}-{self.draw}"

    @property
    def keys(self) -> dict:
        """Columns that name the run."""
        return dataclasses.asdict(self)


def jobs(config: ComparisonConfig) -> list[Job]:
    """Every run, those of one seed together."""
    # Scenarios that differ in what counts share their runs.
    made = {}
    for name in config.scenario_names:
        made.setdefault(scenarios.get(name).make, name)
    first = config.first_seed
    return [Job(scenario, label, seed, draw)
            for seed in range(first, first + config.seeds)
            for scenario in made.values() for label in config.labels
            for draw in range(config.draws if label == BASELINE else 1)]


def compare(config: ComparisonConfig, folder, workers: int = 2,
            quiet: bool = False, make_model=None) -> pd.DataFrame:
    """Runs what is not there yet, and gathers all curves.

    Args:
        config: what to compare. A folder that holds a comparison is gone on
            with; strategies, scenarios and seeds may be added to it.
        folder: the comparison folder.
        workers: processes, each with one thread.
        quiet: no plan and no progress bar.
        make_model: a model of your own, see `Learner`: a function at the top
            of a module, so that worker processes find it.

    Returns:
        the curves, one row a round of a run.

    Raises:
        ValueError: the folder holds a comparison with other settings, a file
            of it is damaged, another process is at work in it, or a scenario
            makes no sense on the data; see `check`.
    """
    folder = Path(folder)
    checks.at_least(1, workers=workers)
    wanted = jobs(config)
    fingerprint = None
    if all((folder / job.folder).is_dir() for job in wanted):
        curves = tables.read_run(folder / wanted[0].folder)[0]["curves"]
        binary = "rmse" not in curves
    else:
        data, plan = check(config)
        if make_model is None:
            check_texts(config.encoder, data.items)
        binary, fingerprint = scenarios.is_binary(data), data.fingerprint()
        if not quiet:
            print(*plan, sep="\n", file=sys.stderr)
    make_folder(folder)
    with lock_folder(
            folder, "One process at a time may work in a comparison folder. "
            f"Received: {folder}, in which another one is at work."):
        _write_config(config, folder, make_model, binary, fingerprint)
        left = [job for job in wanted if not (folder / job.folder).is_dir()]
        for job in wanted:  # what is damaged is told before the work
            if job not in left:
                tables.read_run(folder / job.folder)
        _run_all(config, folder, left, len(wanted), workers, quiet,
                 make_model)
        return gather(folder, wanted, config)


def check(config: ComparisonConfig) -> tuple[Interactions, list[str]]:
    """Checks a comparison before anything is done; needs no TensorFlow.

    Returns:
        Its data, and a line for each scenario: what is bought of them.

    Raises:
        ValueError: the data cannot be read or hold nothing to ask, there is
            no such scenario or column, or a scenario makes no sense on them.
    """
    for name in config.scenario_names:
        scenarios.get(name)
    data = load_data(config)
    if data.label.min() == data.label.max():
        raise ValueError(
            "A comparison buys labels, which must differ. Received: "
            f"{len(data):,} rows of label={data.label.min():g} in "
            f"{config.data}. Bring negatives too, or train on these with "
            "`tfrecal run` and ask people with `tfrecal acquire`.")
    categories(data.items, config.category)
    first = config.first_seed
    # A long log has rows for every seed if it has them for one.
    seeds = config.seeds if len(data) < _FEW_ROWS else 1
    plan = []
    for name in config.scenario_names:
        pool = scenarios.check(data, name, first, config).pool
        plan.append(
            f"{name}: {counted(config.rounds, 'round')} of "
            f"{_batch(config, pool):,} out of {len(pool):,} pairs, "
            f"{pool.counts['labelled']:,} labelled first")
        for seed in range(first + 1, first + seeds):
            scenarios.check(data, name, seed, config)
    return data, plan


def _batch(config, pool) -> int:
    """Returns the number of labels that a round buys."""
    free = pool.counts["unlabelled"]
    return max(1, round(config.budget * free / config.rounds))


def _write_config(config, folder, make_model, binary, fingerprint):
    own = make_model and f"{make_model.__module__}.{make_model.__qualname__}"
    new = {**dataclasses.asdict(config), "primary": {
        name: scenarios.get(name).judged_by(binary)
        for name in config.scenario_names},
        "make_model": own, "fingerprint": fingerprint}
    old = tables.read_config(folder)
    if old is not None:
        # Fields that have come since then had their defaults.
        old = {**dataclasses.asdict(ComparisonConfig()), **old}
        may = ("scenarios", "strategies", "seeds", "category", "primary",
               "fingerprint")
        new = json.loads(json.dumps(new))  # in JSON, tuples are lists
        wrong = {key: (old.get(key), new[key]) for key in new
                 if key not in may and old.get(key) != new[key]}
        if wrong:
            raise ValueError(
                "A comparison keeps its settings. Received: "
                + ", ".join(f"{key}={b!r} where {folder} has {a!r}"
                            for key, (a, b) in wrong.items())
                + ". Choose another folder.")
        # Older comparisons have none.
        before = old.get("fingerprint") or fingerprint
        new["fingerprint"] = fingerprint or before
        if before != new["fingerprint"]:
            raise ValueError(
                "A comparison keeps its data. Received: other rows or tables "
                f"than those of {folder}. Choose another folder.")
    tables.write_config(folder, new)


def _run_all(config, folder, left, total, workers, quiet, make_model):
    if not left:
        return
    done = total - len(left)
    with tqdm(total=total, initial=done, disable=quiet, unit="run",
              smoothing=0.05) as bar:
        if workers == 1:
            for job in left:
                run_job(config, folder, job, make_model)
                bar.update()
            return
        for name in _THREADS:
            os.environ.setdefault(name, "1")
        with concurrent.futures.ProcessPoolExecutor(
                workers, multiprocessing.get_context("spawn"),
                _start_worker, (os.getpid(),)) as pool:
            futures = [pool.submit(run_job, config, folder, job, make_model)
                       for job in left]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
                    bar.update()
            except process.BrokenProcessPool as error:
                raise ChildProcessError(
                    "Worker processes must live until their runs are done. "
                    "Received: one that was killed, perhaps for want of "
                    "memory. What is done is kept: go on with the same "
                    "command, with fewer `--workers`.") from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _start_worker(parent: int):
    """One thread; and an end when the parent was killed."""
    import tensorflow as tf

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


@functools.lru_cache(maxsize=1)
def _learner(settings: str, make_model):
    """The data and the one learner of a process."""
    from tfrecal.compare.learner import Learner
    from tfrecal.text.encoder import TextEncoder
    config = ComparisonConfig(**json.loads(settings))
    data = load_data(config, quiet=True)  # `check` has said it
    encoder = None
    if make_model is None and config.encoder != "none" and len(
            data.items.columns):
        encoder = TextEncoder(config.encoder, tuning="frozen")
    return Learner(data, encoder, **{name: getattr(config, name) for name in (
        "embedding_dim", "dropout", "batch_size", "first_steps", "steps",
        "learning_rate", "passes")}, make_model=make_model)


def run_job(config: ComparisonConfig, folder, job: Job,
            make_model=None) -> None:
    """One run; its folder appears when all of it is written."""
    learner = _learner(json.dumps(dataclasses.asdict(config)), make_model)
    problem = scenarios.get(job.scenario).make(
        learner.data, job.seed, config.segment)
    curve, acquire = learner.run(
        problem, comparison_config.strategy(job.strategy),
        rounds=config.rounds, batch=_batch(config, problem.pool),
        seed=job.seed, draw=job.draw)
    found = {"curves": curve, "asked": asked(problem, config.category),
             "calibration": learner.calibration(problem)}
    for table in found.values():
        for key, value in reversed(job.keys.items()):
            table.insert(0, key, value)
    tables.write_run(Path(folder) / job.folder, found, [
        {**job.keys, **line} for line in acquire.explanations])


def asked(problem, category: str | None = None) -> pd.DataFrame:
    """What a run asked, one row a label bought.

    Args:
        problem: after the run.
        category: a column of the items table; None takes its first column
            of words with few values, if there is one.
    """
    pool = problem.pool
    rows = np.flatnonzero(pool.ticket >= 0)
    rows = rows[np.argsort(pool.ticket[rows])]
    initial = np.flatnonzero((pool.state == 2) & (pool.ticket < 0))
    names = categories(problem.data.items, category)
    pairs = pool.pairs(pool.user[rows], pool.item[rows])
    return pd.DataFrame({
        "round": pool.round[rows],
        "user_id": pairs.user_id, "item_id": pairs.item_id,
        "chosen_by": [pool.strategies[s] for s in pool.strategy[rows]],
        "label": pool.label[rows], "cost": pool.cost[rows],
        "utility": pool.utility[rows],
        "item_labels": _labels_before(
            pool.item, pool.round, initial, rows),
        "user_labels": _labels_before(
            pool.user, pool.round, initial, rows),
        "category": None if names is None else names[pool.item[rows] - 1]})


def categories(items: pd.DataFrame, column: str | None) -> np.ndarray | None:
    """First category of each item, or None where the table has none."""
    if column is None:
        for name in items.columns:
            words = items[name].dropna().astype(str)
            first = words.str.split("|").str[0]
            if not pd.api.types.is_numeric_dtype(items[name]) and (
                    first.nunique() <= 50):
                column = name
                break
        else:
            return None
    if column not in items:
        raise ValueError(
            f"`category` must be a column of the items table: "
            f"{', '.join(items.columns) or 'there is none'}. Received: "
            f"category={column!r}.")
    return items[column].astype(object).where(
        items[column].notna(), "").astype(str).str.split(
            "|").str[0].to_numpy(object)


def _labels_before(codes, rounds, initial, rows) -> np.ndarray:
    """Labels of each row's item (user) before the round of the row."""
    start = np.bincount(codes[initial], minlength=codes.max() + 1)
    found = start[codes[rows]]
    keys = codes[rows].astype(np.int64) << 20
    every = np.sort(keys + rounds[rows])
    return found + (np.searchsorted(every, keys + rounds[rows])
                    - np.searchsorted(every, keys))


def summary(curves: pd.DataFrame, baselines=("random", "target_matched")
            ) -> pd.DataFrame:
    """Each strategy beside each baseline, on what its scenario counts.

    Args:
        curves: what `compare` returned.
        baselines: those of them that were run.

    Returns:
        rows of `savings.compare`: of each scenario, its metric at its share
        of the budget.
    """
    rows = []
    for name in curves["scenario"].unique():
        scenario = scenarios.get(name)
        part = curves[curves["scenario"] == name]
        metric = scenario.judged_by(binary="rmse" not in part)
        keys = [key for key in part.columns
                if key not in savings.metric_names(part)]
        for baseline in baselines:
            own = part if baseline == BASELINE else (
                part[part["strategy"] != BASELINE])
            if baseline in set(own["strategy"]) and (
                    own["strategy"].nunique() > 1):
                rows.append(savings.compare(
                    own[[*keys, metric]], baseline,
                    at=(scenario.at,)))
    return pd.concat(rows, ignore_index=True)


def spoken(table: pd.DataFrame) -> str:
    """The rows of `summary` as text, a paragraph a scenario."""
    parts = []
    for name, rows in table.groupby("scenario", sort=False):
        scenario = scenarios.get(name)
        share = "" if scenario.at == 1 else (
            f" at {scenario.at:.0%} of random's budget")
        lines = [f"{name}: {scenario.says} ({rows['metric'].iloc[0]}"
                 f"{share})"]
        for row in rows.itertuples():
            lines.append(f"  {row.strategy:32} beside {row.baseline:14} "
                         f"{row.labels:5.2f} [{row.low:.2f}, {row.high:.2f}]"
                         f"  {row.verdict}")
        parts.append("\n".join([*lines, "  " + verdicts.overall(rows)]))
    return "\n\n".join(parts)


def gather(folder, wanted, config) -> pd.DataFrame:
    """Writes the tables of all runs together; returns the curves."""
    folder = Path(folder)
    shared = {}
    for name in config.scenario_names:
        shared.setdefault(scenarios.get(name).make, []).append(name)
    groups = {names[0]: names for names in shared.values()}
    parts = {name: [] for name in tables.TABLES}
    lines = []
    for job in wanted:
        found, why = tables.read_run(folder / job.folder)
        lines += why
        for name, part in found.items():
            # A scenario that shares its runs has the same curves.
            for scenario in (groups[job.scenario] if name == "curves"
                             else [job.scenario]):
                parts[name].append(part.assign(scenario=scenario))
    whole = {name: pd.concat(several, ignore_index=True)
             for name, several in parts.items()}
    tables.write_all(folder, whole, lines)
    return whole["curves"]
