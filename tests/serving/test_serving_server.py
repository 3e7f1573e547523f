"""A server process: start, hot swap, reload, TLS, stop."""
from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import serving_models
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrecal import files
from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.server import Server, main, options_of


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "1"
    serving_models.write_model(folder)
    return folder


@pytest.fixture
def base(exported, tmp_path):
    put(exported, tmp_path / "models" / "m", 1)
    return tmp_path / "models" / "m"


def put(exported, base, number, truncate=False):
    """A version that appears at once."""
    beside = base / f".{number}"
    shutil.copytree(exported, beside)
    if truncate:
        path = beside / "saved_model.pb"
        path.write_bytes(path.read_bytes()[:1000])
    beside.rename(base / str(number))


def predict(user="a"):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([user]))
    return request


def status(models, name="m"):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    return {s.version: s for s
            in models.GetModelStatus(request).model_version_status}


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@contextlib.contextmanager
def process(*flags):
    """A server process that is ready, and the line that it printed."""
    with subprocess.Popen(
            [sys.executable, "-m", "tfrecal.serving.server.server", *flags],
            stdout=subprocess.PIPE, text=True) as found:
        try:
            yield found, found.stdout.readline()
        finally:
            found.kill()


@contextlib.contextmanager
def running(**flags):
    server = Server(options_of(**{"port": None, "model_name": "m", **flags}))
    server.start()
    try:
        yield server
    finally:
        server.stop(1)


def stub_of(server, credentials=None):
    address = f"localhost:{server.grpc_port}"
    channel = grpc.insecure_channel(address) if credentials is None \
        else grpc.secure_channel(address, credentials)
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.mark.large
def test_process_swaps_reloads_and_stops(base, exported):
    port = serving_models.free_port()
    put(exported, base, 2, truncate=True)
    with process(f"--port={port}", "--model_name=m",
                 f"--model_base_path={base}", "--unknown=1",
                 "--file_system_poll_wait_seconds=0.1",
                 "--max_num_load_retries=0") as (server, line):
        assert line == f"Serving m 1: gRPC on port {port}\n"
        channel = grpc.insecure_channel(f"localhost:{port}")
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        stop, seen, failed = threading.Event(), set(), []

        def ask():
            while not stop.is_set():
                try:
                    found = stub.Predict(predict("c"), timeout=20)
                    assert found.outputs["scores"].float_val[0] == 3
                    seen.add(found.model_spec.version.value)
                except Exception as error:
                    failed.append(error)

        clients = [threading.Thread(target=ask) for _ in range(4)]
        for client in clients:
            client.start()
        put(exported, base, 3)
        until(lambda: 3 in seen)
        put(exported, base, 4, truncate=True)
        until(lambda: 4 in status(models) and status(models)[4].state == 50)
        put(exported, base, 5)
        until(lambda: 5 in seen and status(models)[3].state == 50)
        stop.set()
        for client in clients:
            client.join()
        assert not failed and seen == {1, 3, 5}
        found = status(models)
        assert {n: s.state for n, s in found.items()} == {
            5: 30, 4: 50, 3: 50, 2: 50, 1: 50}
        assert found[4].status.error_code != 0
        assert "Can't parse" in found[4].status.error_message
        assert found[3].status.error_code == 0

        request = model_management_pb2.ReloadConfigRequest()
        for name in ("m", "n"):
            request.config.model_config_list.config.add(
                name=name, base_path=str(base), model_platform="tensorflow")
        response = models.HandleReloadConfigRequest(request, timeout=30)
        assert response.status.error_code == 0
        assert status(models, "n")[5].state == 30

        slow = predict_pb2.PredictRequest()
        slow.model_spec.name, slow.model_spec.signature_name = "m", "spin"
        slow.inputs["rounds"].CopyFrom(
            tf.make_tensor_proto(np.array([2000], np.int32)))
        call = stub.Predict.future(slow, timeout=60)
        time.sleep(0.1)
        server.send_signal(signal.SIGTERM)
        assert call.result().outputs["rounds"].int_val[0] == 2000
        channel.close()
        assert server.wait(20) == 0


