"""AnswerCache: what a client was answered, for a short while."""
from __future__ import annotations

import collections
import threading
import time

# A new version on the server is seen after this time at the latest.
_SECONDS = 60


class AnswerCache:
    """The last answers of one version, the least used of them dropped.

    Args:
        size: answers to keep; 0 keeps none.
    """

    def __init__(self, size: int):
        self.size = size
        self._version = None
        self._found = collections.OrderedDict()
        self._lock = threading.Lock()

    def get(self, key):
        """`(outputs, version)`, or None."""
        with self._lock:
            outputs, until = self._found.get(key, (None, 0))
            if time.monotonic() >= until:
                return None
            self._found.move_to_end(key)
            return outputs, self._version

    def put(self, key, outputs, version) -> None:
        """Keeps an answer; without a key only its version is heard of."""
        if not self.size:
            return
        with self._lock:
            if version != self._version:
                self._found.clear()
                self._version = version
            if key is None:
                return
            self._found[key] = outputs, time.monotonic() + _SECONDS
            self._found.move_to_end(key)
            if len(self._found) > self.size:
                self._found.popitem(last=False)
