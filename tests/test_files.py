"""A file or a folder is there whole or not at all."""
from __future__ import annotations

import os
import signal
import sys

import pytest

from tfrecal import files
from tfrecal.files import replace_file, replace_folder


def test_the_folder_is_made_and_nothing_is_left_beside(tmp_path):
    path = tmp_path / "new" / "file.txt"
    for text in ("first", "second"):
        replace_file(path, lambda beside: beside.write_text(text))
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write(beside):
        beside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_file(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write(path, text, **options):
    with replace_folder(path, **options) as beside:
        for name in "ab":
            (beside / name).write_text(text)


def content(path):
    """What both files of a folder hold; None where there is no folder."""
    if not path.exists():
        return None
    one, other = (path / "a").read_text(), (path / "b").read_text()
    assert one == other
    return one


def test_a_folder_takes_its_place(tmp_path):
    path = tmp_path / "above" / "folder [1]"
    write(path, "first")
    with pytest.raises(OSError):
        write(path, "second")
    assert content(path) == "first"
    write(path, "second", overwrite=True)
    assert content(path) == "second"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode == path.parent.stat().st_mode


@pytest.mark.parametrize("step", ["write", "sync_tree", "rename"])
def test_an_error_leaves_the_folder_of_before(tmp_path, monkeypatch, step):
    path, rename = tmp_path / "folder", os.rename
    write(path, "old")

    def fail(one, other=None):
        if step != "rename" or one.name == "new":
            raise OSError("disk full")
        rename(one, other)

    with pytest.raises(OSError, match="disk full"):
        with replace_folder(path, overwrite=True) as beside:
            if step == "write":
                fail(beside)
            monkeypatch.setattr(
                files if step == "sync_tree" else os, step, fail,
                raising=False)
    assert content(path) == "old" and list(tmp_path.iterdir()) == [path]


def killed(at, path):
    """Writes in another process, killed before a line of `files.py`.

    Args:
        at: number of the line, in the order in which they are run.

    Returns:
        whether it came to that line.
    """
    child = os.fork()
    if not child:
        number = 0

        def trace(frame, event, _):
            nonlocal number
            if (frame.f_code.co_filename != files.__file__
                    or "sync" in frame.f_code.co_name):
                return None
            if event == "line":
                number += 1
                if number == at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        try:
            write(path, "new", overwrite=True)
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_kill_at_any_line_leaves_the_old_folder_or_the_new(
        tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    found, at = [], 1
    while True:
        path = tmp_path / f"{at}" / "folder"
        write(path, "old")
        if not killed(at, path):
            break
        found.append(content(path))
        with pytest.raises(KeyError), replace_folder(path, overwrite=True):
            # The old one is back, or the new one is there.
            assert content(path) == (found[-1] or "old")
            raise KeyError
        write(path, "newer", overwrite=True)
        assert content(path) == "newer"
        left = [one for one in path.parent.iterdir() if one != path]
        # Killed before it had its lock: an empty folder.
        assert all(not set(os.listdir(one)) - {".lock"} for one in left)
        at += 1
    assert content(path) == "new"
    # First the old one, never a part; away for one line at most.
    assert found[0] == "old" and found[-1] == "new"
    assert found.count(None) == 1


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    path = tmp_path / "folder"
    with replace_folder(path) as beside:
        (beside / "a").write_text("slow")
        (beside / "b").write_text("slow")
        write(path, "quick")
        os.rename(path, tmp_path / "away")
    assert content(path) == "slow" and len(os.listdir(tmp_path)) == 2
