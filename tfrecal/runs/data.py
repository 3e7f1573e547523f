"""From a config to its data, the same for every command; no TensorFlow."""
from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from tfrecal.checks import check_scale, typed
from tfrecal.data import datasets, splits
from tfrecal.data.columns import parse_columns
from tfrecal.data.interactions import Interactions
from tfrecal.data.tables import TableFormat, read_table
from tfrecal.data.times import UNITS


@typed.config
class DataConfig:
    """Which data to read, and how: what all configs with data share.

    Args:
        data: name of a data set, or a file of interactions: CSV, TSV, or
            Parquet by its ending .parquet. Without a column of labels each
            row is a click.
        users, items: files of the tables, where `data` is a file.
        columns: names of columns that differ, such as
            `user=userId,item=movieId,label=rating,time=date`.
        encoding: encoding of text files.
        separator: what stands between cells of text files; `tab` is a tab.
            By default the comma, semicolon or tab that the header has most.
        header: names of the columns of `data`, comma-separated, where its
            first line is a row.
        quotes: `"double"`, or `"none"` takes quotes as letters.
        missing: comma-separated cells that are missing, such as `NA,null`;
            empty ones are.
        text: comma-separated columns of the tables that are texts even if
            all of their cells are numbers.
        time_unit: unit of times that are numbers: `s`, `ms`, `us` or `ns`
            since 1970, `date` (20261129), `year` or `excel`.
        scale: lowest and highest label; by default those that occur.
        bad_rows: what to do with bad rows of these files: `"raise"` refuses
            them, `"drop"` leaves them out and counts them.
        duplicates: what to do with several rows of one pair: `"raise"`, or
            keep the `"first"` or `"last"` by time, the `"mean"` label, or
            the last of the `"highest"` label. By default they are refused;
            of clicks the last is kept, of rows in lists (`list_id`) the
            highest.
    """

    data: str = "ml-100k"
    users: str | None = None
    items: str | None = None
    columns: str | None = None
    encoding: str = "utf-8"
    separator: str | None = None
    header: str | None = None
    quotes: str = "double"
    missing: str | None = None
    text: str | None = None
    time_unit: str | None = None
    scale: tuple[float, float] | None = None
    bad_rows: str = "raise"
    duplicates: str | None = None

    _columns = typed.rule(parse_columns, "columns")
    _quotes = typed.one_of(("double", "none"), "quotes")
    _time_unit = typed.one_of(UNITS, "time_unit")
    _scale = typed.rule(lambda scale: check_scale(scale), "scale")
    _bad_rows = typed.one_of(("raise", "drop"), "bad_rows")
    _duplicates = typed.one_of(
        ("raise", "first", "last", "mean", "highest"), "duplicates")

    @property
    def own_parts(self) -> dict[str, str]:
        """Part of the split -> the file that holds it, beside `data`."""
        return {}

    def given(self) -> dict:
        """Returns the options on the data that differ from the defaults."""
        plain = DataConfig()
        return {field.name: getattr(self, field.name)
                for field in dataclasses.fields(DataConfig)
                if getattr(self, field.name) != getattr(plain, field.name)}

    @property
    def form(self) -> TableFormat:
        """How the text file of interactions is written."""
        # With a name that stands twice, which the reader refuses.
        names = self.header.split(",") if self.header else []
        return dataclasses.replace(
            self.form_of_tables, header=[name.strip() for name in names])

    @property
    def form_of_tables(self) -> TableFormat:
        """How the text files of users and items are written."""
        return TableFormat(
            self.encoding, self.separator, (),
            typed.listed(self.missing or ""), typed.listed(self.text or ""),
            self.quotes == "double")


# What may be said of a named data set, and not of files only.
_OF_ALL = ("data", "bad_rows", "duplicates")


