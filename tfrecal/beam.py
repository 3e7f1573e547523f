"""Batch recommendation and pool scoring on Apache Beam.

Works on a folder of `vectors.write_vectors`, so workers load no TensorFlow.
The one place that knows Beam.
"""
from __future__ import annotations

import json
import os
import re
import uuid
import zlib
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from tfrecal import acquisition
from tfrecal.acquisition import Strategy, View
from tfrecal.best_items import best_items
from tfrecal.block_scores import Labels, Moments, Products
from tfrecal.calibration import Calibration
from tfrecal.files import sync_folder, sync_tree
from tfrecal.pair_blocks import Block, CrossPairs, ListedPairs
from tfrecal.pool import LABELLED, UNLABELLED
from tfrecal.pool_stream import _SCORE_SHAPE, _VIEW_SHAPE, Pointwise
from tfrecal.stream_keys import Keys
from tfrecal.streaming import MODES, _Best
from tfrecal.vectors import (
    Vectors,
    VectorsChanged,
    _changed,
    groups,
    pool_fingerprint,
)

try:
    import apache_beam as beam
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.metrics import Metrics, MetricsFilter
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.utils.shared import Shared
except ImportError as error:
    raise ImportError(
        "Batch jobs need Apache Beam. Received: an environment without it "
        f"({error}). Install it: `pip install 'tfrecal[beam]'`.") from error

SCORES = ("mean", "variance", "upper_bound")
# What a view of workers can hold; see `View`.
_NEEDS = frozenset({"mean", "samples", "probabilities",
                    "sample_probabilities", "levels", "item_traffic"})
_LISTS = pa.schema([("user_id", pa.string()),
                    ("item_ids", pa.list_(pa.string())),
                    ("scores", pa.list_(pa.float32()))])
_PAIRS = pa.schema([("user_id", pa.string()), ("item_id", pa.string()),
                    ("utility", pa.float64())])
_BUCKET = 1 << 16  # ids of a bucket in which wanted ids are looked up


