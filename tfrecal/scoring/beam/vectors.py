"""A folder of vectors: what scores all pairs of a pool without the model.

It needs NumPy and Parquet only, so that readers load no TensorFlow.
"""
from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tfrecal.files import replace_folder
from tfrecal.scoring.calibration import Calibration

META = "meta.json"
EXCLUDED = 4  # a further state, after those of `pool.pool`
GROUP = 8000  # users of a file
# Users of a tile of `PoolScorer.top`: sums must agree with it bit for bit.
_STEP = 200
# In format 1, `pool` of `meta.json` is another digest than `Pool.digest`.
_FORMAT = 2


class VectorsChanged(RuntimeError):
    """Raised where vectors or the pool change while a job reads them."""


def write_vectors(model, pool, folder, *, passes: int = 0,
                  uncertainty: str = "dropout", seed: int = 0,
                  group: int = GROUP) -> str:
    """Writes all vectors of a model over a pool, whole or not at all.

    An existing folder is replaced.

    Args:
        model: any model; choosing pairs needs one with a `label_head`, such
            as a `TwoTower` with a rating task.
        pool: a `Pool`.
        folder: `users-*.parquet` and `pairs-*.parquet` of `group` users
            each, `items.parquet`, `meta.json`.
        passes, uncertainty, seed: samples of the model, see
            `PoolScorer.view`; each is as large as the rating vectors.
        group: users of a file, a multiple of 200.

    Returns:
        The fingerprint, which each of the files carries.

    Raises:
        ValueError: `group` is no multiple of 200, a vector is not finite, or
            the model has no such samples (see `PoolScorer.samples`).
    """
    if group < 1 or group % _STEP:
        raise ValueError(f"`group` must be a multiple of {_STEP}. Received: "
                         f"group={group}.")
    sides, meta = _columns_and_meta(model, pool, passes, uncertainty, seed)
    state = pool.digest()
    meta.update(
        format=_FORMAT, lazy=bool(pool.lazy), pool=state, passes=passes,
        users=len(pool.user_ids), items=len(pool.item_ids), group=group)
    meta["fingerprint"] = _fingerprint(sides, meta)
    with replace_folder(folder, overwrite=True) as beside:
        _write(beside, pool, sides, meta)
        if pool.digest() != state:
            raise _changed("pool", "while its vectors were written")
    return meta["fingerprint"]


def _columns_and_meta(model, pool, passes, uncertainty, seed):
    """Returns the columns of users and items, and what becomes JSON."""
    from tfrecal.model.protocol import label_head
    from tfrecal.scoring.scorer import PoolScorer

    scorer = PoolScorer.of(model, pool)
    vectors = {name: scorer.vectors(name) for name in ("rating", "retrieval")}
    samples = scorer.samples(passes, uncertainty, seed) if passes else []
    vectors.update((f"pass_{number}", (one.query, one.candidate))
                   for number, one in enumerate(samples))
    sides = []
    for side, traffic in enumerate((pool.user_traffic, pool.item_traffic)):
        sides.append({name: np.ascontiguousarray(pair[side][1:], np.float32)
                      for name, pair in vectors.items()})
        for name, values in sides[-1].items():
            if not np.isfinite(values).all():
                raise ValueError(
                    "Vectors must be finite. Received: NaN or infinite ones "
                    f"in `{name}`. A model that diverged gives "
                    "them: train it again.")
        sides[-1]["traffic"] = traffic[1:]
    head = label_head(model)
    if head is None:
        return sides, {"labels": None, "calibration": None}
    labels = {"loss": head.loss, "scale": list(head.scale),
              "offset": float(head.offset)}
    rows = pool.labelled_rows()
    fitted = None
    if len(rows):
        fitted = vars(Calibration.fit(
            pool.label[rows], scorer.predict(pool.user[rows],
                                             pool.item[rows]),
            head.loss, pool.scale))
    return sides, {"labels": labels, "calibration": fitted}


def _fingerprint(sides, meta) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for side in sides:
        for name, values in side.items():
            digest.update(name.encode() + values.tobytes())
    return digest.hexdigest()


