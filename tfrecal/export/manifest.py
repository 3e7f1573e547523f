"""The manifest of an exported version says what the version is made of."""
from __future__ import annotations

import importlib.metadata
from pathlib import Path

from tfrecal.files import sums_of, write_sealed
from tfrecal.serving.manifest import EXTRA, MANIFEST, WARM_UP, check_whole

_STACK = ("tensorflow", "tf-keras", "tensorflow-text",
          "tensorflow-recommenders", "transformers", "scann", "numpy")


def write_manifest(version_folder, content: dict) -> None:
    """Writes the manifest of a version, with the sums of its files.

    The requests that warm a server up are left out: they may be changed.

    Args:
        version_folder: the folder, with all other files in it.
        content: name -> value, for JSON.
    """
    folder = Path(version_folder)
    names = [path.relative_to(folder).as_posix()
             for path in sorted(folder.rglob("*"))
             if path.is_file() and path.name != WARM_UP]
    files = {name: sums[0] for name, sums in sums_of(folder, names).items()}
    write_sealed(folder / EXTRA / MANIFEST, {**content, "files": files},
                 private=False, indent=1)


def read_manifest(version_folder) -> dict:
    """Reads the manifest of an exported version, and looks for its files.

    Their sizes are compared; a server that loads them compares their
    checksums (`serving.manifest`).

    Raises:
        ValueError: the manifest or a file is missing or damaged.
    """
    return check_whole(version_folder, content=False, needed=True)


def stack() -> dict:
    found = {}
    for name in _STACK:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found
