"""Pool: which pairs are known, asked, answered or declined.

The pool is the only writer of this state. A row is one (user, item) pair.
Codes are those of the `Vocabulary` of the users and of the items table; 0,
"unknown", never occurs in a pool.
"""
from __future__ import annotations

import hashlib
import json
import weakref

import numpy as np

from tfrecal.checks import check_labels, parse_json
from tfrecal.data import splits
from tfrecal.data.pairs import Pairs
from tfrecal.files import damaged, replace_file
from tfrecal.hashes import update_texts
from tfrecal.pool.positives import default_positive, log_shares

UNLABELLED, ASKED, LABELLED, DECLINED = 0, 1, 2, 3
STATES = ("unlabelled", "asked", "labelled", "declined")
_COLUMNS = {
    "user": np.int32, "item": np.int32, "state": np.int8,
    "round": np.int32, "label": np.float32, "cost": np.float32,
    "strategy": np.int16, "utility": np.float32, "ticket": np.int64,
    "time": np.float64}
_MUST = "A pool must be as it was saved"
_CURE = ("Bring its folder back from a backup. Without one, start a new run "
         "(`tfrecal run -o FOLDER`).")


class PoolExhausted(RuntimeError):
    """Raised when a pair is asked for that cannot be asked any more."""


class Pool:
    """The state of the learner: a struct of arrays with a row for each pair.

    Use it when labels are bought: from a log whose labels are hidden
    (`from_interactions`) or over every pair of a catalogue (`cross`). A model
    that only trains on a finished log needs `PoolSequence` over a pool that
    is wholly labelled (`initial=1.0`).

    Args:
        interactions: the source of the tables and of the label scale; its
            labels are not read here.
        user, item: int32 codes of the rows, `[n]`.
        lazy: True when pairs outside the rows may be asked as well (the
            cross product of users and items).
        positive: labels at or above this are positives; by default three
            quarters up the scale (4 of 1 to 5), and 1 for binary labels.
        traffic_user, traffic_item: codes of the natural traffic, known
            without labels; by default the rows themselves.
        time: when each row happened, in seconds, float64 `[n]`; 0 by
            default. Histories are in this order. A pair that is asked and
            in no row gets the latest time of all.

    Attributes:
        user_vocabulary, item_vocabulary: they turn ids into codes.
        user_ids, item_ids: ids in the order of their codes, object arrays.
        excluded: keys of pairs that are never asked, int64, rising;
            `excluded_pairs` gives their codes.

    Raises:
        ValueError: a pair is there twice, or a code outside the tables.
    """

    user: np.ndarray
    item: np.ndarray
    state: np.ndarray
    round: np.ndarray
    label: np.ndarray
    cost: np.ndarray
    strategy: np.ndarray
    utility: np.ndarray
    ticket: np.ndarray
    time: np.ndarray

    def __init__(self, interactions, user, item, *, lazy: bool = False,
                 positive: float | None = None, traffic_user=None,
                 traffic_item=None, time=None):
        low, high = interactions.scale
        self.user_vocabulary = interactions.user_vocabulary
        self.item_vocabulary = interactions.item_vocabulary
        self.user_ids = self.user_vocabulary.ids()
        self.item_ids = self.item_vocabulary.ids()
        self.user_table = interactions.users
        self.item_table = interactions.items
        self.scale = (float(low), float(high))
        self.positive = float(
            default_positive(self.scale) if positive is None else positive)
        self.lazy = lazy
        self.strategies: list[str] = []
        self.version = 0  # counts changes of labels, and so of histories
        self._sequences = weakref.WeakSet()
        self._ticket_row = np.zeros(0, np.int64)
        self.excluded = np.zeros(0, np.int64)
        self._make_columns(user, item)
        if time is not None:
            self.time[:] = time
        self._lists = self._listed_pairs(interactions)
        count = [self.user if traffic_user is None else traffic_user,
                 self.item if traffic_item is None else traffic_item]
        sizes = self.user_vocabulary.size, self.item_vocabulary.size
        self.user_traffic, self.item_traffic = (
            np.bincount(codes, minlength=size).astype(np.float64)
            for codes, size in zip(count, sizes))

    def _make_columns(self, user, item) -> None:
        """Makes empty columns for the pairs `user`, `item`."""
        for name, dtype in _COLUMNS.items():
            setattr(self, name, np.zeros(len(user), dtype))
        self.user[:], self.item[:] = user, item
        self.round[:] = self.ticket[:] = self.strategy[:] = -1
        self.label[:] = self.utility[:] = np.nan
        for codes, ids, name in ((self.user, self.user_ids, "user"),
                                 (self.item, self.item_ids, "item")):
            if len(codes) and not 1 <= codes.min() <= codes.max() <= len(ids):
                raise ValueError(
                    f"`{name}` codes must lie in 1..{len(ids)}. Received: "
                    f"min={codes.min()}, max={codes.max()}. Drop rows whose "
                    f"{name} is not in the table.")
        self._index()

    def _listed_pairs(self, interactions):
        """Returns `(keys, lists)` of the pairs in lists, by key, or None."""
        if interactions.list_code is None:
            return None
        rows = np.flatnonzero(interactions.list_code)
        keys = self._keys(interactions.user_code, interactions.item_code)
        rows = rows[np.argsort(keys[rows])]
        return keys[rows], interactions.list_code[rows]

    def _index(self) -> None:
        keys = self._keys(self.user, self.item)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        twice = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if len(twice):
            row = self._order[twice[:1]]
            pair = self.pairs(self.user[row], self.item[row])
            raise ValueError(
                "A pool holds each pair once. Received: "
                f"{len(twice)} duplicate pairs, the first is "
                f"user_id={pair.user_id[0]!r}, item_id={pair.item_id[0]!r}. "
                "Load the interactions with `duplicates=\"last\"`.")

    def _keys(self, user, item) -> np.ndarray:
        return (np.asarray(user, np.int64) * self.item_vocabulary.size
                + np.asarray(item, np.int64))

    @classmethod
    def from_interactions(cls, interactions,
                          initial: float | int | np.ndarray = 0.05,
                          seed: int = 0, **options) -> "Pool":
        """Returns a pool over the pairs of a log, some of them labelled.

        Args:
            interactions: the pairs; labels of the initial rows are taken,
                the others stay hidden (give them to a `ReplayOracle`).
            initial: rows labelled at the start: a share (float up to 1.0),
                a number (int), or a mask (bool `[rows]`).
            seed: draws the initial rows.
            **options: options of `Pool`.

        Raises:
            ValueError: `initial` is out of range.
        """
        total = len(interactions.frame)
        if np.ndim(initial):
            rows = np.flatnonzero(_checked_mask(initial, total))
        else:
            share = isinstance(initial, float)
            if not 0 <= initial <= (1.0 if share else total):
                raise ValueError(
                    "`initial` must be a share from 0.0 to 1.0 or a number "
                    f"of rows up to {total}. Received: initial={initial!r}.")
            number = int(round(initial * total)) if share else int(initial)
            rows = np.random.default_rng(
                [seed, 11]).permutation(total)[:number]
        pool = cls._of_log(interactions, **options)
        pool.state[rows] = LABELLED
        pool.label[rows] = interactions.frame["label"].to_numpy()[rows]
        return pool

    @classmethod
    def cross(cls, interactions, exclude=(), **options) -> "Pool":
        """Returns a pool over every pair of the tables.

        The rows of the log are labelled. Pairs outside the log are stored
        only when they are asked, so memory grows with the log and the
        questions.

        Args:
            interactions: the log.
            exclude: a list of `Interactions` over the same tables whose
                pairs are never asked, such as held-out rows.
            **options: options of `Pool`.

        Raises:
            ValueError: a pair to exclude is in the log.
        """
        pool = cls._of_log(interactions, lazy=True, **options)
        for held_out in exclude:
            pool.check_leakage(held_out)
            pool.exclude(held_out.user_code, held_out.item_code)
        pool.state[:] = LABELLED
        pool.label[:] = interactions.frame["label"].to_numpy()
        return pool

    @classmethod
    def _of_log(cls, interactions, **options) -> "Pool":
        """Returns a pool whose rows are those of a log."""
        return cls(interactions, interactions.user_code,
                   interactions.item_code,
                   time=interactions.frame["timestamp"].to_numpy(), **options)

    def exclude(self, user, item) -> None:
        """Excludes pairs from being asked from now on.

        Args:
            user, item: codes `[n]`; pairs with a 0 are ignored.
        """
        user, item = np.asarray(user), np.asarray(item)
        known = (user > 0) & (item > 0)
        self.excluded = np.union1d(
            self.excluded, self._keys(user[known], item[known]))

    def excluded_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns `(user, item)` codes of the pairs that are never asked."""
        return np.divmod(self.excluded, self.item_vocabulary.size)

    def __len__(self) -> int:
        return len(self.user)

    def __repr__(self) -> str:
        states = ", ".join(f"{number:,} {state}" for state, number
                           in self.counts.items() if number)
        return (f"Pool({len(self.user_ids):,} users x "
                f"{len(self.item_ids):,} items"
                f"{', all pairs' if self.lazy else ''}: "
                f"{states or 'no pairs'};\n     labels {self.scale[0]:g} to "
                f"{self.scale[1]:g}, positive from {self.positive:g}; "
                f"{self.rounds:,} rounds, {self.spent:,.6g} spent)")

    def pairs(self, user, item) -> Pairs:
        """Returns the pairs of codes `[n]`, whether in the pool or not."""
        return Pairs(user, item, self.user_vocabulary, self.item_vocabulary)

    def rows(self, user, item) -> np.ndarray:
        """Returns the row of each pair, int64 `[n]`; -1 where there is none.

        Args:
            user, item: codes, `[n]`.
        """
        keys = self._keys(user, item)
        if not len(self._sorted):
            return np.full(len(keys), -1)
        place = np.minimum(np.searchsorted(self._sorted, keys),
                           len(self._sorted) - 1)
        return np.where(self._sorted[place] == keys, self._order[place], -1)

    @property
    def has_lists(self) -> bool:
        """Whether rows were shown in lists."""
        return self._lists is not None

    def lists(self, rows) -> np.ndarray | None:
        """Returns the list in which each row was shown, int32 `[n]`.

        0 stands for none. The answer is None where the interactions have no
        lists (`Interactions.list_code`).

        Args:
            rows: int64 `[n]`.
        """
        if self._lists is None:
            return None
        keys, lists = self._lists
        found = np.zeros(len(rows), np.int32)
        if len(keys):
            mine = self._keys(self.user[rows], self.item[rows])
            place = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
            found = np.where(keys[place] == mine, lists[place], found)
        return found

    def labelled_rows(self) -> np.ndarray:
        """Returns the rows that training may read, int64 `[m]`."""
        return np.flatnonzero(self.state == LABELLED)

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows in each state."""
        numbers = np.bincount(self.state, minlength=len(STATES))
        return dict(zip(STATES, map(int, numbers)))

    @property
    def rounds(self) -> int:
        """Rounds in which questions were asked so far."""
        return 1 + int(self.round.max(initial=-1))

    @property
    def spent(self) -> float:
        """What all answers cost so far, in the oracle's unit."""
        return float(self.cost.sum(dtype=np.float64))

    @property
    def pending(self) -> int:
        """Questions asked and not answered yet."""
        return int((self.state == ASKED).sum())

    def candidates(self, limit: int | None = None, rng=None):
        """Returns pairs that may be asked.

        Args:
            limit: most pairs, drawn by `rng`. A lazy pool has too many pairs
                to list; its default is 200,000.
            rng: a `numpy.random.Generator`.

        Returns:
            `(user [n], item [n])` int32 codes.
        """
        rng = np.random.default_rng(0) if rng is None else rng
        if self.lazy:
            return self._lazy_candidates(limit or 200_000, rng)
        rows = np.flatnonzero(self.state == UNLABELLED)
        if limit is not None and limit < len(rows):
            rows = np.sort(rng.choice(rows, limit, replace=False))
        return self.user[rows], self.item[rows]

    def _lazy_candidates(self, limit, rng):
        width = len(self.item_ids)
        total = len(self.user_ids) * width
        if total > max(8 * limit, 1 << 22):
            flat = np.unique(rng.integers(0, total, 4 * limit))
            flat = rng.permutation(flat)
        else:
            flat = rng.permutation(total)
        user = (flat // width + 1).astype(np.int32)
        item = (flat % width + 1).astype(np.int32)
        row = self.rows(user, item)
        free = row < 0
        free[~free] = self.state[row[~free]] == UNLABELLED
        free &= ~np.isin(self._keys(user, item), self.excluded)
        return user[free][:limit], item[free][:limit]

    def ask(self, user, item, round: int, strategy,
            utility=None) -> np.ndarray:
        """Marks pairs as asked; call it before the oracle gets them.

        Args:
            user, item: codes, `[n]`.
            round: number of the round in which they are asked.
            strategy: name of the strategy that chose them, or one name for
                each pair.
            utility: `[n]`, or None.

        Returns:
            Tickets, int64 `[n]`: the numbers under which answers come back.

        Raises:
            PoolExhausted: a pair is asked, answered or declined already, or
                is not in the pool.
        """
        row = self.rows(user, item)
        keys = self._keys(user, item)
        taken = np.isin(keys, self.excluded)
        if not self.lazy:
            taken |= row < 0
        old = row >= 0
        taken[old] |= self.state[row[old]] != UNLABELLED
        if taken.any() or len(np.unique(keys)) < len(keys):
            raise PoolExhausted(
                "Only unlabelled pairs of the pool can be asked, each once. "
                f"Received: {int(taken.sum())} of {len(row)} pairs that are "
                "not in the pool or were asked before. Take pairs from "
                "`pool.candidates()`.")
        if not old.all():
            row = self._append_rows(user, item, row)
        names = np.broadcast_to(np.asarray(strategy, object), len(row))
        self.strategies += [name for name in dict.fromkeys(names.tolist())
                            if name not in self.strategies]
        number = {name: i for i, name in enumerate(self.strategies)}
        tickets = len(self._ticket_row) + np.arange(len(row), dtype=np.int64)
        self._ticket_row = np.concatenate([self._ticket_row, row])
        self.state[row] = ASKED
        self.round[row] = round
        self.ticket[row] = tickets
        self.strategy[row] = [number[name] for name in names]
        self.utility[row] = np.nan if utility is None else utility
        return tickets

    def _append_rows(self, user, item, row) -> np.ndarray:
        new = row < 0
        old, more = len(self), int(new.sum())
        for name, dtype in _COLUMNS.items():
            empty = np.full(more, np.nan if dtype == np.float32 else -1,
                            dtype)
            setattr(self, name, np.concatenate([getattr(self, name), empty]))
        self.user[old:] = np.asarray(user)[new]
        self.item[old:] = np.asarray(item)[new]
        self.state[old:], self.cost[old:] = UNLABELLED, 0
        self.time[old:] = self.time[:old].max(initial=0)
        self._index()
        return self.rows(user, item)

    def answer(self, tickets, labels, declined, cost) -> np.ndarray:
        """Takes answers in. The first answer to a pair stays.

        Args:
            tickets: int64 `[k]`; late ones (expired or asked again) count
                too, for they are paid.
            labels: float32 `[k]`, NaN where declined.
            declined: bool `[k]`.
            cost: float32 `[k]`, added to the pair's cost in any case.

        Returns:
            bool `[k]`, True where the answer was new.

        Raises:
            ValueError: see `check_answers`.
        """
        tickets = np.asarray(tickets, np.int64)
        labels = np.asarray(labels, np.float32)
        declined = np.asarray(declined, bool)
        self.check_answers(tickets, labels, declined)
        row = self._ticket_row[tickets]
        first = np.zeros(len(row), bool)
        first[np.unique(row, return_index=True)[1]] = True
        fresh = first & (self.state[row] != LABELLED)
        fresh &= ~(declined & (self.state[row] == DECLINED))
        self.state[row[fresh]] = np.where(
            declined[fresh], DECLINED, LABELLED)
        self.label[row[fresh]] = np.where(
            declined[fresh], np.nan, labels[fresh])
        np.add.at(self.cost, row, np.asarray(cost, np.float32))
        self.version += 1
        return fresh

    def check_answers(self, tickets, labels, declined) -> None:
        """Checks answers before they are taken in or written anywhere.

        Args:
            tickets, labels, declined: see `answer`.

        Raises:
            ValueError: a ticket was not given out, or a label is off the
                scale.
        """
        known = (tickets >= 0) & (tickets < len(self._ticket_row))
        if not known.all():
            raise ValueError(
                "Every ticket must come from `pool.ask`. Received: "
                f"ticket={int(tickets[~known][0])}, and "
                f"{len(self._ticket_row)} tickets were given out. Nothing "
                "was taken in.")
        check_labels(labels[~declined], self.scale, tickets[~declined],
                     cure="Nothing was taken in. Mark a missing answer as "
                     "declined.")

    def expire(self, before_round: int) -> int:
        """Lets questions of earlier rounds be asked again.

        Args:
            before_round: questions of rounds before this one expire.

        Returns:
            The number of questions that expired.
        """
        old = (self.state == ASKED) & (self.round < before_round)
        self.state[old] = UNLABELLED
        return int(old.sum())

    def labelled_by(self) -> dict[str, int]:
        """Returns the numbers of labels bought, by name of the strategy."""
        rows = (self.ticket >= 0) & (self.state == LABELLED)
        numbers = np.bincount(self.strategy[rows],
                              minlength=len(self.strategies))
        return dict(zip(self.strategies, map(int, numbers)))

    def natural_log_q(self) -> np.ndarray:
        """Returns the log of each item's share of positive natural traffic.

        It is traffic times the rate of positives among the item's labels,
        smoothed towards the overall rate. Acquired rows change the rate of
        an item, never its traffic: a strategy that asks for rare items does
        not make them popular.

        Returns:
            float32 `[items + 1]`, code 0 has the smallest value.
        """
        rows = self.labelled_rows()
        size = self.item_vocabulary.size
        number = np.bincount(self.item[rows], minlength=size)
        positive = np.bincount(
            self.item[rows[self.label[rows] >= self.positive]],
            minlength=size)
        return log_shares(self.item_traffic, number, positive)

    def histories(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positive labelled items of each user, oldest first.

        Returns:
            `(indptr [users + 2], items)`: the item codes of user code u are
            `items[indptr[u]:indptr[u + 1]]`.
        """
        rows = self.labelled_rows()
        rows = self.by_user_and_time(rows[self.label[rows] >= self.positive])
        number = np.bincount(self.user[rows],
                             minlength=self.user_vocabulary.size)
        return np.concatenate([[0], np.cumsum(number)]), self.item[rows]

    def by_user_and_time(self, rows) -> np.ndarray:
        """Returns rows by user, oldest first; of one time as in the pool.

        Args:
            rows: int64 `[n]`, rising.
        """
        return rows[np.lexsort((self.time[rows], self.user[rows]))]

    def digest(self) -> str:
        """Returns a SHA-256 of ids and state, equal for equal pools."""
        found = hashlib.sha256(
            json.dumps([self.strategies, bool(self.lazy)]).encode())
        for ids in (self.user_ids, self.item_ids):
            update_texts(found, map(str, ids))
        for column in (self._ticket_row, self.excluded, *(
                getattr(self, name) for name in _COLUMNS)):
            found.update(str(len(column)).encode())
            found.update(np.ascontiguousarray(column))
        return found.hexdigest()

    def check_leakage(self, held_out) -> None:
        """Raises ValueError when a held-out pair can be trained on."""
        splits.check_leakage(self.user, self.item, held_out)

    @property
    def sequences(self) -> list:
        """The `PoolSequence`s that are in use."""
        return list(self._sequences)

    def feeds(self, sequence) -> None:
        """Notes that a `PoolSequence` reads the pool."""
        self._sequences.add(sequence)

    def sequence(self, batch_size: int = 1024, seed: int = 0, **options):
        """Returns a `PoolSequence`, on which `fit` trains; it grows.

        Args:
            batch_size: rows of a training step.
            seed, **options: see `PoolSequence`.
        """
        from tfrecal.pool.sequence import PoolSequence
        return PoolSequence(self, batch_size, seed, **options)

    def save(self, path) -> None:
        """Writes the state as one NumPy archive, whole or not at all.

        Args:
            path: path of the file, which ends in .npz.
        """
        meta = json.dumps({
            "strategies": self.strategies, "lazy": self.lazy,
            "scale": self.scale, "positive": self.positive,
            "users": len(self.user_ids), "items": len(self.item_ids)})

        def write(beside):
            with open(beside, "wb") as file:
                np.savez_compressed(
                    file, meta=np.array(meta), ticket_row=self._ticket_row,
                    excluded=self.excluded,
                    user_traffic=self.user_traffic,
                    item_traffic=self.item_traffic,
                    **{name: getattr(self, name) for name in _COLUMNS})

        replace_file(path, write)

    @classmethod
    def load(cls, path, interactions) -> "Pool":
        """Reads what `save` wrote, over the same tables.

        Args:
            path: path of the file.
            interactions: `Interactions` with the tables of the pool.

        Raises:
            ValueError: the file is missing or damaged, or the tables have
                another number of users or items.
        """
        data = read_arrays(path, ("meta", "ticket_row", "excluded",
                                  "user_traffic", "item_traffic", *_COLUMNS),
                           later=("time",))
        # Older files have no times: the order is that of the rows.
        data.setdefault("time", np.zeros(len(data["user"])))
        meta = _checked_meta(path, data)
        sizes = (meta["users"], meta["items"])
        have = (len(interactions.user_ids), len(interactions.item_ids))
        if sizes != have:
            raise ValueError(
                "A pool must be loaded over the tables that it was saved "
                f"with. Received: users, items={have}, saved={sizes} in "
                f"{path}.")
        pool = cls(interactions, data["user"], data["item"],
                   lazy=meta["lazy"], positive=meta["positive"])
        for name in _COLUMNS:
            setattr(pool, name, data[name])
        pool.user_traffic = data["user_traffic"]
        pool.item_traffic = data["item_traffic"]
        pool._ticket_row = data["ticket_row"]
        pool.excluded = data["excluded"]
        pool.strategies = meta["strategies"]
        return pool


def read_arrays(path, names, later=()) -> dict[str, np.ndarray]:
    """Reads arrays of an archive that `Pool.save` wrote.

    Args:
        path: path of the file.
        names: names of the arrays.
        later: those of them that older files lack; they are left out.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in names
                    if name in data or name not in later}
    except FileNotFoundError:
        why = "which is missing"
    # Damaged bytes raise errors of many classes in zipfile and NumPy.
    except Exception as error:
        why = f"which cannot be read: {error}"
    raise damaged(path, _MUST, why, _CURE)


def _checked_meta(path, data: dict) -> dict:
    """Returns the meta data of a pool whose arrays fit together."""
    try:
        meta = parse_json(str(data["meta"]))
        rows, tickets = len(data["user"]), len(data["ticket_row"])
        shapes = {name: data[name].shape == (rows,) for name in _COLUMNS}
        kinds = {name: data[name].dtype == dtype
                 for name, dtype in _COLUMNS.items()}
        label = data["label"][data["state"] == LABELLED]
        low, high = np.float32(meta["scale"])
        holds = {
            "lengths": all(shapes.values()), "types": all(kinds.values()),
            "states": _inside(data["state"], 0, len(STATES)),
            "tickets": _inside(data["ticket"], -1, tickets) and _inside(
                data["ticket_row"], 0, rows),
            "strategies": _inside(data["strategy"], -1,
                                  len(meta["strategies"])),
            "rounds": _inside(data["round"], -1, 1 << 31),
            "labels": bool(((label >= low) & (label <= high)).all()),
            "costs": bool((data["cost"] >= 0).all()),
            "times": bool(np.isfinite(data["time"]).all()),
            "traffic": all(
                data[f"{side}_traffic"].shape == (meta[f"{side}s"] + 1,)
                and bool((data[f"{side}_traffic"] >= 0).all())
                for side in ("user", "item")),
            "settings": isinstance(meta["lazy"], bool) and isinstance(
                meta["positive"], float)}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError,
            IndexError) as error:
        raise damaged(path, _MUST, f"which holds other than a pool: "
                      f"{error!r}", _CURE) from None
    wrong = [name for name, good in holds.items() if not good]
    if wrong:
        raise damaged(path, _MUST, f"with {wrong[0]} that cannot be", _CURE)
    return meta


def _inside(values, low: int, end: int) -> bool:
    return not len(values) or bool(
        low <= values.min() and values.max() < end)


def _checked_mask(initial, total) -> np.ndarray:
    mask = np.asarray(initial)
    if mask.shape != (total,) or mask.dtype != bool:
        raise ValueError(
            f"`initial` as an array must be bool, one a row of {total}. "
            f"Received: shape={mask.shape}, dtype={mask.dtype}.")
    return mask
