"""Tiles of pairs: rectangles of users x items, or stretches of a list."""
from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

# Finding the libraries takes longer than a short stream.
_libraries = functools.cache(ThreadpoolController)


@dataclass
class Tile:
    """Pairs that are scored at once.

    Args:
        user, item: codes. In a grid `[a]` and `[b]` stand for all a * b
            pairs, user by user; in a list both are `[n]`.
        grid: True for a grid, False for a list.
        free: which pairs may be asked, bool `[pairs]`; None for all.
    """

    user: np.ndarray
    item: np.ndarray
    grid: bool = False
    free: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user) * (len(self.item) if self.grid else 1)

    def pairs(self, chosen=None):
        """Returns codes `(user, item)` of all pairs or of those at `chosen`."""
        if not self.grid:
            if chosen is None:
                return self.user, self.item
            return self.user[chosen], self.item[chosen]
        if chosen is None:
            return (np.repeat(self.user, len(self.item)),
                    np.tile(self.item, len(self.user)))
        row, column = np.divmod(chosen, len(self.item))
        return self.user[row], self.item[column]


class ListedPairs:
    """Listed pairs, a stretch at a time.

    Args:
        user, item: codes, `[n]`.
        size: pairs of a tile.
    """

    def __init__(self, user, item, size: int = 1 << 18):
        self.user, self.item, self.size = user, item, size

    def tiles(self):
        """Yields each `Tile`."""
        for start in range(0, len(self.user), self.size):
            rows = slice(start, start + self.size)
            yield Tile(self.user[rows], self.item[rows])

    def without(self, users, items) -> "ListedPairs":
        """Returns the pairs without these users and items (codes)."""
        keep = ~(np.isin(self.user, users) | np.isin(self.item, items))
        return ListedPairs(self.user[keep], self.item[keep], self.size)


class CrossPairs:
    """All pairs of users x items, except those that are taken.

    Args:
        users, items: codes, each once, rising.
        taken_user, taken_item: codes of pairs that may not be asked.
        shape: users and items of a tile: large enough for BLAS, small
            enough for the caches (benchmarks/pool_scoring.py).
    """

    def __init__(self, users, items, taken_user=(), taken_item=(),
                 shape=(200, 1000)):
        self.users = np.asarray(users, np.int32)
        self.items = np.asarray(items, np.int32)
        taken_user = np.asarray(taken_user, np.int32)
        taken_item = np.asarray(taken_item, np.int32)
        inside = (np.isin(taken_user, self.users)
                  & np.isin(taken_item, self.items))
        order = np.argsort(taken_user[inside], kind="stable")
        self.taken_user = taken_user[inside][order]
        self.taken_item = taken_item[inside][order]
        self.shape = shape

    def tiles(self):
        """Yields each `Tile`; those of the same items come together."""
        height, width = self.shape
        rows = np.searchsorted(self.users, self.taken_user)
        columns = np.searchsorted(self.items, self.taken_item)
        for left in range(0, len(self.items), width):
            items = self.items[left:left + width]
            here = (columns >= left) & (columns < left + width)
            row, column = rows[here], columns[here] - left
            for top in range(0, len(self.users), height):
                users = self.users[top:top + height]
                inside = slice(*np.searchsorted(row, [top, top + height]))
                free = None
                if inside.stop > inside.start:
                    free = np.ones(len(users) * len(items), bool)
                    free[(row[inside] - top) * len(items)
                         + column[inside]] = False
                yield Tile(users, items, True, free)

    def without(self, users, items) -> "CrossPairs":
        """Returns the pairs without these users and items (codes)."""
        return CrossPairs(
            np.setdiff1d(self.users, users), np.setdiff1d(self.items, items),
            self.taken_user, self.taken_item, self.shape)


def for_each(pairs, work) -> None:
    """Calls `work` with every tile, on one thread for each core.

    BLAS runs on one thread in each: its own threads would wait for each
    other at every product, and a busy core would delay all of them.

    Args:
        pairs: `ListedPairs` or `CrossPairs`.
        work: a function of a `Tile`; several threads call it.
    """
    tiles, lock = pairs.tiles(), threading.Lock()
    failed = threading.Event()

    def worker():
        try:
            while not failed.is_set():
                with lock:
                    tile = next(tiles, None)
                if tile is None:
                    return
                work(tile)
        except BaseException:
            failed.set()
            raise

    cores = len(os.sched_getaffinity(0)) if hasattr(
        os, "sched_getaffinity") else os.cpu_count()
    with _libraries().limit(limits=1, user_api="blas"), (
            ThreadPoolExecutor(cores)) as threads:
        for done in [threads.submit(worker) for _ in range(cores)]:
            done.result()
