"""A queue: open questions stay open, or a file is named."""
from __future__ import annotations

import json
import stat

from broken_folders import broken, outcome

from tfrecal.oracles import FileQueueOracle, Questions


def write_queue(folder, label="4"):
    """A queue with questions of two rounds, one of them answered."""
    oracle = FileQueueOracle(folder)
    oracle.ask(Questions([0, 1], ["a", "b"], ["x", "y"], 0))
    path, = (folder / "questions").iterdir()
    lines = path.read_text().splitlines()
    lines[1] += label
    path.write_text("\n".join(lines) + "\n")
    assert oracle.answers().ticket.tolist() == [0]
    oracle.ask(Questions([2, 3], ["a", "c"], ["y", "z"], 1))
    return folder


def read(folder):
    return json.dumps(FileQueueOracle(folder).state())


def test_a_damaged_queue_is_named(tmp_path):
    whole = write_queue(tmp_path / "whole")
    other = write_queue(tmp_path / "other", label="5")
    expected = read(whole)
    for name, damage, folder in broken(
            whole, tmp_path / "copy", other, names=["queue.json"]):
        found = outcome(read, folder, name)
        # A queue of other answers is whole; a deleted one has none.
        assert found is None or damage in ("deleted", "of another"), damage
    old = json.loads((whole / "queue.json").read_text())
    old.pop("sum"), old.pop("format")
    (whole / "queue.json").write_text(json.dumps(old))
    assert read(whole) == expected
    for name, damage, folder in broken(
            whole, tmp_path / "copy", names=["queue.json"], flips=0):
        if damage == "deleted":
            continue
        key, _, value = damage.partition("=")
        found = outcome(read, folder, name)
        empty = {"open": ["[]"], "later": ["[]"], "closed": []}
        assert found is None or value in empty.get(key, []), damage


def test_a_queue_is_private(tmp_path):
    folder = write_queue(tmp_path / "queue")
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (
            0o700 if path.is_dir() else 0o600), path
