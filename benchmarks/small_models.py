"""Smaller models: size, time of a search, and NDCG that is lost.

MovieLens-100K with frozen MiniLM, a fifth of the items held out with all
rows. The model's items keep its vectors; search texts, and the items held
out, are encoded by smaller encoders in its place:

- products in bfloat16 and int8 (`export_model(..., precision="int8")`);
- students of `tfrecal.text.distill`, which saw the texts of the catalogue, as a
  user's student does (no label is read), or with `--unseen` only those of
  items that no seed holds out;
- pruned: layers left out and nothing learned; half of each kernel zero.

NDCG@10 of searches for the held-out items' titles among these, for pairs of
genres over the catalogue, and of held-out items among themselves for users;
losses are relative to the model's own encoder, paired by seed. Times are those
of `search` of 10 tokens, served by `tfrecal serve` over gRPC, taking turns.
TFLite and ONNX Runtime (where installed) run the layers only, in process:
TensorFlow Serving can serve neither. At last the index.

    python benchmarks/small_models.py [--quick] [--keep FOLDER]
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import text_query  # noqa: E402
from helpers import served  # noqa: E402
from helpers import small_peers  # noqa: E402

from tfrecal import (  # noqa: E402  (sets TF_USE_LEGACY_KERAS before TF)
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
    splits,
)
from tfrecal.callbacks.learning_rate import FinalCosine  # noqa: E402
from tfrecal.data.templates import default_template  # noqa: E402
from tfrecal.export.export_model import export_model  # noqa: E402
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.scoring.scorer import PoolScorer  # noqa: E402
from tfrecal.text.distill import distill, student_of  # noqa: E402

import tensorflow as tf  # noqa: E402  isort: skip
import tf_keras  # noqa: E402  isort: skip

OWN = "float32"
# The others take as long as one of these.
SERVED = (OWN, "bfloat16", "int8", "2 layers", "2 layers, int8", "static")


def fit(split, seed: int, epochs: int):
    """The model, fitted as in `quality.py`, and its pool."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(seed)
    pool = Pool.from_interactions(split.train, initial=1.0)
    model = TwoTower.from_interactions(
        split.train, mean=float(pool.label.mean()), seed=seed,
        encoder=TextEncoder("minilm"))
    model.compile()
    config = RunConfig(final_epochs=epochs)
    model.fit(
        pool.sequence(seed=seed), epochs=epochs, verbose=0,
        callbacks=[FinalCosine(
            config.learning_rate, epochs, config.final_epochs)])
    return model, pool


def parts_of(model, pool, test) -> dict[str, np.ndarray]:
    """What it takes to judge encoders in a model."""
    query, candidate = PoolScorer.of(model, pool).vectors("retrieval")
    good = test.label >= pool.positive
    tower, dim = model.candidate_tower, model.query_tower.embedding_dim
    return {
        "query": query[1:], "candidate": candidate[1:],
        "cold": ~np.isin(np.arange(len(candidate) - 1), pool.item - 1),
        "liked": np.stack([test.user_code[good], test.item_code[good]]) - 1,
        "centre": tower.text_centre.numpy(),
        "scale": tower.text_scale / tower.text_norm.numpy(),
        "of_text": tower.text_kernel.numpy()[:, dim:],
        "of_search": model.query_tower.search_kernel.numpy()[:, dim:]}


def judges(data, texts, folder: Path, options) -> list[Judge]:
    """One a seed; what was fitted is kept in the folder."""
    found = []
    for seed in options.seeds:
        path = folder / f"model-{seed}-{options.epochs}.npz"
        if not path.exists():
            split = splits.cold_items(data, 0.2, seed=seed)
            np.savez(path, **parts_of(
                *fit(split, seed, options.epochs), split.test))
            print("fitted", seed, file=sys.stderr, flush=True)
        with np.load(path) as parts:
            found.append(Judge(data, texts, dict(parts)))
    return found


