"""The manifest of an exported version, and whether the version is whole."""
from __future__ import annotations

from pathlib import Path

from tfrecal.files import check_file, damaged, read_sealed

EXTRA, MANIFEST = "assets.extra", "tfrecal.json"
WARM_UP = "tf_serving_warmup_requests"
_SMALL = ("saved_model.pb", "variables/variables.index")
_CURE = ("Bring the version back from a copy, go back to another (`tfrecal "
         "rollback`), or export the run anew (`tfrecal export`).")


def check_whole(folder, content: bool = True, needed: bool = False) -> dict:
    """Checks the manifest of an exported version and the files it names.

    Versions of other programs have none, those of earlier versions of tfrecal
    one without sums.

    Args:
        folder: the version's folder.
        content: whether all files are read; otherwise the sizes of large
            ones count alone.
        needed: whether the version must have a manifest.

    Returns:
        The manifest; empty where there is none.

    Raises:
        ValueError: a file is missing or damaged.
    """
    folder = Path(folder)
    path = folder / EXTRA / MANIFEST
    if not needed and not path.exists():
        return {}
    must = "The manifest of a version must be as it was exported"
    found = read_sealed(path, must, _CURE)
    metrics, files = found.get("metrics"), found.get("files", {})
    whole = (isinstance(found.get("made"), str)
             and isinstance(found.get("run", ""), str)
             and isinstance(metrics, dict) and isinstance(files, dict)
             and all(isinstance(value, (int, float))
                     for value in metrics.values())
             and _is_scale(found.get("scale", [0, 1])))
    if not whole:
        raise damaged(path, must, "which holds other than a manifest", _CURE)
    for name, sums in files.items():
        check_file(folder, name, {name: [sums]}, _CURE,
                   content or name in _SMALL)
    if not (folder / "saved_model.pb").is_file():
        raise damaged(folder / "saved_model.pb", "A version must hold a "
                      "SavedModel", "which is missing", _CURE)
    return found


def _is_scale(value) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(
        isinstance(end, (int, float)) for end in value)
