"""benchmarks/fuzz.py: some inputs of each reader, and that it can fail."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tfrecal.data.interactions import Interactions

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import fuzz  # noqa: E402


@pytest.mark.parametrize("name", list(fuzz.readers()))
def test_what_is_taken_is_right(name):
    found = fuzz.work(name, 0, 60, seed=7)
    assert not found["failures"], found["failures"][0]
    assert found["counts"]["taken"] > 5 and found["counts"]["refused"] > 0


def test_a_lost_row_is_a_silent_change(monkeypatch):
    read = Interactions.from_csv
    monkeypatch.setattr(Interactions, "from_csv", lambda *given, **options:
                        read(*given, **options).take([0]))
    found = fuzz.work("csv", 0, 60, seed=7)
    assert found["counts"]["silent_change"] > 5
    assert "rows" in found["failures"][0]


def test_an_error_of_another_form_is_a_traceback(monkeypatch):
    def fail(*given, **options):
        raise KeyError("rmse")

    monkeypatch.setattr(Interactions, "from_csv", fail)
    found = fuzz.work("csv", 0, 5, seed=7)
    assert found["counts"]["traceback"] == 5
    assert "KeyError: 'rmse'" in found["failures"][0]
