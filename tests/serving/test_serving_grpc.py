"""PredictionService and ModelService over real gRPC."""
from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import serving_models
import tensorflow as tf
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

from tfrecal.serving.server.server import Server, options_of

CODE = grpc.StatusCode


class Monitor:
    """Keeps what the services tell it."""

    def __init__(self):
        self.seen = []

    def request(self, *values):
        self.seen.append(values)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "m"
    serving_models.write_model(folder / "3")
    server = Server(options_of(
        port=None, model_base_path=str(folder), model_name="m",
        enable_grpc_healthcheck_service=True))
    server._monitor = Monitor()
    server.start()
    yield server
    server.stop(0)


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"localhost:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict(inputs, signature="", name="m", filter=(), **spec):
    request = predict_pb2.PredictRequest(output_filter=filter)
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for alias, values in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return request


def refused(call, request, **arguments):
    with pytest.raises(grpc.RpcError) as seen:
        call(request, timeout=arguments.get("timeout", 120))
    return seen.value.code(), seen.value.details()


def test_answer_names_what_answered_and_has_typed_fields(stub):
    response = stub.Predict(predict({"user_id": ["a", "c", "zz"]}))
    assert response.model_spec.name == "m"
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == "serving_default"
    scores = response.outputs["scores"]
    assert list(scores.float_val) == [1, -1, 3, -3, 0, 0]
    assert not scores.tensor_content
    assert [dim.size for dim in scores.tensor_shape.dim] == [3, 2]
    assert list(response.outputs["names"].string_val) == [
        b"user a", b"user c", b"user zz"]


def test_optional_input_counts_when_it_is_sent(stub):
    response = stub.Predict(predict(
        {"user_id": ["a"], "bonus": [0.5]}, version=3))
    assert list(response.outputs["scores"].float_val) == [1.5, -1.5]


def test_filter_chooses_the_outputs(stub):
    response = stub.Predict(predict({"user_id": ["a"]}, filter=["names"]))
    assert set(response.outputs) == {"names"}


def test_shapes_are_not_those_of_the_signature_but_of_the_graph(stub):
    response = stub.Predict(predict({"x": 1.0, "y": [[[2.0]]]}, "add"))
    assert list(response.outputs["sum"].float_val) == [3.0]


def test_outputs_without_a_dimension(stub):
    outputs = stub.Predict(predict({"ids": ["a", "b"]}, "count")).outputs
    assert list(outputs["number"].int_val) == [2]
    assert list(outputs["first"].string_val) == [b"a"]
    assert not outputs["first"].tensor_shape.dim


def test_empty_batch_and_bytes_that_are_not_utf8(stub):
    request = predict({"user_id": np.zeros([0], object)})
    assert not stub.Predict(request).outputs["names"].string_val
    request = predict({"user_id": [b"\xff\x00\xfe"]})
    assert stub.Predict(request).outputs["names"].string_val[0] == \
        b"user \xff\x00\xfe"


@pytest.mark.parametrize("request_, code, text", [
    (predict_pb2.PredictRequest(), CODE.INVALID_ARGUMENT,
     "Missing ModelSpec"),
    (predict({}, name=""), CODE.INVALID_ARGUMENT,
     "ModelSpec has no name specified."),
    (predict({}, name="other"), CODE.NOT_FOUND,
     "Servable not found for request: Latest(other)"),
    (predict({}, version=7), CODE.NOT_FOUND,
     "Servable not found for request: Specific(m, 7)"),
    (predict({}, version=0), CODE.NOT_FOUND,
     "Servable not found for request: Specific(m, 0)"),
    (predict({}, label="stable"), CODE.INVALID_ARGUMENT,
     "Unrecognized servable version label: stable"),
    (predict({}, "none"), CODE.FAILED_PRECONDITION,
     'Serving signature key "none" not found.'),
    (predict({"x": [[1., 1.]]}, "add"), CODE.INVALID_ARGUMENT,
     "input size does not match signature: 1!=2 len({x}) != len({x,y}). "
     "Sent extra: {}. Missing but required: {y}."),
    (predict({"x": [1.], "y": [1.], "z": [1.]}, "add"),
     CODE.INVALID_ARGUMENT,
     "input size does not match signature: 3!=2 len({x,y,z}) != len({x,y}). "
     "Sent extra: {z}."),
    (predict({"x": [[1., 1.]], "z": [1.]}, "add"), CODE.INVALID_ARGUMENT,
     "Signature input alias: y(feed name: add_y:0) not found in request and "
     "no default value provided."),
    (predict({"bonus": [1.]}), CODE.INVALID_ARGUMENT,
     "Signature input alias: user_id(feed name: serving_default_user_id:0)"),
    (predict({"user_id": ["a"], "z": [1.]}), CODE.INVALID_ARGUMENT,
     "Inputs contains invalid name. Used request inputs: {user_id}, "
     "request input: {user_id,z}"),
    (predict({"user_id": np.array([1])}), CODE.INVALID_ARGUMENT,
     "Expects arg[1] to be string but int64 is provided"),
    (predict({"user_id": ["a"]}, filter=["z"]), CODE.INVALID_ARGUMENT,
     "output tensor alias not found in signature: z"),
    (predict({"user_id": ["a"]}, filter=["names", "names"]),
     CODE.INVALID_ARGUMENT, "duplicate output tensor alias: names"),
    (predict({"x": [[1., 2.]], "y": [[1., 2., 3.]]}, "add"),
     CODE.INVALID_ARGUMENT, "Incompatible shapes: [1,2] vs. [1,3]"),
    (predict({"ids": np.array([99])}, "gather"), CODE.INVALID_ARGUMENT,
     "indices[0] = 99 is not in [0, 3)")])
