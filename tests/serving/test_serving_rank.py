"""`rank`, `score` by a history and sources, over gRPC and REST."""
from __future__ import annotations

import json
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
import tensorflow as tf
from exports import save_model
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrecal import splits
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.serving.client import Recommender
from tfrecal.serving.server.server import Server, options_of

pytestmark = pytest.mark.large  # half a minute
_PATIENT = 30.0
BATCHING = """
max_batch_size { value: 64 }
batch_timeout_micros { value: 200000 }
"""


@pytest.fixture(scope="module")
def client(served):
    with Recommender(served.address, timeout=_PATIENT) as client:
        yield client


@pytest.fixture
def candidates(served):
    """Items and texts of rows of different lengths; one row has none."""
    items = [["new", *served.items[:n], ""] for n in range(5)]
    texts = [["red shoe", *[""] * n, "a lamp"] for n in range(5)]
    return [*items, []], [*texts, []]


def padded(rows):
    width = max(map(len, rows))
    return [[*row, *[""] * (width - len(row))] for row in rows]


def assert_ranked(found, expected, sizes, rtol=1e-5):
    assert found.version == 1 and len(found.order) == len(sizes)
    assert found.source == expected["source"].astype(str).tolist()
    for row, size in enumerate(sizes):
        np.testing.assert_allclose(found.scores[row], expected["scores"][
            row, :size], rtol=rtol, atol=1e-5)
        assert found.order[row].tolist() == [
            place for place in expected["order"][row] if place < size]
        assert sorted(found.order[row]) == list(range(size))


@pytest.mark.parametrize("max_batch", [512, 12, 1])
@pytest.mark.parametrize("batching", [False, True])
def test_ranks(served, candidates, max_batch, batching):
    items, texts = candidates
    users = served.users[-6:]  # the last is unknown
    history = [served.items[:n % 3] for n in range(6)]
    expected = served.expect(
        "rank", user_id=users, history=padded(history),
        item_id=padded(items), text=padded(texts))
    with Recommender(served.address, timeout=_PATIENT, batching=batching,
                     max_batch=max_batch) as client:
        found = client.rank(users, history=history, items=items, texts=texts)
        assert_ranked(found, expected, list(map(len, items)), 1e-4)
        alone = client.rank(history=history, texts=texts)
    expected = served.expect(
        "rank", history=padded(history), text=padded(texts))
    assert_ranked(alone, expected, list(map(len, texts)), 1e-4)


def test_candidates_by_id_alone(served, client):
    items = [served.items[:4], ["no such item"]]
    found = client.rank(served.users[:2], items=np.array(
        [served.items[:4]] * 2))
    assert_ranked(found, served.expect(
        "rank", user_id=served.users[:2], item_id=[served.items[:4]] * 2),
        [4, 4])
    found = client.rank(items=items)
    assert found.source == ["popular", "popular"]
    assert found.scores[1] == [-np.inf] and found.order[1].tolist() == [0]


def test_no_rows(client):
    for given in ({"items": []}, {"users": [], "items": []},
                  {"history": [], "texts": []}):
        found = client.rank(**given)
        assert found[:2] == ([], []) and found.source == []
    found = client.rank(["a"], items=[[]])
    assert [len(row) for row in found.order] == [0]
    assert [len(row) for row in found.scores] == [0]


@pytest.mark.parametrize("given, error, message", [
    ({}, ValueError, "There must be inputs"),
    ({"users": ["a"]}, ValueError, "must have `items`, `texts` or both"),
    ({"users": ["a"], "items": ["a"]}, TypeError,
     "`items` must be a list of lists of ids"),
    ({"users": ["a"], "items": "abc"}, TypeError, "`items` must be a list"),
    ({"users": ["a"], "items": [[None]]}, TypeError, "`items` must be"),
    ({"items": [["\ud800"]]}, ValueError, "`items` must be what UTF-8"),
    ({"users": ["a"], "texts": [[7]]}, TypeError,
     "`texts` must be a list of lists of texts"),
    ({"users": ["a"], "items": [["x"], ["y"]]}, ValueError,
     "'users': 1, 'items': 2"),
    ({"history": ["ab"], "items": [["x"]]}, TypeError, "`history` must be"),
    ({"users": 7, "items": [["x"]]}, TypeError, "`users` must be"),
    ({"items": [["x"], ["x", "y"]], "texts": [["x"], ["y"]]}, ValueError,
     "1 texts and 2 items in row 1")])
def test_bad_candidates_are_refused_before_anything_is_sent(
        given, error, message):
    with Recommender("localhost:1") as client:
        with pytest.raises(error, match=message):
            client.rank(**given)


def test_scores_by_a_history(served, client):
    users = [served.users[0], "nobody", "nobody"]
    items = served.items[:3]
    history = [served.items[3:5], served.items[3:4], []]
    found = client.score(users, items, history=history)
    expected = served.expect("score", user_id=users, item_id=items,
                             history=padded(history))
    for name in ("score", "rating", "uncertainty"):
        np.testing.assert_allclose(
            getattr(found, name), expected[name], rtol=1e-5)
    assert found.source == expected["source"].astype(str).tolist()
    assert found.source[1:] == ["history", "none"]
    assert np.isnan(found.uncertainty).tolist() == [False, False, True]
    with Recommender(served.address, timeout=_PATIENT,
                     batching=True) as other:
        again = other.score(users, items, history=history)
        np.testing.assert_allclose(again.rating, found.rating, rtol=1e-5)
        assert other.score(users, items).source[1] == "none"


