"""Keeps vectors of texts on disk, so that no text is encoded twice.

There is one folder for each model (its weights, pooling and length), with a
few files of (text key, vector) rows. A file's name is the hash of its
content, so a file that was cut off or altered is noticed and removed. Files
are written beside and renamed, so processes may share a folder.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Sequence

import numpy as np

from tfrecal.files import write_bytes

# Fewer new texts than this are not written: encoding them again is cheaper.
_WORTH_WRITING = 16
_MOST_FILES = 16


def text_key(text: str) -> bytes:
    """Returns 16 bytes that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


class EncodingCache:
    """A folder that keeps vectors by text key.

    Args:
        folder: the folder of the files; made when first written to.
        dim: number of elements of a vector.
    """

    def __init__(self, folder: Path, dim: int):
        self.folder = Path(folder)
        self.dim = dim
        self._row = np.dtype([("key", "V16"), ("vector", "<f4", (dim,))])

    def read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """Returns key -> vector for those that are there."""
        wanted = set(keys)
        found: dict[bytes, np.ndarray] = {}
        for path in self._files():
            rows = self._load(path)
            for place, key in enumerate(rows["key"].tolist()):
                if key in wanted:
                    found[key] = rows["vector"][place]
        return found

    def add(self, keys: Sequence[bytes], vectors: np.ndarray) -> None:
        """Keeps `[n, dim]` vectors, unless they are only a few.

        Where the disk is full or read-only, it does nothing.
        """
        if len(keys) < _WORTH_WRITING:
            return
        rows = np.empty(len(keys), self._row)
        rows["key"] = np.array(list(keys), "V16")
        rows["vector"] = vectors
        files = self._files()
        try:
            if len(files) < _MOST_FILES:
                self._write(rows)
                return
            merged = np.concatenate([self._load(f) for f in files] + [rows])
            first = {k: n for n, k in enumerate(merged["key"].tolist())}
            kept = self._write(merged[list(first.values())])
            for path in files:
                if path != kept:
                    path.unlink(missing_ok=True)
        except OSError:
            return

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("*.npy"))

    def _load(self, path: Path) -> np.ndarray:
        """Reads the rows of a file; removes a corrupt file."""
        try:
            content = path.read_bytes()
            if _name(content) == path.name:
                rows = np.load(io.BytesIO(content), allow_pickle=False)
                if rows.dtype == self._row:
                    return rows
            path.unlink(missing_ok=True)
        except (OSError, ValueError):
            pass
        return np.empty(0, self._row)

    def _write(self, rows: np.ndarray) -> Path:
        buffer = io.BytesIO()
        np.save(buffer, rows, allow_pickle=False)
        content = buffer.getvalue()
        path = self.folder / _name(content)
        write_bytes(path, content, private=False)
        return path


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32] + ".npy"