def test_bad_predict_request(stub, request_, code, text):
    found = refused(stub.Predict, request_)
    assert found[0] == code
    assert found[1].startswith(text)


def test_tensor_that_cannot_be_parsed(stub):
    request = predict({"user_id": ["a"]})
    request.inputs["user_id"].dtype = types_pb2.DT_INVALID
    assert refused(stub.Predict, request) == (
        CODE.INVALID_ARGUMENT, "tensor parsing error: user_id")


def test_long_messages_are_cut(stub):
    request = predict({"user_id": ["a"]}, "é" * 3000)
    _, text = refused(stub.Predict, request)
    assert text.endswith("...TRUNCATED")
    assert len(text.encode()) <= 1024 + len("...TRUNCATED")


def test_deadline_ends_the_run(stub):
    request = predict({"rounds": np.array([1 << 30], np.int32)}, "spin")
    for _ in range(20):  # more than there are threads
        code, _ = refused(stub.Predict, request, timeout=0.02)
        assert code == CODE.DEADLINE_EXCEEDED
    assert stub.Predict(predict({"user_id": ["a"]}), timeout=120).outputs


def test_large_requests(stub):
    many = [b"a"] * 100_000
    response = stub.Predict(predict({"user_id": np.array(many, object)}))
    assert len(response.outputs["scores"].float_val) == 200_000
    text = b"x" * (10 << 20)
    found = stub.Predict(predict({"user_id": [text]}, filter=["scores"]))
    assert list(found.outputs["scores"].float_val) == [0, 0]
    too_large = predict({"user_id": [b"x" * (65 << 20)]})
    assert refused(stub.Predict, too_large)[0] == CODE.RESOURCE_EXHAUSTED


def test_garbage_and_clients_that_hang_do_not_disturb(server, stub):
    address = ("localhost", server.grpc_port)
    hanging = socket.create_connection(address)
    hanging.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    with socket.create_connection(address) as connection:
        connection.sendall(b"\x00\xff garbage\r\n\r\n" * 1000)
    calls = [stub.Predict.future(predict(
        {"rounds": np.array([5000], np.int32)}, "spin")) for _ in range(4)]
    for call in calls:
        call.cancel()
    assert stub.Predict(predict({"user_id": ["a"]}), timeout=120).outputs
    hanging.close()


def test_bytes_that_are_no_request(channel, stub):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as seen:
        call(b"\xff" * 100, timeout=120)
    assert seen.value.code() == CODE.INTERNAL
    assert stub.Predict(predict({"user_id": ["a"]})).outputs


def test_many_clients(stub):
    def ask(n):
        user = "abc"[n % 3]
        found = stub.Predict(predict({"user_id": [user]}), timeout=120)
        return found.outputs["scores"].float_val[0] == n % 3 + 1

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(300)))


def metadata(*fields, **spec):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=fields)
    if spec:
        request.model_spec.name = spec["name"]
    return request


def test_metadata_has_every_signature_with_its_defaults(stub):
    response = stub.GetModelMetadata(metadata("signature_def", name="m"))
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == ""
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    assert {"serving_default", "__saved_model_init_op"} <= set(
        found.signature_def)
    assert set(found.signature_def["serving_default"].defaults) == {"bonus"}