def recommend(vectors, output, k: int = 20, *, users=None,
              unknown: str = "error", known: bool = False, pool=None,
              options=None) -> dict[str, int]:
    """The best items of many users, by the retrieval block, as Parquet.

    The lists are those of `best_items`, whatever the runner and the number
    of workers.

    Args:
        vectors: folder of `write_vectors`.
        output: new folder, whole or not at all: `part-*.parquet` with
            `user_id`, `item_ids`, `scores` (shorter than `k` where no more
            items are left), in no order of users; `about.json`. On object
            stores, whose folders cannot be renamed in one step, it is whole
            once `about.json` is there.
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
    _check_number("k", k)
    if unknown not in ("error", "drop"):
        raise ValueError("`unknown` must be 'error' or 'drop'. Received: "
                         f"unknown={unknown!r}.")
    found = _open(vectors, pool)
    if not found.meta["items"]:
        raise ValueError("There must be items to recommend. Received: "
                         f"{found.folder}, which has none.")
    worker = Recommend(found, int(k), known)

    def build(pipeline):
        numbers = _numbers(pipeline, found)
        if users is None:
            work = numbers | "Whole" >> beam.Map(lambda one: (one, None))
        else:
            work = _places(pipeline, numbers, found, users, unknown)
        return work | "Recommend" >> beam.ParDo(worker)

    counts = _run(found, pool, output, build, _LISTS, 0, options,
                  {"job": "recommend", "k": int(k), "known": known})
    return {name: counts.get(name, 0) for name in ("users", "unknown")}


def top_pairs(vectors, output, strategy, n: int, *, seed: int = 0, pool=None,
              options=None) -> dict[str, int]:
    """The pairs of a pool whose labels teach most, as Parquet.

    The picks are those of `PoolScorer.top` with the same `n` and `seed`, and
    the passes that were written.

    Args:
        vectors: folder of `write_vectors`.
        output: as of `recommend`: `part-*.parquet` is one file with
            `user_id`, `item_id`, `utility`, best first.
        strategy: `"mean"`, `"variance"` or `"upper_bound"` (see
            `Moments`), or a `Strategy` or its name, where the utility of a
            pair is a function of its predicted labels (mean or samples),
            their probabilities, or the item's traffic. Its batch may be
            `"top"`, `"softmax"`, and `"power"` where no utility is negative;
            no caps, quotas, costs or rateability.
        n: how many, >= 1.
        seed: of ties and of stochastic batches.
        pool, options: see `recommend`.

    Returns:
        counts: `pairs` that were written.

    Raises:
        ValueError: wrong options, no vectors, a strategy that looks at more
            than a pair, passes or calibration that were not written.
        VectorsChanged: the vectors or the pool changed meanwhile.
    """
    _check_number("n", n)
    found = _open(vectors, pool)
    if not (isinstance(strategy, str) and strategy in SCORES):
        strategy = acquisition.get(strategy)
    _check_strategy(strategy, found.meta)
    name = strategy if isinstance(strategy, str) else strategy.name

    def build(pipeline):
        return (_numbers(pipeline, found)
                | "Utilities" >> beam.ParDo(
                    Utilities(found, strategy, int(n), seed))
                | "Best" >> beam.CombineGlobally(
                    BestPairs(int(n))).without_defaults()
                | "Table" >> beam.Map(_pairs_table))

    counts = _run(found, pool, output, build, _PAIRS, 1, options,
                  {"job": "top_pairs", "n": int(n), "strategy": name,
                   "seed": seed})
    return {"pairs": counts.get("pairs", 0)}


def _check_number(name, value) -> None:
    if (not isinstance(value, (int, np.integer)) or isinstance(value, bool)
            or value < 1):
        raise ValueError(f"`{name}` must be a whole number of at least 1. "
                         f"Received: {name}={value!r}.")


def _open(folder, pool) -> Vectors:
    found = Vectors(folder, FileSystems.open)
    _check_pool(found, pool, "since its vectors were written")
    return found


def _check_pool(vectors, pool, when) -> None:
    if pool is not None and pool_fingerprint(pool) != vectors.meta["pool"]:
        raise _changed("pool", when)


def _check_strategy(strategy, meta) -> None:
    """Raises ValueError where workers cannot score with a strategy."""
    if meta["labels"] is None:
        raise ValueError(
            "Utilities need a model that predicts labels. Received: vectors "
            "of a model without a rating task.")
    if isinstance(strategy, str):
        needs = {"mean"} if strategy == "mean" else {"samples"}
    else:
        needs = strategy.needs
        _check_pair_by_pair(strategy)
    if needs & {"samples", "sample_probabilities"} and not meta["passes"]:
        raise ValueError(
            "This strategy reads samples of the model. Received: vectors "
            "with passes=0. Write them with `write_vectors(..., passes=10)`.")
    if needs & {"probabilities", "sample_probabilities"} and (
            meta["calibration"] is None):
        raise ValueError(
            "This strategy reads calibrated probabilities. Received: vectors "
            "of a pool without a label. Start the pool with some labels.")


def _check_pair_by_pair(strategy) -> None:
    """Raises ValueError where a strategy looks at more than one pair."""
    problems = [f"it defines `{method}`"
                for method in ("select", "cap", "weigh")
                if getattr(type(strategy), method) is not getattr(
                    Strategy, method)]
    problems += [f"it reads `{need}`" for need in
                 sorted(strategy.needs - _NEEDS)]
    problems += [f"`{name}` is set" for name in (
        "max_per_user", "max_per_item", "quotas", "per_cost", "rateable")
        if getattr(strategy, name)]
    if strategy.batch not in MODES:
        problems.append(f"batch={strategy.batch!r} ranks all pairs")
    if problems:
        raise ValueError(
            "A strategy on Beam must score each pair by its predicted labels "
            f"or its item's traffic. Received: `{strategy.name}`: "
            f"{', '.join(problems)}. Use `PoolScorer.top` or `AcquireLabels` "
            "on one machine, or choose one of "
            f"{', '.join(SCORES)}, bald, entropy, margin.")


def _numbers(pipeline, vectors):
    """Numbers of the groups of users, spread over the workers."""
    return (pipeline
            | "Groups" >> beam.Create(range(groups(vectors.meta)))
            | "Spread" >> beam.Reshuffle())


def _places(pipeline, numbers, vectors, users, unknown):
    """`(group, arrays of rows)` of the wanted ids."""
    buckets = max(1, vectors.meta["users"] // _BUCKET)
    wanted = (pipeline
              | "Read" >> beam.io.ReadFromParquetBatched(users)
              | "Wanted" >> beam.FlatMap(_wanted, buckets))
    there = numbers | "There" >> beam.ParDo(Ids(vectors, buckets))
    return ({"wanted": wanted, "there": there}
            | "Meet" >> beam.CoGroupByKey()
            | "Find" >> beam.ParDo(Find(unknown))
            | "Together" >> beam.GroupByKey())


def _wanted(table, buckets):
    """`(bucket, ids)` of a batch of rows."""
    if "user_id" not in table.column_names:
        raise ValueError("Files of users must have a column `user_id`. "
                         f"Received: {', '.join(table.column_names)}.")
    column = table.column("user_id")
    if column.null_count:
        raise ValueError("Each row of users must have an id. Received: "
                         f"{column.null_count} rows without `user_id`.")
    yield from _by_bucket(pc.cast(column, pa.string()).to_pylist(), buckets)


def _by_bucket(ids, buckets):
    parts = {}
    for place, name in enumerate(ids):
        parts.setdefault(zlib.crc32(name.encode()) % buckets, []).append(
            (name, place))
    return parts.items()


class _OnVectors(beam.DoFn):
    """Reads vectors, of one fingerprint."""

    def __init__(self, vectors):
        self.folder = vectors.folder
        self.fingerprint = vectors.fingerprint
        self._shared = Shared()

    def start_bundle(self):
        self.vectors = Vectors(
            self.folder, FileSystems.open, self.fingerprint)

    def items(self, columns):
        """Columns of the items, once a process."""
        return self._shared.acquire(
            lambda: _Table(self.vectors.items(columns)),
            self.fingerprint).columns


class _Table:
    """`Shared` needs an object that it can refer to weakly."""

    def __init__(self, columns):
        self.columns = columns


class Ids(_OnVectors):
    """Numbers of groups to `(bucket, (group, ids and rows))`."""

    def __init__(self, vectors, buckets):
        super().__init__(vectors)
        self.buckets = buckets

    def process(self, number):
        ids = self.vectors.users(number, ["user_id"])["user_id"].tolist()
        for bucket, part in _by_bucket(ids, self.buckets):
            yield bucket, (number, part)


class Find(beam.DoFn):
    """Where the wanted ids of a bucket are: `(group, rows)`."""

    def __init__(self, unknown):
        self.unknown = unknown
        self.count = Metrics.counter("tfrecal", "unknown")

    def process(self, element):
        _, found = element
        wanted = {name for part in found["wanted"] for name, _ in part}
        for number, part in found["there"]:
            rows = [row for name, row in part if name in wanted]
            wanted.difference_update([name for name, _ in part])
            if rows:
                yield number, np.array(rows, np.int32)
        if wanted and self.unknown == "error":
            raise ValueError(
                "Each user must have vectors. Received: at least "
                f"{len(wanted)} unknown ids, such as "
                f"{min(wanted)!r:.60}. Leave them out (`unknown=\"drop\"`), "
                "or grow the model and write its vectors again.")
        self.count.inc(len(wanted))


class Recommend(_OnVectors):
    """`(group, rows)` to tables of lists; rows None for all of the group."""

    def __init__(self, vectors, k, known):
        super().__init__(vectors)
        self.k = k
        self.known = known
        self.count = Metrics.counter("tfrecal", "users")

    def process(self, element):
        number, rows = element
        users = self.vectors.users(number, ["user_id", "retrieval"])
        size = len(users["user_id"])
        rows = (np.arange(size) if rows is None
                else np.unique(np.concatenate(list(rows))))
        items = self.items(["item_id", "retrieval"])
        with threadpool_limits(1, "blas"):
            places, scores = best_items(
                users["retrieval"][rows], items["retrieval"],
                min(self.k, len(items["item_id"])),
                None if self.known else self._taken(number, rows, size))
        self.count.inc(len(rows))
        yield _lists_table(users["user_id"][rows], items["item_id"],
                           places, scores)

    def _taken(self, number, rows, size):
        pairs = self.vectors.pairs(number)
        place = np.full(size, -1)
        place[rows] = np.arange(len(rows))
        first = number * self.vectors.meta["group"] + 1
        row = place[pairs["user"] - first]
        here = (pairs["state"] == LABELLED) & (row >= 0)
        return row[here], pairs["item"][here] - 1


def _lists_table(user_ids, item_ids, places, scores):
    there = places >= 0
    ends = np.concatenate([[0], there.sum(axis=1).cumsum()])
    ends = pa.array(ends, pa.int32())
    return pa.table([
        pa.array(user_ids.tolist(), pa.string()),
        pa.ListArray.from_arrays(ends, pa.array(
            item_ids[places[there]].tolist(), pa.string())),
        pa.ListArray.from_arrays(ends, pa.array(
            scores[there], pa.float32()))], schema=_LISTS)


class Utilities(_OnVectors):
    """Numbers of groups to the best pairs of each."""

    def __init__(self, vectors, strategy, n, seed):
        super().__init__(vectors)
        self.strategy = strategy
        self.n = n
        self.seed = seed

    def process(self, number):
        meta = self.vectors.meta
        reads = (["rating"] if self._needs() & {"mean", "probabilities"}
                 else [])
        if self._needs() & {"samples", "sample_probabilities"}:
            reads += [f"pass_{one}" for one in range(meta["passes"])]
        users = self.vectors.users(number, ["user_id", *reads])
        items = self.items(["item_id", "traffic", *reads])
        first = number * meta["group"] + 1
        score = self._score(users, items, reads, first)
        batch, temperature = "top", 1.0
        if not isinstance(self.strategy, str):
            batch = self.strategy.batch
            temperature = self.strategy.temperature
        keys = Keys(score, batch, temperature, None, None, self.seed)
        best = _Best(self.n, self.seed, None)
        with threadpool_limits(1, "blas"):
            for block in self._pairs(number, first, users).blocks():
                best.offer(block, *keys(block))
        if keys.lowest < 0:
            raise ValueError(
                "batch=\"power\" on Beam needs utilities of 0 or more. "
                f"Received: a utility of {keys.lowest:g}. Use "
                "batch=\"softmax\", or `PoolScorer.top`.")
        rows = best.sorted()
        rows["user_id"] = users["user_id"][rows["user"] - first]
        rows["item_id"] = items["item_id"][rows["item"] - 1]
        yield rows

    def _needs(self):
        if isinstance(self.strategy, str):
            return {"mean"} if self.strategy == "mean" else {
                "mean", "samples"}
        return self.strategy.needs

    def _pairs(self, number, first, users):
        """The group's pairs that may be asked, in blocks as in-process."""
        meta, pairs = self.vectors.meta, self.vectors.pairs(number)
        height, width = (_SCORE_SHAPE if isinstance(self.strategy, str)
                         else _VIEW_SHAPE)
        if not meta["lazy"]:
            free = pairs["state"] == UNLABELLED
            return ListedPairs(pairs["user"][free], pairs["item"][free],
                               height * width)
        taken = pairs["state"] != UNLABELLED
        return CrossPairs(
            np.arange(first, first + len(users["user_id"])),
            np.arange(1, meta["items"] + 1), pairs["user"][taken],
            pairs["item"][taken], (height, width))

    def _score(self, users, items, reads, first):
        meta = self.vectors.meta
        labels = Labels(SimpleNamespace(**meta["labels"]))
        products = [GroupProducts(users[name], items[name], first)
                    for name in reads]
        mean = products[0] if reads[:1] == ["rating"] else None
        samples = products[mean is not None:]
        if isinstance(self.strategy, str):
            return Moments(self.strategy, mean, samples, labels)
        traffic = np.concatenate([[0.0], items["traffic"]])
        return Pointwise(self.strategy, _views(
            self.strategy.needs, mean, samples, labels, traffic,
            meta["calibration"]))


