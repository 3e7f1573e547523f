"""Reads the small JSON files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

_KINDS = {bool: "true or false", int: "a whole number", str: "a text",
          dict: "an object"}


def refuse(path: Path, must: str, received: str) -> ValueError:
    """Returns the error for a file that is not followed."""
    return ValueError(
        f"`{path.name}` {must}. Received: {received} in {path}. Fetch it "
        "again, or choose another checkpoint, such as \"minilm\".")


def read_json(path: Path):
    """Reads a JSON file.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"`{path.name}` must be a JSON file. Received: {path}: "
            f"{' '.join(str(error).split())}. Fetch it again."
        ) from error


def read_options(path: Path) -> dict:
    """Reads a JSON object; returns an empty dict where there is no file.

    Values of null count as left out.

    Raises:
        ValueError: the file cannot be read, or holds no object.
    """
    path = Path(path)
    if not path.exists():
        return {}
    options = read_json(path)
    if not isinstance(options, dict):
        raise ValueError(
            f"`{path.name}` must be a JSON object. Received: {path}: no "
            f"object but {str(options):.40}. Fetch it again."
        )
    return {name: value for name, value in options.items()
            if value is not None}


def option(options: dict, name: str, kind: type, default, path: Path):
    """Returns an option, or `default` where it is left out.

    Args:
        options: what `read_options` returned.
        name: name of the option.
        kind: its type.
        default: is returned where there is none.
        path: the file, for the error.

    Raises:
        ValueError: it is of another type.
    """
    value = options.get(name, default)
    if value is not default and type(value) is not kind:
        raise ValueError(
            f"`{name}` must be {_KINDS[kind]}. Received: {name}="
            f"{value!r:.60} in {path}. Fetch it again.")
    return value
