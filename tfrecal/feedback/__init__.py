"""What was shown, what came back, and what should be asked next?"""
from __future__ import annotations

import importlib
import importlib.util

# Imported at first use, because a client that only logs needs no SQLAlchemy.
_STORE = {
    "Added": "store.writing", "FeedbackStore": "store.store",
    "FeedbackUnavailable": "store.database", "Ingested": "store.ingest",
    "ingest": "store.ingest", "named_store": "store.store"}
_NAMES = {
    **_STORE, "Exploration": "exploration",
    "FeedbackLog": "log.feedback_log", "FeedbackOracle": "oracle",
    "by_user": "wanted_pairs"}
__all__ = list(_NAMES)


def __getattr__(name: str):
    if name not in _NAMES:
        raise AttributeError(
            f"module 'tfrecal.feedback' has no attribute {name!r}")
    # Alembic is slow to import, and only a database of an old schema
    # needs it.
    if name in _STORE and not all(
            map(importlib.util.find_spec, ("alembic", "sqlalchemy"))):
        raise ImportError("Feedback needs SQLAlchemy and Alembic: "
                          "pip install '.[feedback]'.")
    module = importlib.import_module(f"tfrecal.feedback.{_NAMES[name]}")
    return getattr(module, name)
