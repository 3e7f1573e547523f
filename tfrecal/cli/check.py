"""`tfrecal check`: what is understood of files, without TensorFlow."""
from __future__ import annotations

import dataclasses
import shlex
import sys

import numpy as np

from tfrecal import checks
from tfrecal.cli.options import field_arguments, given_fields
from tfrecal.data import overview
from tfrecal.data.clean_tables import named_table
from tfrecal.data.cleaning import CleaningReport, as_table
from tfrecal.data.columns import KEYS, column_names, parse_columns, spelled
from tfrecal.data.interactions import Interactions
from tfrecal.data.tables import Table, read_table
from tfrecal.data.templates import Template, default_template
from tfrecal.runs.data import DataConfig, table_options
from tfrecal.text.options import ENCODER, MAX_LENGTH

_SAMPLE = 20_000  # texts whose tokens are counted


def check_arguments(command) -> None:
    """Adds the options of `tfrecal check`."""
    command.add_argument(
        "files", nargs="+", metavar="FILE", help="of interactions, and of "
        "users and items: CSV, TSV or Parquet; the columns say which is "
        "which")
    command.add_argument(
        "--encoder", default=ENCODER, metavar="NAME", help="whose "
        f"tokens are counted, or none (default: {ENCODER})")
    command.add_argument(
        "--max-length", type=int, default=MAX_LENGTH, metavar="INT",
        help=f"tokens of a text that are read (default: "
        f"{MAX_LENGTH})")
    field_arguments(command, DataConfig, leave_out=("data",))


def check(arguments) -> int:
    """Tell what is understood of files, before anything is trained."""
    checks.whole(2, max_length=arguments.max_length)
    config = DataConfig(**given_fields(
        arguments, DataConfig, leave_out=("data",)))
    rows, users, items = _tables(arguments.files, config)
    if rows is None:
        return _check_tables(users, items, config, arguments)
    config = dataclasses.replace(
        config, data=str(rows.path), **{
            name: str(table.path) for name, table in (
                ("users", users), ("items", items)) if table is not None})
    names = column_names(parse_columns(config.columns))
    labels, lists = (names.get(name, name) in rows.frame
                     for name in ("label", "list_id"))
    refused = config.duplicates == "raise" or (
        config.duplicates is None and labels and not lists)
    data = Interactions.from_tables(rows, users, items, **{
        **table_options(config), "bad_rows": "drop",
        **({"duplicates": "last"} if refused else {})})
    _say(str(rows.path), overview.rows_in_words(data))
    for kind, table, frame, used in (
            ("users", users, data.users, data.user_code),
            ("items", items, data.items, data.item_code)):
        if table is not None:
            _say(str(table.path), overview.table_in_words(frame, kind, used))
    if items is not None and arguments.encoder != "none":
        _say("texts of items", _texts_in_words(
            data.items, arguments.encoder, arguments.max_length))
    _say("cleaning", str(data.report).splitlines())
    needed = _needed(data.report, config, refused)
    alike = data.scale[0] == data.scale[1]  # then `run` asks for the scale
    _say("go on with", _commands(
        config, data, [*needed, *["--scale LOW HIGH"] * alike], arguments))
    if needed:
        print("tfrecal: these files are refused as they are. Mend the rows, "
              f"or pass `{' '.join(needed)}`.", file=sys.stderr)
    return 2 if needed else 0


def _say(title: str, lines: list[str]) -> None:
    print(title)
    for line in lines:
        print(f"  {line}")


def _tables(files, config) -> list[Table | None]:
    """Reads files: `[rows, users, items]`.

    Raises:
        ValueError: two files are the same table.
    """
    found: dict[str, Table] = {
        name: read_table(path, config.form_of_tables)
        for name, path in (("users", config.users), ("items", config.items))
        if path}
    names = column_names(parse_columns(config.columns))
    for number, path in enumerate(files):
        table = read_table(path, config.form if number == 0
                           else config.form_of_tables)
        there = {str(name) for name in (*table.frame.columns,
                                        table.frame.index.name)}
        user, item = (bool({key, names.get(key, key)} & there)
                      for key in KEYS)
        role = "users" if user and not item else (
            "items" if item and not user else "rows")
        other = {"users": "item_id", "items": "user_id"}.get(role)
        if number == 0 and other and spelled(table.frame, other):
            role = "rows"  # with another name of a key, which is suggested
        if role in found:
            raise ValueError(
                f"Each file must be another table. Received: {path}, which "
                f"looks like {role}, as {found[role].path} does. Check one "
                "log at a time; `--users` and `--items` name the tables.")
        found[role] = table
    return [found.get(role) for role in ("rows", "users", "items")]


