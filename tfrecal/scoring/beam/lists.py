"""Lists for all users, as Beam transforms."""
from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from threadpoolctl import threadpool_limits

from tfrecal.metrics.top_k import best_items
from tfrecal.pool.pool import LABELLED
from tfrecal.scoring.beam.on_vectors import Metrics, OnVectors, beam

LISTS = pa.schema([("user_id", pa.string()),
                   ("item_ids", pa.list_(pa.string())),
                   ("scores", pa.list_(pa.float32()))])
_BUCKET = 1 << 16  # ids of a bucket in which wanted ids are looked up


def list_places(pipeline, numbers, vectors, users, unknown):
    """Returns `(group, arrays of rows)` of the wanted ids."""
    buckets = max(1, vectors.meta["users"] // _BUCKET)
    wanted = (pipeline
              | "Read" >> beam.io.ReadFromParquetBatched(users)
              | "Wanted" >> beam.FlatMap(_wanted_ids, buckets))
    there = numbers | "There" >> beam.ParDo(Ids(vectors, buckets))
    return ({"wanted": wanted, "there": there}
            | "Meet" >> beam.CoGroupByKey()
            | "Find" >> beam.ParDo(Find(unknown))
            | "Together" >> beam.GroupByKey())


def _wanted_ids(table, buckets):
    """Yields `(bucket, ids)` of some rows of a file."""
    if "user_id" not in table.column_names:
        raise ValueError("Files of users must have a column `user_id`. "
                         f"Received: {', '.join(table.column_names)}.")
    column = table.column("user_id")
    if column.null_count:
        raise ValueError("Each row of users must have an id. Received: "
                         f"{column.null_count} rows without `user_id`.")
    yield from _by_bucket(pc.cast(column, pa.string()).to_pylist(), buckets)


def _by_bucket(ids, buckets):
    places = {}
    for place, name in enumerate(ids):
        places.setdefault(zlib.crc32(name.encode()) % buckets, []).append(
            (name, place))
    return places.items()


class Ids(OnVectors):
    """Turns numbers of groups into `(bucket, (group, ids and rows))`."""

    def __init__(self, vectors, buckets):
        super().__init__(vectors)
        self.buckets = buckets

    def process(self, number):
        ids = self.vectors.users(number, ["user_id"])["user_id"].tolist()
        for bucket, known in _by_bucket(ids, self.buckets):
            yield bucket, (number, known)


class Find(beam.DoFn):
    """Finds the wanted ids of a bucket: `(group, rows)`."""

    def __init__(self, unknown):
        self.unknown = unknown
        self.count = Metrics.counter("tfrecal", "unknown")

    def process(self, element):
        _, found = element
        wanted = {name for some in found["wanted"] for name, _ in some}
        for number, known in found["there"]:
            rows = [row for name, row in known if name in wanted]
            wanted.difference_update([name for name, _ in known])
            if rows:
                yield number, np.array(rows, np.int32)
        if wanted and self.unknown == "error":
            raise ValueError(
                "Each user must have vectors. Received: at least "
                f"{len(wanted)} unknown ids, such as "
                f"{min(wanted)!r:.60}. Leave them out (`unknown=\"drop\"`), "
                "or grow the model and write its vectors again.")
        self.count.inc(len(wanted))


class Recommend(OnVectors):
    """Turns `(group, rows)` into tables of lists.

    Rows are None for all of the group.
    """

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
            scores[there], pa.float32()))], schema=LISTS)
