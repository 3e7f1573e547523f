"""What does fine-tuning the encoder cost, and where does it pay?

Three parts, each a table:

- `cost`: rows/s and seconds an epoch of each way of tuning MiniLM over all
  of MovieLens-100K, beside the usual tower, which encodes every row
  (`training.py` times its step), and beside sentence-transformers where it is
  installed; then the time to 99% of the best NDCG@10 that the usual tower
  comes to in six epochs, tracing and the first encoding of all texts
  included. Its curve is that of `full` with a step of the encoder every
  batch, which has the same gradients (`training.py` checks that); its time
  is that of a step times the steps that the curve needs.
- `quality`: each way with 5%, 20% and all of the labels, on short texts
  (MovieLens-100K, titles) and on long ones (those of its films that have a
  plot: title, year, genres, tagline, overview and keywords, 131 tokens on
  average), paired by seed with the frozen encoder.
- `cold`: items without a row, ranked among themselves by their texts, with 5%
  and with all labels of the others; also with an encoder that was warmed up on
  the texts (SimCSE), and with few labels with a step of the encoder every
  batch, without and with adversarial word embeddings (FGM).

    python benchmarks/tuning.py [--quick] [--parts cost quality cold]
        [--texts titles plots] [--ways top_n lora full]
        [--shares 0.05 0.2 1] [--seeds 0 1 2 3 4] [--keep FOLDER]
        [--seconds S]

With `--keep` the result of each fit is kept in a folder, and a second call
goes on where the first one stopped; after `--seconds` no fit is begun, and
cells show the seeds that are there.
"""
from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
from helpers.protocols import cold_ndcg  # noqa: E402
from helpers.results import kept  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    EvaluateRetrieval,
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
    splits,
)
from tfrecal.callbacks.learning_rate import FinalCosine  # noqa: E402
from tfrecal.data import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    assets,
)
from tfrecal.data.templates import Template, default_template  # noqa: E402
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.text import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    simcse,
)

import tf_keras  # noqa: E402  isort: skip
import training  # noqa: E402  isort: skip

# Batches for one step of the encoder.
EVERY = {"frozen": 1, "top_n": 20, "lora": 40, "bitfit": 40, "full": 40}
WAYS = ("frozen", "top_n", "lora", "bitfit", "full")
SHARES = (0.05, 0.2, 1.0)  # of the labels
COLD_SHARES = (0.05, 1.0)
DATA = {"titles": "ml-100k", "plots": "ml-100k-plots"}
# Plots cost fifteen times what titles do: half of them are cut, and their
# encoders compute in bfloat16.
ENCODER = {"titles": {"max_length": 64},
           "plots": {"max_length": 128, "precision": "bfloat16"}}
COMPARED = ("frozen", "top_n", "lora", "full")


class Job(NamedTuple):
    """One fit. `texts` is a key of `DATA`, `part` "random" or "cold"."""

    texts: str = "titles"
    part: str = "random"
    tuning: str = "frozen"
    share: float = 1.0
    seed: int = 0
    every: int = 0  # 0: as `EVERY` says
    epochs: int = 10
    warm_up: int = 0
    curve: bool = False
    adversarial: float = 0.0

    @property
    def name(self) -> str:
        return "-".join(map(str, self))