class GroupProducts(Products):
    """Inner products of a group's users, whose codes start at `first`.

    Args:
        query, candidate: vectors without a row of the code 0.
        first: code of the first user.
    """

    def __init__(self, query, candidate, first):
        super().__init__(query, np.concatenate(
            [np.zeros_like(candidate[:1]), candidate]) if len(candidate)
            else np.zeros((1, candidate.shape[1]), np.float32))
        self.first = first

    def __call__(self, block, out=None):
        return super().__call__(Block(
            block.user - self.first, block.item, block.grid), out)


def _views(needs, mean, samples, labels, traffic, calibration):
    """A function of a `Block` that returns its `View`."""
    classes = calibration and Calibration(**calibration)
    needs = needs & _NEEDS

    def view(block):
        fields = {"item_traffic": traffic}
        if mean is not None:
            fields["mean"] = labels(mean(block))
        if samples:
            fields["samples"] = np.stack(
                [labels(one(block)) for one in samples])
        if classes and needs & {"probabilities", "sample_probabilities"}:
            fields["levels"] = np.array(classes.levels)
        if "probabilities" in needs:
            fields["probabilities"] = classes(fields["mean"])
        if "sample_probabilities" in needs:
            fields["sample_probabilities"] = classes(fields["samples"])
        user, item = block.pairs()
        return View(user=user, item=item, **fields)
    return view