def test_config_file_is_followed(base, exported, tmp_path):
    file = tmp_path / "models.config"
    put(exported, base, 2)

    def replace(text):
        # Whole or not at all: a poll that reads an emptied file takes all
        # models out, and a label of the next one then never comes true.
        files.replace_file(file, lambda part: part.write_text(text))

    def write(*names, versions=""):
        replace("model_config_list {" + "".join(
            f'config {{ name: "{name}" base_path: {json.dumps(str(base))} '
            f'model_platform: "tensorflow" {versions} }}'
            for name in names) + "}")

    write("m")
    with running(model_config_file=str(file),
                 model_config_file_poll_wait_seconds=0.05,
                 file_system_poll_wait_seconds=0.1) as server:
        assert server.manager.available() == {"m": [2]}
        write("m", "n", versions="model_version_policy { all {} }")
        until(lambda: server.manager.available() == {
            "m": [1, 2], "n": [1, 2]})
        replace("model_config_list { config { name: 5 } }")
        time.sleep(0.2)
        write("m", versions="model_version_policy { specific { versions: 1 "
              "} }")
        until(lambda: server.manager.available() == {"m": [1]})
        # A label that comes before its version is tried again.
        write("m")
        until(lambda: server.manager.available() == {"m": [2]})
        write("m", versions='version_labels { key: "stable" value: 3 }')
        time.sleep(0.2)
        put(exported, base, 3)
        request = predict()
        request.model_spec.version_label = "stable"
        stub = stub_of(server)

        def labelled():
            try:
                return stub.Predict(request).model_spec.version.value
            except grpc.RpcError:
                return None

        until(lambda: labelled() == 3)


def test_start_without_a_model_is_a_start(tmp_path, base):
    missing = tmp_path / "models" / "later"
    with running(model_base_path=str(missing),
                 file_system_poll_wait_seconds=0.1) as server:
        with pytest.raises(grpc.RpcError) as seen:
            stub_of(server).Predict(predict())
        assert seen.value.code() == grpc.StatusCode.NOT_FOUND
        base.rename(missing)
        until(lambda: server.manager.available() == {"m": [1]})


