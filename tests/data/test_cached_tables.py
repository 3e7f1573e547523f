"""Parsed tables come back the same, and damage costs only time."""
from __future__ import annotations

import pandas as pd
import pytest

from tfrecal.data.sets.book_crossing import cached


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Maker:
    """Counts how often the tables were made."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        # None and a missing number, which Parquet reads back differently.
        return (pd.DataFrame({"id": ["a", "b"], "country": ["x", None]},
                             index=[4, 7]),
                pd.DataFrame({"n": [1.5, None]}))


def load(make, key="k"):
    return cached(key, ("one", "two"), make)


def test_made_once_and_equal_later(home):
    make = Maker()
    first, second = load(make), load(make)
    assert make.calls == 1
    assert first[0]["id"].tolist() == ["a", "b"]
    assert first[0]["country"].isna().tolist() == [False, True]
    for a, b in zip(first, second):
        pd.testing.assert_frame_equal(a, b)
    load(make, "another")
    assert make.calls == 2


@pytest.mark.parametrize("content", [b"", b"PAR1 cut off", None])
def test_damaged_files_are_made_again(home, content):
    make = Maker()
    load(make)
    file = home / "tables" / "k" / "two.parquet"
    file.unlink() if content is None else file.write_bytes(content)
    assert load(make)[1]["n"].isna().tolist() == [False, True]
    load(make)
    assert make.calls == 2


def test_a_folder_that_cannot_be_written(home, capsys):
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file stands where the folder should")
    make = Maker()
    assert load(make)[0]["id"].tolist() == ["a", "b"]
    assert "parsed again next time" in capsys.readouterr().err


def test_nothing_half_done_is_left(home, monkeypatch):
    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    make = Maker()
    load(make)
    assert [p for p in (home / "tables").rglob("*") if p.is_file()] == []
