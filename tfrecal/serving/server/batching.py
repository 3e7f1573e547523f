"""Batcher: requests that come at the same time run as one batch."""
from __future__ import annotations

import collections
import os
import threading
import time

import numpy as np
from grpc import StatusCode

from tfrecal.serving.server.errors import ServingError, invalid


class _Task:
    """One request: its input arrays, and a place for its answer."""

    def __init__(self, key, call, arrays, shared, rows, timeout):
        self.key, self.call, self.arrays = key, call, arrays
        self.shared, self.rows = shared, rows
        self.arrived = time.monotonic()
        self.until = None if timeout is None else self.arrived + timeout
        self.done = threading.Event()
        self.found = self.error = None

    def timeout(self):
        return None if self.until is None else self.until - time.monotonic()

    def run_alone(self):
        try:
            self.found = self.call(self.arrays, self.timeout())
        except Exception as error:
            self.error = error
        self.done.set()


class Batcher:
    """Joins requests along dimension 0 and cuts the outputs apart.

    Only requests of one version, signature, set of outputs and inner shapes
    are joined. A request that cannot be joined (a scalar, inputs of different
    lengths) runs alone. So does each request of a batch that fails, so that
    no request suffers from another. An optional input of which no request of
    a batch has rows is passed as it is.

    Args:
        parameters: a `BatchingParameters` message.

    Raises:
        ServingError: INVALID_ARGUMENT for parameters out of range.
    """

    def __init__(self, parameters):
        def value(name, default):
            return getattr(parameters, name).value \
                if parameters.HasField(name) else default

        self.max_rows = value("max_batch_size", 1000)
        self.wait_seconds = value("batch_timeout_micros", 0) / 1e6
        self.max_batches = value("max_enqueued_batches", 10)
        self._split = value("enable_large_batch_splitting", False)
        threads = value("num_batch_threads", os.cpu_count() or 1)
        for name, number, least in (
                ("max_batch_size", self.max_rows, 1),
                ("batch_timeout_micros", self.wait_seconds, 0),
                ("max_enqueued_batches", self.max_batches, 1),
                ("num_batch_threads", threads, 1)):
            if number < least:
                raise invalid(f"`{name}` must be at least {least}. "
                              f"Received: {number}.")
        allowed = parameters.allowed_batch_sizes
        if allowed and allowed[-1] != self.max_rows:
            raise invalid("The last of `allowed_batch_sizes` must be "
                          f"`max_batch_size`={self.max_rows}. "
                          f"Received: {allowed[-1]}.")
        self._queues = collections.OrderedDict()
        self._rows = collections.Counter()
        self._changed = threading.Condition()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run_batches, daemon=True,
                             name=f"tfrecal-batch-{n}")
            for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def run(self, key, call, arrays: list, timeout: float | None) -> list:
        """Returns what `call(arrays, timeout)` returns, run in a batch.

        Args:
            key: requests of the same key may be joined.
            call: runs arrays for at most `timeout` seconds.
            arrays: the input arrays of one request.
            timeout: seconds, or None.

        Raises:
            ServingError: the call's own error; UNAVAILABLE where too much
                waits; INVALID_ARGUMENT for more rows than a batch may have.
        """
        rows = max((len(a) for a in arrays if a.ndim), default=0)
        shared = tuple(a.ndim > 0 and not len(a) for a in arrays)
        alone = not rows or any(
            not a.ndim or len(a) not in (0, rows) for a in arrays)
        if rows > self.max_rows:
            if not self._split:
                raise invalid(f"Task size {rows} is larger than maximum input "
                              f"batch size {self.max_rows}")
            alone = True
        if alone:
            return call(arrays, timeout)
        shapes = tuple(a.shape[1:] for a in arrays)
        task = _Task((key, shared, shapes), call, arrays, shared, rows,
                     timeout)
        self._enqueue(task)
        task.done.wait()
        if task.error is not None:
            raise task.error
        return task.found

    def stop(self) -> None:
        """Ends the threads when all that waits has run."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _enqueue(self, task) -> None:
        with self._changed:
            waiting = self._rows[task.key] + task.rows
            if waiting > self.max_rows * self.max_batches:
                raise ServingError(
                    StatusCode.UNAVAILABLE, "The batch scheduling queue to "
                    "which this task was submitted is full; currently "
                    f"{self.max_batches} batches enqueued and "
                    f"max_enqueued_batches is {self.max_batches}")
            self._rows[task.key] = waiting
            self._queues.setdefault(
                task.key, collections.deque()).append(task)
            self._changed.notify()

    def _run_batches(self) -> None:
        while True:
            tasks = self._wait_for_batch()
            if tasks is None:
                return
            _run_batch(tasks)

    def _wait_for_batch(self) -> list | None:
        """Waits for a batch that is full or old enough; the oldest first."""
        with self._changed:
            while True:
                now, wait = time.monotonic(), None
                for key, queue in self._queues.items():
                    left = queue[0].arrived + self.wait_seconds - now
                    if left <= 0 or self._stopping \
                            or self._rows[key] >= self.max_rows:
                        return self._take_batch(key, queue)
                    wait = left if wait is None else min(wait, left)
                if self._stopping:
                    return None
                self._changed.wait(wait)

    def _take_batch(self, key, queue) -> list:
        tasks, rows = [], 0
        while queue and rows + queue[0].rows <= self.max_rows:
            tasks.append(queue.popleft())
            rows += tasks[-1].rows
        self._rows[key] -= rows
        if queue:
            self._queues.move_to_end(key)
        else:
            del self._queues[key], self._rows[key]
        return tasks


def _run_batch(tasks: list) -> None:
    for task in tasks:
        if task.until is not None and task.timeout() <= 0:
            task.error = ServingError(
                StatusCode.RESOURCE_EXHAUSTED,
                "Run() timeout exceeded while waiting in batching queue")
            task.done.set()
    tasks = [task for task in tasks if task.error is None]
    if len(tasks) < 2 or not _run_together(tasks):
        for task in tasks:
            task.run_alone()


def _run_together(tasks: list) -> bool:
    """Runs tasks as one batch; False, without any answer, if that fails."""
    timeouts = [task.timeout() for task in tasks]
    timeout = None if None in timeouts else max(timeouts)
    ends = np.cumsum([task.rows for task in tasks])
    try:
        arrays = [
            column[0] if shared else np.concatenate(column)
            for shared, column in zip(
                tasks[0].shared, zip(*(task.arrays for task in tasks)))]
        found = tasks[0].call(arrays, timeout)
    except Exception:  # each runs again and gets its own
        return False
    if any(not output.ndim or len(output) != ends[-1] for output in found):
        return False
    for task, end in zip(tasks, ends):
        task.found = [output[end - task.rows:end] for output in found]
        task.done.set()
    return True