class Judge:
    """NDCG of encoders in the place of a model's own.

    Args:
        data: MovieLens.
        texts: of all items.
        parts: arrays of `parts_of`.
    """

    def __init__(self, data, texts, parts):
        self.query, self.candidate = parts["query"], parts["candidate"]
        self.cold, self.centre = parts["cold"], parts["centre"]
        self.scale = float(parts["scale"])
        self.of_text, self.of_search = parts["of_text"], parts["of_search"]
        self.liked = metrics.pairs(
            *parts["liked"], (len(self.query), len(self.candidate)))
        self.texts = [texts[n] for n in np.flatnonzero(self.cold)]
        self.own = TextEncoder("minilm").encode(self.texts)
        self.searches = self._searches(data.items)

    def _searches(self, items):
        """name -> (texts, relevant)."""
        titles = items["title"].astype(str).str.lower().tolist()
        cold = np.flatnonzero(self.cold)
        genres = [set(str(g).split("|")) for g in items["genres"]]
        names = sorted(set().union(*genres))
        pairs = [(a, b) for a in names for b in names if a < b]
        texts, rows, columns = [], [], []
        for pair in pairs:
            having = [n for n, own in enumerate(genres) if own >= set(pair)]
            if len(having) >= 3:
                rows += [len(texts)] * len(having)
                columns += having
                texts.append(" ".join(pair).lower())
        count = len(titles)
        return {
            "titles": ([titles[n] for n in cold], metrics.pairs(
                np.arange(len(cold)), cold, (len(cold), count))),
            "genres": (texts, metrics.pairs(
                np.array(rows), np.array(columns), (len(texts), count)))}

    def __call__(self, encode) -> dict[str, float]:
        """NDCG@10 of searches and of items held out.

        Args:
            encode: texts to `[n, dim]`.
        """
        found = {}
        for name, (texts, relevant) in self.searches.items():
            vectors = (encode(texts) - self.centre) * self.scale
            found[name] = metrics.ranking(
                vectors @ self.of_search, self.candidate, relevant,
                k=10, item_mask=self.cold if name == "titles" else None
                ).mean()["ndcg@10"]
        candidate = self.candidate.copy()
        away = (encode(self.texts) - self.own) * self.scale
        candidate[self.cold] += away @ self.of_text
        found["cold items"] = metrics.item_slices(
            self.query, candidate, self.liked, groups={"cold": self.cold},
            among="themselves", k=10)["cold"]["ndcg@10"]
        return found


def encoders(teacher, texts, folder: Path, options) -> dict:
    """name -> (`TextEncoder`, precision of the served one).

    Args:
        teacher: MiniLM.
        texts: those that a student may see.
        folder: of the students.
        options: of the command line.
    """
    found = {OWN: (teacher, None), "bfloat16": (teacher, "bfloat16"),
             "int8": (teacher, "int8")}
    for layers in options.layers:
        path = folder / f"student-{layers}{'-unseen' * options.unseen}"
        if not path.exists():
            started = time.perf_counter()
            told = distill(
                teacher, texts, path, layers=layers, progress=True,
                samples=options.samples, epochs=options.distill_epochs,
                learning_rate=1e-3 if layers else 1e-2)
            print(layers, "layers", round(told["cosine"], 4),
                  f"{time.perf_counter() - started:.0f} s", file=sys.stderr)
        name = f"{layers} layers" if layers else "static"
        student = student_of(teacher, path)
        found[name] = student, None
        found[f"{name}, int8"] = student, "int8"
    found["2 layers, nothing learned"] = small_peers.left_out(
        teacher, folder / "pruned", 2), None
    found["half of kernels 0"] = small_peers.magnitude(
        teacher, folder / "sparse", 0.5), None
    return found


