"""The README's Python runs as it stands."""
from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfrecal.export.export_model import export_model
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.serving.client import Recommender
from tfrecal.serving.server.server import Server, options_of
from tfrecal.text.encoder import TextEncoder

README = Path(__file__).parent.parent / "README.md"


def run(block, names=None):
    names = {} if names is None else names
    exec(compile(block, "README.md", "exec"), names)
    return names


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.S)


@pytest.mark.large
def test_towers_of_ones_own_are_served(tmp_path, monkeypatch, command_line):
    """The section's block, and what it says of the command line."""
    monkeypatch.chdir(tmp_path)
    _, towers, *_ = blocks()
    # TFRS refuses Keras 3, which tfrecal deselects.
    assert towers.index("from tfrecal") < towers.index("import tensorflow")
    assert len(towers.strip().splitlines()) < 50
    names = run(towers)
    pool, model = names["pool"], names["model"]
    assert pool.spent == 1500 and set(pool.labelled_by()) == {"vopt"}
    server = Server(options_of(
        port=None, model_base_path=str(tmp_path / "models" / "towers"),
        model_name="towers"))
    server.start()
    try:
        address = f"localhost:{server.grpc_port}"
        with Recommender(address, model="towers") as client:
            found = client.recommend(list(pool.user_ids[:3]), k=4)
            scores = client.score(["u001"], [found.item_ids[0][0]])
            popular = client.recommend(["nobody"], k=4)
        code, said = command_line("recommend", "--model", "towers", "--user",
                                  "u001", "--address", address, "--k", "4")
    finally:
        server.stop(0)
    ids = pool.user_ids[:3].tolist()
    query = model.embed_queries({"user_id": tf.constant(ids)}).numpy()
    candidate = model.embed_candidates(
        {"item_id": tf.constant(pool.item_ids.tolist())}).numpy()
    order = np.argsort(-query @ candidate.T, axis=1)[:, :4]
    assert found.item_ids == pool.item_ids[order].tolist()
    best = (query @ candidate.T).max(axis=1)[ids.index("u001")]
    np.testing.assert_allclose(scores.rating, [3 + best], rtol=1e-5)
    assert np.isnan(scores.uncertainty).all()
    assert popular.item_ids[0] == pool.item_ids[
        np.argsort(-pool.item_traffic[1:], kind="stable")[:4]].tolist()
    assert code == 0
    assert all(item in said for item in found.item_ids[ids.index("u001")])


@pytest.mark.large
def test_every_python_block_runs(
        shop, tmp_path, capsys, monkeypatch, tiny_bert_folder):
    monkeypatch.chdir(tmp_path)  # where `feedback.db` is made
    loop, _, client, audience, feedback, batch = blocks()
    names = run(loop)
    assert re.search(r"cost 1500, NDCG@10 0\.\d+", capsys.readouterr().out)

    acquire = run(audience, names)["acquire"]
    acquire.set_model(names["model"])
    chosen = acquire.choose()
    assert len(chosen.user) and "i001" not in names["pool"].item_ids[
        chosen.item - 1]

    if importlib.util.find_spec("apache_beam"):
        run(batch, names)
        assert {path.name for path in tmp_path.iterdir()} >= {
            "vectors", "lists", "questions"}

    pool = Pool.from_interactions(shop, initial=0.5)
    model = TwoTower.from_interactions(
        shop, embedding_dim=4, encoder=TextEncoder(
            tiny_bert_folder, max_length=12))
    model.compile()
    folder = tmp_path / "recommender"
    export_model(model, folder, pool=pool)
    server = Server(options_of(
        port=None, model_base_path=str(folder), model_name="recommender"))
    server.start()
    try:
        address = f"localhost:{server.grpc_port}"
        asked = run(client.replace("localhost:8500", address))
        heard = run(feedback.replace("localhost:8500", address))
    finally:
        server.stop(0)
    assert [len(row) for row in asked["found"].item_ids] == [10]
    assert asked["best"] == ["n1", "n2", "7"]  # only their texts are known
    store, shown = heard["store"], heard["found"]
    assert store.shown()["item_id"].tolist() == shown.item_ids[0]
    assert store.responses()["item_id"].tolist() == shown.item_ids[0][:1]
