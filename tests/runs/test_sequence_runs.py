"""`tfrecal run --query sequence`: stored, resumed, grown."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from run_ends import end

from tfrecal.model.sequence_tower import SequenceQueryTower
from tfrecal.model.towers import QueryTower
from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs import run
from tfrecal.runs.build import make_model, restore
from tfrecal.runs.config import RunConfig

CONFIG = RunConfig(
    data="shop", encoder="none", query="sequence", strategy="random",
    initial=0.2, batch=200, rounds=2, final_epochs=1, batch_size=256)


def test_the_config_says_how_histories_are_read(shop, command_line, tmp_path):
    model = make_model(CONFIG, shop, 3.0)
    assert isinstance(model.query_tower, SequenceQueryTower)
    assert model.tasks[1].negatives == 256
    plain = make_model(RunConfig(data="shop", encoder="none"), shop, 3.0)
    assert type(plain.query_tower) is QueryTower
    assert plain.tasks[1].negatives == 0
    code, said = command_line(
        "run", "--data", "shop", "--query", "order", "-o", tmp_path / "run")
    assert code == 2 and "query='order'" in said and "sequence" in said


@pytest.mark.large
def test_a_resumed_run_ends_as_an_undisturbed_one(tmp_path, interrupt):
    run.run(CONFIG, tmp_path / "whole", quiet=True)
    interrupt((RunFolder, "write"), 2, lambda: run.run(
        CONFIG, tmp_path / "cut", quiet=True))
    run.resume(tmp_path / "cut", quiet=True)
    found, expected = end(tmp_path / "cut"), end(tmp_path / "whole")
    pd.testing.assert_frame_equal(found[0], expected[0])
    assert found[2].keys() == expected[2].keys()
    for name, value in found[2].items():
        np.testing.assert_array_equal(value, expected[2][name], name)
    built, _ = restore(RunFolder(tmp_path / "cut"))
    assert isinstance(built.model.query_tower, SequenceQueryTower)
