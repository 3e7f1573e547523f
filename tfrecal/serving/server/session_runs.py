"""Run: one set of feeds and fetches of a session, as quick as can be."""
from __future__ import annotations

import time

import numpy as np
from grpc import StatusCode
from tensorflow.core.protobuf import config_pb2

from tfrecal.serving.server.errors import ServingError

# A deadline this many times longer than any run is not watched.
_FAR = 10


class Run:
    """Calls a session through a callable, six times as quick as `run`.

    A run in the caller's own thread takes half the time of one in
    TensorFlow's threads, but only the latter end at a deadline. So it is for
    runs that have none, or one that is far beyond what they ever took.

    Args:
        session: a `tf.compat.v1.Session`.
        feeds, fetches: names of tensors.
    """

    def __init__(self, session, feeds, fetches):
        self._session, self._feeds, self._fetches = session, feeds, fetches
        self._here = self._make(inter_op_thread_pool=-1)
        self._within = {}
        # Of the runs so far; the first one does not count, it optimises.
        self._longest = None
        self._warm = False

    def __call__(self, arrays: list, timeout: float | None) -> list:
        """Runs; raises ServingError as the session fails."""
        started = time.monotonic()
        if timeout is None or (self._longest is not None
                               and timeout > _FAR * self._longest):
            function = self._here
        else:
            function = self._limited(timeout)
        try:
            found = [_array(value) for value in function(*arrays)]
        except Exception as error:
            raise ServingError.of(error) from error
        finally:
            if self._warm:
                seconds = time.monotonic() - started
                self._longest = max(self._longest or 0, seconds)
            self._warm = True
        return found

    def _limited(self, timeout):
        """A callable with a limit, rounded up so that there are few."""
        if timeout <= 0:
            raise ServingError(StatusCode.DEADLINE_EXCEEDED,
                               "The deadline is over before the run.")
        limit = 1 << min(int(1000 * timeout), 1 << 40).bit_length()
        if limit not in self._within:
            self._within[limit] = self._make(timeout_in_ms=limit)
        return self._within[limit]

    def _make(self, **options):
        return self._session._make_callable_from_options(
            config_pb2.CallableOptions(
                feed=self._feeds, fetch=self._fetches,
                run_options=config_pb2.RunOptions(**options)))


def _array(value) -> np.ndarray:
    """An output of the session; single values are no arrays there."""
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, object if isinstance(value, bytes) else None)
