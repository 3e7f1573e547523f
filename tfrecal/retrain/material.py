"""What a retraining learns from: the first run's labels and the feedback."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tfrecal.data import table_files
from tfrecal.data.cleaning import CleaningReport, as_table
from tfrecal.data.interactions import Interactions
from tfrecal.feedback.labels import feedback_labels
from tfrecal.pool.pool import Pool

_PAIR = ["user_id", "item_id"]


class NothingNew(ValueError):
    """Raised when there is no feedback to learn from."""


@dataclasses.dataclass
class Material:
    """Labels of one moment over tables that have grown.

    Attributes:
        train: what the candidate learns from, one row a pair; its column
            `propensity` is NaN where no list is known, `explored` tells of
            exploration slots.
        held_out: the newest feedback, which judges.
        before: what the served model had learned from, over its own tables.
        counts: what was used and what was not, and why.
    """

    train: Interactions
    held_out: Interactions
    before: Interactions
    counts: dict[str, int]

    def pool(self, part: Interactions) -> Pool:
        """A pool over all pairs, of which `part` is labelled.

        What exploration showed is no natural traffic.
        """
        natural = ~part.frame["explored"].to_numpy(bool)
        return Pool.cross(
            part, traffic_user=part.user_code[natural],
            traffic_item=part.item_code[natural])


def base_labels(pool: Pool, train: Interactions) -> pd.DataFrame:
    """The labels that a run ended with, as rows of interactions."""
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
        base: as `base_labels` returns it.
        tables: of the served model; their users and items come first.
        responses, shown: of the feedback store, with `received`.
        served_until: feedback received by then has trained the served
            model.
        now: seconds since the epoch.
        holdout: share of the feedback since then, the newest by time.
        patience: see `feedback_labels`.
        users, items: CSV files or tables of today, or None.
        erased: user -> time up to which nothing of them may be learned.

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
    base = _allowed(base, erased or {})
    back = set(found["user_id"])
    gone = [user for user in erased or {} if user not in back]
    user_table = grown_table(tables.users, users, back).drop(
        index=gone, errors="ignore")
    item_table = grown_table(tables.items, items)
    there = Interactions(found, user_table, item_table, tables.scale,
                         tables.report, "feedback")
    base, before, kept = (
        _inside(frame, there) for frame in (base, before, found))
    counts["of_unknown_items"], found = len(found) - len(kept), kept
    fresh = _fresh(found, before)
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
    train = _latest(base, found[~held])
    # A pair of the log that is judged by must not be trained on.
    train = train[~_pairs(train).isin(_pairs(found[held]))]
    counts.update(train=len(train), held_out=int(held.sum()),
                  base=len(base))
    return Material(
        there.with_frame(train), there.with_frame(found[held]),
        tables.with_frame(_inside(_latest(base, before), tables)), counts)


def grown_table(table, today, ids=()) -> pd.DataFrame:
    """The table with rows of today's and of further ids below.

    Args:
        table: by id.
        today: another one, or a CSV file of one, or None.
        ids: further ones, which get no columns.
    """
    name = table.index.name
    if today is not None and not isinstance(today, pd.DataFrame):
        today = table_files.read_csv(today, [name], None)[0]
    if today is not None:
        # The first row of an id counts, and none without one.
        today = as_table(today, name, (), CleaningReport())
        new = today[~today.index.isin(table.index)]
        table = pd.concat([table, new.reindex(columns=table.columns)])
    more = sorted(set(ids) - set(table.index))
    found = table.reindex([*table.index, *more])
    found.index = pd.Index(found.index, name=name, dtype=object)
    return found


def _allowed(frame, erased) -> pd.DataFrame:
    """Rows from after their user was erased, or of users who were not."""
    until = frame["user_id"].map(pd.Series(erased, dtype=np.float64))
    return frame[frame["timestamp"] > until.astype(np.float64).fillna(
        -np.inf)]


def _inside(frame, tables: Interactions) -> pd.DataFrame:
    """Rows whose user and item are in the tables."""
    return frame[frame["user_id"].isin(tables.users.index)
                 & frame["item_id"].isin(tables.items.index)]


def _pairs(frame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(frame[_PAIR])


def _latest(base, feedback) -> pd.DataFrame:
    """Feedback in place of what the log says of the same pairs."""
    both = pd.concat([part for part in (base, feedback) if len(part)]
                     or [base], ignore_index=True)
    return both.drop_duplicates(_PAIR, keep="last").reset_index(drop=True)


def _fresh(found, before) -> np.ndarray:
    """Rows of `found` that are not in `before` with the same label."""
    keys = [*_PAIR, "label", "timestamp"]
    return ~pd.MultiIndex.from_frame(found[keys]).isin(
        pd.MultiIndex.from_frame(before[keys]))
