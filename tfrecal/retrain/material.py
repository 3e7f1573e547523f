"""Gathers what a retraining learns from: first labels and feedback."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tfrecal.data.columns import clean_id
from tfrecal.data.interactions import Interactions
from tfrecal.feedback.labels import feedback_labels
from tfrecal.pool.pool import Pool

_PAIR = ["user_id", "item_id"]
# Why a response is not learned from: name in `counts` -> in words.
REASONS = {
    "without_id": "without a user or an item",
    "later_than_now": "from a time after now",
    "responses_of_other_kinds": "of a kind that is no label on this scale",
    "off_the_scale": "off the scale",
    "replaced": "followed by a later response to the same pair",
    "of_unknown_items": "on items that are in no table"}


class NothingNew(ValueError):
    """There is no new feedback to learn from."""


@dataclasses.dataclass
class Material:
    """Labels of one moment over tables that have grown.

    Attributes:
        train: the rows that the candidate learns from, one a pair; the column
            `propensity` is NaN where no list is known, `explored` marks
            exploration slots; `list_id` is there where the first labels have
            it.
        held_out: the newest feedback, which judges.
        before: the rows that the served model learned from, over its own
            tables.
        shown, responses: the feedback, with the ids of the tables.
        counts: how many rows were used or left out, and why.
        notes: what else was noticed, a sentence each.
    """

    train: Interactions
    held_out: Interactions
    before: Interactions
    shown: pd.DataFrame
    responses: pd.DataFrame
    counts: dict[str, int]
    notes: list[str]

    def pool(self, part: Interactions) -> Pool:
        """Returns a pool over all pairs, in which `part` is labelled.

        Rows that exploration showed do not count as traffic.
        """
        natural = ~part.frame["explored"].to_numpy(bool)
        return Pool.cross(
            part, traffic_user=part.user_code[natural],
            traffic_item=part.item_code[natural])


def base_labels(pool: Pool) -> pd.DataFrame:
    """Returns the labels that a run ended with, as rows of interactions.

    They have a `list_id` where the run's rows have.
    """
    rows = pool.labelled_rows()
    pairs = pool.pairs(pool.user[rows], pool.item[rows])
    found = pd.DataFrame({
        "user_id": pairs.user_id, "item_id": pairs.item_id,
        "label": pool.label[rows], "timestamp": pool.time[rows],
        "rank": np.nan, "propensity": np.nan, "explored": False})
    if pool.has_lists:
        lists = pool.lists(rows)
        found["list_id"] = np.where(
            lists > 0, np.char.add("run:", lists.astype(str)), "").astype(
                object)
    return found


def labels_of_today(base: pd.DataFrame, tables: Interactions, responses,
                    shown, *, now: float, patience: float):
    """Puts labels and all feedback on known users and items together.

    Args:
        base: what `base_labels` returned.
        tables: the tables as they are today.
        responses, shown: frames of the feedback store.
        now: seconds since the epoch.
        patience: see `feedback_labels`.

    Returns:
        `(labels, number)`: rows as of `base`, one a pair, and how many of
        them are new.
    """
    responses, shown = merge_ids(responses, shown, [])
    found, _ = feedback_labels(
        responses, shown, tables.scale, now=now, patience=patience)
    found = _rows_inside(found, tables).drop(columns="told")
    base = _rows_inside(base, tables)
    return (_replace_by_feedback(base, found),
            int(_new_rows(found, base).sum()))


def gather(base: pd.DataFrame, tables: Interactions, responses, shown, *,
           served_until: float, now: float, holdout: float, patience: float,
           users=None, items=None, erased=None) -> Material:
    """Puts labels, feedback and tables together.

    Ids of the feedback are those of the tables, also where an older store
    holds them with white space or as "42.0" (see `clean_id`).

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
        users, items: rows of today's tables, or None (`todays_tables`).
        erased: user -> time up to which nothing of them may be learned. A
            user who was erased since `served_until` and came back has a row
            of today's table, or an empty one.

    Returns:
        The `Material`.

    Raises:
        NothingNew: there is no new feedback on items of the tables.
    """
    erased, notes = erased or {}, []
    gone = [user for user, until in erased.items() if until > served_until]
    user_table = grown_table(
        tables.users.drop(index=gone, errors="ignore"), users)
    item_table = grown_table(tables.items, items)
    number = len(responses)
    responses, shown = merge_ids(responses, shown, notes)
    old_responses, old_shown = (
        frame[frame["received"] <= served_until]
        for frame in (responses, shown))
    options = {"now": now, "patience": patience}
    found, counts = feedback_labels(responses, shown, tables.scale, **options)
    counts["without_id"] = number - len(responses)
    counts["responses"] = number
    before, _ = feedback_labels(
        old_responses, old_shown, tables.scale, **options)
    base = _rows_not_erased(base, erased)
    back = set(found["user_id"])
    user_table = grown_table(user_table, None, back).drop(
        index=[user for user in erased if user not in back],
        errors="ignore")
    there = Interactions(found, user_table, item_table, tables.scale,
                         tables.report, "feedback")
    base, before, kept = (
        _rows_inside(frame, there) for frame in (base, before, found))
    counts["of_unknown_items"] = int(
        found["told"].sum() - kept["told"].sum())
    fresh = _new_rows(kept, before)
    notes += _strangers(
        "users", kept["user_id"][fresh], tables.users.index,
        "They join the model")
    notes += _strangers(
        "items", found["item_id"][_new_rows(found, before)],
        item_table.index, "Their rows are left out: `--items` takes them in")
    found = kept
    left = tell_left_out(counts, tables.scale)
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
            f"Received: {counts['responses']:,} responses, none of which "
            "tells a pair anything new" + (f"; {left}" if left else "")
            + ". Wait for some, or name today's items (`--items`).")
    counts["new_pairs"] = int(fresh.sum())
    newest = np.flatnonzero(fresh)[-max(1, round(holdout * fresh.sum())):]
    held = np.isin(np.arange(len(found)), newest)
    found, before = (part.drop(columns="told") for part in (found, before))
    train = _replace_by_feedback(base, found[~held])
    # A pair that judges must not be trained on.
    train = train[~_pairs(train).isin(_pairs(found[held]))]
    counts.update(train=len(train), held_out=int(held.sum()),
                  base=len(base))
    learned = _rows_inside(_replace_by_feedback(base, before), tables)
    return Material(
        there.with_frame(train),
        there.with_frame(found[held].drop(columns="list_id")),
        tables.with_frame(learned), shown, responses, counts,
        notes + [left] * bool(left))


def tell_left_out(counts: dict, scale=None) -> str:
    """Returns how many responses are not learned from and why, or "".

    Args:
        counts: of `feedback_labels` or of a `Material`.
        scale: (lowest, highest) label, or None.
    """
    ends = " to ".join(f"{end:g}" for end in scale or ())
    told = [f"{counts[name]:,} {why}" + (
        f" ({ends})" if ends and name == "off_the_scale" else "")
        for name, why in REASONS.items() if counts.get(name)]
    number = sum(counts.get(name, 0) for name in REASONS)
    return (f"{number:,} of {counts['responses']:,} responses are not "
            f"learned from: {', '.join(told)}") if told else ""


def merge_ids(responses, shown, notes: list[str]):
    """Returns feedback with clean ids; rows without ids are left out.

    Args:
        responses, shown: frames of the feedback store.
        notes: gets a sentence for ids that were written otherwise.
    """
    frames = [responses, shown]
    for name in _PAIR:
        merged = set()
        for number, frame in enumerate(frames):
            places, values = pd.factorize(frame[name])
            texts = np.array([clean_id(value, name) for value in values],
                             object)
            wrong = texts != values
            if wrong.any():
                merged.update(values[wrong])
                frame = frame.assign(**{name: pd.Series(
                    texts[places], frame.index, dtype=object)})
            frames[number] = (frame[frame[name] != ""]
                              if (texts == "").any() else frame)
        if merged:
            notes.append(
                f"feedback: {len(merged):,} `{name}` with white space or "
                f"\".0\", such as {min(merged)!r}, are read without")
    return frames


def _strangers(kind: str, ids, known, what: str) -> list[str]:
    """Says how many ids of the new feedback are in no table."""
    ids = pd.Index(ids.unique())
    new = ids[~ids.isin(known)]
    if not len(new):
        return []
    told = (f"feedback: {len(new):,} of {len(ids):,} {kind} are new, such "
            f"as {new[0]!r}. {what}")
    if 2 * len(new) > len(ids) and len(known):
        told += (". Most are new: check that ids are written as those of the "
                 f"run, such as {known[0]!r}")
    return [told]


def grown_table(table, new, ids=()) -> pd.DataFrame:
    """Appends new rows and further ids to a table.

    Args:
        table: the table as it was, indexed by id.
        new: rows with the same columns, indexed by id, or None; those of
            ids that the table has are left out.
        ids: further ids, whose columns are empty.

    Returns:
        The larger table; rows of `table` keep their places.
    """
    name = table.index.name
    if new is not None and len(new):
        new = new[~new.index.isin(table.index)]
        table = pd.concat([table, new.reindex(columns=table.columns)])
    more = sorted(set(ids) - set(table.index))
    found = table.reindex([*table.index, *more]) if more else table
    return found.set_axis(pd.Index(found.index, name=name, dtype=object))


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
    """Joins labels and feedback; of a pair in both, feedback counts.

    Lists of the feedback are kept where those of the labels are.
    """
    if "list_id" not in base:
        feedback = feedback.drop(columns="list_id")
    both = pd.concat([part for part in (base, feedback) if len(part)]
                     or [base], ignore_index=True)
    return both.drop_duplicates(_PAIR, keep="last").reset_index(drop=True)


def _new_rows(found, before) -> np.ndarray:
    """Returns which rows are not in `before` with the same label."""
    keys = [*_PAIR, "label", "timestamp"]
    return ~pd.MultiIndex.from_frame(found[keys]).isin(
        pd.MultiIndex.from_frame(before[keys]))
