"""The README's Python runs as it stands."""
from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from tfrecal.export.export_model import export_model
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.serving.server.server import Server, options_of

README = Path(__file__).parent.parent / "README.md"


def run(block, names=None):
    names = {} if names is None else names
    exec(compile(block, "README.md", "exec"), names)
    return names


@pytest.mark.large
def test_every_python_block_runs(shop, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where `feedback.db` is made
    loop, client, audience, feedback, batch = re.findall(
        r"```python\n(.*?)```", README.read_text(), re.S)
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
    model = TwoTower.from_interactions(shop, embedding_dim=4)
    model.compile()
    folder = tmp_path / "recommender"
    export_model(model, folder, pool=pool)
    server = Server(options_of(
        port=None, model_base_path=str(folder), model_name="recommender"))
    server.start()
    try:
        address = f"localhost:{server.grpc_port}"
        found = run(client.replace("localhost:8500", address))["found"]
        heard = run(feedback.replace("localhost:8500", address))
    finally:
        server.stop(0)
    assert [len(row) for row in found.item_ids] == [10]
    store, shown = heard["store"], heard["found"]
    assert store.shown()["item_id"].tolist() == shown.item_ids[0]
    assert store.responses()["item_id"].tolist() == shown.item_ids[0][:1]
