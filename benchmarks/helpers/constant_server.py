"""The floor: a gRPC server that answers Predict with the same bytes.

    python constant_server.py PORT FILE WORKERS

FILE holds a serialised PredictResponse.
"""
import sys
from concurrent import futures
from pathlib import Path

import grpc


def main(port: str, file: str, workers: str) -> None:
    answer = Path(file).read_bytes()
    server = grpc.server(futures.ThreadPoolExecutor(int(workers)))
    method = grpc.unary_unary_rpc_method_handler(lambda request, _: answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
        "tensorflow.serving.PredictionService", {"Predict": method}),))
    server.add_insecure_port(f"localhost:{port}")
    server.start()
    print("Serving a constant", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
