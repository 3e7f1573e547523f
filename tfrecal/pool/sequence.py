"""PoolSequence: what `fit` trains on while the pool grows."""
from __future__ import annotations

import warnings

import numpy as np
import tf_keras

from tfrecal import checks
from tfrecal.pool.features import PoolFeatures
from tfrecal.pool.histories import pairs_in_histories, ragged_histories
from tfrecal.pool.windows import Windows


class PoolSequence(tf_keras.utils.Sequence):
    """The labelled rows of a pool in shuffled batches; grows with the pool.

    `len()` is fixed during an epoch and follows the pool at its end. (A
    `tf.data` made of a generator keeps the first epoch's number of batches
    and silently skips later rows.)

    Where rows were shown in lists, lists are shuffled, and the rows of one
    follow each other: a batch ends within one list at most. `list_id` of a
    batch tells them apart.

    Args:
        pool: a `Pool` with at least one labelled row.
        batch_size: rows of a training step; the last one may have fewer.
        seed: shuffles the rows, together with the epoch's number. A plain
            Keras `fit` shuffles the batches by Python's global generator on
            top, unless it is called with `shuffle=False`.
        max_history: most items of a row's history: the user's last
            positives.
        steps: least number of batches of an epoch: rows are drawn in one
            shuffled pass after another. None for one pass.
        passes: with `steps`, least number of passes of an epoch.
        first_steps: `steps` of epoch 0, where training starts from nothing;
            by default `steps`.
        row_weights: weights of the pool's rows in the losses, float
            `[len(pool)]`; rows that come later have weight 1. All 1 by
            default.
        ids: `"codes"` as a `TwoTower` reads them, or `"strings"` for towers
            that look ids up themselves.
        columns: names of further features: columns of the users or the
            items table, and `history`; see `PoolFeatures`.
        window: most items before a row that a query tower reads in their
            order, see `Windows`: rows of one window then come together. None
            for towers that do not; `fit` of a `TwoTower` sets it.
        negatives: items that each batch has as common negatives, drawn from
            those with a positive label; `fit` sets it as well.

    Raises:
        ValueError: an argument is out of range, a name is no column, or the
            pool has no label.

    Example:
        model.fit(pool.sequence(batch_size=1024), epochs=10)
    """

    def __init__(self, pool, batch_size: int = 1024, seed: int = 0,
                 max_history: int = 200, steps: int | None = None,
                 passes: int = 1, first_steps: int | None = None,
                 row_weights=None, ids: str = "codes", columns=(),
                 window: int | None = None, negatives: int = 0):
        checks.at_least(1, batch_size=batch_size, **checks.given(
            steps=steps, first_steps=first_steps, window=window))
        checks.at_least(0, negatives=negatives)
        if row_weights is not None and np.shape(row_weights) != (len(pool),):
            raise ValueError(
                f"`row_weights` must hold one number for each of {len(pool)} "
                f"rows of the pool. Received: shape={np.shape(row_weights)}.")
        self.pool = pool
        self.ids = ids
        self.columns = tuple(columns)
        self._features = self._features_of(pool, ids, max_history)
        self._row_weights = row_weights
        self.steps = steps
        self.passes = passes
        self.first_steps = steps if first_steps is None else first_steps
        pool.feeds(self)
        self.batch_size = batch_size
        self.seed = seed
        self.max_history = max_history
        self.window = window
        self.negatives = negatives
        self.epoch = -1
        self.on_epoch_end()
        if not len(self._rows):
            raise ValueError(
                "Training needs at least one labelled row. Received: a pool "
                f"with {pool.counts}. Create it with `initial` above 0.")

    def on_epoch_end(self) -> None:
        """Takes in what was acquired and shuffles for the next epoch."""
        self.start(self.epoch + 1)

    def start(self, epoch: int) -> None:
        """Sets the sequence to the start of an epoch, as resumed runs need.

        Args:
            epoch: number of the epoch, from 0.
        """
        self.epoch = epoch
        pool = self.pool
        rng = np.random.default_rng([self.seed, epoch])
        steps = self.steps if epoch else self.first_steps
        labelled = pool.labelled_rows()
        self._lists = groups = pool.lists(labelled)
        if self.window:
            self._windows = Windows(pool, self.window)
            groups = 1 + self._windows.of_rows[labelled]
        self._rows = _shuffled_passes(labelled, rng, steps and max(
            steps * self.batch_size, self.passes * len(labelled)), groups)
        if self._lists is not None:
            self._lists = pool.lists(self._rows)
        self.fetched = 0
        self._label = pool.label[self._rows]
        weight = np.ones(len(pool), np.float32)
        if self._row_weights is not None:
            weight[:len(self._row_weights)] = self._row_weights
        self._weight = weight[self._rows]
        self._counts = [np.bincount(codes[labelled]).astype(np.float32)
                        for codes in (pool.user, pool.item)]
        self._log_q = pool.natural_log_q()
        self._histories = pool.histories()
        self._liked = np.unique(self._histories[1])
        user, item = pairs_in_histories(*self._histories, self.max_history)
        skip = np.zeros(len(pool), np.int32)
        skip[pool.rows(user, item)] = item
        self._skip = skip[self._rows]

    def __len__(self) -> int:
        return -(-len(self._rows) // self.batch_size)

    @property
    def num_rows(self) -> int:
        """Rows of this epoch; without `steps`, all labelled at its start."""
        return len(self._rows)

    def __getitem__(self, number: int) -> dict:
        batch = self._batch_of(slice(number * self.batch_size,
                                     (number + 1) * self.batch_size))
        self.fetched += len(batch["label"])
        return {**batch, **self._negatives_of(number)}

    def read_for(self, window: int | None, negatives: int) -> None:
        """Gives batches what a model reads, from this epoch on.

        Args:
            window, negatives: see `PoolSequence`.
        """
        if (window, negatives) != (self.window, self.negatives):
            self.window, self.negatives = window, negatives
            self.start(self.epoch)
        if window and not np.ptp(self.pool.time):
            warnings.warn(
                "A tower that reads histories in their order needs rows with "
                "times. Received: a pool whose rows have one time, so that "
                "their order in the file counts. Give a column `timestamp`, "
                "or use `query=\"mean\"`.", stacklevel=2)

    def _negatives_of(self, number: int) -> dict:
        if not self.negatives:
            return {}
        rng = np.random.default_rng([self.seed, self.epoch, number, 1])
        return {"negative_id": rng.choice(
            self._liked, self.negatives).astype(np.int32)
            if len(self._liked) else np.zeros(0, np.int32)}

    def share(self, number: int, replica: int, replicas: int) -> dict:
        """Returns one replica's slice of a batch; see `model.training`.

        Rows of an item stay together, so that each text is encoded by one
        or two replicas. If a batch has fewer rows than there are replicas,
        those without rows get a copy of a row, which does not count.

        Args:
            number: number of the batch, from 0.
            replica: number of the replica, from 0.
            replicas: number of replicas.

        Returns:
            The slice as a batch, with three more entries: `place`, the
            positions of its rows in the whole batch, int32; `own`, where the
            slice starts and stops in `all`, int32 `[2]`; and `all`, the
            columns of the whole batch that losses read, slice by slice.
        """
        start = number * self.batch_size
        rows = self._rows[start:start + self.batch_size]
        place = np.argsort(self.pool.item[rows], kind="stable")
        edges = bounds(len(rows), replicas)
        first, stop = edges[replica], edges[replica + 1]
        own = place[first:stop] if stop > first else place[:1]
        return {**self._batch_of(start + own), "place": own.astype(np.int32),
                "own": np.array([first, stop], np.int32),
                "all": self._columns_of(start + place),
                **self._negatives_of(number)}

    def _features_of(self, pool, ids, max_history) -> PoolFeatures | None:
        """Returns what rows hold in place of codes; None for codes."""
        if ids == "codes" and not self.columns:
            return None
        query, candidate = ["user_id"], ["item_id"]
        for name in self.columns:
            both = [name == "history" or name in pool.user_table.columns,
                    name in pool.item_table.columns]
            if sum(both) != 1:
                raise ValueError(
                    "`columns` may name `history` and columns of one of the "
                    f"tables. Received: {name!r}, which is in "
                    + ("both. Rename it in one of them." if all(both) else
                       "none; the users table has "
                       f"{list(pool.user_table.columns)}, the items table "
                       f"{list(pool.item_table.columns)}."))
            (query if both[0] else candidate).append(name)
        return PoolFeatures(pool, ids, query, candidate, max_history)

    def _batch_of(self, places) -> dict:
        rows = self._rows[places]
        user, item = self.pool.user[rows], self.pool.item[rows]
        if self._features is not None:
            return {**self._columns_of(places),
                    **self._features("query", user, self._histories,
                                     self._skip[places]),
                    **self._features("candidate", item)}
        distinct, place = np.unique(user, return_inverse=True)
        history = ragged_histories(
            *self._histories, distinct, self.max_history)
        return {
            **self._columns_of(places),
            "user_labels": self._counts[0][user],
            "item_labels": self._counts[1][item], "history": history,
            "history_row": place.astype(np.int32),
            "history_skip": self._skip[places],
            **(self._windows.features(rows) if self.window else {})}

    def _columns_of(self, places) -> dict:
        rows = self._rows[places]
        item = self.pool.item[rows]
        found = {
            "user_id": self.pool.user[rows], "item_id": item,
            "label": self._label[places], "weight": self._weight[places],
            "positive": self._label[places] >= self.pool.positive,
            "log_q": self._log_q[item]}
        if self._lists is not None:
            found["list_id"] = self._lists[places]
        return found


def _shuffled_passes(rows, rng, number: int | None, groups=None):
    """Returns `rows` in random order, or `number` from repeated passes.

    Rows of one group `[n]` follow each other; 0 is no group.
    """
    if number is None or not len(rows):
        return _shuffled(rows, rng, groups)
    passes = -(-number // len(rows))
    return np.concatenate([_shuffled(rows, rng, groups)
                           for _ in range(passes)])[:number]


def _shuffled(rows, rng, groups):
    order = rng.permutation(len(rows))
    if groups is not None:
        alone = groups.max(initial=0) + 1 + np.arange(len(rows))
        _, unit = np.unique(np.where(groups > 0, groups, alone),
                            return_inverse=True)
        place = rng.permutation(unit.max(initial=-1) + 1)
        order = order[np.argsort(place[unit[order]], kind="stable")]
    return rows[order]


def bounds(rows: int, replicas: int) -> np.ndarray:
    """Returns where the slices of a batch start, int `[replicas + 1]`.

    Their lengths differ by one row at most; longer ones come first.
    """
    replica = np.arange(replicas + 1)
    return replica * (rows // replicas) + np.minimum(
        replica, rows % replicas)
