"""Does a change of versions under load fail or falsify an answer?

32 clients ask `recommend` without a pause while ten further versions of the
model are renamed into the base path, one of them broken (its graph cut off).
Item ids tell which version computed an answer: it must be the one that the
answer names, and from the moment at which the server reports a version as
AVAILABLE no request may be answered by an older one. The broken version must
be reported, and the one before it must go on answering.

    python benchmarks/hot_swap.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import grpc
from helpers import served
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrecal.export.export_model import export_model

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)

AVAILABLE, END = 30, 50
CLIENTS, BROKEN = 32, 6


class Clients:
    """Threads that ask until they are stopped, and what they saw."""

    def __init__(self, address: str, name: str):
        self.address, self.name = address, name
        self.newest = 1  # version that was reported as available
        self.answers = self.failed = self.wrong = 0
        self.errors: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.name
        request.inputs["user_id"].CopyFrom(
            tf.make_tensor_proto(["u5", "nobody"]))
        with grpc.insecure_channel(self.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.is_set():
                newest = self.newest
                try:
                    answer = stub.Predict(request, timeout=30)
                except grpc.RpcError as error:
                    with self._lock:
                        self.failed += 1
                        self.errors.add(f"{error.code()}: {error.details()}")
                    continue
                version = answer.model_spec.version.value
                ids = answer.outputs["item_ids"].string_val
                mixed = {i.split(b"-")[0] for i in ids} != {
                    f"v{version}".encode()}
                with self._lock:
                    self.answers += 1
                    self.wrong += mixed or version < newest


def status(stub, name: str) -> dict[int, int]:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    return {row.version: row.state for row in stub.GetModelStatus(
        request, timeout=30).model_version_status}


def swap(folder: Path, versions: list[Path], wait: float) -> dict:
    base = folder / "recommender"
    base.mkdir()
    versions[0].rename(base / "1")
    rows = []
    with served.server(
            base, "--file_system_poll_wait_seconds=1",
            "--max_num_load_retries=0") as (address, _):
        stub = model_service_pb2_grpc.ModelServiceStub(
            grpc.insecure_channel(address))
        with Clients(address, "recommender") as clients:
            time.sleep(wait)
            for number, path in enumerate(versions[1:], 2):
                before, start = clients.answers, time.perf_counter()
                path.rename(base / str(number))
                wanted = END if number == BROKEN else AVAILABLE
                while status(stub, "recommender").get(number) != wanted:
                    if time.perf_counter() - start > 120:
                        raise SystemExit(f"version {number} did not come up")
                    time.sleep(0.05)
                if number != BROKEN:
                    clients.newest = number
                seconds = time.perf_counter() - start
                time.sleep(wait)
                rows.append((number, seconds, clients.answers - before))
    print(f"{'version':>7} {'seen after s':>12} {'answers':>8}")
    for number, seconds, answers in rows:
        print(f"{number:7} {seconds:12.1f} {answers:8}"
              f"{'  broken: reported' if number == BROKEN else ''}")
    return {"swaps": len(rows), "failed": clients.failed,
            "wrong_version": clients.wrong, "answers": clients.answers,
            "errors": sorted(clients.errors)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="less load between the swaps")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        folder, versions = Path(folder), []
        for number in range(1, 12):
            model, pool = served.random_model(
                2000, dim=16, prefix=f"v{number}-")
            versions.append(export_model(
                model, folder / f"made{number}", pool=pool, index="exact"))
        graph = versions[BROKEN - 1] / "saved_model.pb"
        graph.write_bytes(graph.read_bytes()[:20_000])
        print(json.dumps(swap(folder, versions, 0.5 if options.quick else 5)))


if __name__ == "__main__":
    main()
