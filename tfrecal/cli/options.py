"""Makes the options of a command from the fields of a config."""
from __future__ import annotations

import dataclasses
import re


def field_arguments(command, kind, leave_out=()) -> None:
    """Adds an option for each field of a config."""
    shown = _documented(kind)
    for field in _fields(kind, leave_out):
        if field.type == "bool":
            name = field.name.replace("_", "-")
            command.add_argument(
                f"--no-{name}" if field.default else f"--{name}",
                dest=field.name, action="store_const",
                const=not field.default,
                help=shown[field.name].replace("%", "%%"))
            continue
        of = field.type.removesuffix(" | None")
        if of == "tuple[float, float]":
            command.add_argument(
                "--" + field.name.replace("_", "-"), nargs=2,
                type=_read_as(float), metavar=("LOW", "HIGH"),
                help=shown[field.name].replace("%", "%%"))
            continue
        command.add_argument(
            "--" + field.name.replace("_", "-"), dest=field.name,
            type={"int": _read_as(int), "float": _read_as(float)}.get(
                of, str),
            metavar=of.upper().replace("STR", "NAME"),
            help=(shown[field.name] + (
                "" if field.default is None
                else f" (default: {field.default})")).replace("%", "%%"))


def _read_as(kind):
    """Returns a reader of numbers; the config refuses what is none.

    So one message names all wrong options.
    """
    def read(text: str):
        try:
            return kind(text)
        except ValueError:
            return text

    return read


def _documented(kind) -> dict[str, str]:
    """Reads name -> text of the arguments in docstrings of a class.

    Those of the classes that it is built on count too.
    """
    text = "".join(
        (one.__doc__ or "").partition("Args:\n")[2].rstrip() + "\n"
        for one in reversed(kind.__mro__) if dataclasses.is_dataclass(one))
    found = {}
    for part in re.split(r"\n {4,8}(?=\w[\w, ]*: )", "\n" + text):
        names, _, shown = part.strip().partition(": ")
        for name in names.split(", "):
            found[name] = " ".join(shown.split()).rstrip(".")
    return found


def given_fields(arguments, kind, leave_out=()) -> dict:
    """Returns the fields of a config that were given as options."""
    return {f.name: getattr(arguments, f.name)
            for f in _fields(kind, leave_out)
            if getattr(arguments, f.name) is not None}


def _fields(kind, leave_out) -> list:
    return [field for field in dataclasses.fields(kind)
            if field.name not in leave_out]
