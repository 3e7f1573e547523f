"""Rows in: read, validate, clean, normalise; tables and codes.

A code is an id's position in its table plus one; code 0 is "unknown".
"""
from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.cleaning import CleaningReport, as_ids, as_seconds, as_table

NEEDED = ("user_id", "item_id", "label")


@dataclass(frozen=True, eq=False)
class Interactions:
    """Labelled (user, item) pairs with the tables of users and items.

    Use `from_frame`, `from_csv` or `from_parquet`; the constructor checks
    nothing.

    Attributes:
        frame: `user_id`, `item_id` (strings), `label` float32, `timestamp`
            int64 seconds (0 where unknown), optionally `weight` float32.
        users, items: tables indexed by id, with any columns.
        scale: lowest and highest label; (0.0, 1.0) for binary labels.
        report: what cleaning dropped.
        name: of the data set.
        truth: true labels `[users, items]` of synthetic data, or None.
    """

    frame: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    scale: tuple[float, float] = (1.0, 5.0)
    report: CleaningReport = field(default_factory=CleaningReport)
    name: str = "interactions"
    truth: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return (f"Interactions({self.name!r}, {len(self):,} rows, "
                f"{len(self.users):,} users, {len(self.items):,} items, "
                f"labels {self.scale[0]:g} to {self.scale[1]:g})")

    @functools.cached_property
    def user_ids(self) -> np.ndarray:
        """Ids of the users table, object `[users]`."""
        return self.users.index.to_numpy(object)

    @functools.cached_property
    def item_ids(self) -> np.ndarray:
        """Ids of the items table, object `[items]`."""
        return self.items.index.to_numpy(object)

    @functools.cached_property
    def user_code(self) -> np.ndarray:
        """Code of each row's user, int32 `[n]`."""
        return _codes(self.users, self.frame["user_id"])

    @functools.cached_property
    def item_code(self) -> np.ndarray:
        """Code of each row's item, int32 `[n]`."""
        return _codes(self.items, self.frame["item_id"])

    @property
    def label(self) -> np.ndarray:
        """Labels, float32 `[n]`."""
        return self.frame["label"].to_numpy(np.float32)

    def codes(self, users, items) -> tuple[np.ndarray, np.ndarray]:
        """Codes of ids, int32; 0 where an id is unknown."""
        return _codes(self.users, users), _codes(self.items, items)

    def with_frame(self, frame: pd.DataFrame) -> "Interactions":
        """Other rows over the same tables; codes keep their meaning."""
        return replace(self, frame=frame.reset_index(drop=True))

    def binarise(self, threshold: float) -> "Interactions":
        """Labels of 1 at or above `threshold`, else 0."""
        label = (self.frame["label"] >= threshold).astype(np.float32)
        new = self.with_frame(self.frame.assign(label=label))
        return replace(new, scale=(0.0, 1.0))

    def normalise(self, method: str = "minmax") -> "Interactions":
        """Labels on another scale.

        Args:
            method: `"minmax"` maps the scale to 0..1; `"user_mean"`
                subtracts each user's mean; `"z_score"` also divides by the
                user's standard deviation (1 where it is 0). The users table
                keeps `label_mean` and `label_std`, so that labels can be
                mapped back.
        """
        low, high = self.scale
        label = self.frame["label"].astype(np.float64)
        users = self.users
        if method == "minmax":
            label, scale = (label - low) / (high - low), (0.0, 1.0)
        elif method in ("user_mean", "z_score"):
            by_user = label.groupby(self.frame["user_id"])
            mean = by_user.transform("mean")
            users = users.assign(label_mean=by_user.mean())
            label = label - mean
            if method == "z_score":
                std = by_user.std(ddof=0).replace(0.0, 1.0)
                users = users.assign(label_std=std)
                label = label / self.frame["user_id"].map(std)
            scale = (float(label.min()), float(label.max()))
        else:
            raise ValueError(
                "`method` must be 'minmax', 'user_mean' or 'z_score'. "
                f"Received: method={method!r}.")
        new = self.with_frame(
            self.frame.assign(label=label.astype(np.float32)))
        return replace(new, scale=scale, users=users)

    def k_core(self, k: int) -> "Interactions":
        """Drops users and items with fewer than `k` rows until none is left.

        The tables shrink with the rows, so codes change.
        """
        frame = self.frame
        while True:
            counts = [frame[c].map(frame[c].value_counts())
                      for c in ("user_id", "item_id")]
            keep = (counts[0] >= k) & (counts[1] >= k)
            if keep.all():
                break
            frame = frame[keep]
        if not len(frame):
            raise ValueError(f"A {k}-core must keep rows. Received: none of "
                             f"{len(self)}; choose a smaller `k`.")
        report = replace(self.report, rows_kept=len(frame), notes=[
            *self.report.notes, f"{k}-core kept {len(frame):,} of "
            f"{len(self):,} rows"])
        new = self.with_frame(frame)
        return replace(
            new, report=report,
            users=self.users[self.users.index.isin(frame["user_id"])],
            items=self.items[self.items.index.isin(frame["item_id"])])

    def fingerprint(self) -> str:
        """SHA-256 of rows and tables, the same on every machine."""
        digest = hashlib.sha256()
        for table in (self.users, self.items):
            for row in table.reset_index().astype(str).itertuples(
                    index=False):
                digest.update("\x1f".join(row).encode() + b"\x1e")
        for array in (self.user_code, self.item_code, self.label,
                      self.frame["timestamp"].to_numpy(np.int64)):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, users=None, items=None, *,
                   columns: dict | None = None, bad_rows: str = "raise",
                   duplicates: str = "raise", scale=None,
                   binarise: float | None = None,
                   normalise: str | None = None, first_line: int = 1,
                   name: str = "interactions") -> "Interactions":
        """Checks and cleans a table of interactions.

        Args:
            frame: needs `user_id`, `item_id`, `label`; may have
                `timestamp` and `weight`. Other columns are left out.
            users, items: tables with the id as column or index; None makes
                them of the ids that occur.
            columns: new name -> name in the frame, where they differ.
            bad_rows: `"raise"` refuses bad rows, `"drop"` leaves them out
                and counts them in the report.
            duplicates: of a pair: `"raise"`, or keep the `"first"` or
                `"last"` by time, or the `"mean"` label.
            scale: (lowest, highest) label; by default those that occur.
            binarise: a threshold, see `Interactions.binarise`.
            normalise: a method, see `Interactions.normalise`.
            first_line: number of the first row, for reports.

        Raises:
            ValueError: missing columns, no rows, or bad rows, all of them
                named in one message.
        """
        _check_options(bad_rows, duplicates)
        frame = _renamed(frame, columns)
        lines = np.arange(len(frame)) + first_line
        report = CleaningReport(rows_in=len(frame))
        clean, bad = _columns(frame, scale, report, lines)
        users = as_table(users, "user_id", clean["user_id"])
        items = as_table(items, "item_id", clean["item_id"])
        for table, column, kind in ((users, "user_id", "unknown_user"),
                                    (items, "item_id", "unknown_item")):
            unknown = ~clean[column].isin(table.index).to_numpy() & ~bad
            report.add(kind, unknown, lines)
            bad = bad | unknown
        clean, bad = _duplicates(clean, bad, duplicates, report, lines)
        if bad.any() and bad_rows == "raise":
            report.rows_kept = int((~bad).sum())
            raise ValueError(
                f"Interactions must be clean. Received: {report}\nMend the "
                "rows, or load with `bad_rows=\"drop\"` (and `duplicates="
                "\"last\"` for pairs that occur twice).")
        clean = clean[~bad]
        if not len(clean):
            raise ValueError(f"Interactions need at least one good row. "
                             f"Received: {report}")
        report.rows_kept = len(clean)
        if scale is None:
            scale = clean["label"].min(), clean["label"].max()
            if set(clean["label"].unique()) <= {0.0, 1.0}:
                scale = 0.0, 1.0
        new = cls(clean.reset_index(drop=True), users, items,
                  (float(scale[0]), float(scale[1])), report, name)
        if binarise is not None:
            new = new.binarise(binarise)
        return new if normalise is None else new.normalise(normalise)

    @classmethod
    def from_csv(cls, path, users=None, items=None, *, read: dict | None = None,
                 **options) -> "Interactions":
        """Reads up to three CSV files.

        Args:
            path, users, items: files; the tables are optional.
            read: arguments for `pandas.read_csv`, such as `{"sep": ";"}`.
            **options: see `from_frame`.
        """
        columns = options.get("columns") or {}
        frame = _read_csv(path, read, [columns.get(c, c) for c in NEEDED[:2]])
        tables = [p if p is None or isinstance(p, pd.DataFrame)
                  else _read_csv(p, read, [name])
                  for p, name in ((users, "user_id"), (items, "item_id"))]
        options.setdefault("name", Path(path).stem)
        return cls.from_frame(frame, *tables, first_line=2, **options)

    @classmethod
    def from_parquet(cls, path, users=None, items=None,
                     **options) -> "Interactions":
        """Reads up to three Parquet files; see `from_frame`."""
        tables = [p if p is None or isinstance(p, pd.DataFrame)
                  else pd.read_parquet(p) for p in (users, items)]
        options.setdefault("name", Path(path).stem)
        return cls.from_frame(pd.read_parquet(path), *tables, **options)


