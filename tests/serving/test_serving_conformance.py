"""What TensorFlow Serving does, of whatever server this is pointed at.

By default it starts the local one. `TFRECAL_MODEL_SERVER=binary` starts that
`tensorflow_model_server`. `TFRECAL_SERVER_ADDRESS=host:port` uses a running
server, whose models are replaced. It must run with `--max_num_load_retries=0`
and see the folder `TFRECAL_SERVER_BASE_PATH` under the same path.
`TFRECAL_SERVER_REST=host:port` is its REST port, if it has one.
"""
from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import serving_models
import tensorflow as tf
from exports import save_model
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.serving.client.client import Recommender

ADDRESS = os.environ.get("TFRECAL_SERVER_ADDRESS")
BINARY = os.environ.get("TFRECAL_MODEL_SERVER")
BASE_PATH = os.environ.get("TFRECAL_SERVER_BASE_PATH")
# The local server needs nothing from outside.
pytestmark = [pytest.mark.serving] if ADDRESS or BINARY else []

CODE = grpc.StatusCode
NAME = "conformance"
START, LOADING, AVAILABLE, UNLOADING, END = 10, 20, 30, 40, 50


class Target:
    """The server, and how its models are changed.

    Args:
        address: host:port.
        rest: host:port, or None.
        folder: where it finds `NAME` with version 1; others go beside it.
    """

    def __init__(self, address, rest, folder):
        self.address, self.rest, self.folder = address, rest, folder
        self.channel = grpc.insecure_channel(address, [
            ("grpc.max_receive_message_length", -1)])
        self.predictions = \
            prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)

    def put(self, name, version, broken=False):
        """A version that appears at once, as `tfrecal export` has it."""
        source, base = self.folder / NAME / "1", self.folder / name
        shutil.copytree(source, base / f".{version}")
        if broken:
            path = base / f".{version}" / "saved_model.pb"
            path.write_bytes(path.read_bytes()[:1000])
        (base / f".{version}").rename(base / str(version))

    def reload(self, *names, **fields):
        """Serves these models, and `NAME`."""
        request = model_management_pb2.ReloadConfigRequest()
        for name in {NAME: None, **dict.fromkeys(names)}:
            config = request.config.model_config_list.config.add(
                name=name, base_path=str(self.folder / name),
                model_platform="tensorflow")
            if name != NAME:
                for field, value in fields.items():
                    _set(config, field, value)
        return self.models.HandleReloadConfigRequest(request, timeout=60)

    def states(self, name):
        found = self.models.GetModelStatus(status(name), timeout=120)
        return {v.version: v.state for v in found.model_version_status}

    def refused(self, request, method="Predict", timeout=30):
        """Code and message of a request that fails."""
        service = self.models if method in (
            "GetModelStatus", "HandleReloadConfigRequest") \
            else self.predictions
        with pytest.raises(grpc.RpcError) as seen:
            getattr(service, method)(request, timeout=timeout)
        return seen.value.code(), seen.value.details()

    def lives(self):
        """Whether the next client is answered."""
        return list(self.predictions.Predict(
            predict({"user_id": ["c"]}), timeout=30
        ).outputs["scores"].float_val) == [3, -3]


def _set(config, field, value):
    if field == "labels":
        for label, version in value.items():
            config.version_labels[label] = version
    else:
        config.model_version_policy.specific.versions.extend(value)


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance") if BASE_PATH is None \
        else Path(BASE_PATH) / f"conformance-{os.getpid()}"
    serving_models.write_model(folder / NAME / "1")
    if ADDRESS:
        found = Target(ADDRESS, os.environ.get("TFRECAL_SERVER_REST"), folder)
        found.reload()
        yield found
    else:
        yield from _started(folder)
    if BASE_PATH is not None:
        shutil.rmtree(folder)


def _started(folder):
    port, rest = serving_models.free_port(), serving_models.free_port()
    command = [BINARY] if BINARY else [
        sys.executable, "-m", "tfrecal.serving.server.server"]
    with open(folder / "log", "wb") as log, subprocess.Popen(
            [*command, f"--port={port}", f"--rest_api_port={rest}",
             f"--model_name={NAME}", f"--model_base_path={folder / NAME}",
             f"--file_system_poll_wait_seconds={1 if BINARY else 0.2}",
             "--max_num_load_retries=0", "--load_retry_interval_micros=0"],
            stdout=log, stderr=log) as process:
        try:
            found = Target(f"localhost:{port}", f"localhost:{rest}", folder)
            _until(lambda: process.poll() is not None or _is_open(port))
            assert process.poll() is None, (folder / "log").read_text()
            yield found
            assert process.poll() is None, (folder / "log").read_text()
            process.terminate()
            process.wait(30)
        finally:
            process.kill()


