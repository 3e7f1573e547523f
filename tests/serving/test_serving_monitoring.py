"""Prometheus metrics: names, forms, and what is counted."""
from __future__ import annotations

import math
import time

import grpc
import pytest
import requests
import serving_models
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrecal.serving.server.monitoring import Monitor
from tfrecal.serving.server.server import Server, options_of

COUNT = ":tensorflow:serving:request_count"
LATENCY = ":tensorflow:serving:request_latency"


def samples(text):
    """`(name, labels)` -> value; the reader adds `_total` to counters."""
    return {(sample.name.removesuffix("_total"),
             frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples}


def value(text, name, **labels):
    return samples(text).get((name, frozenset(labels.items())))


def test_counts_and_latencies():
    monitor = Monitor()
    for seconds in (1e-6, 17e-6, 0.001, 1e9):
        monitor.request("m", "Predict", "GRPC", "OK", seconds)
    monitor.request("m", "Predict", "GRPC", "NOT_FOUND", 1)
    monitor.request('a"\\\n', "predict", "REST", "OK", 1)
    text = monitor.text()
    assert value(text, COUNT, model_name="m", status="OK") == 4
    assert value(text, COUNT, model_name="m", status="NOT_FOUND") == 1
    assert value(text, COUNT, model_name='a"\\\n', status="OK") == 1
    labels = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    assert value(text, f"{LATENCY}_count", **labels) == 4
    assert value(text, f"{LATENCY}_sum", **labels) == pytest.approx(1e15)
    buckets = {float(dict(key)["le"]): number
               for (name, key), number in samples(text).items()
               if name == f"{LATENCY}_bucket" and labels.items() <= set(key)}
    assert len(buckets) == 34
    assert sorted(buckets)[:-1] == pytest.approx(
        [10 * 1.8 ** i for i in range(33)])
    assert buckets[10.0] == 1 and buckets[18.0] == 2
    assert buckets[math.inf] == 4


def test_forms_of_the_real_server():
    monitor = Monitor()
    monitor.request("m", "predict", "REST", "OK", 0.001)
    lines = monitor.text().splitlines()
    assert f"# TYPE {COUNT} counter" in lines
    assert f"# TYPE {LATENCY} histogram" in lines
    names = {line.split("{")[0] for line in lines if line[0] != "#"}
    assert names == {COUNT, f"{LATENCY}_bucket", f"{LATENCY}_count",
                     f"{LATENCY}_sum"}


def test_names_that_clients_invent_are_bounded():
    monitor = Monitor()
    for number in range(5000):
        monitor.request(f"m{number}", "predict", "REST", "NOT_FOUND", 0)
    text = monitor.text()
    assert len(text.splitlines()) < 1100
    assert value(text, COUNT, model_name="", status="NOT_FOUND") == 4000


def test_a_call_is_cheap():
    monitor = Monitor()
    best = math.inf
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            monitor.request("m", "Predict", "GRPC", "OK", 0.001)
        best = min(best, time.perf_counter() - started)
    assert best < 0.05


def test_page_of_a_server(tmp_path):
    serving_models.write_model(tmp_path / "m" / "1")
    config = tmp_path / "monitoring.config"
    config.write_text("prometheus_config { enable: true }")
    server = Server(options_of(
        port=None, rest_api_port=None, model_name="m",
        model_base_path=str(tmp_path / "m"),
        monitoring_config_file=str(config)))
    server.start()
    try:
        url = f"http://localhost:{server.rest_port}"
        page = f"{url}/monitoring/prometheus/metrics"
        with grpc.insecure_channel(f"localhost:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a"]))
            stub.Predict(request)
        body = {"signature_name": "gather", "instances": [0]}
        requests.post(f"{url}/v1/models/m:predict", json=body)
        requests.post(f"{url}/v1/models/n:predict", json=body)
        requests.get(f"{url}/v1/models/m")
        requests.get(f"{url}/v1/foo")
        found = requests.get(page)
        assert found.headers["Content-Type"] == "text/plain"
        for name, status, number in (
                ("m", "OK", 3), ("n", "NOT_FOUND", 1),
                ("", "INVALID_ARGUMENT", 1)):
            assert value(found.text, COUNT, model_name=name,
                         status=status) == number
        for api, entrypoint in (("Predict", "GRPC"), ("predict", "REST"),
                                ("", "REST")):
            labels = {"model_name": "m", "API": api,
                      "entrypoint": entrypoint}
            assert value(found.text, f"{LATENCY}_count", **labels) == 1
            assert 10 < value(found.text, f"{LATENCY}_sum", **labels) < 1e7
        found = requests.get(f"{page}?x=1")
        assert found.status_code == 400
        assert found.text.startswith("Unexpected path: /monitoring/")
    finally:
        server.stop(1)
