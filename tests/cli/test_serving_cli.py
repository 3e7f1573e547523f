"""`tfrecal export`, `serve` and `recommend`, one after the other."""
from __future__ import annotations

import json

import pytest

from tfrecal import cli, datasets
from tfrecal.export.manifest import read_manifest
from tfrecal.serving.server import server
from tfrecal.serving.server.server import Server, options_of

pytestmark = pytest.mark.large  # twenty seconds


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert cli.main([
        "run", "--data", "shop", "--encoder", "none", "--rounds", "1",
        "--batch", "50", "--final-epochs", "1", "--quiet", "-o",
        str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def address(run_folder, tmp_path_factory):
    base_path = tmp_path_factory.mktemp("models") / "recommender"
    assert cli.main(["export", "--run", str(run_folder), "--to",
                     str(base_path), "--k", "7", "--for", "stock"]) == 0
    made = Server(options_of(
        port=None, model_base_path=str(base_path),
        model_name="recommender"))
    made.start()
    yield f"localhost:{made.grpc_port}"
    made.stop(0)


def test_an_export_tells_what_it_is_and_how_to_serve_it(
        run_folder, tmp_path, capsys):
    assert cli.main(["export", "--run", str(run_folder), "--to",
                     str(tmp_path / "shop")]) == 0
    out = capsys.readouterr().out
    assert "too few for ScaNN" in out and "can be served by: stock" in out
    assert f"--model_base_path={tmp_path / 'shop'}" in out
    manifest = read_manifest(tmp_path / "shop" / "1")
    assert manifest["metrics"]["test_rmse"] > 0
    assert len(manifest["data_fingerprint"]) == 64


@pytest.mark.parametrize("options, message", [
    (["--for", "stock", "--index", "scann"], "has no ScaNN ops"),
    (["--for", "torch"], "one of stock, scann, tfrecal"),
    (["--index", "hnsw"], "one of auto, exact, scann"),
    (["--k", "0"], "`k` must be from 1"),
    (["--run", "nowhere"], "must hold config.json")])
def test_bad_exports(run_folder, options, message, tmp_path, capsys):
    assert cli.main(["export", "--run", str(run_folder), "--to",
                     str(tmp_path / "m"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("m/[0-9]*"))


def test_items_are_recommended(address, capsys):
    user = str(datasets.load("shop").user_ids[0])
    assert cli.main(["recommend", "--address", address, "--user", user]) == 0
    rows = [row.split("\t") for row in
            capsys.readouterr().out.splitlines()]
    scores = [float(score) for _, score in rows]
    assert len(rows) == 7 and scores == sorted(scores, reverse=True)
    best = [item for item, _ in rows]
    assert cli.main(["recommend", "--address", address, "--user", user,
                     "--exclude", *best[:2], "--k", "3"]) == 0
    said = capsys.readouterr()
    assert [row.split("\t")[0] for row in said.out.splitlines()] == best[2:5]
    assert said.err == "by user\n"


def test_given_items_are_put_in_order(address, capsys):
    shop = datasets.load("shop")
    user, items = str(shop.user_ids[0]), [str(i) for i in shop.item_ids[:4]]
    assert cli.main(["recommend", "--address", address, "--user", user,
                     "--among", *items, "new"]) == 0
    rows = [row.split("\t") for row in
            capsys.readouterr().out.splitlines()]
    scores = [float(score) for _, score in rows]
    assert sorted(item for item, _ in rows[:4]) == sorted(items)
    assert rows[4] == ["new", "-inf"] and scores == sorted(scores)[::-1]
    assert cli.main(["recommend", "--address", address, "--history",
                     *items[:2], "--k", "2", "--among", *items]) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2 and said.err == "by history\n"


def test_a_request_is_explained_without_a_server(capsys):
    assert cli.main(["recommend", "--user", "u1", "--exclude", "i1", "i2",
                     "--explain-request"]) == 0
    request = json.loads(capsys.readouterr().out)
    assert request["model_spec"]["signature_name"] == "recommend"
    assert set(request["inputs"]) == {"user_id", "exclude"}


@pytest.mark.parametrize("options, message", [
    (["--k", "8"], "`k` must be at most 7"),
    (["--text", "chair"], "search"),
    (["--text", "chair", "--history", "i1"], "no history"),
    (["--text", "chair", "--among", "i1"], "in place of the catalogue"),
    (["--among", "i1", "--k", "0"], "`k` must be a whole number"),
    (["--model", "other"], "NOT_FOUND")])
def test_bad_questions(address, options, message, capsys):
    assert cli.main(["recommend", "--address", address, "--user", "u1",
                     *options]) == 2
    assert message in capsys.readouterr().err


def test_serve_hands_its_flags_over(monkeypatch):
    seen = []
    monkeypatch.setattr(server, "main", lambda flags: seen.append(flags) or 3)
    flags = ["--model_name=m", "--port=8500", "--help"]
    assert cli.main(["serve", *flags]) == 3 and seen == [flags]


def test_other_commands_take_no_unknown_options(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["datasets", "--port=1"])
    assert stop.value.code == 2
    assert "unrecognized" in capsys.readouterr().err