def _is_open(port):
    with socket.socket() as found:
        return found.connect_ex(("localhost", port)) == 0


def _until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def _spec(spec, name, **fields):
    if name is not None:
        spec.name = name
    if "version" in fields:
        spec.version.value = fields["version"]
    if "label" in fields:
        spec.version_label = fields["label"]


def predict(inputs, signature="", name=NAME, filter=(), **fields):
    request = predict_pb2.PredictRequest(output_filter=filter)
    request.model_spec.signature_name = signature
    _spec(request.model_spec, name, **fields)
    for alias, values in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return request


def status(name, **fields):
    request = get_model_status_pb2.GetModelStatusRequest()
    if name is not None:
        _spec(request.model_spec, name, **fields)
    return request


def metadata(*fields, name=NAME):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=fields)
    if name is not None:
        request.model_spec.name = name
    return request


def examples(kind, signature, number=1):
    request = kind()
    request.model_spec.name = NAME
    request.model_spec.signature_name = signature
    for _ in range(number):
        request.input.example_list.examples.add()
    return request


@pytest.mark.parametrize("inputs, scores", [
    ({"user_id": ["a", "zz"]}, [1, -1, 0, 0]),
    ({"user_id": ["a"], "bonus": [0.5]}, [1.5, -1.5]),
    ({"user_id": np.zeros([0], object)}, []),
    ({"user_id": [b"\xff\x00\xfe"]}, [0, 0])])
def test_predict(target, inputs, scores):
    found = target.predictions.Predict(predict(inputs), timeout=30)
    assert (found.model_spec.name, found.model_spec.signature_name,
            found.model_spec.version.value) == (NAME, "serving_default", 1)
    assert list(found.outputs["scores"].float_val) == scores
    assert not found.outputs["scores"].tensor_content
    assert list(found.outputs["names"].string_val) == [
        b"user " + (i if isinstance(i, bytes) else i.encode())
        for i in inputs["user_id"]]


def test_filtered_outputs_only(target):
    found = target.predictions.Predict(
        predict({"user_id": ["a"]}, filter=["names"]), timeout=30)
    assert set(found.outputs) == {"names"}


@pytest.mark.parametrize("fields, scores", [
    ({"string_val": [b"a", b"b"]}, [1, -1, 2, -2, 2, -2]),  # one missing
    ({"string_val": [b"a", b"b", b"c", b"a"]}, [1, -1, 2, -2, 3, -3]),
    ({"tensor_content": b"\1\1\1abc"}, [1, -1, 2, -2, 3, -3]),
    ({"float_val": [1, 2, 3]}, [0] * 6)])
def test_tensors_are_read_leniently(target, fields, scores):
    request = predict({})
    tensor = request.inputs["user_id"]
    tensor.MergeFrom(type(tensor)(dtype=types_pb2.DT_STRING, **fields))
    tensor.tensor_shape.dim.add(size=3)
    found = target.predictions.Predict(request, timeout=30)
    assert list(found.outputs["scores"].float_val) == scores


def test_large_requests(target):
    many = predict({"user_id": np.array([b"b"] * 100_000, object)})
    found = target.predictions.Predict(many, timeout=60)
    assert len(found.outputs["scores"].float_val) == 200_000
    text = predict({"user_id": [b"x" * (10 << 20)]})
    found = target.predictions.Predict(text, timeout=60)
    assert list(found.outputs["scores"].float_val) == [0, 0]


