"""Erases users who asked to be forgotten, and rows that are too old.

The ids of erased users are not kept. A keyed hash (HMAC-SHA-256) of each is
kept with the time up to which events are refused, so that a file that is read
again does not bring the user back. The key is random and lies in the same
database. So the ids cannot be read, and the hashes of two databases cannot be
joined; but anybody who holds the database can test whether an id that they
guess was erased.
"""
from __future__ import annotations

import hashlib
import hmac
import secrets

import numpy as np
import pandas as pd
import sqlalchemy as sa

from tfrecal.feedback.store import schema

_HOLDERS = (schema.shown, schema.responses, schema.questions)
_KEYS = 5_000


def erase_user(connection, user_id: str, now: float) -> dict[str, int]:
    """Deletes a user's rows, and remembers that they are gone."""
    last = [connection.execute(sa.select(sa.func.max(table.c.time)).where(
        table.c.user_id == user_id)).scalar() for table in _HOLDERS[:2]]
    counts = {table.name: connection.execute(
        table.delete().where(table.c.user_id == user_id)).rowcount
        for table in _HOLDERS}
    mark = _mark(_key(connection), user_id)
    # A client whose clock is ahead may have sent times after `now`.
    until = max([now, *(time for time in last if time is not None)])
    connection.execute(schema.erased.delete().where(
        schema.erased.c.mark == mark))
    connection.execute(schema.erased.insert().values(mark=mark, until=until))
    return counts


def erased(connection, user_ids) -> dict[str, float]:
    """Returns erased user -> the time up to which events are refused."""
    some = sa.select(sa.exists().select_from(schema.erased))
    if not connection.execute(some).scalar():
        return {}
    key = _key(connection)
    marks = {_mark(key, user): user for user in set(map(str, user_ids))}
    names = list(marks)
    found = {}
    for start in range(0, len(names), _KEYS):
        rows = connection.execute(
            sa.select(schema.erased.c.mark, schema.erased.c.until).where(
                schema.erased.c.mark.in_(names[start:start + _KEYS])))
        found.update((marks[mark], until) for mark, until in rows)
    return found


def absent(connection, user_ids) -> set[str]:
    """Returns the erased users from whom nothing has come in since."""
    gone = set(erased(connection, user_ids))
    for table in _HOLDERS[:2]:
        gone -= {user for user in gone if connection.execute(sa.select(
            sa.exists().where(table.c.user_id == user))).scalar()}
    return gone


def refused(connection, user_id: np.ndarray, time: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Says which rows must not come in.

    Returns:
        Two bool `[n]`: rows of erased users, and rows that are too old.
    """
    until = erased(connection, user_id)
    gone = np.zeros(len(time), bool)
    if until:
        gone = time <= pd.Series(user_id).map(until).to_numpy(float)
    return gone, time < kept_since(connection)


def drop_before(connection, time: float) -> dict[str, int]:
    """Deletes rows from before a time, and refuses such rows from now on."""
    counts = {}
    for table in _HOLDERS:
        when = "time" if "time" in table.c else "asked"
        counts[table.name] = connection.execute(
            table.delete().where(table.c[when] < time)).rowcount
    if time > kept_since(connection):
        _write_setting(connection, "kept_since", repr(float(time)))
    return counts


def kept_since(connection) -> float:
    """Returns the time before which everything was dropped."""
    return float(_read_setting(connection, "kept_since") or "-inf")


def _key(connection) -> bytes:
    key = _read_setting(connection, "erasure_key")
    if key is None:
        key = secrets.token_hex(32)
        _write_setting(connection, "erasure_key", key)
    return bytes.fromhex(key)


def _mark(key: bytes, user_id: str) -> str:
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()


def _read_setting(connection, name: str) -> str | None:
    table = schema.settings
    return connection.execute(
        sa.select(table.c.value).where(table.c.name == name)).scalar()


def _write_setting(connection, name: str, value: str) -> None:
    table = schema.settings
    connection.execute(table.delete().where(table.c.name == name))
    connection.execute(table.insert().values(name=name, value=value))
