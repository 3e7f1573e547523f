"""Exports and servers that the benchmarks of serving share."""
from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal import Pool, TwoTower, datasets
from tfrecal.data.interactions import Interactions
from tfrecal.text.encoder import TextEncoder

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)


def movielens(precision: str = "float32"):
    """A model with frozen MiniLM after two epochs, and its pool."""
    data = datasets.load("ml-100k")
    pool = Pool.from_interactions(data, initial=0.9, seed=0)
    model = TwoTower.from_interactions(
        data, dropout=0.05,
        encoder=TextEncoder("minilm", precision=precision))
    model.compile()
    model.fit(pool.sequence(1024), epochs=2, verbose=0)
    return model, pool


def random_model(items: int, dim: int = 64, users: int = 1000,
                 prefix: str = "i"):
    """A model without texts over so many items, and its pool.

    Not trained; its vectors lie in clusters, as trained ones do.
    """
    rng = np.random.default_rng(0)
    # Every item once, so that none is cold.
    item = np.arange(items)
    frame = pd.DataFrame({
        "user_id": [f"u{n}" for n in item % users],
        "item_id": [f"{prefix}{n}" for n in item],
        "label": rng.integers(1, 6, items)})
    data = Interactions.from_frame(frame)
    pool = Pool.from_interactions(data, initial=0.5, seed=0)
    model = TwoTower.from_interactions(data, embedding_dim=dim, dropout=0.1)
    model.compile()
    for tower in (model.query_tower, model.candidate_tower):
        tower.warm.assign(tf.ones_like(tower.warm))
    centres = rng.normal(0, 0.2, (max(50, items // 100), 2 * dim))
    for table in (model.query_tower.id_table, model.candidate_tower.id_table):
        rows = centres[rng.integers(len(centres), size=table.shape[0])]
        table.assign(rows + rng.normal(0, 0.1, rows.shape))
    return model, pool


@contextlib.contextmanager
def server(base_path: Path, *flags: str, seconds: float = 120):
    """`tfrecal serve` in a process of its own; yields its gRPC address.

    Args:
        base_path: of the model; its folder's name is the model's.
        *flags: further flags.
        seconds: to wait for the line that says that it serves.
    """
    port = _free_port()
    with _process([
            sys.executable, "-m", "tfrecal.serving.server.server",
            f"--model_name={base_path.name}",
            f"--model_base_path={base_path.resolve()}", f"--port={port}",
            *flags], seconds) as pid:
        yield f"localhost:{port}", pid


@contextlib.contextmanager
def constant_server(answer: bytes, workers: int = 8):
    """`constant_server.py` in a process of its own; yields its address."""
    port = _free_port()
    with tempfile.NamedTemporaryFile() as file:
        file.write(answer)
        file.flush()
        script = Path(__file__).with_name("constant_server.py")
        with _process([sys.executable, str(script), str(port), file.name,
                       str(workers)], 30):
            yield f"localhost:{port}"


@contextlib.contextmanager
def _process(command, seconds):
    """A server process that is there while the context lasts; its pid."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_it_serves(process, log, seconds)
            yield process.pid
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_it_serves(process, log, seconds):
    stop = time.monotonic() + seconds
    while True:
        log.seek(0)
        text = log.read()
        if "\nServing " in "\n" + text:
            return
        if process.poll() is not None or time.monotonic() > stop:
            raise RuntimeError(f"The server did not start:\n{text}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
