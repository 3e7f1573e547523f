"""How much does serving cost above a gRPC server that does nothing?

`recommend` over 20,000 items of 64 dimensions, on `tfrecal serve` with the
exact and with the ScaNN index, beside a server that returns the same bytes
without a model (the floor). Server and clients are two processes and share
the machine; clients are threads. One row a request for 1, 8 and 32 clients,
taking turns between the servers; then 32 rows a request with 8 clients.
Requests are ready-made, answers are parsed.

    python benchmarks/server.py [--quick] [--memory]

`--memory` measures the resident memory of servers of 10^6 items instead.
"""
from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import grpc
import numpy as np
from helpers import served
from tensorflow_serving.apis import predict_pb2

from tfrecal.export.export_model import export_model

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)

METHOD = "/tensorflow.serving.PredictionService/Predict"


def requests_of(pool, rows: int, name: str, count: int = 200) -> list[bytes]:
    """Serialised requests for random users."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        request = predict_pb2.PredictRequest()
        request.model_spec.name = name
        tensor = request.inputs["user_id"]
        tensor.dtype = tf.string.as_datatype_enum
        tensor.tensor_shape.dim.add(size=rows)
        tensor.string_val.extend(
            str(user).encode() for user in rng.choice(pool.user_ids, rows))
        found.append(request.SerializeToString())
    return found


def ask_for(address: str, requests, clients: int, seconds: float):
    """Latencies of all answers, seconds; how many failed; wall time."""
    latencies, failed = [], []
    stop = time.perf_counter() + seconds

    def work(number):
        with grpc.insecure_channel(address, options=[
                ("grpc.use_local_subchannel_pool", 1)]) as channel:
            call = channel.unary_unary(
                METHOD, request_serializer=None,
                response_deserializer=predict_pb2.PredictResponse.FromString)
            place, mine = number * 7, []
            while time.perf_counter() < stop:
                place += 1
                started = time.perf_counter()
                try:
                    call(requests[place % len(requests)], timeout=30)
                except grpc.RpcError as error:
                    failed.append(error.code())
                    continue
                mine.append(time.perf_counter() - started)
            latencies.extend(mine)

    started = time.perf_counter()
    threads = [threading.Thread(target=work, args=[n])
               for n in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, len(failed), time.perf_counter() - started


def speed(options) -> dict:
    model, pool = served.random_model(20_000)
    seconds, rounds = (1, 2) if options.quick else (3, 5)
    with tempfile.TemporaryDirectory() as folder:
        exact, scann = (
            export_model(model, Path(folder) / name, pool=pool, index=name)
            for name in ("exact", "scann"))
        with served.server(exact.parent) as (a, _), served.server(
                scann.parent) as (b, _):
            answer = predict_pb2.PredictResponse.FromString(
                grpc.insecure_channel(a).unary_unary(METHOD)(
                    requests_of(pool, 1, "exact")[0]))
            with served.constant_server(answer.SerializeToString()) as floor:
                found = {}
                for rows, clients in ((1, 1), (1, 8), (1, 32), (32, 8)):
                    found[f"{rows} row, {clients} clients"] = dict(turns(
                        pool, {"floor": floor, "exact": a, "scann": b},
                        rows, clients, seconds, rounds))
    print(f"{'requests':20} {'server':8} {'p50 ms':>8} {'p99 ms':>8} "
          f"{'req/s':>8} {'rows/s':>8} {'failed':>6}")
    for case, rows in found.items():
        for name, row in rows.items():
            per_request = int(case.split()[0])
            print(f"{case:20} {name:8} {row['p50_ms']:8.2f} "
                  f"{row['p99_ms']:8.2f} {row['qps']:8.0f} "
                  f"{row['qps'] * per_request:8.0f} {row['failed']:6}")
    one, eight, many = (found[f"{r} row, {c} clients"] for r, c in (
        (1, 1), (1, 8), (32, 8)))
    return {
        "p50_over_floor": round(
            one["scann"]["p50_ms"] / one["floor"]["p50_ms"], 2),
        "p50_over_floor_exact": round(
            one["exact"]["p50_ms"] / one["floor"]["p50_ms"], 2),
        "p50_ms": round(one["scann"]["p50_ms"], 3),
        "p99_ms": round(one["scann"]["p99_ms"], 3),
        "qps_8": round(eight["scann"]["qps"]),
        "rows_per_s": round(32 * many["scann"]["qps"]),
        "failed": sum(row["failed"] for rows in found.values()
                      for row in rows.values()), "cases": found}


def turns(pool, servers, rows, clients, seconds, rounds):
    """Rows of `measure`; each server is asked for its own model."""
    requests = {name: requests_of(pool, rows, name) for name in servers}
    found = {name: [] for name in servers}
    for name, address in servers.items():
        ask_for(address, requests[name], clients, 0.5)
    for _ in range(rounds):
        for name, address in servers.items():
            found[name].append(
                ask_for(address, requests[name], clients, seconds))
    for name, parts in found.items():
        latency = np.concatenate([part[0] for part in parts])
        yield name, {
            "p50_ms": 1e3 * float(np.median(latency)),
            "p99_ms": 1e3 * float(np.quantile(latency, 0.99)),
            "qps": float(np.median([len(p[0]) / p[2] for p in parts])),
            "failed": sum(part[1] for part in parts)}


def memory(options) -> dict:
    items = 100_000 if options.quick else 1_000_000
    model, pool = served.random_model(items)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for index in ("exact", "scann"):
            path = export_model(
                model, Path(folder) / index, pool=pool, index=index)
            with served.server(path.parent) as (address, pid):
                ask_for(address, requests_of(pool, 1, index), 1, 3)
                status = Path(f"/proc/{pid}/status").read_text()
                kilobytes = next(line.split()[1] for line in
                                 status.splitlines() if "VmRSS" in line)
            found[index] = int(kilobytes) / 1e6
            print(f"{items:,} items, {index}: {found[index]:.2f} GB resident")
    return {"items": items, "rss_gb": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    print(json.dumps((memory if options.memory else speed)(options)))


if __name__ == "__main__":
    main()
