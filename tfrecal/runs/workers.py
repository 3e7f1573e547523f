"""Workers: several processes that do one run together.

Each worker has a copy of model and pool. The first one is the chief: only the
chief asks, buys, evaluates and writes the run folder, and it tells the others
the results. No shared disk is needed.
"""
from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfrecal.pool.run_folder import RunFolder
from tfrecal.runs.cluster import Cluster

_WAIT = 300.0  # seconds in which all workers must start
_AT_ONCE = 1 << 22  # numbers of a message that are sent together
# Errors that a collective operation raises where another worker is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError,
         tf.errors.CancelledError, tf.errors.DeadlineExceededError,
         tf.errors.InternalError, tf.errors.FailedPreconditionError)


class WorkersStopped(RuntimeError):
    """The run cannot go on because of another worker."""


class Workers:
    """The processes of a run; a single process is the chief.

    Args:
        cluster: the `Cluster` of several processes, or None for one.
        strategy: a `tf.distribute.Strategy` over the replicas of all.
    """

    def __init__(self, cluster: Cluster | None = None, strategy=None):
        self.number = len(cluster.addresses) if cluster else 1
        self.index = cluster.index if cluster else 0
        self.strategy = strategy or tf.distribute.get_strategy()
        self._sum = tf.function(self._all_reduced, input_signature=[
            tf.TensorSpec([None], tf.int32)])

    @property
    def chief(self) -> bool:
        """Whether this process decides."""
        return self.index == 0

    def _all_reduced(self, numbers):
        def add(numbers):
            context = tf.distribute.get_replica_context()
            place = context.replica_id_in_sync_group
            local = context.num_replicas_in_sync // self.number
            first = tf.equal(place % local, 0)  # first replica of a process
            return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.where(
                first, numbers, tf.zeros_like(numbers)))
        return self.strategy.experimental_local_results(
            self.strategy.run(add, args=(numbers,)))[0]

    def _broadcast(self, content: bytes | None) -> bytes:
        """Returns the chief's bytes on every worker; others give None."""
        size = int(self._sum(np.array(
            [len(content or b"")], np.int32))[0])
        whole = np.zeros(-(-size // 4), np.int32)
        if content:
            whole[:] = np.frombuffer(content + bytes(-size % 4), np.int32)
        found = [self._sum(whole[start:start + _AT_ONCE]).numpy()
                 for start in range(0, len(whole), _AT_ONCE)]
        return b"".join(some.tobytes() for some in found)[:size]

    def from_chief(self, decide: Callable):
        """Calls `decide` on the chief; returns the result on every worker.

        Args:
            decide: returns what JSON can hold.

        Raises:
            WorkersStopped: `decide` raised; the chief raises its error
                instead.
        """
        if self.number == 1:
            return decide()
        told = None
        if self.chief:
            try:
                told = {"value": decide()}
            except BaseException as error:
                text = str(error) or type(error).__name__
                self._broadcast(json.dumps({"error": text}).encode())
                raise
        told = json.loads(self._broadcast(told and json.dumps(told).encode()))
        if "error" in told:
            raise WorkersStopped(f"The chief has stopped: {told['error']}")
        return told["value"]

    def arrays(self, compute: Callable) -> list[np.ndarray]:
        """Calls `compute` on the chief; returns its arrays on every worker.

        Args:
            compute: returns a list of float32 arrays.
        """
        if self.number == 1:
            return compute()
        found = []
        shapes = self.from_chief(
            lambda: found.extend(compute()) or [one.shape for one in found])
        return [np.frombuffer(self._broadcast(
            found[number].tobytes() if self.chief else None),
            np.float32).reshape(shape)
            for number, shape in enumerate(shapes)]

    def check_same(self, what: str, digest: str, cure: str) -> None:
        """Compares a digest of each worker with the chief's.

        Args:
            what: what the workers must have in common, for the error.
            digest: any text that stands for it.
            cure: what to do where they differ, for the error.

        Raises:
            WorkersStopped: a worker differs; every worker raises it.
        """
        if self.number == 1:
            return
        mine = np.frombuffer(
            hashlib.sha256(digest.encode()).digest(), np.int32)
        table = np.zeros([self.number, len(mine)], np.int32)
        table[self.index] = mine
        table = self._sum(table.ravel()).numpy().reshape(table.shape)
        wrong = np.flatnonzero((table != table[0]).any(axis=1))
        if len(wrong):
            raise WorkersStopped(
                f"Every worker must have the same {what}. Received: worker "
                f"{wrong[0]} differs from the chief, worker 0. {cure}")

    @contextlib.contextmanager
    def folder(self, path):
        """Gives the chief its `RunFolder`, and others a temporary one."""
        if self.chief:
            yield RunFolder(path)
            return
        with tempfile.TemporaryDirectory(prefix="tfrecal-worker-") as own:
            yield RunFolder(own)

    def copy(self, folder: RunFolder) -> None:
        """Copies the chief's files that a resumed run reads to all."""
        if self.number == 1:
            return
        names = self.from_chief(folder.files_to_resume)
        for name in names:
            content = self._broadcast(
                (folder / name).read_bytes() if self.chief else None)
            if not self.chief:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)


@contextlib.contextmanager
def join(wait: float | None = None):
    """Gives a context with the `Workers` of this run.

    Where `TF_CONFIG` names several workers, it waits for all of them.
    Otherwise there is one, with a replica on each GPU if there are several.

    Args:
        wait: seconds to wait; None for TFRECAL_WORKERS_WAIT, or else 300.

    Raises:
        ValueError: `TF_CONFIG` is wrong, or a worker is missing.
        WorkersStopped: a worker died in the body of the context.
    """
    cluster = Cluster.from_environment()
    if cluster is None:
        yield Workers(None, _mirrored())
        return
    if wait is None:
        wait = _wait()
    cluster.wait(wait)
    print("tfrecal: something listens at every address of TF_CONFIG; "
          "joining. If one of them is another program, this process ends "
          f"in {wait:g} seconds (\"Alarm clock\").", file=sys.stderr,
          flush=True)
    workers = Workers(cluster, _multi_worker(wait))
    try:
        yield workers
        workers.from_chief(lambda: None)  # all workers leave together
    except _LOST as error:
        why = re.search("aborted by: (.*)", error.message)
        raise WorkersStopped(
            "All workers must stay until the run ends. Received: worker "
            f"{workers.index} of {workers.number} lost another one "
            f"({why.group(1) if why else type(error).__name__}). What was "
            "bought stands in the chief's run folder. Start all workers again"
            " with `tfrecal run --resume FOLDER`.") from error


def _wait() -> float:
    given = os.environ.get("TFRECAL_WORKERS_WAIT", "")
    try:
        seconds = float(given or _WAIT)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ValueError("`TFRECAL_WORKERS_WAIT` must be a positive number "
                         f"of seconds. Received: {given!r}.")
    return seconds


def _mirrored():
    """Returns a strategy for several devices of one machine, or None."""
    for kind in ("GPU", "CPU"):
        devices = tf.config.list_logical_devices(kind)
        if devices:
            return tf.distribute.MirroredStrategy(
                [device.name for device in devices]) if devices[1:] else None
    return None


def _multi_worker(wait):
    alarm = getattr(signal, "alarm", None)
    if alarm is not None:
        # Nothing in Python can end TensorFlow's own wait, so an alarm does.
        alarm(int(wait) + 1)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            "Workers must join before TensorFlow has done anything. "
            f"Received: {error}. Use a fresh process.") from error
    finally:
        if alarm is not None:
            alarm(0)
    if threading.current_thread() is threading.main_thread():
        # TensorFlow takes SIGTERM as a notice of preemption and goes on.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return strategy