def zipped(variables) -> float:
    """MB of tensors, compressed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for n, one in enumerate(variables):
            file.writestr(str(n), np.asarray(one).tobytes())
    return buffer.tell() / 1e6


def times(model, pool, made, count: int) -> dict[str, np.ndarray]:
    """Milliseconds of searches of 10 tokens, served, taking turns."""
    tokenizer = small_peers.tokenizer()
    texts = text_query.texts_of(tokenizer, count + 20)
    seconds = {name: [] for name in made}
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.ExitStack() as stack:
            clients = {}
            for number, (name, (encoder, precision)) in enumerate(
                    made.items()):
                path = export_model(
                    model, Path(folder) / f"m{number}", pool=pool,
                    index="exact", encoder=encoder, precision=precision or (
                        encoder.precision)).parent
                address, _ = stack.enter_context(served.server(path))
                clients[name] = text_query.Recommender(
                    address, path.name, timeout=60)
            for n, text in enumerate(texts):
                for name, client in clients.items():
                    start = time.perf_counter()
                    client.search([text])
                    if n >= 20:
                        seconds[name].append(time.perf_counter() - start)
    return {name: 1e3 * np.array(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed, one "
                        "epoch, a student that learned little")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 0])
    parser.add_argument("--samples", type=int, default=30_000)
    parser.add_argument("--distill-epochs", type=int, default=10)
    parser.add_argument("--unseen", action="store_true", help="students see "
                        "no text of an item that is held out")
    parser.add_argument("--searches", type=int, default=300)
    parser.add_argument("--keep", help="folder for students and results")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.epochs = options.seeds[:1], 1
        options.samples, options.distill_epochs = 1000, 1
        options.searches = 50
    tf.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        run(options, Path(options.keep or folder))


def run(options, folder: Path) -> None:
    data = datasets.load("ml-100k")
    texts = default_template(data.items)(data.items)
    teacher = TextEncoder("minilm")
    folder.mkdir(parents=True, exist_ok=True)
    by_seed = judges(data, texts, folder, options)
    held_out = np.any([judge.cold for judge in by_seed], axis=0)
    made = encoders(teacher, [
        text for text, out in zip(texts, held_out)
        if not (out and options.unseen)], folder, options)
    rows = {}
    for name, (encoder, precision) in made.items():
        encode = small_peers.in_parts(encoder.for_serving(precision))
        rows[name] = [judge(encode) for judge in by_seed]
        print(name, rows[name], file=sys.stderr, flush=True)
    model, pool = fit(splits.random(data, seed=0), 0, 1)
    took = times(model, pool, {name: each for name, each in made.items()
                               if name in SERVED}, options.searches)
    sizes = {name: encoder.for_serving(precision).bytes / 1e6
             for name, (encoder, precision) in made.items()}
    dense = {name: zipped(encoder.base.weights) for name, (encoder, precision)
             in made.items() if precision is None}

    kinds = list(rows[OWN][0])
    print(f"MovieLens-100K, seeds {options.seeds}\n{'encoder':27}{'MB':>7}"
          f"{'zipped':>8}{'p50 ms':>8}{'p99 ms':>8}" + "".join(
              f"{kind:>12}" for kind in kinds) + "  NDCG lost, %")
    lost = {}
    for name, found in rows.items():
        lost[name] = metrics.t_interval([
            100 * np.mean([1 - one[kind] / own[kind] for kind in kinds])
            for own, one in zip(rows[OWN], found)])
        print(f"{name:27}{sizes[name]:7.1f}"
              + (f"{dense[name]:8.1f}" if name in dense else " " * 8)
              + ("{:8.2f}{:8.2f}".format(*np.quantile(
                  took[name], [0.5, 0.99])) if name in took else " " * 16)
              + "".join(f"{np.mean([one[kind] for one in found]):12.4f}"
                        for kind in kinds)
              + "  {:+.2f} [{:+.2f}, {:+.2f}]".format(*lost[name]))
    peers = small_peers.runtimes(teacher, options.searches)
    index = small_peers.indexes_of(5_000 if options.quick else 100_000)
    p50 = {name: round(float(np.median(each)), 3)
           for name, each in took.items()}
    fine = [name for name in p50 if lost[name][0] <= 1] or list(p50)
    best = min(fine, key=p50.get)
    print(json.dumps({
        "encoder": best, "p50_ms": p50[best],
        "ndcg_lost": round(lost[best][0] / 100, 5), "all_p50_ms": p50,
        "all_ndcg_lost": {name: round(each[0] / 100, 5)
                          for name, each in lost.items()},
        "megabytes": {name: round(each, 1) for name, each in sizes.items()},
        "peers": peers, "index": index}))


if __name__ == "__main__":
    main()
