"""The durable store of what was shown and what came back."""
from __future__ import annotations

import importlib.util

# Alembic is slow to import, and only a database of an old schema needs it.
if not all(map(importlib.util.find_spec, ("alembic", "sqlalchemy"))):
    raise ImportError("Feedback needs SQLAlchemy and Alembic: "
                      "pip install '.[feedback]'.")

from tfrecal.feedback.database import FeedbackUnavailable  # noqa: E402
from tfrecal.feedback.ingest import Ingested, ingest  # noqa: E402
from tfrecal.feedback.store import FeedbackStore, named_store  # noqa: E402
from tfrecal.feedback.writing import Added  # noqa: E402

__all__ = ["Added", "FeedbackStore", "FeedbackUnavailable", "Ingested",
           "ingest", "named_store"]
