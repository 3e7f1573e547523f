"""Reads the small JSON files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path


def read_options(path: Path) -> dict:
    """Reads a JSON object; returns an empty dict where there is no file.

    Values of null count as left out.

    Raises:
        ValueError: the file cannot be read, or holds no object.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(options, dict):
            raise ValueError(f"no object but {str(options):.40}")
    except ValueError as error:
        raise ValueError(
            f"`{path.name}` must be a JSON object. Received: {path}: "
            f"{error}. Fetch it again."
        ) from error
    return {name: value for name, value in options.items()
            if value is not None}
