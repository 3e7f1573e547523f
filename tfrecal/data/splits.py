"""Train, validation and test parts that share one pair of tables.

Rows of one list (`list_id`) stay in one part: what is drawn are lists, and
rows that are in none.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from tfrecal import checks
from tfrecal.data.interactions import Interactions


class Split(NamedTuple):
    """The three parts of a data set; codes mean the same in each."""

    train: Interactions
    validation: Interactions
    test: Interactions


def random(interactions: Interactions, fractions=(0.8, 0.1, 0.1),
           seed: int = 0) -> Split:
    """Splits rows (or lists) at random.

    Of few, each part has one at least.

    Args:
        interactions: what to split.
        fractions: shares of train, validation and test; they sum to 1.
        seed: draws the rows.

    Raises:
        ValueError: there are fewer rows than parts.
    """
    shares = _shares(fractions)
    unit, _ = _units(interactions)
    place = np.random.default_rng([seed, 3]).permutation(
        unit.max(initial=-1) + 1)
    cuts = np.round(np.cumsum(shares)[:2] * len(place)).astype(int)
    sizes = np.diff([0, *cuts, len(place)])
    while sizes.max() > 1 and (empty := (sizes == 0) & (
            np.asarray(shares) > 0)).any():
        sizes[sizes.argmax()] -= 1
        sizes[empty.argmax()] += 1
    cuts = np.cumsum(sizes)[:2]
    part = (place >= cuts[0]).astype(int) + (place >= cuts[1])
    return _by_part(interactions, part[unit], shares)


def temporal(interactions: Interactions, fractions=(0.8, 0.1, 0.1)) -> Split:
    """Splits rows by time: the past trains, the future tests.

    Rows of the same time stay in one part; the cuts lie between the times
    that come nearest to `fractions`. The time of a list is its latest.

    Args:
        interactions: what to split.
        fractions: shares of train, validation and test; they sum to 1.

    Raises:
        ValueError: there are fewer distinct times than parts.
    """
    shares = _shares(fractions)
    times = _times(interactions)
    distinct, group, number = np.unique(
        times, return_inverse=True, return_counts=True)
    parts = [i for i in range(3) if shares[i]]
    if len(distinct) < len(parts):
        raise ValueError(
            f"A temporal split into {len(parts)} parts needs as many times. "
            f"Received: {len(distinct)} distinct timestamps in {len(times)} "
            "rows. Use `splits.random`, or load the timestamps.")
    before = np.cumsum(number)      # rows up to and with each time
    wanted = np.cumsum(shares) * len(times)
    part = np.zeros(len(distinct), int)
    last = -1
    for done, i in enumerate(parts[:-1], start=1):
        # At least one time for this part and one for each part to come.
        choice = np.arange(last + 1, len(distinct) - len(parts) + done)
        last = choice[np.argmin(np.abs(before[choice] - wanted[i]))]
        part[last + 1:] = parts[done]
    return _by_part(interactions, part[group], shares)


def leave_last_n(interactions: Interactions, n: int = 1,
                 validation: int = 1) -> Split:
    """Puts each user's last rows (or lists) into the test part.

    Rows of one time keep their order. Users with no more than
    `n + validation` rows train with all of them. Where rows are in lists, a
    list counts as one row, of its latest time.

    Args:
        interactions: what to split.
        n: last rows of each user for the test.
        validation: rows of each user before these for the validation.

    Raises:
        TypeError: `n` or `validation` is no whole number.
        ValueError: one is too small, or no user has enough rows.
    """
    checks.whole(1, n=n)
    checks.whole(0, validation=validation)
    unit, first = _units(interactions)
    code = interactions.user_code[first]
    order = np.lexsort((first, _times(interactions)[first], code))
    user = code[order]
    number = np.bincount(user)
    end = np.cumsum(number)
    left = end[user] - 1 - np.arange(len(user))
    long = number[user] > n + validation
    part = np.zeros(len(user), int)
    part[order] = np.where(long & (left < n), 2,
                           np.where(long & (left < n + validation), 1, 0))
    return _by_part(interactions, part[unit], (1.0, float(validation > 0), 1.0))


def cold_users(interactions: Interactions, fraction: float = 0.2,
               validation: float = 0.0, seed: int = 0) -> Split:
    """Puts all rows of a share of the users into the test part.

    Args:
        interactions: what to split.
        fraction: share of users for the test.
        validation: share of users (others) for the validation.
        seed: draws the users.

    Raises:
        ValueError: the shares leave a part without users.
    """
    return _split_codes(interactions, interactions.user_code, fraction,
                        validation, seed)


def cold_items(interactions: Interactions, fraction: float = 0.2,
               validation: float = 0.0, seed: int = 0) -> Split:
    """Puts all rows of a share of the items into the test part.

    Items are drawn, not lists: a list keeps in each part the rows of that
    part's items.

    Arguments and errors are as for `cold_users`.
    """
    return _split_codes(interactions, interactions.item_code, fraction,
                        validation, seed)


def with_parts(train: Interactions, validation: Interactions | None = None,
               test: Interactions | None = None) -> Interactions:
    """Puts parts of one's own together; the column `part` tells them apart.

    Args:
        train: the training part.
        validation, test: further parts over the same tables, or None.

    Returns:
        All rows, with `part` 0, 1 or 2 in the order of `Split`.
    """
    frames = [part.frame.assign(part=np.int8(number)) for number, part
              in enumerate((train, validation, test)) if part is not None]
    return train.with_frame(pd.concat(frames, ignore_index=True))


def parts_of(interactions: Interactions) -> Split:
    """Returns the parts that `with_parts` put together; some may be empty."""
    part = interactions.frame["part"].to_numpy()
    plain = interactions.with_frame(interactions.frame.drop(columns="part"))
    return Split(*(plain.take(part == number) for number in range(3)))


def check_leakage(user, item, held_out: Interactions) -> None:
    """Checks that no held-out pair can be trained on.

    Args:
        user, item: codes of the pool's pairs, `[n]`.
        held_out: rows over the same tables.

    Raises:
        ValueError: a held-out pair is in the pool, or codes are outside the
            tables.
    """
    user, item = np.asarray(user, np.int64), np.asarray(item, np.int64)
    for codes, ids, name in ((user, held_out.user_ids, "user"),
                             (item, held_out.item_ids, "item")):
        if len(codes) and not 0 <= codes.min() <= codes.max() <= len(ids):
            raise ValueError(
                f"`{name}` must hold codes of the held-out set's tables "
                f"(0 to {len(ids)}). Received: {codes.min()} to "
                f"{codes.max()}. Take pool and held-out set from one split.")
    width = held_out.item_vocabulary.size
    keys = held_out.user_code.astype(np.int64) * width + held_out.item_code
    both = np.isin(keys, user * width + item)
    if both.any():
        rows = held_out.frame.iloc[np.flatnonzero(both)[:3]]
        pairs = ", ".join(
            f"({u!r}, {i!r})" for u, i in zip(rows["user_id"],
                                              rows["item_id"]))
        raise ValueError(
            "Held-out pairs must not be in the pool. Received: "
            f"{int(both.sum()):,} of {len(keys):,} held-out pairs are in the "
            f"pool, for example {pairs}. Build the pool from the train part "
            "of a split.")


def _shares(fractions) -> tuple[float, ...]:
    try:
        shares = tuple(float(f) for f in fractions)
    except (TypeError, ValueError):
        shares = ()
    # Written so that NaN does not pass.
    if not (len(shares) == 3 and all(f >= 0 for f in shares)
            and shares[0] > 0 and abs(sum(shares) - 1) <= 1e-6):
        raise ValueError(
            "`fractions` must be three shares that sum to 1, the first "
            f"above 0. Received: fractions={fractions}.")
    return shares


def _units(interactions) -> tuple[np.ndarray, np.ndarray]:
    """Returns what stays together: lists, and rows that are in none.

    Returns:
        `(unit, first)`: number of each row's unit, int64 `[n]`, and the
        first row of each unit.
    """
    rows = np.arange(len(interactions))
    lists = interactions.list_code
    if lists is None:
        return rows, rows
    _, first, unit = np.unique(
        np.where(lists > 0, lists, lists.max(initial=0) + 1 + rows),
        return_index=True, return_inverse=True)
    return unit, first


def _times(interactions) -> np.ndarray:
    """Returns the time of each row, or the latest of its list, `[n]`."""
    times = interactions.frame["timestamp"].to_numpy()
    unit, first = _units(interactions)
    latest = times[first]
    np.maximum.at(latest, unit, times)
    return latest[unit]


def _split_codes(interactions, codes, fraction, validation, seed):
    if not (0 < fraction < 1 and 0 <= validation < 1 - fraction):
        raise ValueError(
            "`fraction` must lie between 0 and 1, and leave something to "
            f"train beside `validation`. Received: fraction={fraction}, "
            f"validation={validation}.")
    known = np.unique(codes)
    drawn = np.random.default_rng([seed, 5]).permutation(known)
    cuts = np.cumsum([int(round(f * len(known)))
                      for f in (fraction, validation)])
    part_of = np.zeros(codes.max(initial=0) + 1, int)
    part_of[drawn[:cuts[0]]] = 2
    part_of[drawn[cuts[0]:cuts[1]]] = 1
    return _by_part(interactions, part_of[codes],
                    (1.0, validation, fraction))


def _by_part(interactions, part, shares):
    numbers = np.bincount(part, minlength=3)
    for share, number, name in zip(shares, numbers, Split._fields):
        if share and not number:
            raise ValueError(
                f"The {name} part must hold at least one row. Received: "
                f"{len(part)} rows split as {numbers.tolist()} (train, "
                "validation, test). Give more rows, or other shares.")
    return Split(*(interactions.take(part == i) for i in range(3)))
