"""Computes hidden states below the trained layers once; keeps them on disk.

There is one folder for each set of weights that the states depend on, and in
it one segment for each catalogue. `NAME.f32` holds the states of all tokens
in a row and is mapped into memory. `NAME.json` holds the keys of the texts
and the hash of the first file. Both are written beside and renamed, the JSON
file last, so that a segment that can be seen is whole. A segment that was cut
off or altered is removed and made again. All segments together are bounded:
those used longest ago make room.
"""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import NamedTuple, Sequence

import numpy as np

from tfrecal.data.assets import cache_folder
from tfrecal.data.downloads import sha256
from tfrecal.files import replace_file, write_bytes
from tfrecal.text import encode_many
from tfrecal.text.vector_cache import text_key

# The bytes that all segments together may take on disk.
ON_DISK = 8 << 30
# States of at most so many bytes are read into memory; rows of larger ones are
# gathered from disk.
IN_MEMORY = 1 << 30


class States(NamedTuple):
    """The hidden states of many texts.

    Attributes:
        values: `[tokens, hidden]` float32, an array or mapped from disk.
        starts, lengths: `[texts]`, where each text's tokens lie in `values`.
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray


def states_of(encoder, texts: Sequence[str]) -> States | None:
    """Returns hidden states of texts below the lowest trained layer.

    Args:
        encoder: a `TextEncoder` with a layer that is not trained.
        texts: distinct strings.

    Returns:
        The states, or None where there is no room for them: they must then
        be computed again in each step.
    """
    keys = [text_key(text).hex() for text in texts]
    folder = (Path(cache_folder()) / "states"
              / encoder.fingerprint_below()[:32])
    found = _read_states(folder, keys, encoder.hidden)
    if found is None:
        found = _compute_states(encoder, texts, folder, keys)
    elif found.values.nbytes <= IN_MEMORY:
        found = found._replace(values=np.array(found.values))
    return found


def _compute_states(encoder, texts, folder, keys) -> States | None:
    ids, lengths = encode_many.tokenize(encoder, texts)
    size = 4 * encoder.hidden * len(ids)
    if size > ON_DISK:
        return None
    found, held = encode_many.states(encoder, ids, lengths), None
    if size <= IN_MEMORY:
        values = np.concatenate([np.zeros([0, encoder.hidden], "<f4"), *found])
        held = States(values, np.cumsum(lengths) - lengths, lengths)
        found = [values]
    try:
        _write(folder, keys, found, lengths, size)
    except OSError:  # a full or read-only disk costs the cache only
        return held
    return held or _read_states(folder, keys, encoder.hidden)


def _read_states(folder: Path, keys, dim: int) -> States | None:
    """Reads the states of all keys from a segment that has them, or None."""
    for path in sorted(folder.glob("*.json")):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            place = {key: n for n, key in enumerate(about["keys"])}
            if not all(key in place for key in keys):
                continue
            values = path.with_suffix(".f32")
            if sha256(values) != about["sha256"]:
                raise ValueError("altered")
            lengths = np.array(about["lengths"], np.int64)
            starts = np.cumsum(lengths) - lengths
            mapped = np.zeros([0, dim], "<f4")
            if starts.size and lengths.sum():  # no empty file can be mapped
                mapped = np.memmap(values, "<f4", "r").reshape(-1, dim)
            os.utime(path)  # used just now
        except (OSError, ValueError, KeyError, TypeError):
            _remove(path, path.with_suffix(".f32"))
            continue
        rows = [place[key] for key in keys]
        return States(mapped, starts[rows], lengths[rows])
    return None


def _write(folder: Path, keys, found, lengths, size: int) -> None:
    name = text_key(" ".join(keys)).hex()
    data = folder / f"{name}.f32"
    _make_room(folder.parent, size)

    def write(path):
        with open(path, "wb") as file:
            for some in found:
                some.tofile(file)

    replace_file(data, write, private=False)
    about = {"keys": keys, "lengths": lengths.tolist(),
             "sha256": sha256(data)}
    write_bytes(folder / f"{name}.json", json.dumps(about).encode(),
                private=False)


def _make_room(root: Path, wanted: int) -> None:
    """Removes the segments used longest ago until so many bytes fit.

    Files that a killed process left half-written count and go too.
    """
    found = []
    for data in root.glob("*/*.f32*"):
        about = data.with_suffix(".json")
        used = about if about.exists() else data
        found.append((used.stat().st_mtime, data.stat().st_size, about, data))
    total = sum(size for _, size, _, _ in found)
    for _, size, about, data in sorted(found):
        if total + wanted <= ON_DISK:
            return
        _remove(about, data)
        total -= size


def _remove(*files: Path) -> None:
    """Removes a segment's files; Windows keeps files that are in use."""
    for one in files:
        try:
            one.unlink(missing_ok=True)
        except OSError:
            pass
