"""A feedback store in memory."""
from __future__ import annotations

import threading
from types import SimpleNamespace

from tfrecal.feedback.log import delivery

KEYS = {"shown": ["request_id", "rank"], "responses": ["event_id"]}


class MemoryStore:
    """Keeps rows by key, as the real one does; `trouble` is raised."""

    def __init__(self):
        self.rows = {"shown": {}, "responses": {}}
        self.calls, self.trouble = [], None
        self.refuse = lambda row: None
        self.gate = threading.Event()
        self.gate.set()

    def add_shown(self, frame):
        return self._add("shown", frame)

    def add_responses(self, frame):
        return self._add("responses", frame)

    def _add(self, table, frame):
        self.gate.wait()
        if self.trouble is not None:
            raise self.trouble
        self.calls.append(len(frame))
        assert tuple(frame.columns) == delivery.COLUMNS[table]
        reasons = [self.refuse(row) for row in frame.to_dict("records")]
        refused = frame.assign(reason=reasons)[[bool(r) for r in reasons]]
        for row in frame.drop(index=refused.index).to_dict("records"):
            key = tuple(row[name] for name in KEYS[table])
            self.rows[table].setdefault(key, row)
        return SimpleNamespace(rejected=refused)
