"""Batch recommendation and pool scoring on Apache Beam.

Works on a folder of `vectors.write_vectors`, so workers load no TensorFlow.
"""
from __future__ import annotations

import contextlib
import json
import re
import uuid

from tfrecal import acquisition, checks
from tfrecal.files import replace_folder
from tfrecal.scoring.beam.lists import LISTS, Recommend, list_places
from tfrecal.scoring.beam.on_vectors import (
    FileSystems,
    MetricsFilter,
    PipelineOptions,
    beam,
)
from tfrecal.scoring.beam.pairs import (
    PAIRS,
    BestPairs,
    Utilities,
    check_strategy,
    pairs_table,
)
from tfrecal.scoring.beam.vectors import Vectors, VectorsChanged, groups
from tfrecal.scoring.stream.tile_scores import MOMENTS


def recommend(vectors, output, k: int = 20, *, users=None,
              unknown: str = "error", known: bool = False, pool=None,
              options=None) -> dict[str, int]:
    """Writes the best items of many users, by the retrieval block.

    The lists are those of `best_items`, with any runner and any number of
    workers.

    Args:
        vectors: folder of `write_vectors`.
        output: new folder, whole or not at all: `part-*.parquet` with
            `user_id`, `item_ids`, `scores` (shorter than `k` where no more
            items are left), in no order of users; `_about.json`, a name that
            Spark and pyarrow skip when they read the folder. On object
            stores, whose folders cannot be renamed in one step, it is whole
            once `_about.json` is there.
        k: items of a list, >= 1.
        users: glob of Parquet files with a column `user_id`; each user is
            answered once. By default all users of the vectors.
        unknown: of ids without vectors: `"error"` or `"drop"`.
        known: whether items that the user labelled are listed too.
        pool: the `Pool`, where it is at hand: compared at start and end.
        options: Beam's `PipelineOptions`, or a list of its flags.

    Returns:
        counts: `users` that were answered, `unknown` ids that were not.

    Raises:
        ValueError: wrong options, no vectors, unknown or missing ids.
        VectorsChanged: the vectors or the pool changed meanwhile.
    """
    checks.whole(1, k=k)
    checks.one_of("unknown", unknown, ("error", "drop"))
    found = _open(vectors, pool)
    if not found.meta["items"]:
        raise ValueError("There must be items to recommend. Received: "
                         f"{found.folder}, which has none.")
    worker = Recommend(found, int(k), known)

    def build(pipeline):
        numbers = _group_numbers(pipeline, found)
        if users is None:
            work = numbers | "Whole" >> beam.Map(lambda one: (one, None))
        else:
            work = list_places(pipeline, numbers, found, users, unknown)
        return work | "Recommend" >> beam.ParDo(worker)

    counts = _run(found, pool, output, build, LISTS, 0, options,
                  {"job": "recommend", "k": int(k), "known": known})
    return {name: counts.get(name, 0) for name in ("users", "unknown")}


def top_pairs(vectors, output, strategy, n: int, *, seed: int = 0, pool=None,
              options=None) -> dict[str, int]:
    """Writes the pairs of a pool whose labels teach most, as Parquet.

    The picks are those of `PoolScorer.top` with the same `n` and `seed`, and
    the passes that were written.

    Args:
        vectors: folder of `write_vectors`.
        output: as of `recommend`: `part-*.parquet` is one file with
            `user_id`, `item_id`, `utility`, best first.
        strategy: `"mean"`, `"variance"` or `"upper_bound"` (see
            `Moments`), or a `Strategy` or its name, where the utility of a
            pair is a function of its predicted labels (mean or samples),
            their probabilities, or the item's traffic. Its `batch` may be
            `"top"`, `"softmax"`, and `"power"` where no utility is negative;
            no caps, quotas, costs or rateability.
        n: number of pairs, >= 1.
        seed: of ties and of the noise of `batch`.
        pool, options: see `recommend`.

    Returns:
        counts: `pairs` that were written.

    Raises:
        ValueError: wrong options, no vectors, a strategy that looks at more
            than a pair, passes or calibration that were not written.
        VectorsChanged: the vectors or the pool changed meanwhile.
    """
    checks.whole(1, n=n)
    found = _open(vectors, pool)
    if not (isinstance(strategy, str) and strategy in MOMENTS):
        strategy = acquisition.get(strategy)
    check_strategy(strategy, found.meta)
    name = strategy if isinstance(strategy, str) else strategy.name

    def build(pipeline):
        return (_group_numbers(pipeline, found)
                | "Utilities" >> beam.ParDo(
                    Utilities(found, strategy, int(n), seed))
                | "Best" >> beam.CombineGlobally(
                    BestPairs(int(n))).without_defaults()
                | "Table" >> beam.Map(pairs_table))

    counts = _run(found, pool, output, build, PAIRS, 1, options,
                  {"job": "top_pairs", "n": int(n), "strategy": name,
                   "seed": seed})
    return {"pairs": counts.get("pairs", 0)}


def _open(folder, pool) -> Vectors:
    found = Vectors(folder, FileSystems.open)
    if pool is not None:
        found.check_pool(pool, "since its vectors were written")
    return found


def _group_numbers(pipeline, vectors):
    """Returns the numbers of all groups of users, spread over workers."""
    return (pipeline
            | "Groups" >> beam.Create(range(groups(vectors.meta)))
            | "Spread" >> beam.Reshuffle())


def _run(vectors, pool, output, build, schema, shards, options, about):
    """Runs a pipeline into a new folder and returns its counters."""
    output = str(output).rstrip("/")
    if FileSystems.exists(output):
        raise ValueError("`output` must be a new folder. Received: "
                         f"output={output}, which exists. Remove it, or "
                         "name another one.")
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(list(options or []))
    with _new_folder(output) as beside:
        counts = _run_and_count(build, beside, schema, shards, options)
        vectors.check()
        if pool is not None:
            vectors.check_pool(pool, "while a job read its vectors")
        about = {**about, "vectors": vectors.fingerprint, **counts}
        with FileSystems.create(f"{beside}/_about.json") as file:
            file.write(json.dumps(about, indent=1).encode())
    return counts


def _run_and_count(build, folder, schema, shards, options):
    pipeline = beam.Pipeline(options=options)
    build(pipeline) | "Write" >> beam.io.WriteToParquetBatched(
        f"{folder}/part", schema, codec="snappy", num_shards=shards,
        file_name_suffix=".parquet")
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        _raise_cause(error)
        raise
    found = result.metrics().query(
        MetricsFilter().with_namespace("tfrecal"))["counters"]
    return {one.key.metric.name: int(one.committed or one.attempted or 0)
            for one in found}


def _raise_cause(error) -> None:
    """Raises the error of a worker, which Beam wraps in its traceback."""
    for kind in (VectorsChanged, ValueError):
        found = re.search(
            rf"^(?:\w+\.)*{kind.__name__}: (.*?)(?: \[while running .*)?$",
            f"{type(error).__name__}: {error}", re.MULTILINE)
        if found:
            raise kind(found[1]) from error


@contextlib.contextmanager
def _new_folder(output: str):
    """`replace_folder` on any file system."""
    if "://" not in output:
        with replace_folder(output) as beside:
            yield str(beside)
        return
    parent, name = FileSystems.split(output)
    beside = FileSystems.join(parent, f".{name}.{uuid.uuid4().hex[:12]}")
    try:
        FileSystems.mkdirs(beside)
        yield beside
        FileSystems.rename([beside + "/"], [output + "/"])
    finally:
        if FileSystems.exists(beside):
            FileSystems.delete([beside])