class Clock(tf_keras.callbacks.Callback):
    """Seconds of training; stands before whatever else takes time."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(time.perf_counter() - self._began)


class Curve(EvaluateRetrieval):
    """NDCG@10 after each epoch, kept apart from the clock."""

    def on_train_begin(self, logs=None):
        self.ndcg = []

    def on_epoch_end(self, epoch, logs=None):
        self.ndcg.append(self.evaluate(self.model)["ndcg@10"])


@contextlib.contextmanager
def nothing_encoded():
    """A cache that has the downloads, and no vectors or hidden states."""
    downloads = assets.cache_folder() / "assets"
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "assets").symlink_to(downloads)
        with mock.patch.dict(os.environ, TFRECAL_HOME=home):
            yield


def encoder_of(job: Job, texts) -> TextEncoder:
    """MiniLM as the job wants it, warmed up first where it says so."""
    options = ENCODER[job.texts]
    encoder = TextEncoder("minilm", tuning=job.tuning, **options)
    if job.warm_up:
        warmed = TextEncoder("minilm", tuning="top_n", dropout=0.1, **options)
        simcse.warm_up(warmed, texts, epochs=job.warm_up, seed=job.seed)
        warmed.trainable = False  # then weights come in the other's order
        encoder.set_weights(warmed.get_weights())
    return encoder


def fit(job: Job) -> dict:
    """Metrics of the test part, and what making and training took."""
    tf_keras.backend.clear_session()
    data = datasets.load(DATA[job.texts])
    template = (Template("{title}") if job.texts == "titles"
                else default_template(data.items))
    split = (splits.random(data, seed=job.seed) if job.part == "random"
             else splits.cold_items(data, 0.2, seed=job.seed))
    encoder = encoder_of(job, template(data.items))
    tf_keras.utils.set_random_seed(job.seed)
    pool = Pool.from_interactions(
        split.train, initial=job.share, seed=job.seed)
    rows = pool.labelled_rows()
    began = time.perf_counter()
    model = TwoTower.from_interactions(
        split.train, mean=float(pool.label[rows].mean()), seed=job.seed,
        encoder=encoder, template=template)
    model.compile(encoder_every=job.every or EVERY[job.tuning],
                  adversarial=job.adversarial)
    making = time.perf_counter() - began
    clock = Clock()
    watch = Curve(pool, split.test,
                  seen=split.validation if len(split.validation) else None)
    config = RunConfig(final_epochs=job.epochs)
    model.fit(
        pool.sequence(seed=job.seed), epochs=job.epochs, verbose=0,
        callbacks=[clock, FinalCosine(
            config.learning_rate, job.epochs, config.final_epochs),
            *[watch] * job.curve])
    found = watch.evaluate(model)
    return {"ndcg": float(found["ndcg@10"]), "rmse": float(found["rmse"]),
            "cold": cold_ndcg(model, pool, split.test),
            "rows": len(rows), "making": making, "epochs": clock.epochs,
            "curve": getattr(watch, "ndcg", []),
            "trained": int(sum(w.shape.num_elements()
                               for w in encoder.trainable_weights))}


class Fits:
    """Results of jobs, kept where they are asked for again.

    Args:
        folder: of the results, or None.
        seconds: after which no fit is begun.
    """

    def __init__(self, folder, seconds: float):
        self.folder = folder
        self.end = time.monotonic() + seconds

    def __call__(self, job: Job) -> dict | None:
        """The result of a job; None where time is up."""
        there = self.folder and (
            Path(self.folder) / f"{job.name}.json").exists()
        if not there and time.monotonic() > self.end:
            return None
        return kept(self.folder, job.name, lambda: fit(job))


def paired(fits, jobs, base: Job, key: str):
    """Values of each seed's job beside its base, where both are there."""
    both = [(fits(base._replace(seed=job.seed)), fits(job)) for job in jobs]
    both = [(a, b) for a, b in both if a and b]
    return ([a[key] for a, _ in both], [b[key] for _, b in both])


def show(title: str, cells) -> dict:
    """Prints means, and gains over the frozen encoder with intervals."""
    print(f"\n{title:28}{'seeds':>6}{'NDCG@10':>10}{'gain':>9}"
          f"{'95% interval':>20}{'RMSE':>9}{'gain':>9}{'95% interval':>20}")
    found = {}
    for name, (ndcg, rmse) in cells.items():
        if not ndcg[1]:
            print(f"{name:28}{'not run':>16}")
            continue
        line, found[name] = f"{name:28}{len(ndcg[1]):>6}", {}
        for key, (base, own) in (("ndcg", ndcg), ("rmse", rmse)):
            mean, low, high = metrics.t_interval(
                np.array(own) - np.array(base))
            line += (f"{np.mean(own):>{10 if key == 'ndcg' else 9}.4f}"
                     f"{mean:>+9.4f}    [{low:+.4f}, {high:+.4f}]")
            found[name][key] = float(np.mean(own))
            # JSON knows no infinity: one seed has no interval.
            found[name][f"{key}_gain"] = [
                value if np.isfinite(value) else None
                for value in (mean, low, high)]
        print(line, flush=True)
    return found


