"""Folders that break: every way in which a file of one can be damaged.

A file is damaged, something reads the folder, and one of two things must
happen: it finds what it found before, or it raises one line that names the
file. Never another error, and never other numbers.
"""
from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tfrecal import files

NESTED = "[" * 100_000
_VALUES = (-1, float("nan"), 10 ** 400, "text", None, [], {"a": 1}, True)


@contextlib.contextmanager
def killed_at(step: int, monkeypatch):
    """Gives a context that is left where its file number `step` is renamed.

    Yields:
        A list, empty until the kill.
    """
    real, left, killed = files.os.replace, [step], []

    def replace(beside, path):
        left[0] -= 1
        if not left[0]:
            killed.append(path)
            raise KeyboardInterrupt
        real(beside, path)

    monkeypatch.setattr(files.os, "replace", replace)
    try:
        yield killed
    except KeyboardInterrupt:
        pass
    finally:
        monkeypatch.undo()


def damages(path: Path, foreign: Path | None = None,
            flips: int = 4) -> Iterator[tuple[str, Callable]]:
    """Yields ways to damage a file: `(name, function of the path)`.

    Args:
        path: the file, whole.
        foreign: the same file of another folder.
        flips: number of bytes that are flipped, each alone.
    """
    content = path.read_bytes()

    def written(new):
        return lambda target: target.write_bytes(new)

    def folder(target):
        target.unlink()
        target.mkdir()

    yield "half", written(content[:len(content) // 2])
    yield "a byte less", written(content[:-1])
    yield "empty", written(b"")
    yield "deleted", Path.unlink
    yield "a folder", folder
    yield "zeros", written(bytes(len(content)))
    if foreign is not None and foreign.is_file() and (
            foreign.read_bytes() != content):
        yield "of another", written(foreign.read_bytes())
    rng = np.random.default_rng(len(content))
    for place in rng.integers(0, max(len(content), 1), flips):
        new = bytearray(content)
        new[place] ^= 1 << int(rng.integers(8))
        yield f"byte {place} flipped", written(bytes(new))
    if path.suffix == ".json":
        yield from _json_damages(json.loads(content), written)


def _json_damages(found: dict, written):
    yield "nested", written(NESTED.encode())
    yield "no object", written(b"[1, 2]")
    for key in found:
        for value in _VALUES:
            new = {**found, key: value}
            yield f"{key}={value!r:.20}", written(json.dumps(new).encode())


def broken(folder: Path, beside: Path, other: Path | None = None,
           names: list[str] | None = None, **options):
    """Yields copies of a folder, each with one damaged file.

    Args:
        folder: the whole folder.
        beside: where the copies are made; each replaces the one before.
        other: a folder of the same kind, for its files.
        names: the files to damage; None for all.
        **options: options of `damages`.

    Yields:
        `(name of the file, name of the damage, the copy)`.
    """
    if names is None:
        names = sorted(path.relative_to(folder).as_posix()
                       for path in folder.rglob("*") if path.is_file()
                       and not path.name.startswith("."))
    for name in names:
        for damage, apply in damages(
                folder / name, other and other / name, **options):
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(folder, beside)
            apply(beside / name)
            yield name, damage, beside


def older(folder: Path) -> Path:
    """Makes a run folder one of the version before checksums."""
    state = json.loads((folder / "state.json").read_bytes())
    for name in ("sum", "format", "files", "run", "history", "test"):
        state.pop(name)
    state["acquire"].pop("journal_sum")
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "sums.json").unlink()
    return folder


def outcome(read: Callable, folder: Path, name: str):
    """Returns what `read` finds in a folder; None if it names the file.

    A list of sums that is that of another folder names one of its files.

    Any other error is raised, or an AssertionError where the message has
    several lines or does not name the file.
    """
    try:
        return read(folder)
    except ValueError as error:
        said = str(error)
        if name.endswith("sums.json") and "sums.json" not in said:
            name = ""
        assert "\n" not in said and len(said) < 1000, said
        # A checkpoint's files are named by their common stem.
        assert str(folder) in said and Path(name).stem in said, said
        return None
