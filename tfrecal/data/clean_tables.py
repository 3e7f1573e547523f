"""Turns raw tables into checked ones: each check once, one error."""
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd

from tfrecal import checks
from tfrecal.checks import check_scale
from tfrecal.data.cleaning import (
    CleaningReport,
    as_table,
    broken_ids,
    check_rows,
    merge_duplicates,
)
from tfrecal.data.columns import column_names, factorise_ids, select_columns
from tfrecal.data.tables import Table
from tfrecal.data.vocabulary import Vocabulary


def clean_tables(rows: Table, users: Table | None, items: Table | None, *,
                 columns, bad_rows, duplicates, scale, timestamp_unit, text):
    """Returns clean rows and tables.

    `Interactions.from_frame` explains the arguments and errors.

    Returns:
        `((frame, users, items, scale, report), known)`: `known` is a dict
        of `user_code`, `item_code`, `user_vocabulary`, `item_vocabulary`.
    """
    scale = _check_options(bad_rows, duplicates, scale)
    _check_text(text, users, items)
    with _naming_the_file(rows):
        chosen = select_columns(rows.frame, columns)
    lines = rows.lines
    report = CleaningReport(rows_in=len(chosen) + len(rows.faults),
                            notes=list(rows.notes))
    report.add_faults("bad_line", rows)
    if duplicates is None:
        duplicates = ("highest" if "list_id" in chosen else
                      "raise" if "label" in chosen else "last")
    if "label" not in chosen:
        if scale is not None and scale[1] != 1:
            raise ValueError(
                "Rows without labels are clicks of label 1, the highest of "
                f"their scale. Received: a scale of {scale[0]:g} to "
                f"{scale[1]:g}, and no column of labels. Name that column "
                "(`columns={\"label\": \"...\"}`, `--columns label=...`).")
        chosen["label"] = np.ones(len(chosen), np.float32)
        report.notes.append("no column of labels: each row is a click, of "
                            "label 1")
    with _naming_the_file(rows):
        ids = {key: factorise_ids(chosen[key], key, report.notes)
               for key in ("user_id", "item_id", "list_id")
               if key in chosen}
    missing = (ids["user_id"][0] < 0) | (ids["item_id"][0] < 0)
    report.add("missing_key", missing, lines)
    broken = np.logical_or(*(
        np.append(broken_ids(texts), False)[places]
        for places, texts in ids.values())) & ~missing
    report.add("broken_id", broken, lines)
    with _naming_the_file(rows):
        clean, bad = check_rows(chosen, missing | broken, scale,
                                timestamp_unit, report, lines)
    given = {"user_id": users, "item_id": items}
    tables, codes, vocabularies = {}, {}, {}
    # A table that is made of the rows is made of those that stay.
    for key in sorted(given, key=lambda key: given[key] is None):
        places, texts = ids[key]
        used = np.zeros(len(texts), bool)
        used[places[~bad]] = True
        with _naming_the_file(given[key]):
            tables[key] = as_table(named_table(given[key], key, columns),
                                   key, texts[used], report, text)
        vocabularies[key] = Vocabulary(tables[key].index, key)
        code = np.append(vocabularies[key].codes(texts), np.int32(0))[places]
        report.add(f"unknown_{key[:-3]}", ~bad & (code == 0), lines)
        bad = bad | (code == 0)
        codes[key] = code
    if scale is None and not bad.all():
        # That of all labels, before those of one pair are made one.
        scale = _scale_of(clean["label"].to_numpy()[~bad])
    if "list_id" in ids:
        several = _of_several(ids["list_id"][0], codes["user_id"], bad)
        report.add("bad_list", several, lines)
        bad = bad | several
    pair = (codes["user_id"].astype(np.int64) * vocabularies["item_id"].size
            + codes["item_id"])
    clean, extra = merge_duplicates(clean, pair, bad, duplicates, report,
                                    lines)
    good = ~(bad | extra)
    report.rows_kept = int(good.sum())
    with _naming_the_file(rows):
        _raise_if_refused(report, bad_rows, duplicates)
    clean = clean[good].reset_index(drop=True)
    for key, (places, texts) in reversed(ids.items()):
        at = len(clean.columns) if key == "list_id" else 0
        clean.insert(at, key, pd.Series(
            np.append(texts, "")[places[good]], dtype=object))
    known = {}
    for key in given:
        known[f"{key[:-3]}_code"] = codes[key][good]
        known[f"{key[:-3]}_vocabulary"] = vocabularies[key]
    return (clean, *(tables[key] for key in given), scale, report), known