def _check_tables(users, items, config, arguments) -> int:
    """Checks tables that come without rows."""
    report = CleaningReport()
    for key, table in zip(KEYS, (users, items)):
        if table is None:
            continue
        kind = f"{key[:-3]}s"
        frame = as_table(named_table(table, key, parse_columns(
            config.columns)), key, (), report, config.form.text)
        report.rows_in += len(table.lines) + len(table.faults)
        report.rows_kept += len(frame)
        _say(str(table.path), overview.table_in_words(frame, kind))
        if kind == "items" and arguments.encoder != "none":
            _say("texts of items", _texts_in_words(
                frame, arguments.encoder, arguments.max_length))
    _say("cleaning", str(report).splitlines())
    files = " ".join(f"--{kind} {shlex.quote(str(table.path))}"
                     for kind, table in (("users", users), ("items", items))
                     if table is not None)
    _say("go on with", [f"tfrecal check RATINGS {files}    # with the "
                        "interactions"])
    if not report.counts or config.bad_rows != "raise":
        return 0
    print("tfrecal: these tables are refused as they are. Received: "
          f"{sum(report.counts.values()):,} bad rows. Mend the rows, or pass "
          "`--bad-rows drop`.", file=sys.stderr)
    return 2


def _texts_in_words(items, encoder: str, max_length: int) -> list[str]:
    template = _template(items)
    if template is None:
        return ["no column of texts" + (
            ": `run` needs `--encoder none`" if len(items.columns) else "")]
    texts = template(items)
    there = [text for text in texts if text]
    lines = [f"{template.pattern}",
             f"{len(there):,} of {len(texts):,} items have a text"]
    if not there:
        return lines
    # Importing the tokenizers takes longer than reading most files.
    from tfrecal.text.lengths import longest_text, token_counts
    step = -(-len(there) // _SAMPLE)
    sample = there[::step]
    try:
        most = longest_text(encoder, max_length)
        counts = token_counts(sample, encoder)
    except (ValueError, OSError) as error:
        return [*lines, f"tokens are not counted: {error}"]
    longer = int((counts > most).sum())
    return [*lines, f"tokens of {encoder}: median {np.median(counts):g}, "
            f"largest {counts.max():,}; {longer:,} of {len(sample):,} texts "
            f"pass the {most} that are read" + (
                " (`--max-length`)" if longer else "")]


def _template(items) -> Template | None:
    try:
        return default_template(items)
    except ValueError:  # no column of texts
        return None


def _needed(report, config: DataConfig, refused: bool) -> list[str]:
    """Returns the options without which `run` refuses these files.

    Args:
        report: what cleaning found.
        config: the options that are given.
        refused: whether several rows of one pair are refused.
    """
    counts = dict(report.counts)
    twice = counts.pop("duplicate_pair", 0) and refused
    return (["--bad-rows drop"] * bool(counts and config.bad_rows == "raise")
            + ["--duplicates last"] * bool(twice))


def _commands(config: DataConfig, data: Interactions,
              needed: list[str], arguments) -> list[str]:
    words = []
    for name, value in config.given().items():
        values = value if isinstance(value, tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    encoder = arguments.encoder
    if len(data.items.columns) and _template(data.items) is None:
        encoder = "none"
    if encoder != ENCODER:
        words += ["--encoder", encoder]
    given = " ".join([shlex.join(words), *needed])
    longer = "" if arguments.max_length == MAX_LENGTH else (
        f" --max-length {arguments.max_length}")
    if overview.is_clicks(data):
        return [f"tfrecal run {given}{longer}",
                f"tfrecal run {given}{longer} --oracle people    # then: "
                "tfrecal acquire, which asks people"]
    return [f"tfrecal run {given}{longer}",
            f"tfrecal compare {given} -o comparison    # do strategies save "
            "labels here?"]
