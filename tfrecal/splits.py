"""Train, validation and test parts that share one pair of tables."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tfrecal.interactions import Interactions


class Split(NamedTuple):
    """Three parts of one data set; codes mean the same in each."""

    train: Interactions
    validation: Interactions
    test: Interactions


def random(interactions: Interactions, fractions=(0.8, 0.1, 0.1),
           seed: int = 0) -> Split:
    """Rows at random.

    Args:
        interactions: what to split.
        fractions: shares of train, validation and test; they sum to 1.
        seed: draws the rows.
    """
    place = np.random.default_rng([seed, 3]).permutation(len(interactions))
    return _by_place(interactions, place, fractions)


def temporal(interactions: Interactions, fractions=(0.8, 0.1, 0.1)) -> Split:
    """Rows by time: the past trains, the future tests.

    Rows of the same second stay on one side.

    Raises:
        ValueError: all rows have the same time.
    """
    times = interactions.frame["timestamp"].to_numpy()
    if len(times) and times.min() == times.max():
        raise ValueError("A temporal split needs timestamps. Received: one "
                         f"time, {times[0]}, for all {len(times)} rows.")
    shares = _shares(fractions)
    ordered = np.sort(times)
    cuts = [ordered[min(int(s * len(times)), len(times) - 1)]
            for s in np.cumsum(shares)[:2]]
    part = (times >= cuts[0]).astype(int)
    if shares[2]:
        part += times >= max(cuts[1], cuts[0] + 1)
    return _by_part(interactions, part, shares)


def leave_last_n(interactions: Interactions, n: int = 1,
                 validation: int = 1) -> Split:
    """Each user's last `n` rows test, the `validation` before them validate.

    Users with no more than `n + validation` rows train with all of them.
    """
    if n < 1 or validation < 0:
        raise ValueError("`n` must be positive, `validation` not negative. "
                         f"Received: n={n}, validation={validation}.")
    frame = interactions.frame
    order = np.lexsort((np.arange(len(frame)),
                        frame["timestamp"].to_numpy(),
                        interactions.user_code))
    user = interactions.user_code[order]
    number = np.bincount(user)
    end = np.cumsum(number)
    left = end[user] - 1 - np.arange(len(user))
    long = number[user] > n + validation
    part = np.zeros(len(user), int)
    part[order] = np.where(long & (left < n), 2,
                           np.where(long & (left < n + validation), 1, 0))
    return _by_part(interactions, part, (1.0, float(validation > 0), 1.0))


def cold_users(interactions: Interactions, fraction: float = 0.2,
               validation: float = 0.0, seed: int = 0) -> Split:
    """A share of the users has all rows in the test part.

    Args:
        interactions: what to split.
        fraction: share of users for the test.
        validation: share of users (others) for the validation.
        seed: draws the users.
    """
    return _cold(interactions, interactions.user_code, fraction, validation,
                 seed)


def cold_items(interactions: Interactions, fraction: float = 0.2,
               validation: float = 0.0, seed: int = 0) -> Split:
    """As `cold_users`, for items."""
    return _cold(interactions, interactions.item_code, fraction, validation,
                 seed)


def check_leakage(user, item, held_out: Interactions) -> None:
    """Refuses a held-out set whose pairs could be trained on.

    Args:
        user, item: codes of the pool's pairs, `[n]`.
        held_out: rows over the same tables.

    Raises:
        ValueError: some of its pairs are in the pool.
    """
    width = len(held_out.item_ids) + 1
    pool = np.asarray(user, np.int64) * width + np.asarray(item, np.int64)
    keys = held_out.user_code.astype(np.int64) * width + held_out.item_code
    both = np.isin(keys, pool)
    if both.any():
        row = held_out.frame.iloc[int(np.flatnonzero(both)[0])]
        raise ValueError(
            "Held-out pairs must not be in the pool. Received: "
            f"{int(both.sum())} of {len(keys)} pairs in both, for example "
            f"user_id={row.user_id!r}, item_id={row.item_id!r}. Build the "
            "pool from the train part of a split.")


def _shares(fractions) -> tuple:
    shares = tuple(float(f) for f in fractions)
    if (len(shares) != 3 or min(shares) < 0 or not shares[0]
            or abs(sum(shares) - 1) > 1e-6):
        raise ValueError(
            "`fractions` must be three shares that sum to 1, the first "
            f"above 0. Received: fractions={fractions}.")
    return shares


def _by_place(interactions, place, fractions):
    shares = _shares(fractions)
    cuts = np.round(np.cumsum(shares)[:2] * len(place)).astype(int)
    part = (place >= cuts[0]).astype(int) + (place >= cuts[1])
    return _by_part(interactions, part, shares)


def _cold(interactions, codes, fraction, validation, seed):
    if not 0 < fraction < 1 or not 0 <= validation < 1 - fraction:
        raise ValueError(
            "`fraction` must lie between 0 and 1, and leave something to "
            f"train beside `validation`. Received: fraction={fraction}, "
            f"validation={validation}.")
    known = np.unique(codes)
    drawn = np.random.default_rng([seed, 5]).permutation(known)
    cuts = [int(round(fraction * len(known))),
            int(round((fraction + validation) * len(known)))]
    part = np.zeros(len(codes), int)
    part[np.isin(codes, drawn[:cuts[0]])] = 2
    part[np.isin(codes, drawn[cuts[0]:cuts[1]])] = 1
    return _by_part(interactions, part, (1.0, validation, fraction))


def _by_part(interactions, part, shares):
    numbers = np.bincount(part, minlength=3)
    for share, number, name in zip(shares, numbers, Split._fields):
        if share and not number:
            raise ValueError(
                f"The {name} part must hold at least one row. Received: "
                f"{len(part)} rows split as {numbers.tolist()}.")
    return Split(*(interactions.with_frame(interactions.frame[part == i])
                   for i in range(3)))
