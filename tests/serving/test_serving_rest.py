"""The REST interface over HTTP: a server process, and one in this one."""
from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import subprocess
import sys
import threading
import time
import types

import pytest
import requests
import serving_models

from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.manager import ModelManager
from tfrecal.serving.server.model_configs import single
from tfrecal.serving.server.rest.http import RestServer
from tfrecal.serving.server.servable import Servable

ONE = {"inputs": {"user_id": ["a"], "bonus": []}}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "my model"
    serving_models.write_model(folder / "3")
    return folder


@pytest.fixture(scope="module")
def url(base, tmp_path_factory):
    """Address of a server process."""
    grpc_socket = tmp_path_factory.mktemp("socket") / "grpc"
    with subprocess.Popen(
            [sys.executable, "-m", "tfrecal.serving.server.server", "--port=0",
             f"--grpc_socket_path={grpc_socket}",
             f"--rest_api_port={serving_models.free_port()}",
             "--model_name=my model", f"--model_base_path={base}"],
            stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            port = re.search(r"REST on port (\d+)", line).group(1)
            yield f"http://localhost:{port}"
            assert process.poll() is None, "the server died"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def http():
    with requests.Session() as session:
        yield session


@pytest.fixture
def post(url, http):
    def send(content, path="/v1/models/my%20model:predict", **options):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        return http.post(url + path, data=content, timeout=30, **options)

    return send


@pytest.fixture(scope="module")
def manager(base):
    manager = ModelManager(single("m", str(base)), load=Servable)
    manager.start()
    yield manager
    manager.stop()


@contextlib.contextmanager
def running(manager, **options):
    """A server in this process, with a small timeout."""
    server = RestServer(manager, None, types.SimpleNamespace(**{
        "rest_api_port": None, "rest_api_timeout_in_ms": 30000,
        "rest_api_num_threads": 2, "rest_api_enable_cors_support": False,
        "monitoring_path": None, **options}))
    server.start()
    try:
        yield server, f"http://localhost:{server.port}/v1/models/m"
    finally:
        server.stop()


def test_predict_in_both_formats(post):
    found = post({"inputs": {"user_id": ["a", "b"], "bonus": [0.2]}})
    assert found.status_code == 200
    assert found.headers["Content-Type"] == "application/json"
    assert found.json() == {"outputs": {
        "names": ["user a", "user b"], "scores": [[1.2, -1.2], [2, -2]]}}
    found = post({"instances": [{"user_id": "c", "bonus": 1},
                                {"bonus": 0.5, "user_id": {"b64": "YQ"}}]},
                 "/v1/models/my%20model/versions/3:predict")
    assert found.json() == {"predictions": [
        {"names": "user c", "scores": [4.0, -4.0]},
        {"names": "user a", "scores": [1.5, -1.5]}]}
    found = post({"signature_name": "gather", "instances": [2, 0]})
    assert found.json() == {"predictions": [30, 10]}


def test_strings_that_are_not_utf8(post):
    found = post(b'{"inputs": {"user_id": ["\xff"], "bonus": []}}')
    assert b'["user \xff"]' in found.content


@pytest.mark.parametrize("content, status, error", [
    ({}, 400, "Missing 'inputs' or 'instances' key"),
    (b"nothing", 400, "JSON Parse error: Invalid value. at offset: 0"),
    ({"signature_name": "x"}, 400,
     'Serving signature name: "x" not found in signature def'),
    ({"signature_name": "__saved_model_init_op", "inputs": 1}, 400,
     "Failed to get input map for signature: __saved_model_init_op"),
    ({"instances": [{"user_id": "a"}]}, 400, "Failed to process element: 0"),
    ({"inputs": {"user_id": "a", "bonus": []}}, 400, ""),
    ({"inputs": {"user_id": [1], "bonus": []}}, 400, "JSON Value: 1 Type: "),
    ({"signature_name": "gather", "inputs": [3]}, 400, "indices[0] = 3"),
    ({"signature_name": "count", "instances": ["a"]}, 400,
     "Tensor name: first has no shape information")])
def test_bodies_that_are_refused(post, content, status, error):
    found = post(content)
    assert found.status_code == status
    assert found.headers["Content-Type"] == "application/json"
    assert found.json()["error"].startswith(error)


@pytest.mark.parametrize("method, path, status, error", [
    ("POST", "models/n:predict", 404, "Servable not found for request: Lat"),
    ("POST", "models/my%20model/versions/9:predict", 404,
     "Servable not found for request: Specific(my model, 9)"),
    ("POST", "models/my%20model/labels/x:predict", 400,
     "Unrecognized servable version label: x"),
    ("POST", "models/my%20model:PREDICT", 400, "Malformed request: POST /v1"),
    ("POST", "models/my%20model:predict?x=1", 400, "Malformed request: POST"),
    ("POST", "models/my%20model", 400, "Malformed request: POST /v1/models/"),
    ("PUT", "models/my%20model:predict", 400, "Malformed request: PUT /v1/"),
    ("GET", "foo", 400, "Malformed request: GET /v1/foo"),
    ("GET", "models", 400, "Missing model name in request."),
    ("GET", "models/m?x=1", 404, "Could not find any versions of model m?x"),
    ("GET", "models/my%20model/versions/9", 404,
     "Could not find version 9 of model my model"),
    ("GET", "models/n/metadata", 404, "Servable not found for request: La")])
def test_paths_that_are_refused(url, http, method, path, status, error):
    found = http.request(method, f"{url}/v1/{path}", timeout=30,
                         data=json.dumps(ONE) if method == "POST" else None)
    assert found.status_code == status
    assert found.json()["error"].startswith(error)


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 5000])
def test_version_above_int64_has_an_empty_answer(url, http, digits):
    found = http.get(f"{url}/v1/models/m/versions/{digits}")
    assert (found.status_code, found.content) == (400, b"")


