"""The rooms of the package: what `ls` shows, and which paths go on working."""
from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tfrecal

PACKAGE = Path(tfrecal.__file__).parent


def test_rooms_and_no_loose_modules():
    assert sorted(path.name for path in PACKAGE.glob("*.py")) == [
        "__init__.py", "__main__.py", "doctor.py", "files.py", "hashes.py"]
    for path in PACKAGE.rglob("__init__.py"):
        if path.parent.name != "versions":  # Alembic's
            assert path.read_text("utf-8").startswith('"""'), path


@pytest.mark.parametrize("old, new", tfrecal._MODULES.items())
def test_paths_of_before_lead_to_the_same_module(old, new):
    if new == "scoring.beam.jobs":
        pytest.importorskip("apache_beam")
    module = importlib.import_module(f"tfrecal.{old}")
    assert module is importlib.import_module(f"tfrecal.{new}")
    if "." not in old:
        assert getattr(tfrecal, old) is module


@pytest.mark.parametrize("room, name", [
    ("pool", "Pool"), ("scoring", "PoolScorer"), ("export", "export_model"),
    ("metrics", "ranking"), ("serving.client", "Recommender"),
    ("text", "TextEncoder"), ("feedback", "FeedbackStore"),
    ("model", "TwoTower"), ("data", "Interactions")])
def test_rooms_hand_on_their_public_names(room, name):
    module = importlib.import_module(f"tfrecal.{room}")
    assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        module.nothing_of_the_kind


def test_modules_are_there_after_the_import_alone():
    """As the README uses them, and without TensorFlow before it is needed."""
    code = ("import sys, tfrecal; tfrecal.splits.random; "
            "tfrecal.datasets.names(); tfrecal.metrics.rmse([1], [1]); "
            "from tfrecal.serving.client import Recommender; "
            "assert 'tensorflow' not in sys.modules, 'TensorFlow'")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_imports_run_no_operation():
    """A process that ran one cannot be forked (`benchmarks/kill.py`)."""
    code = """
import pkgutil, importlib, tfrecal
for module in pkgutil.walk_packages(tfrecal.__path__, "tfrecal."):
    if not module.name.endswith(("__main__", ".env")):
        try:
            importlib.import_module(module.name)
        except ImportError:
            pass  # of an extra
from tensorflow.python.eager import context
made = context.context_safe()
assert not (made and made._initialized)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