def load_data(config: DataConfig, quiet: bool = False) -> Interactions:
    """Loads the data set or the user's own files.

    Args:
        config: which data to read, and how.
        quiet: whether to say nothing of what was cleaned on stderr.

    Returns:
        All rows; the column `part` tells a run's own parts apart.

    Raises:
        ValueError: the config names neither, or rows are bad.
    """
    known = [data_set.name for data_set in datasets.names()]
    if config.data in known:
        own = [*config.own_parts, *(
            name for name in config.given() if name not in _OF_ALL)]
        if own:
            raise ValueError(
                "A named data set brings its own tables and parts. Received: "
                f"--{own[0].replace('_', '-')} beside --data {config.data}. "
                "Leave it out.")
        return datasets.load(config.data)
    for name, path in {"data": config.data, **config.own_parts}.items():
        if not Path(path).is_file():
            also = f" or one of {known}" if name == "data" else ""
            what = ("which is no file" if Path(path).exists()
                    else "which is missing")
            raise ValueError(
                f"`{name}` must be a CSV or Parquet file{also}. Received: "
                f"{name}={path!r}, {what}. Check the path.")
    data = _read(config, config.data, config.users, config.items)
    if not quiet:
        _say_report(config.data, data)
    if data.scale[0] == data.scale[1]:
        raise ValueError(
            "Labels must differ, or there is nothing to learn. Received: "
            f"{len(data)} rows with label={data.scale[0]:g}. Name their scale "
            "(`--scale 1 5`), or, if they are all positives, make them 1.")
    parts = {}
    for name, path in config.own_parts.items():
        try:
            part = _read(config, path, data.users, data.items, data.scale)
        except ValueError as error:
            raise ValueError(
                f"{error} `--{name} {path}` must have users, items and labels "
                f"of {config.data} or of the tables; `--scale LOW HIGH` names "
                "labels that do not occur there.") from None
        if not quiet:
            _say_report(path, part)
        for other in ({config.data: data, **parts}).items():
            part = _without_pairs_of(part, path, *other, config.bad_rows,
                                     quiet)
        parts[path] = part
    if not parts:
        return data
    return splits.with_parts(data, **dict(zip(
        config.own_parts, parts.values())))


def _read(config, path, users, items, scale=None) -> Interactions:
    tables = [None if one is None else read_table(one, config.form_of_tables)
              for one in (users, items)]
    options = table_options(config)
    return Interactions.from_tables(
        read_table(path, config.form), *tables,
        **{**options, "scale": scale or options["scale"]})


def _say_report(path, data) -> None:
    """Says on stderr what was cleaned, if anything was."""
    if data.report.counts or data.report.notes:
        print(f"{path}: {data.report}", file=sys.stderr)


def table_options(config: DataConfig) -> dict:
    """Returns a config's options of `Interactions.from_tables`."""
    return {"name": Path(config.data).stem,
            "columns": parse_columns(config.columns),
            "text": config.form_of_tables.text,
            "timestamp_unit": config.time_unit, "scale": config.scale,
            "bad_rows": config.bad_rows, "duplicates": config.duplicates}


def _without_pairs_of(part, path, other_path, other, bad_rows, quiet):
    """Returns a held-out part without pairs that stand in another part.

    Raises:
        ValueError: there are some, and bad rows are not to be dropped.
    """
    width = part.item_vocabulary.size
    mine, others = (one.user_code.astype(np.int64) * width + one.item_code
                    for one in (part, other))
    both = np.isin(mine, others)
    if not both.any():
        return part
    first = part.frame.iloc[np.flatnonzero(both)[0]]
    found = (f"{both.sum():,} of {len(part):,} pairs of {path} are in "
             f"{other_path} too, the first is user_id={first['user_id']!r}, "
             f"item_id={first['item_id']!r}")
    if bad_rows == "raise" or both.all():
        cure = ("Bring another file" if both.all() else "Take them out, or "
                "leave them out of the held-out part with `--bad-rows drop`")
        raise ValueError("A pair must be in one part only. Received: "
                         f"{found}. {cure}.")
    if not quiet:
        print(f"left out: {found}", file=sys.stderr)
    return part.take(~both)


def load_split(config, data: Interactions | None = None) -> splits.Split:
    """Splits a run's data into three parts; loads them if not given.

    Parts of the user's own stay as they are. If there is one, the other is
    cut from the training part by the run's split.

    Args:
        config: the `RunConfig`.
        data: its data, if they are loaded already.

    Raises:
        ValueError: the split leaves a part empty.
    """
    data = load_data(config) if data is None else data
    try:
        if "part" not in data.frame:
            return _cut(config, data)
        train, *held_out = splits.parts_of(data)
        for place, part in enumerate(held_out):
            if not len(part):
                train, _, held_out[place] = _cut(config, train, one=True)
    except ValueError as error:
        raise ValueError(
            f"{error} On the command line: choose another `--split`, or "
            "bring `--validation` and `--test` files.") from None
    return splits.Split(train, *held_out)


def _cut(config, data, one=False) -> splits.Split:
    """Cuts data by the config's split; `one` puts only a test part aside."""
    kind, validation = config.split, 0 if one else 1
    if kind == "leave_last_n":
        return splits.leave_last_n(data, validation=validation)
    shares = (0.9, 0.0, 0.1) if one else (0.8, 0.1, 0.1)
    if kind == "temporal":
        return splits.temporal(data, shares)
    if kind == "random":
        return splits.random(data, shares, seed=config.seed)
    return getattr(splits, kind)(
        data, fraction=0.2, validation=validation / 10, seed=config.seed)
