"""Reads the users and items tables of today, in the kinds of those served.

It needs no TensorFlow, and ends before anything is trained or written.
"""
from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data import kinds
from tfrecal.data.cleaning import broken_ids
from tfrecal.data.columns import as_ids, as_numbers, parse_columns
from tfrecal.data.interactions import Interactions
from tfrecal.data.tables import TableFormat, read_table
from tfrecal.data.vocabulary import Vocabulary, id_column

_SHOWN = 5
_TRUTH = {"true": True, "false": False}


class TablesWrong(ValueError):
    """A table of today cannot be taken in; it can be mended meanwhile."""


@dataclasses.dataclass
class Today:
    """What the tables of today add to those of the served model.

    Attributes:
        users, items: rows of ids that the served tables lack, with the
            served columns, indexed by id.
        notes: what was found and left out, a sentence each.
    """

    users: pd.DataFrame
    items: pd.DataFrame
    notes: list[str] = dataclasses.field(default_factory=list)


def read_today(tables: Interactions, users=None, items=None, *,
               form: TableFormat = TableFormat(),
               columns: dict | None = None, forget=frozenset(),
               bad_rows: str = "raise") -> Today:
    """Reads the tables of today against those of the served model.

    A column is a number or a text as it is in the served table. A row of an
    id that is served stays as it was when the model learned it. Columns that
    the served table lacks are left out, because the model cannot read them.

    Args:
        tables: the served model's tables.
        users, items: files or frames, or None for nothing new.
        form: how text files are written.
        columns: name in tfrecal -> name in the files, where ids have others.
        forget: users whose served rows count no more; today's do.
        bad_rows: `"raise"` refuses wrong rows, `"drop"` leaves them out and
            says so.

    Returns:
        The new rows, and what was noticed.

    Raises:
        TablesWrong: a file is missing or is no table, lacks a served
            column, or has rows without an id, ids twice or cells of another
            kind; one message names all wrong lines.
    """
    faults, notes, made = [], [], []
    for option, source, table in (("users", users, tables.users),
                                  ("items", items, tables.items)):
        if source is None:
            made.append(table.iloc[:0])
            continue
        reader = _Reader(table, forget if option == "users" else ())
        try:
            made.append(reader.read(
                source, option, form, columns or {}, bad_rows == "drop"))
        except (ValueError, TypeError, OSError) as error:
            faults.append(f"`{option}` (`--{option}`): {error}")
        faults += reader.faults
        notes += reader.notes
    if faults:
        raise TablesWrong(
            "The tables of today must fit those of the served model. "
            f"Received: {' '.join(faults)} Mend them and call again: "
            "nothing was trained or written.")
    return Today(*made, notes)


def read_without_erased(store, config, origin, tables: Interactions,
                        until: float):
    """Reads today's tables; users who were erased lose their served rows.

    The files are read as the files of the run were.

    Args:
        store: the `FeedbackStore`, which knows the erased.
        config: the `RetrainConfig`, which names the files.
        origin: the loop's `Origin`.
        tables: the served model's tables.
        until: time of reception up to which these have heard of erasures.

    Returns:
        `(today, erased, forget)`: the `Today`, user -> time of erasure, and
        the users of whom nothing that was learned may stay.
    """
    ids = {*tables.users.index, *origin.labels["user_id"]}
    erased = store.erased(ids)
    forget = {user for user, time in erased.items() if time > until}
    run = origin.config
    today = read_today(
        tables, config.users, config.items, forget=forget,
        form=dataclasses.replace(run.form, header=()),
        columns=parse_columns(run.columns), bad_rows=run.bad_rows)
    erased.update(store.erased(today.users.index))
    return today, erased, forget


