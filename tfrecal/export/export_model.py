"""export_model: writes a trained model as a version that servers load."""
from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
from pathlib import Path

import filelock
import numpy as np
import tensorflow as tf

from tfrecal import checks
from tfrecal.export import index as indexes
from tfrecal.export.example_requests import (
    check_loads,
    example_requests,
    write_warm_up,
)
from tfrecal.export.manifest import stack, write_manifest
from tfrecal.export.op_audit import SERVERS, audit
from tfrecal.export.serving_model import ServingModel
from tfrecal.files import damaged, replace_folder, write_bytes
from tfrecal.scoring.scorer import PoolScorer
from tfrecal.serving.manifest import WARM_UP


def export_model(model, folder, *, pool, k: int = 20, index: str = "auto",
                 target_recall: float = 0.97, encoder=None,
                 precision: str | None = None, server: str | None = None,
                 metrics: dict | None = None, fingerprint: str = "",
                 run: str = "", seed: int = 0) -> Path:
    """Writes `<folder>/<version>/`, all of it or nothing.

    Its files follow the umask: a server under another account reads them.

    Args:
        model: a trained model that offers `model.protocol.Recommends`. A
            model with `for_serving`, such as `TwoTower`, also answers by the
            histories and texts of requests.
        folder: the model's base path, which servers poll. The version is one
            above the highest that it ever held.
        pool: the `Pool` that the model was trained on.
        k: number of items that an answer holds.
        index: `"auto"`, `"exact"` or `"scann"`; see `index.build_index`.
        target_recall: the recall that ScaNN must reach among the first `k`.
        encoder: a `TextEncoder` that encodes search texts and new items in
            place of the model's: a student of it (`distill.distill`). The
            items of the pool keep their vectors.
        precision: precision of the served encoder: `"float32"`,
            `"bfloat16"` or `"int8"`; None for its own. See `ServedEncoder`.
        server: the binary that must be able to load it (see
            `op_audit.SERVERS`); None for any.
        metrics: name -> number, for the manifest.
        fingerprint: the data's fingerprint, for the manifest.
        run: the run that made the model, for the manifest.
        seed: seed of the queries that tune the index.

    Returns:
        Path of the version folder.

    Raises:
        ValueError: the server is unknown or cannot run the index, the
            encoder's vectors are not like the model's, or
            `model.probe.check` refuses the model, or it changes meanwhile.
    """
    check_server(server, index)
    scorer = PoolScorer.of(model, pool)
    scorer.check()
    likeness = {}
    if encoder is not None or precision is not None:
        if not hasattr(model, "served_likeness"):
            raise ValueError(
                "`encoder` and `precision` are of a model that reads texts. "
                f"Received: a {type(model).__name__} that offers none. Leave "
                "them out.")
        likeness = model.served_likeness(encoder, precision)
    if server == "stock":
        index = "exact"
    query, candidate = scorer.vectors("retrieval")
    users = np.flatnonzero(query.any(axis=1))
    made = indexes.build_index(
        candidate[1:], k=min(k, len(candidate) - 1), kind=index,
        target_recall=target_recall, seed=seed,
        queries=query[users] if len(users) > 3 else None)
    serving = ServingModel(scorer, made, k, encoder, precision)
    about = {"data_fingerprint": fingerprint, "run": run,
             "scale": [float(end) for end in pool.scale],
             "metrics": metrics or {}, **likeness}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = folder.resolve().name  # `resolve` gives "." a name too
    with filelock.FileLock(folder / ".lock"):
        version = next_version(folder)
        with replace_folder(
                folder / str(version), private=False) as beside:
            _write(beside, serving, pool, server, {
                "model": name, "version": version, **about})
            scorer.check_unchanged(candidate)
            # The number is stored before the folder can be seen.
            write_bytes(folder / ".last_version", str(version).encode(),
                        private=False)
    return folder / str(version)


def _write(folder, serving: ServingModel, pool, server, about) -> None:
    """Writes the files of a version, then loads and runs it once."""
    try:
        with without_advice():
            tf.saved_model.save(
                serving, str(folder), signatures=serving.functions,
                options=tf.saved_model.SaveOptions(
                    namespace_whitelist=["Scann", "TFText"]))
    except tf.errors.OpError as error:  # such as a full disk
        raise OSError(
            f"The export could not be written to {folder}: "
            f"{error.message}. No version was made: mend this and "
            "export again.") from error
    extra = folder / "assets.extra"
    extra.mkdir()
    requests = example_requests(serving, pool)
    write_warm_up(extra / WARM_UP, about["model"], requests)
    found = audit(folder)
    if server is not None and server not in found["servers"]:
        raise ValueError(
            f"The export must run on {SERVERS[server]}. Received: ops "
            f"that it lacks, {found['ops']}. Choose another `server`.")
    for name, content in serving.tokenizer_files.items():
        (extra / name).write_text(content, encoding="utf-8")
    write_manifest(folder, {
        **about, "made": datetime.datetime.now(
            datetime.timezone.utc).isoformat(timespec="seconds"),
        "stack": stack(), "k": serving.k,
        "index": dataclasses.asdict(serving.index.report),
        "signatures": sorted(serving.functions), **serving.tokenizer,
        **found})
    with without_advice():
        check_loads(folder, requests)


def check_server(server: str | None, index: str) -> None:
    """Raises ValueError if a server cannot run an index."""
    if server is not None:
        checks.one_of("server", server, SERVERS)
    if server == "stock" and index == "scann":
        raise ValueError(
            f"{SERVERS['stock']} has no ScaNN ops. Received: index='scann', "
            "server='stock'. Choose `index=\"exact\"`, or a server that has "
            "them (`server=\"scann\"` or \"tfrecal\").")


@contextlib.contextmanager
def without_advice():
    """Silences TensorFlow's advice, such as on the session loader."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def next_version(folder: Path) -> int:
    """Returns the number above every version that was ever here.

    Raises:
        ValueError: the file that keeps it is damaged.
    """
    seen = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()]
    last = folder / ".last_version"
    if last.exists():
        text = last.read_bytes() if last.is_file() else b""
        if not re.fullmatch(rb"\d{1,18}\s*", text):
            raise damaged(
                last, "The number of the last version must be whole",
                "which holds none", "Delete it: the next version then "
                f"follows the highest in {folder}.")
        seen.append(int(text))
    return max(seen, default=0) + 1