def _codes(table, ids) -> np.ndarray:
    values = np.asarray(ids, dtype=object)
    return (table.index.get_indexer(values) + 1).astype(np.int32)


def _check_options(bad_rows, duplicates):
    for name, value, known in (
            ("bad_rows", bad_rows, ("raise", "drop")),
            ("duplicates", duplicates, ("raise", "first", "last", "mean"))):
        if value not in known:
            raise ValueError(f"`{name}` must be one of {known}. "
                             f"Received: {name}={value!r}.")


def _read_csv(path, read, ids) -> pd.DataFrame:
    try:
        return pd.read_csv(path, **{
            "dtype": {name: str for name in ids}, **(read or {})})
    except pd.errors.EmptyDataError as error:
        raise ValueError(
            f"A CSV file must have a header line. Received: {path}, which is "
            "empty.") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"CSV files are read as UTF-8. Received: {path}, which is not. "
            "Name its encoding: `read={\"encoding\": \"latin-1\"}`."
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(
            f"Every line of a CSV file must have the header's fields. "
            f"Received: {path}: {error}. Check the separator "
            "(`read={\"sep\": \";\"}`) and the quotes.") from error


def _renamed(frame, columns) -> pd.DataFrame:
    columns = columns or {}
    absent = [old for old in columns.values() if old not in frame]
    frame = frame.rename(columns={old: new for new, old in columns.items()})
    missing = [name for name in NEEDED if name not in frame]
    if absent or missing:
        raise ValueError(
            f"Interactions need the columns {list(NEEDED)}. Received: "
            f"columns={[str(c) for c in frame.columns]}, without "
            f"{absent or missing}. Name them: "
            f"`columns={{\"{(missing or NEEDED)[0]}\": \"...\"}}`; one "
            "column only means another separator (`read={\"sep\": \";\"}`).")
    return frame.reset_index(drop=True)


