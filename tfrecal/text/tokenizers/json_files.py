"""The small JSON files of a checkpoint, read or refused."""

from __future__ import annotations

import json
from pathlib import Path


def read_options(path: Path) -> dict:
    """What a JSON file holds; nothing where there is none.

    Values of null count as left out.

    Raises:
        ValueError: it cannot be read, or holds no object.
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