@pytest.mark.parametrize("request_, code, text", [
    (predict_pb2.PredictRequest(), CODE.INVALID_ARGUMENT,
     "Missing ModelSpec"),
    (predict({}, name=""), CODE.INVALID_ARGUMENT,
     "ModelSpec has no name specified."),
    (predict({}, name="none"), CODE.NOT_FOUND,
     "Servable not found for request: Latest(none)"),
    (predict({}, version=7), CODE.NOT_FOUND,
     f"Servable not found for request: Specific({NAME}, 7)"),
    (predict({}, label="none"), CODE.INVALID_ARGUMENT,
     "Unrecognized servable version label: none"),
    (predict({}, "none"), CODE.FAILED_PRECONDITION,
     'Serving signature key "none" not found.'),
    (predict({"x": [[1., 1.]]}, "add"), CODE.INVALID_ARGUMENT,
     "input size does not match signature: 1!=2 len({x}) != len({x,y}). "
     "Sent extra: {}. Missing but required: {y}."),
    (predict({"x": [1.], "y": [1.], "z": [1.]}, "add"),
     CODE.INVALID_ARGUMENT, "input size does not match signature: 3!=2"),
    (predict({"x": [[1., 1.]], "z": [1.]}, "add"), CODE.INVALID_ARGUMENT,
     "Signature input alias: y(feed name: "),
    (predict({"bonus": [1.]}), CODE.INVALID_ARGUMENT,
     "Signature input alias: user_id(feed name: "),
    (predict({"user_id": ["a"], "z": [1.]}), CODE.INVALID_ARGUMENT,
     "Inputs contains invalid name. Used request inputs: "),
    (predict({"user_id": [1]}), CODE.INVALID_ARGUMENT, "Expects arg["),
    (predict({"user_id": [1.5]}), CODE.INVALID_ARGUMENT, "Expects arg["),
    (predict({"user_id": "a"}), CODE.INVALID_ARGUMENT, ""),
    (predict({"x": [[1., 2.]], "y": [[1., 2., 3.]]}, "add"),
     CODE.INVALID_ARGUMENT, "Incompatible shapes: [1,2] vs. [1,3]"),
    (predict({"ids": np.array([99])}, "gather"), CODE.INVALID_ARGUMENT,
     "indices[0] = 99 is not in [0, 3)"),
    (predict({"user_id": ["a"]}, filter=["z"]), CODE.INVALID_ARGUMENT,
     "output tensor alias not found in signature: z"),
    (predict({"user_id": ["a"]}, filter=["names", "names"]),
     CODE.INVALID_ARGUMENT, "duplicate output tensor alias: names")])
def test_bad_predict(target, request_, code, text):
    found = target.refused(request_)
    assert found[0] == code
    assert found[1].startswith(text)


@pytest.mark.parametrize("change", [
    lambda tensor: setattr(tensor, "dtype", types_pb2.DT_INVALID),
    lambda tensor: setattr(tensor.tensor_shape.dim[0], "size", -1),
    lambda tensor: setattr(tensor, "dtype", types_pb2.DT_RESOURCE)])
def test_tensor_that_is_none(target, change):
    request = predict({"user_id": ["a"]})
    change(request.inputs["user_id"])
    code, text = target.refused(request)
    assert code == CODE.INVALID_ARGUMENT
    assert text.startswith(("tensor parsing error: user_id", "Expects arg["))


def test_content_of_another_length(target):
    request = predict({"ids": np.array([1, 2])}, "gather")
    request.inputs["ids"].tensor_content = b"12345"
    assert target.refused(request) == (
        CODE.INVALID_ARGUMENT, "tensor parsing error: ids")


def test_long_messages_are_cut(target):
    _, text = target.refused(predict({"user_id": ["a"]}, "s" * 3000))
    assert text.endswith("...TRUNCATED")
    assert len(text) == 1024 + len("...TRUNCATED")


@pytest.mark.parametrize("method, request_, text", [
    ("Classify", examples(classification_pb2.ClassificationRequest, "no"),
     "No signature was found with the name: no"),
    ("Classify", examples(classification_pb2.ClassificationRequest, ""),
     "Expected one input Tensor."),
    ("Classify",
     examples(classification_pb2.ClassificationRequest, "gather"),
     "No classification inputs found in SignatureDef: "),
    ("Classify",
     examples(classification_pb2.ClassificationRequest, "classify", 0),
     "Input is empty."),
    ("Regress", examples(regression_pb2.RegressionRequest, "no"),
     "No signature was found with the name: no"),
    ("Regress", examples(regression_pb2.RegressionRequest, "gather"),
     "No regression inputs found in SignatureDef: "),
    ("MultiInference", inference_pb2.MultiInferenceRequest(),
     "ModelSpec has no name specified."),
    ("GetModelMetadata", metadata("signature_def", name=None),
     "Missing ModelSpec"),
    ("GetModelMetadata", metadata(),
     "GetModelMetadataRequest must specify at least one metadata_field"),
    ("GetModelMetadata", metadata("weights"),
     "Metadata field weights is not supported"),
    ("GetModelStatus", status(None), "Missing ModelSpec"),
    ("HandleReloadConfigRequest", model_management_pb2.ReloadConfigRequest(),
     "ServerModelConfig type not supported by HandleReloadConfigRequest.")])