def _of_several(lists, user, bad) -> np.ndarray:
    """Returns which good rows are of a list of several users, bool `[n]`.

    Args:
        lists: number of each row's list, -1 for none.
        user: code of each row's user.
        bad: rows that take no part.
    """
    rows = np.flatnonzero(~bad & (lists >= 0))
    first = np.zeros(lists.max(initial=-1) + 1, user.dtype)
    first[lists[rows]] = user[rows]
    mixed = np.zeros(len(first), bool)
    mixed[lists[rows[user[rows] != first[lists[rows]]]]] = True
    several = np.zeros(len(bad), bool)
    several[rows] = mixed[lists[rows]]
    return several


@contextmanager
def _naming_the_file(table: Table | None):
    """Adds the table's file to an error that does not name it."""
    try:
        yield
    except ValueError as error:
        path = getattr(table, "path", None)
        if path is None or str(path) in str(error):
            raise
        raise ValueError(f"{error} The file is {path}.") from error


def _scale_of(label: np.ndarray) -> tuple[float, float]:
    if np.isin(label, (0, 1)).all():
        return 0.0, 1.0
    return float(label.min()), float(label.max())


def k_core_rows(user: np.ndarray, item: np.ndarray, n: int):
    """Returns the most rows in which each user and item has `n` rows.

    Args:
        user, item: codes, `[rows]`.
        n: least number of rows of each user and item.

    Returns:
        `(rows, passes)`: positions int64, and passes that dropped rows.

    Raises:
        TypeError: `n` is no whole number.
        ValueError: `n` is below 1, or no row is left.
    """
    checks.whole(1, n=n)
    rows, passes = np.arange(len(user)), 0
    while len(rows):
        left_user, left_item = user[rows], item[rows]
        keep = ((np.bincount(left_user)[left_user] >= n)
                & (np.bincount(left_item)[left_item] >= n))
        if keep.all():
            return rows, passes
        rows, passes = rows[keep], passes + 1
    raise ValueError(f"A {n}-core must keep rows. Received: none of "
                     f"{len(user):,} rows is in it. Choose a smaller `n`.")


def _check_options(bad_rows, duplicates, scale):
    checks.one_of("bad_rows", bad_rows, ("raise", "drop"))
    checks.one_of("duplicates", duplicates,
                  (None, "raise", "first", "last", "mean", "highest"))
    return None if scale is None else check_scale(scale)


def _check_text(text, *tables: Table | None) -> None:
    """Refuses names of texts that no table has as a column."""
    frames = [table.frame for table in tables
              if isinstance(getattr(table, "frame", None), pd.DataFrame)]
    names = {str(name) for frame in frames
             for name in (*frame.columns, frame.index.name)}
    odd = [name for name in text if name not in names]
    if odd and frames:
        raise ValueError(
            "`text` (`--text`) must name columns of the tables of users and "
            f"items. Received: {odd}. Their columns are {sorted(names)}.")


def named_table(table: Table | None, key: str,
                columns: dict | None) -> Table | None:
    """Returns a users or items table with its id column named `key`."""
    old = column_names(columns).get(key, key)
    frame = None if table is None else table.frame
    if isinstance(frame, pd.DataFrame) and key not in frame and old in frame:
        return replace(table, frame=frame.rename(columns={old: key}))
    return table


def _raise_if_refused(report, bad_rows, duplicates) -> None:
    """Raises one ValueError for all that the options do not allow."""
    twice = report.counts.get("duplicate_pair", 0)
    others = len(report.counts) - bool(twice)
    cures = []
    if others and bad_rows == "raise":
        cures.append("`bad_rows=\"drop\"` (`--bad-rows drop`)")
    if twice and duplicates == "raise":
        cures.append("`duplicates=\"last\"` (`--duplicates last`; or first, "
                     "mean, highest)")
    if cures:
        raise ValueError(f"Interactions must be clean. Received: {report}\n"
                         f"Mend the rows, or pass {' and '.join(cures)}.")
    if not report.rows_in:
        raise ValueError(
            "Interactions need at least one row. Received: none below the "
            "header. Check that this is the right file or frame.")
    if not report.rows_kept:
        raise ValueError(
            f"Interactions need at least one good row. Received: {report}\n"
            "Mend these rows: dropping them leaves none.")