class _Reader:
    """Reads one table; `faults` and `notes` say what was found."""

    def __init__(self, table: pd.DataFrame, forget):
        self.table, self.forget = table, forget
        self.key = table.index.name
        self.names = list(map(str, table.columns))
        self.faults: list[str] = []
        self.notes: list[str] = []

    def read(self, source, option: str, form: TableFormat, columns: dict,
             drop: bool) -> pd.DataFrame:
        """Returns the rows of new ids; faults of rows are collected."""
        read = read_table(source, form)
        self.source = (f"--{option} {read.path}" if read.path
                       else f"the {option} table")
        self.lines = read.lines
        self.notes += read.notes
        if read.faults:
            self.faults.append(
                f"{self.source}: {read.said_faults()} (read in "
                f"{form.encoding}, as the files of the run).")
        frame, other = read.frame, columns.get(self.key, self.key)
        if self.key not in frame and other in frame:
            frame = frame.rename(columns={other: self.key})
        if not len(frame) and not read.faults and len(self.table):
            self.faults.append(f"{self.source}: there is no row.")
        ids = as_ids(id_column(frame, self.key), self.key,
                     self.notes).to_numpy(object)
        frame = self._served_columns(frame.drop(
            columns=self.key, errors="ignore").reset_index(drop=True))
        bad = self._odd_ids(ids)
        for name, served in zip(self.names, self.table.items()):
            odd, kind = _odd_cells(frame[name], served[1])
            self._add(odd, f"`{name}` must be {kind}",
                      frame[name].to_numpy(object))
            bad |= odd
        if self.faults and not drop:
            return self.table.iloc[:0]
        self.notes += [f"left out: {fault}" for fault in self.faults]
        self.faults, self.lines = [], self.lines[~bad]
        frame = frame[~bad].reset_index(drop=True)
        return self._new_rows(self._in_served_kinds(frame), ids[~bad])

    def _served_columns(self, frame) -> pd.DataFrame:
        frame.columns = [str(name) for name in frame.columns]
        lacking = [name for name in self.names if name not in frame]
        if lacking:
            raise ValueError(
                f"{self.source} must have the served table's columns. "
                f"Received: columns={list(frame.columns)}, without "
                f"{lacking}. Add them; their cells may be empty.")
        more = [name for name in frame.columns if name not in self.names]
        if more:
            self.notes.append(
                f"{self.source}: columns {more} are left out, because the "
                "served model has never seen them; a new run reads them")
        return frame[self.names]

    def _odd_ids(self, ids) -> np.ndarray:
        missing = ids == ""
        twice = pd.Series(ids).duplicated().to_numpy() & ~missing
        self._add(missing, f"`{self.key}` is empty", ids)
        broken = broken_ids(ids)
        self._add(twice, f"`{self.key}` is there already", ids)
        self._add(broken, f"`{self.key}` holds a line end", ids)
        return missing | twice | broken

    def _add(self, wrong, why: str, cells) -> None:
        if not wrong.any():
            return
        places = np.flatnonzero(wrong)
        shown = ", ".join(
            f"line {self.lines[place]}" + (
                f" ({str(cells[place])[:40]!r})" if cells[place] != ""
                else "") for place in places[:_SHOWN])
        more = len(places) - _SHOWN
        self.faults.append(
            f"{self.source}, {shown}{f' and {more:,} more' * (more > 0)}: "
            f"{why}.")

    def _in_served_kinds(self, frame) -> pd.DataFrame:
        wanted = kinds.kinds_of(self.table)
        for name, (_, served) in zip(self.names, self.table.items()):
            read = _OTHER_KINDS.get(served.dtype.kind, (None,))[0]
            if read is not None and wanted.pop(name, None):
                frame = frame.assign(**{name: read(frame[name], served.dtype)})
        frame = kinds.in_kinds(frame, wanted, self.lines, self.source)
        for name, (_, served) in zip(self.names, self.table.items()):
            # Whole numbers stay whole: 1997 is no 1997.0 in a text.
            if served.dtype.kind in "iu" and frame[name].dtype.kind == "f":
                with np.errstate(invalid="ignore"):
                    whole = frame[name].to_numpy().astype(served.dtype)
                if (whole == frame[name]).all():  # none is out of range
                    frame = frame.assign(**{name: whole})
        return frame.set_axis(self.table.columns, axis=1)

    def _new_rows(self, frame, ids) -> pd.DataFrame:
        table = self.table.drop(index=list(self.forget), errors="ignore")
        code = Vocabulary(table.index, self.key).codes(ids)
        frame.index = pd.Index(ids, name=self.key, dtype=object)
        new, known = code == 0, code > 0
        changed = _count_changed(frame[known], table.iloc[code[known] - 1])
        gone = len(table) - int(known.sum())
        if new.any() or changed or gone:
            self.notes.append(
                f"{self.source}: {len(ids):,} rows, of which {new.sum():,} "
                f"are new and {known.sum():,} are served already" + (
                    f"; {changed:,} of these have changed since, and stay as "
                    "they are served" if changed else "") + (
                    f"; {gone:,} that are served are not in it, and stay"
                    if gone else ""))
        if new.sum() > known.sum() and len(table):
            self.notes.append(
                f"{self.source}: most ids are new, such as "
                f"{ids[new][0]!r}, beside {table.index[0]!r} and "
                f"{len(table) - 1:,} more that are served. Check that "
                "it is the right file")
        return frame[new]


def _odd_cells(column, served) -> tuple[np.ndarray, str]:
    """Returns which cells are not of a served column's kind, and the kind."""
    none = np.zeros(len(column), bool)
    if not served.notna().any():
        return none, ""
    there = column.notna().to_numpy(bool)
    read, kind = _OTHER_KINDS.get(served.dtype.kind, (None, "a number"))
    if read is not None:
        return there & read(column, served.dtype).isna().to_numpy(bool), kind
    if pd.api.types.is_numeric_dtype(served.dtype):
        return there & ~np.isfinite(as_numbers(column)), kind
    return none, ""


def _truths(column, dtype) -> pd.Series:
    """Returns True, False, and None for all else."""
    found = column.astype(str).str.strip().str.lower().map(_TRUTH)
    return found.astype(bool) if found.notna().all() else found.astype(
        object).where(found.notna(), None)


def _times(column, dtype) -> pd.Series:
    """Returns times, NaT for all else."""
    found = pd.to_datetime(column, errors="coerce", utc=True,
                           format="ISO8601")
    zone = getattr(dtype, "tz", None)
    return (found.dt.tz_localize(None) if zone is None
            else found.dt.tz_convert(zone)).astype(dtype)


# Kinds that only tables of Parquet files and frames have.
_OTHER_KINDS = {"b": (_truths, "true or false"), "M": (_times, "a time")}


def _count_changed(frame, served) -> int:
    """Returns how many rows of two frames of the same shape differ."""
    wrong = np.zeros(len(frame), bool)
    for place in range(frame.shape[1]):
        one, other = frame.iloc[:, place], served.iloc[:, place]
        if pd.api.types.is_numeric_dtype(other.dtype):
            same = as_numbers(one) == as_numbers(other)
        else:
            same = (one.astype(str).to_numpy(object)
                    == other.astype(str).to_numpy(object))
        gone = one.isna().to_numpy(bool), other.isna().to_numpy(bool)
        wrong |= ~np.where(gone[0] | gone[1], gone[0] & gone[1], same)
    return int(wrong.sum())


def stamp(*paths) -> tuple:
    """Returns what changes when a file is written: its time and size."""
    found = []
    for path in paths:
        try:
            about = Path(str(path)).stat()
            found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)