def _write(folder, pool, sides, meta) -> None:
    users, items = sides
    mark = {"tfrecal": meta["fingerprint"]}
    _save(folder / "items.parquet", {"item_id": pool.item_ids, **items}, mark)
    excluded = pool.excluded_pairs()
    user = np.concatenate([pool.user, excluded[0]]).astype(np.int32)
    item = np.concatenate([pool.item, excluded[1]]).astype(np.int32)
    state = np.concatenate([
        pool.state, np.full(len(pool.excluded), EXCLUDED, np.int8)])
    order = np.argsort(user, kind="stable")
    user, item, state = user[order], item[order], state[order]
    for number in range(groups(meta)):
        first = number * meta["group"]
        rows = slice(first, first + meta["group"])
        _save(folder / f"users-{number:05d}.parquet",
              {"user_id": pool.user_ids[rows],
               **{name: column[rows] for name, column in users.items()}},
              mark)
        rows = slice(*np.searchsorted(
            user, [first + 1, first + meta["group"] + 1]))
        _save(folder / f"pairs-{number:05d}.parquet",
              {"user": user[rows], "item": item[rows],
               "state": state[rows]}, mark)
    (folder / META).write_text(json.dumps(meta, indent=1))


def groups(meta) -> int:
    """Returns the number of files of users; at least one."""
    return max(1, -(-meta["users"] // meta["group"]))


def _save(path, columns, mark) -> None:
    arrays = {}
    for name, values in columns.items():
        if values.ndim == 2:
            arrays[name] = pa.FixedSizeListArray.from_arrays(
                pa.array(values.reshape(-1)), values.shape[1])
        elif values.dtype == object:
            arrays[name] = pa.array(values.tolist(), pa.string())
        else:
            arrays[name] = pa.array(values)
    pq.write_table(pa.table(arrays).replace_schema_metadata(mark), path)


class Vectors:
    """Reads what `write_vectors` wrote, a file at a time.

    Args:
        folder: a path, on any file system that `opener` knows.
        opener: opens a path for reading bytes; by default `open`.
        fingerprint: what all files must carry; by default what the folder
            carries now.

    Raises:
        ValueError: there are no vectors in the folder.
        VectorsChanged: the folder carries another fingerprint.
    """

    def __init__(self, folder, opener=None, fingerprint: str | None = None):
        self.folder = str(folder).rstrip("/")
        self._open = opener or (lambda path: open(path, "rb"))
        self.meta = self._read_meta()
        self.fingerprint = fingerprint or self.meta["fingerprint"]
        self.check()

    def _read_meta(self) -> dict:
        path = f"{self.folder}/{META}"
        try:
            with self._open(path) as file:
                return json.loads(file.read())
        except (OSError, ValueError) as error:
            raise ValueError(
                "The folder must be one that `write_vectors` wrote. "
                f"Received: {path}, which cannot be read ({error}).") from None

    def check_pool(self, pool, when: str) -> None:
        """Checks that these are the vectors of a pool.

        Args:
            pool: the `Pool` as it is now.
            when: when a change would have happened, in words, for the
                message.

        Raises:
            ValueError: the vectors have an earlier format.
            VectorsChanged: the pool changed.
        """
        if self.meta["format"] != _FORMAT:
            raise ValueError(
                "Vectors must be written by this version to be compared with "
                f"a pool. Received: {self.folder}, by an earlier one. Write "
                "them again with `write_vectors`, or leave `pool` out.")
        if pool.digest() != self.meta["pool"]:
            raise _changed("pool", when)

    def check(self) -> None:
        """Raises VectorsChanged if the folder was written anew or lost."""
        try:
            found = self._read_meta()["fingerprint"]
        except ValueError as error:
            raise _changed(f"folder {self.folder}") from error
        if found != self.fingerprint:
            raise _changed(f"folder {self.folder}")

    def table(self, name: str, columns=None) -> dict[str, np.ndarray]:
        """Returns the columns of a file by name; ids as object arrays."""
        path = f"{self.folder}/{name}.parquet"
        try:
            with self._open(path) as file:
                table = pq.read_table(file, columns=columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise _changed(f"file {path}") from error
        found = (table.schema.metadata or {}).get(b"tfrecal", b"").decode()
        if found != self.fingerprint:
            raise _changed(f"file {path}")
        return {column: _numpy(table.column(column))
                for column in table.column_names}

    def items(self, columns=None):
        """Returns columns of all items, in the order of their codes."""
        return self.table("items", columns)

    def users(self, number: int, columns=None):
        """Returns columns of a group of users, in the order of their codes.

        The first user has the code `number * group + 1`.
        """
        return self.table(f"users-{number:05d}", columns)

    def pairs(self, number: int):
        """Returns `user`, `item` (codes) and `state` of a group's pairs."""
        return self.table(f"pairs-{number:05d}")


def _numpy(column) -> np.ndarray:
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        return column.combine_chunks().flatten().to_numpy(
            zero_copy_only=False).reshape(-1, width)
    return column.to_numpy()


def _changed(what, when="while a job read it"):
    return VectorsChanged(
        f"The vectors and the pool must stay as they are. Received: the "
        f"{what} changed or was lost {when}. Nothing was written. Run "
        "`write_vectors` again, then the job.")
