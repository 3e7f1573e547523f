"""Makes safetensors files of a checkpoint readable for TF-Transformers."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

from safetensors import safe_open

INDEX = "model.safetensors.index.json"
_FLOATS = ("F16", "BF16", "F32", "F64")


@contextlib.contextmanager
def readable(
    folder: Path, name: str, landmark: str, prefix: str
) -> Iterator[Path]:
    """Gives a folder with the weights under names that TF-Transformers knows.

    Usually that is the folder itself. It is a temporary folder with copies
    where all names begin with something else (`0.auto_model.` and the like),
    or where the files do not say that they have PyTorch's layout.

    Args:
        folder: the checkpoint's folder.
        name: the name of its file, or of the index of its files.
        landmark: name of a weight that each checkpoint of this kind has.
        prefix: what the names usually begin with.

    Raises:
        ValueError: the index is wrong, weights are not floats, or the
            checkpoint holds two encoders.
        OSError, SafetensorError: a file is missing or cut off.
    """
    paths = _paths(Path(folder), name)
    names, formats = [], set()
    for path in paths:
        with safe_open(path, "np") as file:
            formats.add((file.metadata() or {}).get("format"))
            for key in file.keys():
                kind = file.get_slice(key).get_dtype()
                if key.endswith(".weight") and kind not in _FLOATS:
                    raise ValueError(
                        "Weights must be float numbers. Received: "
                        f"{key} of type {kind}. Give a checkpoint that is "
                        "not quantised.")
                names.append(key)
    own = _prefix(names, landmark, prefix)
    plain = formats & {"tf", "mlx", "flax"} or None not in formats
    if plain and own in ("", prefix):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="tfrecal-") as beside:
        for path in paths:
            _copy(path, Path(beside) / path.name, own)
        if name == INDEX:
            index = json.loads((Path(folder) / INDEX).read_text("utf-8"))
            index["weight_map"] = {
                _renamed(key, own): file
                for key, file in index["weight_map"].items()}
            (Path(beside) / INDEX).write_text(json.dumps(index), "utf-8")
        yield Path(beside)


def _paths(folder, name) -> list[Path]:
    """Returns the files of weights, each once."""
    if name != INDEX:
        return [folder / name]
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    places = index.get("weight_map") if isinstance(index, dict) else None
    files = list(places.values()) if isinstance(places, dict) else []
    if not files or not all(isinstance(file, str) and Path(file).name == file
                            for file in files):
        raise ValueError(
            f"`{INDEX}` must map each weight to a file beside it. Received: "
            f"{str(places):.60}.")
    return [folder / file for file in sorted(set(files))]


def _prefix(names, landmark, usual) -> str:
    """Returns what the names of the encoder's weights begin with."""
    found = sorted({name.removesuffix(landmark) for name in names
                    if name == landmark or name.endswith("." + landmark)})
    for expected in (usual, ""):
        if expected in found:
            return expected
    if len(found) > 1:
        raise ValueError(
            "A checkpoint must hold one encoder. Received: several, whose "
            f"names begin with {', '.join(found)}. Save the one that is "
            "meant by itself.")
    return found[0] if found else ""


def _renamed(name, prefix) -> str:
    return name[len(prefix):] if name.startswith(prefix) else f"other.{name}"


def _copy(source, target, prefix) -> None:
    """Copies a file with other names and the note of PyTorch's layout.

    See https://huggingface.co/docs/safetensors (eight bytes, JSON, the data).
    """
    with open(source, "rb") as file, open(target, "wb") as beside:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        header = {_renamed(key, prefix): where
                  for key, where in header.items()}
        header["__metadata__"] = {"format": "pt"}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        beside.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(file, beside)