def quality_part(fits, kinds, ways, seeds, shares) -> dict:
    """Each way at each share of the labels, on these kinds of texts."""
    # By seed, so that what is cut off has whole seeds before it.
    for seed, share, texts, way in itertools.product(
            seeds, shares, kinds, ways):
        fits(Job(texts, tuning=way, share=share, seed=seed))
    found = {}
    for texts, share in itertools.product(kinds, shares):
        jobs = {way: [Job(texts, tuning=way, share=share, seed=seed)
                      for seed in seeds] for way in ways}
        found[f"{texts} {share:.0%}"] = show(
            f"{texts}, {share:.0%} of the labels",
            {way: [paired(fits, own, jobs["frozen"][0], key)
                   for key in ("ndcg", "rmse")] for way, own in jobs.items()})
    return found


def cold_arms(texts, share, ways) -> dict[str, Job]:
    """The fits that are compared on items without a row, by name."""
    base = Job(texts, part="cold", share=share)
    arms = {"frozen": base, "SimCSE, then frozen": base._replace(warm_up=3),
            **{way: base._replace(tuning=way) for way in ways
               if way != "frozen"}}
    if share < 1 and "full" in ways:  # else a fit takes a quarter of an hour
        arms["full, every batch"] = base._replace(tuning="full", every=1)
        arms["the same with FGM"] = arms["full, every batch"]._replace(
            adversarial=1.0)
    return arms


def cold_part(fits, kinds, ways, seeds, shares) -> dict:
    """Items without a row, ranked among themselves."""
    found = {}
    for seed, share, texts in itertools.product(seeds, shares, kinds):
        for job in cold_arms(texts, share, ways).values():
            fits(job._replace(seed=seed))
    for texts, share in itertools.product(kinds, shares):
        arms = cold_arms(texts, share, ways)
        jobs = {name: [job._replace(seed=seed) for seed in seeds]
                for name, job in arms.items()}
        title = f"{texts}, {share:.0%} of the labels"
        found[title] = show(f"cold {title}", {
            name: [paired(fits, own, arms["frozen"], key)
                   for key in ("cold", "rmse")]
            for name, own in jobs.items()})
        if "the same with FGM" in arms:
            found[f"{title}, FGM"] = show("FGM beside the same without", {
                "FGM": [paired(fits, jobs["the same with FGM"],
                               arms["full, every batch"], key)
                        for key in ("cold", "rmse")]})
    return found


def naive_rows_per_s(texts, data, batch_size: int, steps: int) -> float:
    """Rows/s of the usual tower: the median step, the first left out."""
    tokens = TextEncoder(max_length=64).tokenize([""] + texts)
    tower = training.InChunks(
        training.Padded(tokens.to_tensor()), len(data.users),
        tokens.row_lengths().numpy())
    tower.build()
    rng = np.random.default_rng(0)
    times = []
    for _ in range(1 + steps):
        rows = rng.choice(len(data), batch_size, replace=False)
        began = time.perf_counter()
        tower.step(data.user_code[rows], data.item_code[rows])
        times.append(time.perf_counter() - began)
    return batch_size / float(np.median(times[1:]))