def test_bad_requests_of_other_kinds(target, method, request_, text):
    code, found = target.refused(request_, method)
    assert code == CODE.INVALID_ARGUMENT
    assert found.startswith(text)


@pytest.mark.parametrize("method, request_, text", [
    ("GetModelMetadata", metadata("signature_def", name="none"),
     "Servable not found for request: Latest(none)"),
    ("GetModelStatus", status(NAME, version=9),
     f"Could not find version 9 of model {NAME}"),
    ("GetModelStatus", status("none"),
     "Could not find any versions of model none")])
def test_what_is_not_there(target, method, request_, text):
    assert target.refused(request_, method) == (CODE.NOT_FOUND, text)


def test_metadata(target):
    found = target.predictions.GetModelMetadata(
        metadata("signature_def"), timeout=30)
    assert found.model_spec.name == NAME
    assert found.model_spec.version.value == 1
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert found.metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "add", "__saved_model_init_op"} <= set(
        signatures.signature_def)
    default = signatures.signature_def["serving_default"]
    assert set(default.inputs) == {"user_id", "bonus"}
    assert set(default.defaults) == {"bonus"}


def test_status(target):
    for request in (status(NAME), status(NAME, version=1),
                    status(NAME, label="is not looked at")):
        found, = target.models.GetModelStatus(
            request, timeout=30).model_version_status
        assert (found.version, found.state) == (1, AVAILABLE)
        assert found.status.error_code == 0


def test_versions_come_and_go_and_a_broken_one_is_skipped(target):
    for version in (1, 2):
        target.put("swap", version)
    assert target.reload("swap").status.error_code == 0

    def answers():
        found = target.predictions.Predict(
            predict({"user_id": ["a"]}, name="swap"), timeout=30)
        return found.model_spec.version.value

    assert answers() == 2
    target.put("swap", 3, broken=True)
    _until(lambda: target.states("swap").get(3) == END)
    assert answers() == 2
    broken, = target.models.GetModelStatus(
        status("swap", version=3), timeout=30).model_version_status
    assert broken.status.error_code != 0 and broken.status.error_message
    target.put("swap", 4)
    _until(lambda: target.states("swap") == {4: AVAILABLE, 3: END, 2: END})
    versions = [v.version for v in target.models.GetModelStatus(
        status("swap"), timeout=30).model_version_status]
    assert versions == [4, 3, 2]
    assert answers() == 4
    target.reload()
    _until(lambda: target.states("swap")[4] == END)
    assert target.refused(predict({"user_id": ["a"]}, name="swap")) == (
        CODE.NOT_FOUND, "Servable not found for request: Latest(swap)")
    assert target.lives()


def test_labels_point_to_loaded_versions(target):
    for version in (1, 2):
        target.put("labelled", version)
    target.reload("labelled", versions=[1, 2])
    _until(lambda: target.states("labelled") == {1: AVAILABLE, 2: AVAILABLE})
    with pytest.raises(grpc.RpcError) as seen:
        target.reload("labelled", versions=[1, 2], labels={"stable": 9})
    assert seen.value.code() == CODE.FAILED_PRECONDITION
    assert seen.value.details().startswith(
        "Request to assign label to version 9 of model labelled, which is "
        "not currently available for inference")
    target.reload("labelled", versions=[1, 2],
                  labels={"stable": 1, "canary": 2})
    for label, version in (("stable", 1), ("canary", 2)):
        found = target.predictions.Predict(
            predict({"user_id": ["a"]}, name="labelled", label=label),
            timeout=30)
        assert found.model_spec.version.value == version
        assert found.model_spec.WhichOneof("version_choice") == "version"
    target.reload()


@pytest.mark.parametrize("paths, text", [
    (["/tmp/m", "/tmp/m"], "Illegal to list model m multiple times"),
    (["models/m"], "Expected model m to have an absolute path or URI")])