def test_what_is_not_the_interface(url, http):
    for path in ("/", "/v2/models/m", "/monitoring/prometheus/metrics"):
        found = http.get(url + path)
        assert found.status_code == 404
        assert found.headers["Content-Type"] == "text/html"
    for _ in range(2):
        assert http.head(f"{url}/v1/models/my%20model").status_code == 400
    here = f"{url}/v1/models/m"
    assert http.options(here).status_code == 400
    found = http.options(here, headers={"Origin": "http://x"})
    assert (found.status_code, found.content) == (200, b"")
    assert "Access-Control-Allow-Origin" not in found.headers


def test_status_and_metadata(url, http):
    for path in ("", "/versions/3", "/labels/x", "/METADATA"):
        found = http.get(f"{url}/V1/Models/my%20model{path}")
        assert found.json() == {"model_version_status": [
            {"version": "3", "state": "AVAILABLE",
             "status": {"error_code": "OK", "error_message": ""}}]}
    found = http.get(f"{url}/v1/models/my%20model/metadata").json()
    assert found["model_spec"] == {
        "name": "my model", "signature_name": "", "version": "3"}
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert signatures["gather"]["inputs"]["ids"] == {
        "name": "gather_ids:0", "dtype": "DT_INT64",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}],
                         "unknown_rank": False}}
    assert signatures["gather"]["defaults"] == {}
    assert signatures["serving_default"]["defaults"].keys() == {"bonus"}


def test_classify_and_regress(post):
    content = {"signature_name": "classify", "examples": [{}, {"a": 1}]}
    found = post(content, "/v1/models/my%20model:classify")
    assert found.json() == {"results": [
        [["yes", 0.0], ["no", 0.0]], [["yes", 14.0], ["no", -14.0]]]}
    content["signature_name"] = "regress"
    found = post(content, "/v1/models/my%20model:regress")
    assert found.json() == {"results": [0.0, 14.0]}
    found = post({"examples": [{}]}, "/v1/models/my%20model:classify")
    assert found.status_code == 400
    assert found.json()["error"] == "Expected one input Tensor."


def test_packed_bodies(post):
    header = {"headers": {"Content-Encoding": "gzip"}}
    packed = gzip.compress(json.dumps(ONE).encode())
    assert post(packed, **header).json()["outputs"]["names"] == ["user a"]
    assert post(packed[:-9], **header).status_code == 400
    assert post(b"{}", **header).status_code == 400
    bomb = gzip.compress(bytes(101 << 20), 1)
    assert post(bomb, **header).status_code == 429


def test_large_and_empty_batches(post):
    many = {"inputs": {"user_id": ["b"] * 100_000, "bonus": []}}
    found = post(many).json()["outputs"]
    assert found["scores"] == [[2.0, -2.0]] * 100_000
    assert post({"inputs": {"user_id": [], "bonus": []}}).json() == {
        "outputs": {"names": [], "scores": []}}
    text = "x" * 10_000_000
    found = post({"inputs": {"user_id": [text], "bonus": []}}).json()
    assert found["outputs"]["names"] == [f"user {text}"]


def test_hanging_clients_and_garbage_do_not_disturb_others(url, post):
    address = ("localhost", int(url.rsplit(":")[-1]))
    head = b"POST /v1/models/my%20model:predict HTTP/1.1\r\nHost: x\r\n"
    starts = [b"", head, head + b"Content-Length: 99\r\n\r\n{", b"\0\xff",
              b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n",
              head + b"Content-Length: -1\r\n\r\n"]
    with contextlib.ExitStack() as stack:
        for start in starts * 15:
            client = stack.enter_context(socket.create_connection(address))
            client.sendall(start)
        started = time.perf_counter()
        assert post(ONE).status_code == 200
        assert time.perf_counter() - started < 5
    assert post(ONE).status_code == 200


def test_timeout_and_cors(manager):
    with running(manager, rest_api_timeout_in_ms=100,
                 rest_api_enable_cors_support=True) as (_, url):
        found = requests.post(f"{url}:predict", json={
            "signature_name": "spin", "instances": [1_000_000]})
        assert found.status_code == 504
        for path in (url, f"{url}/versions/9", url.replace("v1", "v2")):
            headers = requests.get(path).headers
            assert headers["Access-Control-Allow-Origin"] == "*"
            assert headers["Access-Control-Allow-Methods"] == "POST, GET"
            assert headers["Access-Control-Allow-Headers"] == "Content-Type"


def test_stop_answers_what_runs(manager, monkeypatch):
    found, begun = [], threading.Event()
    with running(manager) as (server, url):
        answer = server._api.answer
        monkeypatch.setattr(server._api, "answer", lambda *arguments: (
            begun.set() or answer(*arguments)))
        idle = socket.create_connection(("localhost", server.port))
        client = threading.Thread(target=lambda: found.append(requests.post(
            f"{url}:predict", json={"signature_name": "spin",
                                    "instances": [1000]})))
        client.start()
        assert begun.wait(60)
    client.join()
    assert found[0].json() == {"predictions": [1000]}
    assert idle.recv(1) == b""
    idle.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(url)


def test_port_in_use(manager):
    with running(manager) as (server, _):
        with pytest.raises(ServingError, match="listen on port"):
            with running(manager, rest_api_port=server.port):
                pass