@pytest.mark.parametrize("request_, code, text", [
    (metadata("signature_def"), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
    (metadata(name="other"), CODE.INVALID_ARGUMENT,
     "GetModelMetadataRequest must specify at least one metadata_field"),
    (metadata("weights", name="other"), CODE.INVALID_ARGUMENT,
     "Metadata field weights is not supported"),
    (metadata("signature_def", name="other"), CODE.NOT_FOUND,
     "Servable not found for request: Latest(other)")])
def test_bad_metadata_request(stub, request_, code, text):
    assert refused(stub.GetModelMetadata, request_) == (code, text)


def examples(kind, signature, count=2):
    request = kind()
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    for _ in range(count):
        example = request.input.example_list.examples.add()
        example.features.feature["a"].int64_list.value.append(1)
    return request


def test_classify_and_regress(stub):
    found = stub.Classify(examples(
        classification_pb2.ClassificationRequest, "classify"))
    assert len(found.result.classifications) == 2
    first = found.result.classifications[0].classes
    assert [entry.label for entry in first] == ["yes", "no"]
    found = stub.Regress(examples(regression_pb2.RegressionRequest,
                                  "regress"))
    assert found.model_spec.signature_name == "regress"
    assert [r.value for r in found.result.regressions] == [
        first[0].score] * 2


@pytest.mark.parametrize("signature, count, text", [
    ("none", 2, "No signature was found with the name: none"),
    ("", 2, "Expected one input Tensor."),
    ("gather", 2, "No classification inputs found in SignatureDef: inputs {"),
    ("regress", 2, "Expected classification signature outputs to contain at "
     'least one of "classes" or "scores".'),
    ("classify", 0, "Input is empty.")])
def test_bad_classify_request(stub, signature, count, text):
    code, found = refused(stub.Classify, examples(
        classification_pb2.ClassificationRequest, signature, count))
    assert code == CODE.INVALID_ARGUMENT
    assert found.startswith(text)


@pytest.mark.parametrize("signature, text", [
    ("classify", "Expected one output Tensor."),
    ("gather", "No regression inputs found in SignatureDef: ")])
def test_bad_regress_request(stub, signature, text):
    code, found = refused(stub.Regress, examples(
        regression_pb2.RegressionRequest, signature))
    assert code == CODE.INVALID_ARGUMENT
    assert found.startswith(text)


def tasks(*pairs):
    request = inference_pb2.MultiInferenceRequest()
    for name, signature, method in pairs:
        task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = name
        task.model_spec.signature_name = signature
    request.input.CopyFrom(examples(
        regression_pb2.RegressionRequest, "").input)
    return request


def test_multi_inference(stub):
    found = stub.MultiInference(tasks(
        ("m", "classify", "classify"), ("m", "regress", "regress"))).results
    assert len(found[0].classification_result.classifications) == 2
    assert len(found[1].regression_result.regressions) == 2


@pytest.mark.parametrize("pairs, code, text", [
    ([], CODE.INVALID_ARGUMENT, "ModelSpec has no name specified."),
    ([("m", "regress", "regress"), ("n", "classify", "classify")],
     CODE.INVALID_ARGUMENT, "All ModelSpecs in a MultiInferenceRequest"),
    ([("m", "regress", "regress")] * 2, CODE.INVALID_ARGUMENT,
     "Duplicate evaluation of signature: regress"),
    ([("m", "none", "regress")], CODE.INVALID_ARGUMENT,
     "Requested signature not found in model graph: none"),
    ([("m", "regress", "predict")], CODE.UNIMPLEMENTED,
     "Unsupported signature method_name: tensorflow/serving/predict")])
def test_bad_multi_inference(stub, pairs, code, text):
    found = refused(stub.MultiInference, tasks(*pairs))
    assert found[0] == code
    assert found[1].startswith(text)


def status(**spec):
    request = get_model_status_pb2.GetModelStatusRequest()
    if "name" in spec:
        request.model_spec.name = spec["name"]
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    return request


def test_status_of_a_model(models):
    for request in (status(name="m"), status(name="m", version=3),
                    status(name="m", label="ignored")):
        found, = models.GetModelStatus(request).model_version_status
        assert (found.version, found.state) == (3, 30)
        assert found.HasField("status") and found.status.error_code == 0


@pytest.mark.parametrize("request_, code, text", [
    (status(), CODE.INVALID_ARGUMENT, "Missing ModelSpec"),
    (status(name="m", version=9), CODE.NOT_FOUND,
     "Could not find version 9 of model m"),
    (status(name="other"), CODE.NOT_FOUND,
     "Could not find any versions of model other")])
def test_bad_status_request(models, request_, code, text):
    assert refused(models.GetModelStatus, request_) == (code, text)


def test_reload_takes_lists_only(models):
    request = model_management_pb2.ReloadConfigRequest()
    code, text = refused(models.HandleReloadConfigRequest, request)
    assert code == CODE.INVALID_ARGUMENT
    assert text.startswith("ServerModelConfig type not supported by")


def test_health(channel):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "ModelService", "PredictionService"):
        assert health.Check(health_pb2.HealthCheckRequest(
            service=name)).status == health_pb2.HealthCheckResponse.SERVING
    assert refused(health.Check, health_pb2.HealthCheckRequest(
        service="other"))[0] == CODE.NOT_FOUND


def test_monitor_hears_of_every_request(server, stub):
    monitor = server._monitor
    monitor.seen.clear()
    stub.Predict(predict({"user_id": ["a"]}))
    refused(stub.Predict, predict({}, name="other"))
    until = time.monotonic() + 120  # told after the client has its answer
    while len(monitor.seen) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert [row[:4] for row in monitor.seen] == [
        ("m", "Predict", "GRPC", "OK"),
        ("other", "Predict", "GRPC", "NOT_FOUND")]
    assert 0 < monitor.seen[0][4] < 10
