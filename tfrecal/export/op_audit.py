"""Finds the ops of a SavedModel, and the server binaries that have them."""
from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

from tensorflow.core.protobuf import saved_model_pb2

# Name -> server binary. `_HAVE` says which of them register the ops of a
# package outside TensorFlow's core.
SERVERS = {
    "stock": "tensorflow_model_server as published (tensorflow/serving)",
    "scann": "tensorflow_model_server built with ScaNN's ops (serving/)",
    "tfrecal": "tfrecal serve"}
_HAVE = {"tensorflow-text": ("stock", "scann", "tfrecal"),
         "scann": ("scann", "tfrecal")}
# This program asks a TensorFlow beside which no other library is loaded.
_CORE = """
import json, sys
from tensorflow.python.framework import op_def_registry
import tensorflow
names = json.load(sys.stdin)
print(json.dumps([n for n in names if op_def_registry.get(n) is None]))
"""


def ops_of(folder) -> set[str]:
    """Returns the names of all ops in a SavedModel's graphs and functions."""
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((Path(folder) / "saved_model.pb").read_bytes())
    found = set()
    for graph in (meta.graph_def for meta in model.meta_graphs):
        functions = {f.signature.name for f in graph.library.function}
        nodes = [*graph.node]
        for function in graph.library.function:
            nodes += function.node_def
        found |= {node.op for node in nodes} - functions
    return found


def audit(folder) -> dict:
    """Finds ops outside TensorFlow's core, and the servers that have them.

    Returns:
        `ops`: name -> package, of the ops outside the core; `servers`: the
        names in `SERVERS` of the binaries that have them all.
    """
    extra = _outside_core(tuple(sorted(ops_of(folder))))
    ops = {name: _package(name) for name in extra}
    return {"ops": ops, "servers": [
        server for server in SERVERS
        if all(server in _HAVE.get(package, ()) for package in ops.values())]}


@functools.cache
def _outside_core(names: tuple[str, ...]) -> list[str]:
    answer = subprocess.run(
        [sys.executable, "-c", _CORE], input=json.dumps(names), text=True,
        check=True, capture_output=True)
    return json.loads(answer.stdout.splitlines()[-1])


@functools.cache
def _package(name: str) -> str:
    if name.startswith("Scann>"):
        return "scann"
    import tensorflow_text
    folder = Path(tensorflow_text.__file__).parent / "python"
    if any(name.encode() in path.read_bytes()
           for path in folder.rglob("*.so")):
        return "tensorflow-text"
    return "unknown"