def test_batched_requests_do_not_share_their_errors(base, tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text("max_batch_size { value: 64 } "
                    "batch_timeout_micros { value: 20000 } "
                    "num_batch_threads { value: 2 }")
    with running(model_base_path=str(base), enable_batching=True,
                 batching_parameters_file=str(file)) as server:
        stub = stub_of(server)
        calls = {user: stub.Predict.future(predict(user)) for user in "abc"}
        bad = predict()
        bad.model_spec.signature_name = "gather"
        bad.inputs.clear()
        bad.inputs["ids"].CopyFrom(
            tf.make_tensor_proto(np.array([99], np.int64)))
        good = predict_pb2.PredictRequest()
        good.CopyFrom(bad)
        good.inputs["ids"].CopyFrom(
            tf.make_tensor_proto(np.array([1], np.int64)))
        failing, passing = (stub.Predict.future(r) for r in (bad, good))
        for number, call in enumerate(calls.values(), 1):
            assert call.result().outputs["scores"].float_val[0] == number
        assert failing.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert list(passing.result().outputs["values"].int_val) == [20]


def test_too_many_requests_at_once_are_refused(base):
    with running(model_base_path=str(base), max_concurrent_requests=2,
                 grpc_max_threads=2) as server:
        stub = stub_of(server)
        request = predict()
        request.model_spec.signature_name = "spin"
        request.inputs.clear()
        request.inputs["rounds"].CopyFrom(
            tf.make_tensor_proto(np.array([3000], np.int32)))
        codes = [call.code() for call in
                 [stub.Predict.future(request) for _ in range(6)]]
        assert codes.count(grpc.StatusCode.OK) == 2
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 4
        assert stub.Predict(predict()).outputs


def test_size_of_requests_can_be_set(base):
    with running(model_base_path=str(base), grpc_channel_arguments=(
            "grpc.max_receive_message_length=1000")) as server:
        stub = stub_of(server)
        assert stub.Predict(predict("x" * 500)).outputs
        with pytest.raises(grpc.RpcError) as seen:
            stub.Predict(predict("x" * 2000))
        assert seen.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_outputs_in_tensor_content_and_method_check(base):
    with running(model_base_path=str(base),
                 enable_serialization_as_tensor_content=True,
                 enable_signature_method_name_check=True) as server:
        stub = stub_of(server)
        outputs = stub.Predict(predict()).outputs
        assert tf.make_ndarray(outputs["scores"]).tolist() == [[1, -1]]
        assert outputs["names"].tensor_content == b"\x06user a"
        request = predict()
        request.model_spec.signature_name = "__saved_model_init_op"
        with pytest.raises(grpc.RpcError) as seen:
            stub.Predict(request)
        assert seen.value.code() == grpc.StatusCode.INTERNAL
        assert seen.value.details().startswith(
            "Expected prediction signature method_name to be one of")


def test_socket_path(base, tmp_path):
    path = tmp_path / "s"
    with running(model_base_path=str(base), port=0,
                 grpc_socket_path=str(path)) as server:
        assert server.grpc_port is None
        stub = prediction_service_pb2_grpc.PredictionServiceStub(
            grpc.insecure_channel(f"unix:{path}"))
        assert stub.Predict(predict()).outputs


@pytest.mark.parametrize("verify", [False, True])
def test_tls(base, tmp_path, certificate_files, verify):
    cert, key = (path.read_text() for path in certificate_files)
    file = tmp_path / "ssl.config"
    file.write_text(f"server_key: {json.dumps(key)} "
                    f"server_cert: {json.dumps(cert)} "
                    f"custom_ca: {json.dumps(cert)} "
                    f"client_verify: {str(verify).lower()}")
    alone = grpc.ssl_channel_credentials(cert.encode())
    both = grpc.ssl_channel_credentials(
        cert.encode(), key.encode(), cert.encode())
    with running(model_base_path=str(base),
                 ssl_config_file=str(file)) as server:
        assert stub_of(server, both).Predict(predict(), timeout=20).outputs
        refused = [None, alone] if verify else [None]
        for credentials in refused:
            with pytest.raises(grpc.RpcError) as seen:
                stub_of(server, credentials).Predict(predict(), timeout=20)
            assert seen.value.code() == grpc.StatusCode.UNAVAILABLE
        if not verify:
            assert stub_of(server, alone).Predict(predict(),
                                                  timeout=20).outputs


@pytest.mark.parametrize("flags, text", [
    ({"port": 0}, "Either `--port` or `--grpc_socket_path`"),
    ({"model_base_path": ""}, "Either `--model_base_path` or"),
    ({"model_base_path": "relative"}, "to have an absolute path"),
    ({"batching_parameters_file": "x"}, "`--batching_parameters_file` must"),
    ({"model_config_file": "/no/such"}, "Cannot read /no/such as"),
    ({"grpc_channel_arguments": "a"}, "must be k=v,k2=v2"),
    ({"ssl_config_file": os.devnull}, "must hold `server_key` and")])
def test_options_that_cannot_work(flags, text, capsys):
    flags = {"port": 8500, "model_base_path": "/m", **flags}
    with pytest.raises(ServingError) as seen:
        Server(options_of(**flags))
    assert text in seen.value.message
    assert main([f"--{name}={value}" for name, value in flags.items()]) == 2
    assert text in capsys.readouterr().err


def test_port_in_use(base, capsys):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main([f"--port={port}", f"--model_base_path={base}"]) == 1
    assert f"listen on 0.0.0.0:{port}" in capsys.readouterr().err
