"""Gathers what a retraining learns from: first labels and feedback."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tfrecal.data.cleaning import CleaningReport, as_table
from tfrecal.data.interactions import Interactions
from tfrecal.data.tables import read_table
from tfrecal.feedback.labels import feedback_labels
from tfrecal.pool.pool import Pool

_PAIR = ["user_id", "item_id"]


class NothingNew(ValueError):
    """There is no new feedback to learn from."""


@dataclasses.dataclass
class Material:
    """Labels of one moment over tables that have grown.

    Attributes:
        train: the rows that the candidate learns from, one a pair; the column
            `propensity` is NaN where no list is known, `explored` marks
            exploration slots.
        held_out: the newest feedback, which judges.
        before: the rows that the served model learned from, over its own
            tables.
        counts: how many rows were used or left out, and why.
    """

    train: Interactions
    held_out: Interactions
    before: Interactions
    counts: dict[str, int]

    def pool(self, part: Interactions) -> Pool:
        """Returns a pool over all pairs, in which `part` is labelled.

        Rows that exploration showed do not count as traffic.
        """
        natural = ~part.frame["explored"].to_numpy(bool)
        return Pool.cross(
            part, traffic_user=part.user_code[natural],
            traffic_item=part.item_code[natural])


def base_labels(pool: Pool, train: Interactions) -> pd.DataFrame:
    """Returns the labels that a run ended with, as rows of interactions."""
    rows = pool.labelled_rows()
    timestamp = np.zeros(len(pool), np.int64)
    # Rows of the log come first in its pool; questions follow.
    size = min(len(train), len(pool))
    timestamp[:size] = train.frame["timestamp"].to_numpy()[:size]
    pairs = pool.pairs(pool.user[rows], pool.item[rows])
    return pd.DataFrame({
        "user_id": pairs.user_id, "item_id": pairs.item_id,
        "label": pool.label[rows], "timestamp": timestamp[rows],
        "rank": np.nan, "propensity": np.nan, "explored": False})


def gather(base: pd.DataFrame, tables: Interactions, responses, shown, *,
           served_until: float, now: float, holdout: float, patience: float,
           users=None, items=None, erased=None) -> Material:
    """Puts labels, feedback and tables together.

    Args:
        base: what `base_labels` returned.
        tables: the served model's tables; their users and items come first.
        responses, shown: frames of the feedback store, with `received`.
        served_until: time of reception up to which feedback has trained the
            served model.
        now: seconds since the epoch.
        holdout: share of the feedback since `served_until` that is held out;
            the newest rows are.
        patience: see `feedback_labels`.
        users, items: CSV files or tables as they are today, or None.
        erased: user -> time up to which nothing of them may be learned.

    Returns:
        The `Material`.

    Raises:
        NothingNew: there is no new feedback on items of the tables.
    """
    old_responses, old_shown = (
        frame[frame["received"] <= served_until]
        for frame in (responses, shown))
    options = {"now": now, "patience": patience}
    found, counts = feedback_labels(responses, shown, tables.scale, **options)
    before, _ = feedback_labels(
        old_responses, old_shown, tables.scale, **options)
    base = _rows_not_erased(base, erased or {})
    back = set(found["user_id"])
    gone = [user for user in erased or {} if user not in back]
    user_table = grown_table(tables.users, users, back).drop(
        index=gone, errors="ignore")
    item_table = grown_table(tables.items, items)
    there = Interactions(found, user_table, item_table, tables.scale,
                         tables.report, "feedback")
    base, before, kept = (
        _rows_inside(frame, there) for frame in (base, before, found))
    counts["of_unknown_items"], found = len(found) - len(kept), kept
    fresh = _new_rows(found, before)
    if not fresh.any() and counts["responses"] and (
            counts["responses"] == counts["responses_of_other_kinds"]):
        low, high = map(float, tables.scale)
        raise NothingNew(
            f"This model learns from ratings of {low:g} to {high:g}. "
            f"Received: {counts['responses']:,} responses, and none of the "
            "kind `rating`. Log ratings, or train the first run on labels "
            "of 0 and 1, which clicks are.")
    if not fresh.any():
        raise NothingNew(
            "A retraining needs new feedback on items of the tables. "
            f"Received: {counts}. Wait for some, or pass `items`.")
    counts["new_pairs"] = int(fresh.sum())
    newest = np.flatnonzero(fresh)[-max(1, round(holdout * fresh.sum())):]
    held = np.isin(np.arange(len(found)), newest)
    train = _replace_by_feedback(base, found[~held])
    # A pair that judges must not be trained on.
    train = train[~_pairs(train).isin(_pairs(found[held]))]
    counts.update(train=len(train), held_out=int(held.sum()),
                  base=len(base))
    learned = _rows_inside(_replace_by_feedback(base, before), tables)
    return Material(
        there.with_frame(train), there.with_frame(found[held]),
        tables.with_frame(learned), counts)


def grown_table(table, today, ids=()) -> pd.DataFrame:
    """Appends the rows of today's table and of further ids to a table.

    Args:
        table: the table as it was, indexed by id.
        today: the table as it is today, a CSV file of it, or None.
        ids: further ids, whose columns are empty.

    Returns:
        The larger table; rows of `table` keep their places.
    """
    name = table.index.name
    if today is not None:
        # The first row of an id counts; rows without an id do not.
        today = as_table(read_table(today), name, (), CleaningReport())
        new = today[~today.index.isin(table.index)]
        table = pd.concat([table, new.reindex(columns=table.columns)])
    more = sorted(set(ids) - set(table.index))
    found = table.reindex([*table.index, *more])
    found.index = pd.Index(found.index, name=name, dtype=object)
    return found


def _rows_not_erased(frame, erased) -> pd.DataFrame:
    """Returns rows of users who were not erased, or from after erasure."""
    until = frame["user_id"].map(pd.Series(erased, dtype=np.float64))
    return frame[frame["timestamp"] > until.astype(np.float64).fillna(
        -np.inf)]


def _rows_inside(frame, tables: Interactions) -> pd.DataFrame:
    """Returns the rows whose user and item are in the tables."""
    return frame[frame["user_id"].isin(tables.users.index)
                 & frame["item_id"].isin(tables.items.index)]


def _pairs(frame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(frame[_PAIR])


def _replace_by_feedback(base, feedback) -> pd.DataFrame:
    """Joins labels and feedback; of a pair in both, feedback counts."""
    both = pd.concat([part for part in (base, feedback) if len(part)]
                     or [base], ignore_index=True)
    return both.drop_duplicates(_PAIR, keep="last").reset_index(drop=True)


def _new_rows(found, before) -> np.ndarray:
    """Returns which rows are not in `before` with the same label."""
    keys = [*_PAIR, "label", "timestamp"]
    return ~pd.MultiIndex.from_frame(found[keys]).isin(
        pd.MultiIndex.from_frame(before[keys]))