class BestPairs(beam.CombineFn):
    """The first `n` pairs by key, then by the hash of the pair."""

    def __init__(self, n):
        self.n = n

    def create_accumulator(self):
        return None

    def add_input(self, best, rows):
        return self.merge_accumulators([best, rows])

    def merge_accumulators(self, parts):
        parts = [part for part in parts if part is not None]
        if not parts:
            return None
        rows = {name: np.concatenate([part[name] for part in parts])
                for name in parts[0]}
        order = np.lexsort((rows["tie"], rows["key"]))[::-1][:self.n]
        return {name: column[order] for name, column in rows.items()}

    def extract_output(self, best):
        return best


def _pairs_table(rows):
    Metrics.counter("tfrecal", "pairs").inc(len(rows["utility"]))
    return pa.table([pa.array(rows[name].tolist(), kind)
                     for name, kind in zip(_PAIRS.names, _PAIRS.types)],
                    schema=_PAIRS)


def _run(vectors, pool, output, build, schema, shards, options, about):
    """Runs a pipeline into a new folder; its counters."""
    output = str(output).rstrip("/")
    if FileSystems.exists(output):
        raise ValueError("`output` must be a new folder. Received: "
                         f"output={output}, which exists. Remove it, or "
                         "name another one.")
    parent, name = FileSystems.split(output)
    beside = FileSystems.join(parent, f".{name}.{uuid.uuid4().hex[:12]}")
    if not isinstance(options, PipelineOptions):
        options = PipelineOptions(list(options or []))
    try:
        FileSystems.mkdirs(beside)
        counts = _counted(build, beside, schema, shards, options)
        vectors.check()
        _check_pool(vectors, pool, "while a job read its vectors")
        about = {**about, "vectors": vectors.fingerprint, **counts}
        with FileSystems.create(f"{beside}/about.json") as file:
            file.write(json.dumps(about, indent=1).encode())
        _publish(beside, output)
    finally:
        if FileSystems.exists(beside):
            FileSystems.delete([beside])
    return counts