def test_reload_that_is_refused_changes_nothing(target, paths, text):
    request = model_management_pb2.ReloadConfigRequest()
    for path in paths:
        request.config.model_config_list.config.add(
            name="m", base_path=path, model_platform="tensorflow")
    code, found = target.refused(request, "HandleReloadConfigRequest")
    assert code == CODE.INVALID_ARGUMENT
    assert found.startswith(text)
    assert target.lives()


def test_run_ends_with_the_deadline(target):
    request = predict({"rounds": np.array([1 << 30], np.int32)}, "spin")
    assert target.refused(request, timeout=0.1)[0] == CODE.DEADLINE_EXCEEDED
    assert target.lives()


def test_garbage_on_the_port(target):
    host, _, port = target.address.rpartition(":")
    hanging = socket.create_connection((host, int(port)))
    hanging.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"\x00\xff garbage\r\n\r\n" * 1000)
    assert target.lives()
    hanging.close()


def test_bytes_that_are_no_request(target):
    call = target.channel.unary_unary(
        "/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as seen:
        call(b"\xff" * 100, timeout=30)
    assert seen.value.code() == CODE.INTERNAL
    assert target.lives()


def test_clients_that_go_away(target):
    request = predict({"rounds": np.array([5000], np.int32)}, "spin")
    with grpc.insecure_channel(target.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for _ in range(8):
            stub.Predict.future(request, timeout=30)
        time.sleep(0.05)
    assert target.lives()


def test_bad_requests_do_not_disturb_others(target):
    bad = predict({"ids": np.array([99])}, "gather")

    def ask(n):
        if n % 2:
            return target.refused(bad)[0] == CODE.INVALID_ARGUMENT
        return target.lives()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(100)))


@pytest.mark.large
def test_client_of_an_exported_model(target, shop):
    pool = Pool.from_interactions(shop, initial=0.5, seed=0)
    model = TwoTower.from_interactions(shop, embedding_dim=4, dropout=0.1)
    model.compile()
    serving = save_model(model, pool, target.folder / "shop" / "1")
    target.reload("shop")
    users = [*map(str, pool.user_ids[:5]), "nobody"]
    items = [*map(str, pool.item_ids)]
    expected = serving.functions["recommend"](
        user_id=tf.constant(users),
        exclude=tf.constant([items[:2]] * len(users)))
    for arguments in ({}, {"max_batch": 2}, {"version": 1},
                      {"batching": True}):
        with Recommender(target.address, "shop", timeout=30,
                         **arguments) as client:
            found = client.recommend(
                users, exclude=[items[:2]] * len(users))
            assert np.array(found.item_ids).tolist() == expected[
                "item_ids"].numpy().astype(str).tolist()
            np.testing.assert_allclose(found.scores, expected["scores"],
                                       atol=1e-5)
            assert client.recommend(["nobody"], history=[items[:3]],
                                    k=2).version == 1
    with Recommender(target.address, "shop", timeout=30) as client:
        queries = client.embed_queries(users).vectors
        candidates = client.embed_candidates(items[:6]).vectors
        found = client.score(users, items[:6])
        np.testing.assert_allclose(
            found.score, (queries * candidates).sum(axis=1), atol=1e-5)
        with pytest.raises(ValueError, match="FAILED_PRECONDITION"):
            client.search(["lamp"])
    target.reload()


def _rest(target, path, body=None):
    """Status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(
                f"http://{target.rest}/v1/models/{path}", data,
                timeout=30) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("path, body, code, answer", [
    (NAME, None, 200, {"model_version_status": [{
        "version": "1", "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""}}]}),
    (f"{NAME}:predict", {"signature_name": "gather", "instances": [0, 2]},
     200, {"predictions": [10, 30]}),
    (f"{NAME}/versions/1:predict",
     {"signature_name": "gather", "inputs": [1]}, 200, {"outputs": [20]}),
    ("none:predict", {"instances": [0]}, 404,
     {"error": "Servable not found for request: Latest(none)"}),
    (f"{NAME}:predict", {"signature_name": "none", "instances": [0]}, 400,
     {"error": 'Serving signature name: "none" not found in signature '
               "def"})])
def test_rest(target, path, body, code, answer):
    if not target.rest:
        pytest.skip("`TFRECAL_SERVER_REST` is not set")
    assert _rest(target, path, body) == (code, answer)
