"""A file or a folder is there whole or not at all."""
from __future__ import annotations

import functools
import json
import os
import signal
import stat
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


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    path = tmp_path / "file.txt"
    path.mkdir()
    with pytest.raises(ValueError, match=f"{path}, which is a folder. Move"):
        files.write_bytes(path, b"text")
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


def modes(folder):
    return {path.relative_to(folder).as_posix():
            stat.S_IMODE(path.stat().st_mode)
            for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_what_is_written_is_private_unless_it_is_to_be_shared(mask, tmp_path):
    before = os.umask(mask)
    try:
        replace_file(tmp_path / "p" / "file", lambda path: path.write_text(""))
        write(tmp_path / "p" / "folder", "")
        replace_file(tmp_path / "s" / "file",
                     lambda path: path.write_text(""), private=False)
        write(tmp_path / "s" / "folder", "", private=False)
        with files.lock_folder(tmp_path / "p" / "locked", ""):
            pass
    finally:
        os.umask(before)
    file, folder = 0o666 & ~mask, 0o777 & ~mask
    assert modes(tmp_path) == {
        "p": 0o700, "p/file": 0o600, "p/folder": 0o700, "p/folder/a": 0o600,
        "p/folder/b": 0o600, "p/locked": 0o700, "p/locked/.lock": 0o600,
        "s": folder, "s/file": file, "s/folder": folder,
        "s/folder/a": file, "s/folder/b": file}


def test_modes_that_are_there_are_kept(tmp_path):
    (tmp_path / "above").mkdir()
    (tmp_path / "above").chmod(0o755)
    for private in (True, False):
        path = tmp_path / "above" / "file"
        replace_file(path, lambda path: path.write_text(""), private)
        path.chmod(0o640)
        replace_file(path, lambda path: path.write_text("new"), private)
        folder = tmp_path / "above" / "folder"
        write(folder, "", overwrite=True, private=private)
        folder.chmod(0o750)
        (folder / "a").chmod(0o644)
        write(folder, "new", overwrite=True, private=private)
        found = modes(tmp_path)
        assert found["above"] == 0o755 and found["above/file"] == 0o640
        assert found["above/folder"] == 0o750
        assert found["above/folder/a"] == 0o644
        assert found["above/folder/b"] == 0o600 or not private


def test_a_sealed_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_sealed(path, {"n": 1, "text": "a\u2028b"}, indent=1)
    read = functools.partial(files.read_sealed, path, "It must hold", "Mend.")
    assert read() == {"format": 2, "n": 1, "text": "a\u2028b"}
    assert json.loads(path.read_text())["n"] == 1
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in range(8):
            path.write_bytes(content[:place] + bytes(
                [content[place] ^ 1 << bit]) + content[place + 1:])
            with pytest.raises(ValueError, match=f"{path}, .*Mend|Update"):
                read()
    path.write_text('{"n": 1}')  # of an earlier version
    assert read() == {"n": 1}
    for text, why in (("", "empty"), ("[1]", "no JSON object"),
                      ("[" * 100_000, "nested|no JSON"), ('{"n": 1', "no JSON"),
                      ('{"format": 2}', "checksum is missing"),
                      ('{"format": "2"}', "checksum is missing")):
        path.write_text(text)
        with pytest.raises(ValueError, match=why):
            read()