def _counted(build, folder, schema, shards, options):
    pipeline = beam.Pipeline(options=options)
    build(pipeline) | "Write" >> beam.io.WriteToParquetBatched(
        f"{folder}/part", schema, codec="snappy", num_shards=shards,
        file_name_suffix=".parquet")
    try:
        result = pipeline.run()
        result.wait_until_finish()
    except Exception as error:
        _explain(error)
        raise
    found = result.metrics().query(
        MetricsFilter().with_namespace("tfrecal"))["counters"]
    return {one.key.metric.name: int(one.committed or one.attempted or 0)
            for one in found}


def _explain(error) -> None:
    """Raises what a worker raised, which Beam wraps in its traceback."""
    for kind in (VectorsChanged, ValueError):
        found = re.search(
            rf"^(?:\w+\.)*{kind.__name__}: (.*?)(?: \[while running .*)?$",
            f"{type(error).__name__}: {error}", re.MULTILINE)
        if found:
            raise kind(found[1]) from error


def _publish(beside, output) -> None:
    """Gives a whole folder its name."""
    if "://" in output:
        FileSystems.rename([beside + "/"], [output + "/"])
        return
    sync_tree(beside)
    os.rename(beside, output)
    sync_folder(os.path.dirname(os.path.abspath(output)))