def _columns(frame, scale, report, lines):
    """The known columns in their types, and which rows are bad."""
    clean = pd.DataFrame({
        name: as_ids(frame[name], name) for name in NEEDED[:2]})
    missing = ((clean["user_id"] == "") | (clean["item_id"] == "")).to_numpy()
    report.add("missing_key", missing, lines)
    label = pd.to_numeric(frame["label"], errors="coerce").to_numpy(
        np.float32, na_value=np.nan)
    low, high = (-np.inf, np.inf) if scale is None else scale
    wrong = ~np.isfinite(label) | (label < low) | (label > high)
    report.add("bad_label", wrong & ~missing, lines)
    clean["label"] = label
    bad = missing | wrong
    times = np.zeros(len(frame))
    if "timestamp" in frame:
        times = as_seconds(frame["timestamp"]).to_numpy()
        late = ~np.isfinite(times)
        report.add("bad_timestamp", late & ~bad, lines)
        bad = bad | late
        times = np.where(late, 0, times)
    clean["timestamp"] = times.astype(np.int64)
    if "weight" in frame:
        weight = pd.to_numeric(frame["weight"], errors="coerce").to_numpy(
            np.float32, na_value=np.nan)
        light = ~(weight >= 0) | ~np.isfinite(weight)
        report.add("bad_weight", light & ~bad, lines)
        clean["weight"], bad = weight, bad | light
    return clean, bad


def _duplicates(clean, bad, duplicates, report, lines):
    """Marks the rows of a pair that are too many."""
    good = clean[~bad]
    keys = ["user_id", "item_id"]
    ordered = good.sort_values("timestamp", kind="stable")
    keep = "last" if duplicates == "last" else "first"
    extra = ordered.duplicated(keys, keep=keep)
    marked = np.zeros(len(clean), bool)
    marked[extra.index[extra]] = True
    if marked.any():
        if duplicates == "mean":
            mean = good.groupby(keys)["label"].transform("mean")
            clean = clean.assign(label=mean.reindex(
                clean.index).fillna(clean["label"]).astype(np.float32))
        report.add("duplicate_pair", marked, lines)
        if duplicates != "raise":
            report.notes.append(f"pairs that occur twice: {duplicates} kept")
            clean, bad = clean[~marked], bad[~marked]
            return clean.reset_index(drop=True), bad
    return clean, bad | marked
