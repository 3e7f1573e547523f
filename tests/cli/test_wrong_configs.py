"""Configs from strangers: one line, exit code 2, nothing written."""
from __future__ import annotations

import json
import os

import pytest

from tfrecal import cli


@pytest.fixture
def tfrecal(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; exit code and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = cli.main(list(map(str, arguments)))
        said = capsys.readouterr()
        assert not said.out
        return code, said.err

    return call


@pytest.mark.parametrize("content, parts", [
    (b'{"data": "shop", "encoder": "none", "losses": 5, "rounds": 2.5, '
     b'"batch": 10.5}', ["losses=5", "rounds=2.5", "batch=10.5"]),
    (b'{"data": "shop", "encoder": "none", "target_users": '
     b'"age.to_csv(\'written.csv\') == age"}', ["`target_users`", "a call"]),
    (b"[" * 100_000, ["nested too deep"]), (b"", ["empty"]),
    (b'{"rounds": 1, "rounds": 2}', ["'rounds' stands twice"]),
    (b'{"batchsize": 5}', ["did you mean `batch_size`?"]),
    (b"\xff\xfe{}", ["UTF-8"]), (None, ["which is missing"])])
def test_files(content, parts, tfrecal, tmp_path):
    if content is not None:
        (tmp_path / "c.json").write_bytes(content)
    before = os.listdir(tmp_path)
    for command in (["run", "-o", "out", "--quiet"],
                    ["tune", "-o", "out", "--quiet"]):
        code, said = tfrecal(*command, "--config", "c.json")
        assert code == 2 and len(said.splitlines()) == 1, said
        for part in [*parts, "c.json"]:
            assert part in said
    if content is not None and b"rounds\": 2.5" not in content:
        code, said = tfrecal("tune", "-o", "out", "--data", "shop",
                             "--encoder", "none", "--quiet",
                             "--space", "c.json")
        assert code == 2 and len(said.splitlines()) == 1, said
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize("arguments, parts", [
    (["run", "--rounds", "2.5", "--batch", "ten", "--dropout", "nan",
      "--split", "x"], ["rounds='2.5'", "batch='ten'", "dropout=nan",
                        "split='x'"]),
    (["run", "--target-users", "open('x', 'w') == 1"], ["a call"]),
    (["compare", "--segment", "@age > 3", "--seeds", "1"],
     ["`segment`", "seeds=1"]),
    (["compare", "--strategies", "vopt:per_cost=5"], ["per_cost=5"]),
    (["retrain", "--run", "r", "--to", "t", "--k", "many", "--feedback",
      "postgresql://h/n?user=me&password=hidden"],
     ["k='many'", "no password"])])
def test_options(arguments, parts, tfrecal, tmp_path):
    code, said = tfrecal(*arguments, "--quiet", "-o", "out")
    assert code == 2 and len(said.splitlines()) == 1, said
    for part in parts:
        assert part in said
    assert "hidden" not in said and not os.listdir(tmp_path)


def test_the_config_of_a_run_folder_is_no_query_to_run(tfrecal, tmp_path):
    """Of `--resume`, which reads a folder that somebody sent."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({
        "data": "shop", "target_items": "title.to_csv('written.csv') == 1"}))
    code, said = tfrecal("run", "--resume", "run", "--quiet")
    assert code == 2 and "`target_items`" in said and "a call" in said
    assert not list(tmp_path.rglob("written.csv"))