def test_lists_tell_where_they_come_from(served, client):
    assert client.recommend(
        ["nobody"] * 2, history=[served.items[:1], []]).source == [
            "history", "popular"]
    assert client.search(["lamp", ""]).source == ["text", "popular"]


@pytest.mark.parametrize("inputs", [
    {"user_id": ["a"], "item_id": ["x"]},
    {"user_id": [["a"]], "item_id": [["x"]]},
    {"user_id": ["a", "b"], "item_id": [["x"]] * 3},
    {"user_id": ["a"], "item_id": [["x"]], "text": ["chair"]},
    {"user_id": ["a"], "item_id": [[1]]},
    {"user_id": ["a"], "candidates": [["x"]]}])
def test_wrong_shapes_are_invalid(served, inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "recommender"
    request.model_spec.signature_name = "rank"
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    with grpc.insecure_channel(served.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as seen:
            stub.Predict(request, timeout=_PATIENT)
    assert seen.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def strip(serving):
    """The signatures of an export before `rank` and `source`."""
    def of_before(function, *specs):
        @tf.function(autograph=False, input_signature=specs)
        def call(*inputs):
            found = function(**{spec.name: value for spec, value in zip(
                specs, inputs)})
            return {name: value for name, value in found.items()
                    if name != "source"}
        return call

    return {name: of_before(serving.functions[name], *specs)
            for name, specs in {
                "recommend": serving.functions["recommend"].input_signature,
                "score": serving.functions["score"].input_signature[:2]
            }.items()}


@pytest.fixture(scope="module")
def older(shop, tmp_path_factory):
    """A server of an export before `rank` and `source`."""
    folder = tmp_path_factory.mktemp("older")
    model = TwoTower.from_interactions(shop, embedding_dim=4, dropout=0.1)
    model.compile()
    pool = Pool.from_interactions(shop, initial=0.5, seed=0)
    serving = save_model(model, pool, folder / "new")
    tf.saved_model.save(serving, str(folder / "m" / "1"),
                        signatures=strip(serving))
    server = Server(options_of(port=None, model_base_path=str(folder / "m"),
                               model_name="recommender"))
    server.start()
    yield f"localhost:{server.grpc_port}", [
        str(user) for user in pool.user_ids], [
            str(item) for item in pool.item_ids]
    server.stop(0)


def test_exports_of_before_work_where_they_did(older):
    address, users, items = older
    with Recommender(address, timeout=_PATIENT) as client:
        found = client.recommend(users[:1], history=[[]], exclude=[[]])
        assert found.item_ids[0] and found.source == []
        found = client.score(users[:2], items[:2])
        assert np.isfinite(found.rating).all() and found.source == []
        with pytest.raises(ValueError, match="`score`.*history.*an older "
                           "tfrecal takes fewer inputs"):
            client.score(users[:1], items[:1], history=[items[:1]])
        with pytest.raises(ValueError, match='"rank" not found.*made anew'):
            client.rank(users[:1], items=[items[:2]])
    with Recommender(address, timeout=_PATIENT, batching=True) as client:
        with pytest.raises(ValueError, match="older tfrecal takes fewer"):
            client.score(users[:1], items[:1])


@pytest.fixture(scope="module")
def rest(shop, tiny_bert_folder, tmp_path_factory):
    """A server of an export without texts, with REST and batches."""
    folder = tmp_path_factory.mktemp("rest")
    model = TwoTower.from_interactions(
        splits.random(shop, seed=0).train, embedding_dim=4, dropout=0.1)
    model.compile()
    pool = Pool.from_interactions(shop, initial=0.5, seed=0)
    serving = save_model(model, pool, folder / "m" / "1")
    parameters = folder / "batching.config"
    parameters.write_text(BATCHING)
    server = Server(options_of(
        port=None, rest_api_port=None, model_base_path=str(folder / "m"),
        model_name="m", enable_batching=True,
        batching_parameters_file=str(parameters)))
    server.start()
    yield server, serving, pool
    server.stop(0)


def post(server, body):
    with urllib.request.urlopen(urllib.request.Request(
            f"http://localhost:{server.rest_port}/v1/models/m:predict",
            json.dumps(body).encode()), timeout=_PATIENT) as answer:
        return json.loads(answer.read())


def test_rest_ranks_and_scores(rest):
    server, serving, pool = rest
    user, items = str(pool.user_ids[0]), [str(i) for i in pool.item_ids[:3]]
    inputs = {"user_id": [user, "nobody"], "history": [["", ""], items[:2]],
              "item_id": [[*items, "new"]] * 2}
    expected = {name: value.numpy() for name, value in serving.functions[
        "rank"](**{name: tf.constant(value)
                   for name, value in inputs.items()}).items()}
    for body in ({"inputs": inputs}, {"instances": [
            dict(zip(inputs, row)) for row in zip(*inputs.values())]}):
        found = post(server, {"signature_name": "rank", **body})
        rows = found["outputs"] if "outputs" in found else {
            name: [row[name] for row in found["predictions"]]
            for name in expected}
        assert rows["source"] == ["user", "history"]
        assert rows["order"] == expected["order"].tolist()
        np.testing.assert_allclose(rows["scores"], expected["scores"],
                                   rtol=1e-5)
    found = post(server, {"signature_name": "score", "inputs": {
        "user_id": [user], "item_id": ["new"], "history": [[""]]}})["outputs"]
    assert np.isnan(found["uncertainty"]) and found["source"] == ["none"]
    with pytest.raises(urllib.error.HTTPError) as seen:
        post(server, {"signature_name": "rank", "inputs": {
            **inputs, "item_id": [["a"]] * 3}})
    assert seen.value.code == 400
    assert "Every input must have a row" in json.loads(
        seen.value.read())["error"]
