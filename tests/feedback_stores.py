"""Fixtures of tests on feedback: each runs on SQLite and on PostgreSQL."""
from __future__ import annotations

import atexit
import functools
import time

import numpy as np
import pandas as pd
import postgres
import pytest
import sqlalchemy as sa

from tfrecal.feedback import FeedbackStore
from tfrecal.feedback.store import schema

NOW = time.time()


@functools.cache
def _server():
    # Once a process, in however many modules the fixtures are imported.
    server = postgres.server()
    server.__enter__()
    atexit.register(server.__exit__)
    return server


@functools.cache
def _database() -> str:
    return _server().new_database()


@pytest.fixture
def postgres_server():
    """A running PostgreSQL; `new_database()` is the URL of an empty one."""
    return _server_or_skip()


def _server_or_skip():
    if reason := postgres.why_not():
        pytest.skip(reason)
    return _server()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request, tmp_path):
    """The URL of a database without rows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.db"
    _server_or_skip()
    url = _database()
    with FeedbackStore(url) as store:
        engine = store._database._engine
        with engine.execution_options(tfrecal_writing=True).begin() as begun:
            for table in schema.metadata.sorted_tables:
                begun.execute(sa.delete(table))
    return url


@pytest.fixture
def store(database_url):
    with FeedbackStore(database_url) as store:
        yield store


def shown_rows(requests: int, k: int = 3, first: int = 0) -> pd.DataFrame:
    """Lists of `k` items, one a request."""
    request = np.repeat(np.arange(first, first + requests), k)
    rank = np.tile(np.arange(k), requests) + 1
    return pd.DataFrame({
        "request_id": [f"r{n}" for n in request], "rank": rank,
        "time": NOW - 1e4 + request, "user_id": [
            f"u{n % 5}" for n in request],
        "item_id": [f"i{n}" for n in (request + rank) % 7],
        "score": np.where(rank == 2, np.nan, 1 / rank),
        "propensity": 1 / rank, "model": "shop", "version": 3,
        "strategy": np.where(rank == k, "margin", "")})


def clicks(ids, **columns) -> pd.DataFrame:
    """One click an event id."""
    return pd.DataFrame({
        "event_id": list(ids), "request_id": "r0", "user_id": "u0",
        "item_id": "i1", "time": NOW - 50.0, "kind": "click", "value": 1.0,
        **columns})