def cost_part(fits, steps: int, epochs: int) -> dict:
    """Rows/s, seconds an epoch, and the time to 99% of the usual tower."""
    data = datasets.load("ml-100k")
    texts = [str(title) for title in data.items["title"]]
    exact = fits(Job(tuning="full", every=1, curve=True, epochs=epochs))
    rates = {"naive": naive_rows_per_s(texts, data, 1024, steps)}
    rates.update(peers(texts, data))
    goal = 0.99 * max(exact["curve"])
    needed = 1 + next(n for n, value in enumerate(exact["curve"])
                      if value >= goal)
    naive = needed * exact["rows"] / rates["naive"]
    print(f"\nMovieLens-100K, titles, {exact['rows']:,} rows an epoch; the "
          f"usual tower's best NDCG@10 is {max(exact['curve']):.4f}, and 99% "
          f"of it takes it {needed} epochs")
    print(f"{'':24}{'rows/s':>10}{'s an epoch':>12}{'to 99%, s':>12}"
          f"{'x naive':>9}{'NDCG@10':>10}{'trained weights':>17}")
    print(f"{'naive':24}{rates['naive']:>10.0f}"
          f"{exact['rows'] / rates['naive']:>12.0f}{naive:>12.0f}"
          f"{1.0:>9.1f}{max(exact['curve']):>10.4f}{exact['trained']:>17,}")
    for name, rate in rates.items():
        if name != "naive":
            print(f"{name:24}{rate:>10.0f}{exact['rows'] / rate:>12.0f}")
    found, ways = {}, {"full, every batch": exact}
    for way in WAYS:
        with nothing_encoded():
            ways[way] = fits(Job(tuning=way, curve=True, epochs=epochs))
    for name, result in ways.items():
        if not result:
            continue
        rows = result["rows"]
        spent = result["making"] + np.cumsum(result["epochs"])
        later = float(np.median(result["epochs"][1:]))
        reached = np.flatnonzero(np.array(result["curve"]) >= goal)
        to_goal = float(spent[reached[0]]) if len(reached) else None
        found[name] = {"rows_per_s": rows / later, "ndcg": result["ndcg"],
                       "seconds_an_epoch": later, "seconds_to_99pct": to_goal}
        cells = (f"{to_goal:>12.0f}{naive / to_goal:>9.1f}" if to_goal
                 else f"{'never':>12}{'':>9}")
        print(f"{name:24}{rows / later:>10.0f}{later:>12.1f}{cells}"
              f"{result['ndcg']:>10.4f}{result['trained']:>17,}")
    for row in found.values():
        seconds = row["seconds_to_99pct"]
        row["speedup_to_99pct"] = seconds and round(naive / seconds, 1)
    # Of those that train the encoder; what is frozen is in `tunings`.
    best = max((name for name in found if name != "frozen"),
               key=lambda name: found[name]["speedup_to_99pct"] or 0)
    return {"speedup_to_99pct": found[best]["speedup_to_99pct"],
            "fastest": best, "rows_per_s": rates, "tunings": found}


def peers(texts, data) -> dict[str, float]:
    """Rows/s of sentence-transformers, where it is installed."""
    try:
        from helpers import tuning_peers
        return tuning_peers.rows_per_second(
            texts, data.user_code, data.item_code, batch_size=64, steps=8,
            seed=0)
    except ImportError as error:
        print(f"sentence-transformers is left out: {error}")
        return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, two "
                        "epochs, 5%% of the labels, no long texts")
    parser.add_argument("--parts", nargs="+", default=[
        "cost", "quality", "cold"], choices=("cost", "quality", "cold"))
    parser.add_argument("--texts", nargs="+", default=list(DATA),
                        choices=list(DATA))
    parser.add_argument("--ways", nargs="+", choices=COMPARED[1:],
                        default=COMPARED[1:], help="beside frozen")
    parser.add_argument("--shares", type=float, nargs="+",
                        default=SHARES, choices=SHARES)
    parser.add_argument("--seeds", type=int, nargs="+",
                        default=[0, 1, 2, 3, 4])
    parser.add_argument("--keep", help="folder for the result of each fit")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    fits = Fits(options.keep, options.seconds)
    seeds, kinds, found = options.seeds, options.texts, {}
    ways = ("frozen", *options.ways)
    if options.quick:
        seeds, kinds = seeds[:1], kinds[:1]
    if "cost" in options.parts:
        found.update(cost_part(fits, 1 if options.quick else 5,
                               2 if options.quick else 6))
    if "quality" in options.parts:
        found["quality"] = quality_part(
            fits, kinds, ways, seeds,
            SHARES[:1] if options.quick else options.shares)
    if "cold" in options.parts and not options.quick:
        found["cold"] = cold_part(
            fits, kinds, ways, seeds,
            [share for share in options.shares if share in COLD_SHARES])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
