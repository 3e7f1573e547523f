"""Every notebook runs, in small, and is stored without its outputs."""
from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import numpy as np
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from tfrecal import datasets, splits

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 1800  # of a cell: ends one that hangs, on a busy machine too


def execute(name, folder, **parameters):
    """Runs a notebook in a folder, with other values of its parameters."""
    notebook = nbformat.read(FOLDER / name, as_version=4)
    cell, = (c for c in notebook.cells
             if "parameters" in c.metadata.get("tags", ()))
    for parameter in parameters:
        assert f"\n{parameter} = " in "\n" + cell.source
    cell.source = "\n".join(f"{n} = {v!r}" for n, v in parameters.items())
    # Without folders to look in, "python3" is the kernel of this Python.
    manager = AsyncKernelManager(
        kernel_name="python3",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
    client = NotebookClient(
        notebook, km=manager, timeout=SECONDS,
        resources={"metadata": {"path": str(folder)}})
    backend = "module://matplotlib_inline.backend_inline"
    # Without `cleanup_kc` a kernel of one's own manager would stay.
    client.execute(env={**os.environ, "MPLBACKEND": backend}, cleanup_kc=True)
    assert not manager.has_kernel
    return notebook


def printed(cell):
    return "".join(out.text for out in cell.outputs
                   if out.get("name") == "stdout")


def check_training(notebook, data, labels):
    """What the training notebook reports, against the data itself."""
    found = json.loads(printed(notebook.cells[-1]))
    assert found["labels_bought"] == labels
    assert found["rmse"][-1] < found["rmse"][0]
    assert 0 < found["ndcg"][-1] <= 1
    # Another part of the same rows: near, and not the same.
    assert found["test"] != [found["ndcg"][-1], found["rmse"][-1]]
    np.testing.assert_allclose(found["test"][1], found["rmse"][-1], rtol=0.1)
    train = splits.random(data, seed=0).train.frame
    known = train.loc[train["user_id"] == found["user_id"], "item_id"]
    recommended = set(found["recommended"])
    assert len(recommended) == 10 and not recommended & set(known)
    counts = train["item_id"].value_counts()
    assert counts[found["similar_to"]] == counts.max()
    assert len({*found["similar"], found["similar_to"]}) == 9
    assert found["people"] == {"acquired": 3, "declined": 1, "pending": 1}
    for pairs in found["difference"].values():
        assert np.isfinite(pairs).all()
    assert any("image/png" in out.get("data", {})
               for cell in notebook.cells for out in cell.get("outputs", ()))


@pytest.mark.large  # twenty seconds
def test_training_on_the_shop(tmp_path):
    notebook = execute(
        "01_train.ipynb", tmp_path, DATA="shop", ENCODER=None,
        INITIAL=0.05, ROUNDS=2, BATCH=400, SEEDS=2)
    check_training(notebook, datasets.load("shop"), labels=800)


@pytest.mark.large
def test_training_on_movielens_with_minilm(tmp_path, ml100k):
    notebook = execute(
        "01_train.ipynb", tmp_path, DATA="ml-100k", ENCODER="minilm",
        INITIAL=0.02, ROUNDS=2, BATCH=1000, SEEDS=1)
    check_training(notebook, ml100k, labels=2000)


def check_comparison(notebook, runs):
    """What the comparison reports: every pair of strategies, each run."""
    found = json.loads(printed(notebook.cells[-1]))
    assert found["runs"] == runs and found["page"] > 10_000
    assert sorted(map(tuple, found["rows"])) == [
        (scenario, *pair) for scenario in ("segment", "standard")
        for pair in (("target_matched", "random"), ("vopt", "random"),
                     ("vopt", "target_matched"))]
    assert len(found["labels"]) == 6 and found["asked"] > 0
    said = [printed(cell) for cell in notebook.cells
            if cell.cell_type == "code"]
    assert any("too few seeds" in text for text in said)


@pytest.mark.large
def test_comparison_on_the_shop(tmp_path):
    notebook = execute(
        "02_compare_strategies.ipynb", tmp_path, DATA="shop",
        ENCODER="none", SEGMENT="age <= 30", SEEDS=2, ROUNDS=2, STEPS=5,
        WORKERS=2)
    check_comparison(notebook, runs=12)


@pytest.mark.large
def test_comparison_on_movielens_with_minilm(tmp_path, ml100k):
    notebook = execute(
        "02_compare_strategies.ipynb", tmp_path, DATA="ml-100k",
        ENCODER="minilm", SEGMENT="age <= 21", SEEDS=2, ROUNDS=1, STEPS=5,
        WORKERS=1)
    check_comparison(notebook, runs=12)


def check_serving(notebook, data, texts):
    """What came from the server process, against the data itself."""
    found = json.loads(printed(notebook.cells[-1]))
    counts = data.frame["item_id"].value_counts()
    assert len(found["popular"]) == 10
    assert counts[found["popular"]].min() >= counts.nlargest(10).min()
    assert len(set(found["known"])) == 10
    assert set(found["known"]) != set(found["popular"])
    assert not set(found["liked"]) & set(found["fresh"])
    assert found["fresh"] != found["popular"]
    assert len(found["found"]) == (10 if texts else 0)
    assert found["versions"] == [1, 2] and found["code"] == 0
    assert "stock" in found["servers"]
    assert all(1 <= rating <= 5 for rating in found["rating"])


@pytest.mark.large  # twenty seconds
def test_serving_the_shop(tmp_path):
    notebook = execute(
        "03_export_and_serve.ipynb", tmp_path, DATA="shop", ENCODER=None,
        EPOCHS=1, K=10, REQUESTS=50)
    check_serving(notebook, datasets.load("shop"), texts=False)


@pytest.mark.large
def test_serving_movielens_with_minilm(tmp_path, ml100k):
    notebook = execute(
        "03_export_and_serve.ipynb", tmp_path, DATA="ml-100k",
        ENCODER="minilm", EPOCHS=2, K=10, REQUESTS=50)
    check_serving(notebook, ml100k, texts=True)


@pytest.mark.large  # a minute
def test_the_feedback_loop(tmp_path):
    notebook = execute(
        "04_feedback_loop.ipynb", tmp_path, USERS=120, ITEMS=80,
        WEEKS=3, VISIT_DAYS=3, QUESTIONS=60, SEED=0)
    found = json.loads(printed(notebook.cells[-1]))
    assert found["versions"] == [1, 2, 3] and found["back"] == 2
    assert found["days"] == 9 and found["asked"] == 60
    assert found["runs"] == ["promoted"] * 2 and found["code"] == 0
    assert found["explored"] > 0 and 0 < found["least"] < 0.5
    assert found["left"] == 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_stored_notebook_is_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    before = None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            assert before == "markdown", cell.source
        assert max(map(len, cell.source.splitlines())) < 80
        before = cell.cell_type
    for place in ("/home/", "/tmp/", "/Users/", "/work/"):
        assert place not in path.read_text()
