"""A file is there whole or not at all."""
from __future__ import annotations

import pytest

from tfrecal.files import replace_file


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
