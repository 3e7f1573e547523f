"""Interactions: checked rows, their tables and their codes.

Codes of users and items are those of the `Vocabulary` of each table.
"""
from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data import clean_tables, table_folder
from tfrecal.data.cleaning import CleaningReport
from tfrecal.data.columns import KEYS, NEEDED
from tfrecal.data.label_scaling import LabelScaling
from tfrecal.data.tables import Table, TableFormat, read_parquet, read_table
from tfrecal.data.vocabulary import Vocabulary
from tfrecal.hashes import update_table


@dataclass(frozen=True, eq=False)
class Interactions:
    """Labelled (user, item) pairs with the tables of users and items.

    Use `from_frame`, `from_csv` or `from_parquet`; the constructor checks
    nothing. An `Interactions` is not changed after it was made: every method
    returns a new one.

    Attributes:
        frame: `user_id`, `item_id` (strings), `label` float32, `timestamp`
            seconds since 1970 (0 where unknown), optionally `weight` float32
            and `list_id` (strings): rows of one id were shown together to
            their user, and those of label 0 were not clicked; "" where a
            row was in no list.
        users, items: tables indexed by id, with any columns.
        scale: lowest and highest label; (0.0, 1.0) for binary labels.
        report: what cleaning dropped.
        name: name of the data set.
        truth: true labels `[users, items]` of synthetic data, or None.
        scaling: how labels were normalised, or None.
    """

    frame: pd.DataFrame
    users: pd.DataFrame
    items: pd.DataFrame
    scale: tuple[float, float] = (1.0, 5.0)
    report: CleaningReport = field(default_factory=CleaningReport)
    name: str = "interactions"
    truth: pd.DataFrame | None = None
    scaling: LabelScaling | None = None

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        columns = ", ".join(map(str, self.frame.columns))
        return (f"Interactions({self.name!r}, {len(self):,} rows, "
                f"{len(self.users):,} users, {len(self.items):,} items, "
                f"labels {self.scale[0]:g} to {self.scale[1]:g},\n"
                f"             {columns}; {self._days()})")

    def _days(self) -> str:
        times = self.frame["timestamp"].to_numpy()
        if not times.any():
            return "no times"
        first, last = (str(np.datetime64(int(time), "s"))[:10]
                       for time in (times.min(), times.max()))
        return f"{first} to {last}"

    @functools.cached_property
    def user_vocabulary(self) -> Vocabulary:
        """Vocabulary of the users table; the parts of a split share it."""
        return Vocabulary(self.users.index, "user_id")

    @functools.cached_property
    def item_vocabulary(self) -> Vocabulary:
        """Vocabulary of the items table; the parts of a split share it."""
        return Vocabulary(self.items.index, "item_id")

    @property
    def user_ids(self) -> np.ndarray:
        """Ids of the users table, object `[users]`."""
        return self.user_vocabulary.ids()

    @property
    def item_ids(self) -> np.ndarray:
        """Ids of the items table, object `[items]`."""
        return self.item_vocabulary.ids()

    @functools.cached_property
    def user_code(self) -> np.ndarray:
        """Code of each row's user, int32 `[n]`."""
        return self.user_vocabulary.codes(self.frame["user_id"])

    @functools.cached_property
    def item_code(self) -> np.ndarray:
        """Code of each row's item, int32 `[n]`."""
        return self.item_vocabulary.codes(self.frame["item_id"])

    @functools.cached_property
    def list_code(self) -> np.ndarray | None:
        """Number of each row's list from 1, int32 `[n]`; 0 for none.

        Lists are numbered as they come. None where rows have no `list_id`.
        """
        if "list_id" not in self.frame:
            return None
        lists = self.frame["list_id"]
        return (pd.factorize(lists.where(lists != ""))[0] + 1).astype(
            np.int32)

    @property
    def label(self) -> np.ndarray:
        """Labels, float32 `[n]`."""
        return self.frame["label"].to_numpy(np.float32)

    def codes(self, users, items) -> tuple[np.ndarray, np.ndarray]:
        """Returns codes of ids, int32; 0 where an id is unknown or missing.

        Args:
            users, items: ids, see `Vocabulary.codes`.
        """
        return (self.user_vocabulary.codes(users),
                self.item_vocabulary.codes(items))

    def _changed(self, **changes) -> "Interactions":
        """Returns a copy with changed fields; kept tables keep their codes."""
        new = replace(self, **changes)
        if new.users is self.users and new.items is self.items:
            new._knowing(user_vocabulary=self.user_vocabulary,
                         item_vocabulary=self.item_vocabulary)
        return new

    def with_frame(self, frame: pd.DataFrame) -> "Interactions":
        """Returns other rows over the same tables; codes keep their meaning.

        Args:
            frame: rows with the columns of `self.frame`.

        Raises:
            ValueError: a column is missing, or an id is in no table.
        """
        missing = [c for c in (*NEEDED, "timestamp") if c not in frame]
        if missing:
            raise ValueError(
                "`frame` must have the columns of interactions. Received: "
                f"{list(frame.columns)}, without {missing}. Use "
                "`from_frame` for raw tables.")
        frame = frame.reset_index(drop=True)
        if "list_id" in frame:
            frame["list_id"] = frame["list_id"].fillna("").astype(object)
        known = {}
        for name, vocabulary in zip(NEEDED, (
                self.user_vocabulary, self.item_vocabulary)):
            codes = vocabulary.codes(frame[name])
            if not codes.all():
                odd = frame[name][codes == 0].iloc[0]
                raise ValueError(
                    f"Every `{name}` must be in the {name[:-3]}s table. "
                    f"Received: {odd!r}. Use `from_frame`, which reports or "
                    "drops such rows.")
            known[f"{name[:-3]}_code"] = codes
            frame = frame.assign(**{name: pd.Series(
                vocabulary.ids(codes), dtype=object)})
        return self._changed(frame=frame)._knowing(**known)

    def take(self, rows) -> "Interactions":
        """Returns some of the rows, over the same tables.

        Args:
            rows: positions (int `[m]`) or a mask (bool `[n]`).
        """
        rows = np.arange(len(self))[rows if len(rows) else slice(0)]
        frame = self.frame.iloc[rows].reset_index(drop=True)
        return self._changed(frame=frame)._knowing(
            user_code=self.user_code[rows], item_code=self.item_code[rows])

    def _knowing(self, **known) -> "Interactions":
        """Sets properties that are known, because looking ids up is slow."""
        self.__dict__.update(known)
        return self

    def binarise(self, threshold: float) -> "Interactions":
        """Returns labels of 1 at or above a threshold, and 0 below.

        Args:
            threshold: lowest label that becomes 1.

        Raises:
            ValueError: the threshold leaves one class only.
        """
        low, high = self.scale
        if not low < threshold <= high:
            raise ValueError(
                "`threshold` must lie on the scale and above its lowest "
                f"label. Received: threshold={threshold!r}, scale={low:g} to "
                f"{high:g}.")
        label = (self.label >= threshold).astype(np.float32)
        truth = self.truth
        if truth is not None:
            truth = (truth >= threshold).astype(np.float32)
        return self._changed(frame=self.frame.assign(label=label),
                             scale=(0.0, 1.0), truth=truth, scaling=None)

    def normalise(self, method: str | LabelScaling) -> "Interactions":
        """Returns labels on another scale; `scaling` can invert it.

        Args:
            method: `"minmax"`, `"user_mean"` or `"z_score"` (see
                `LabelScaling`), or the `scaling` of the rows that train,
                for the other parts of a split.

        Raises:
            ValueError: the method is unknown, or labels are normalised
                already.
        """
        if self.scaling is not None:
            raise ValueError(
                "Labels can be normalised once. Received: labels after "
                f"method={self.scaling.method!r}. Normalise the data as "
                "loaded.")
        scaling = method if isinstance(
            method, LabelScaling) else LabelScaling.fit(
                method, self.frame["user_id"], self.frame["label"],
                self.scale)
        truth = self.truth
        if truth is not None:
            offset, factor = scaling.offset_and_factor(truth.index)
            truth = truth.sub(offset, axis=0).div(factor, axis=0)
        label = scaling.apply(self.frame["user_id"], self.label)
        return self._changed(
            frame=self.frame.assign(label=label), scale=scaling.new_scale,
            truth=truth, scaling=scaling)

    def k_core(self, n: int) -> "Interactions":
        """Drops users and items with fewer than `n` rows until none is left.

        The tables shrink with the rows, so codes change. The report says
        how many rows, users and items are kept, after how many passes.

        Args:
            n: least number of rows of each user and item.

        Raises:
            TypeError: `n` is no whole number.
            ValueError: `n` is below 1, or no row is left.
        """
        rows, passes = clean_tables.k_core_rows(
            self.user_code, self.item_code, n)
        users = self.users.iloc[np.unique(self.user_code[rows]) - 1]
        items = self.items.iloc[np.unique(self.item_code[rows]) - 1]
        note = (f"{n}-core: {len(rows):,} of {len(self):,} rows, "
                f"{len(users):,} of {len(self.users):,} users, "
                f"{len(items):,} of {len(self.items):,} items kept "
                f"({passes} passes)")
        report = replace(self.report, rows_kept=len(rows),
                         notes=[*self.report.notes, note])
        return self._changed(
            frame=self.frame.iloc[rows].reset_index(drop=True),
            users=users, items=items, report=report,
            truth=None if self.truth is None
            else self.truth.loc[users.index, items.index])

    def fingerprint(self) -> str:
        """Returns a SHA-256 of rows, tables and scale, alike everywhere."""
        digest = hashlib.sha256(np.array(self.scale, "<f8").tobytes())
        for table in (self.users, self.items):
            update_table(digest, table)
        for codes in (self.user_code, self.item_code):
            digest.update(codes.astype("<i4").tobytes())
        whole = (self.frame["timestamp"] % 1 == 0).all()
        for name, kind in (("label", "<f4"),
                           ("timestamp", "<i8" if whole else "<f8"),
                           ("weight", "<f4"), ("part", "<i1")):
            if name in self.frame:
                digest.update(self.frame[name].to_numpy(kind).tobytes())
        if self.list_code is not None:
            digest.update(self.list_code.astype("<i4").tobytes())
        return digest.hexdigest()

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, users=None, items=None, *,
                   name: str = "interactions", **options) -> "Interactions":
        """Checks and cleans a table of interactions.

        Args:
            frame: needs `user_id` and `item_id`; may have `label`, without
                which each row is a click of label 1, `timestamp`, `weight`
                and `list_id`. Other columns are left out. Ids are strings or
                whole numbers and become strings.
            users, items: tables with the id as column or index; None makes
                them of the ids that occur.
            name: name of the data set.
            **options: `columns`, `bad_rows`, `duplicates`, `scale`,
                `binarise`, `normalise`, `timestamp_unit` and `text`, see
                `from_tables`.

        Raises:
            ValueError: columns are missing, there are no rows, or rows are
                bad; one message names them all.
        """
        return cls.from_tables(*(
            None if one is None else Table.of(one)
            for one in (frame, users, items)), name=name, **options)

    @classmethod
    def from_tables(cls, rows: Table, users: Table | None = None,
                    items: Table | None = None, *,
                    columns: dict | None = None, bad_rows: str = "raise",
                    duplicates: str | None = None, scale=None,
                    binarise: float | None = None,
                    normalise: str | None = None,
                    timestamp_unit: str | None = None, text=(),
                    name: str = "interactions") -> "Interactions":
        """Checks and cleans tables that `read_table` has read.

        Args:
            rows, users, items: see `from_frame`.
            columns: name in tfrecal -> name in the tables, where they
                differ, as in `{"user": "userId"}`; the names are user, item,
                label, time, weight and list.
            bad_rows: `"raise"` refuses bad rows, `"drop"` leaves them out
                and counts them in the report.
            duplicates: what happens to rows of one pair: `"raise"` refuses
                them; `"first"` and `"last"` keep one by time, `"mean"` the
                last with the mean label, `"highest"` the last of those with
                the highest label. None refuses them, or keeps the last of
                clicks, which often come again, or, where rows have a
                `list_id`, the highest: a click wins over a show, and the
                pair is in one list only.
            scale: (lowest, highest) label; by default those that occur.
            binarise: a threshold, see `Interactions.binarise`.
            normalise: a method, see `Interactions.normalise`.
            timestamp_unit: unit of times that are numbers, see
                `tfrecal.data.times.as_seconds`. Texts are ISO 8601.
            text: columns of users and items that are texts even if all of
                their cells are numbers.
            name: name of the data set.

        Raises:
            ValueError: see `from_frame`.
        """
        fields, known = clean_tables.clean_tables(
            rows, users, items, columns=columns, bad_rows=bad_rows,
            duplicates=duplicates, scale=scale,
            timestamp_unit=timestamp_unit, text=text)
        new = cls(*fields, name=name)._knowing(**known)
        if binarise is not None:
            new = new.binarise(binarise)
        return new if normalise is None else new.normalise(normalise)

    @classmethod
    def from_csv(cls, path, users=None, items=None, *,
                 encoding: str = "utf-8", separator: str | None = None,
                 header=(), missing=(), text=(), quotes: bool = True,
                 **options) -> "Interactions":
        """Reads up to three files: CSV, TSV or, by the ending, Parquet.

        Args:
            path: path of the file of interactions.
            users, items: paths of files, DataFrames, or None.
            encoding, separator, missing, text, quotes: how the text files
                are written, see `tfrecal.data.tables.TableFormat`.
            header: names of the columns of the first file, if it begins with
                a row.
            **options: see `from_tables`; reports count lines of the files.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: see `from_frame`; or a file is no such table.

        Example:
            Interactions.from_csv("ratings.csv", items="items.csv",
                                  separator=";", missing=["NA"])
        """
        form = TableFormat(encoding, separator, (), missing, text, quotes)
        tables = [None if one is None else read_table(one, form)
                  for one in (users, items)]
        options.setdefault("name", Path(str(path)).stem)
        return cls.from_tables(read_table(path, replace(form, header=header)),
                               *tables, text=text, **options)

    @classmethod
    def from_parquet(cls, path, users=None, items=None,
                     **options) -> "Interactions":
        """Reads up to three files; that of interactions is Parquet.

        Args:
            path, users, items, **options: see `from_csv`.

        Raises:
            ValueError: see `from_csv`.
        """
        rows = replace(Table.of(read_parquet(path)), path=Path(str(path)))
        tables = [None if one is None else read_table(one)
                  for one in (users, items)]
        options.setdefault("name", Path(str(path)).stem)
        return cls.from_tables(rows, *tables, **options)

    def to_parquet(self, folder, overwrite: bool = False) -> None:
        """Writes a folder that `load` reads, all of it or nothing.

        Args:
            folder: path of the folder.
            overwrite: True replaces a folder that `to_parquet` wrote.

        Raises:
            FileExistsError: the folder exists and may not be replaced.
        """
        tables = {"interactions": self.frame, "users": self.users,
                  "items": self.items}
        meta = {"format": 1, "name": self.name, "scale": list(self.scale),
                "report": self.report.to_dict(), "scaling": None}
        if self.truth is not None:
            tables["truth"] = self.truth
        if self.scaling is not None:
            tables["scaling"] = self.scaling.users
            meta["scaling"] = self.scaling.to_dict()
        table_folder.write_folder(folder, tables, meta, overwrite)

    @classmethod
    def load(cls, folder) -> "Interactions":
        """Reads what `to_parquet` wrote.

        Args:
            folder: path of the folder.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: a file is damaged.
        """
        tables, meta = table_folder.read_folder(folder)
        frame = tables["interactions"]
        frame = frame.astype({key: object for key in (*KEYS, "list_id")
                              if key in frame})
        scaling = LabelScaling.from_dict(meta["scaling"],
                                         tables.get("scaling"))
        return cls(frame, tables["users"], tables["items"],
                   tuple(meta["scale"]), CleaningReport(**meta["report"]),
                   meta["name"], tables.get("truth"), scaling)
