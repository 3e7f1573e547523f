"""Notices: log messages, each kind at most once a minute."""
from __future__ import annotations

import logging
import threading
import time

_QUIET = 60.0  # seconds between two messages of a kind


class Notices:
    """Logs a kind of message once a minute at most.

    Args:
        name: the logger's name.
    """

    def __init__(self, name: str):
        self._log = logging.getLogger(name)
        self._quiet_until: dict[str, float] = {}
        self._lock = threading.Lock()

    def say(self, kind: str, message: str, level: int = logging.WARNING
            ) -> None:
        """Logs a message, unless one of its kind came within a minute."""
        now = time.monotonic()
        with self._lock:
            if now < self._quiet_until.get(kind, 0.0):
                return
            self._quiet_until[kind] = now + _QUIET
        self._log.log(level, "%s", message)
