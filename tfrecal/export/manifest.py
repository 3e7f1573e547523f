"""The manifest of an exported version says what the version is made of."""
from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

MANIFEST = "tfrecal.json"
_STACK = ("tensorflow", "tf-keras", "tensorflow-text",
          "tensorflow-recommenders", "transformers", "scann", "numpy")


def read_manifest(version_folder) -> dict:
    """Reads the manifest of an exported version."""
    path = Path(version_folder) / "assets.extra" / MANIFEST
    return json.loads(path.read_text(encoding="utf-8"))


def stack() -> dict:
    found = {}
    for name in _STACK:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found
