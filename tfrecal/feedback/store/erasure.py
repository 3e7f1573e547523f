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
import json
import re
import secrets

import numpy as np
import sqlalchemy as sa

from tfrecal.data.columns import clean_id
from tfrecal.feedback.store import schema
from tfrecal.feedback.store.settings import read_setting, write_setting

_HOLDERS = (schema.shown, schema.responses, schema.questions)
# Names of all tables from which an erasure takes something.
CHANGED = tuple(table.name for table in (*_HOLDERS, schema.runs))
_KEYS = 5_000
_GONE = "(erased)"


def erase_user(connection, user_id: str, now: float) -> dict[str, int]:
    """Deletes a user's rows, and remembers that they are gone.

    Args:
        connection: a connection in a transaction.
        user_id: the cleaned id. Rows that a version before this one stored
            with white space around it are deleted too.
        now: seconds since the epoch.
    """
    spelled = _spellings(connection, user_id)
    last = [connection.execute(sa.select(sa.func.max(table.c.time)).where(
        table.c.user_id.in_(spelled))).scalar() for table in _HOLDERS[:2]]
    counts = {table.name: connection.execute(
        table.delete().where(table.c.user_id.in_(spelled))).rowcount
        for table in _HOLDERS}
    _forget_in_runs(connection, user_id)
    mark = _mark(_key(connection), user_id)
    # A client whose clock is ahead may have sent times after `now`.
    until = max([now, *(time for time in last if time is not None)])
    connection.execute(schema.erased.delete().where(
        schema.erased.c.mark == mark))
    connection.execute(schema.erased.insert().values(mark=mark, until=until))
    return counts


def _spellings(connection, user_id: str) -> list[str]:
    """Returns the stored ids that are this one when cleaned, and itself."""
    found = {user_id}
    for table in _HOLDERS:
        like = connection.execute(sa.select(table.c.user_id).distinct().where(
            table.c.user_id.contains(user_id, autoescape=True))).scalars()
        found.update(text for text in like
                     if clean_id(text, "user_id") == user_id)
    return sorted(found)


def _forget_in_runs(connection, user_id: str) -> None:
    """Takes an id out of the records of retrainings.

    An error's text may quote the id, or hold it as a word. A number is an
    id only in quotes or after the word user, because counts are numbers too.
    """
    word = re.escape(user_id)
    pattern = rf"(?<![\w])(?:{word})(?![\w])"
    if re.fullmatch(r"[\d.,+-]+", user_id):
        pattern = (rf"""(?<=')(?:{word})(?=')|(?<=")(?:{word})(?=")|"""
                   rf"""(?<=\buser )(?:{word})(?![\w.])|"""
                   rf"""(?<=\buser_id=)(?:{word})(?![\w.])""")
    table, found = schema.runs, re.compile(pattern)
    for run_id, reason, record in connection.execute(
            sa.select(table.c.run_id, table.c.reason, table.c.record)).all():
        values = json.loads(record)
        kept = _without(values, user_id, found)
        told = found.sub(_GONE, reason)
        if told != reason or kept != values:
            connection.execute(table.update().where(
                table.c.run_id == run_id).values(
                    reason=told, record=json.dumps(kept, sort_keys=True)))


def _without(value, user_id: str, found: re.Pattern):
    """Returns a value of JSON in which no text names a user."""
    if isinstance(value, str):
        return _GONE if value == user_id else found.sub(_GONE, value)
    if isinstance(value, list):
        return [_without(part, user_id, found) for part in value]
    if isinstance(value, dict):
        return {_without(name, user_id, found): _without(part, user_id, found)
                for name, part in value.items()}
    return value


def erased(connection, user_ids) -> dict[str, float]:
    """Returns erased user -> the time up to which events are refused."""
    some = sa.select(sa.exists().select_from(schema.erased))
    if not connection.execute(some).scalar():
        return {}
    key = _key(connection)
    users: dict[str, list[str]] = {}
    for user in set(map(str, user_ids)):
        users.setdefault(_mark(key, clean_id(user, "user_id")), []).append(
            user)
    names = list(users)
    found = {}
    for start in range(0, len(names), _KEYS):
        rows = connection.execute(
            sa.select(schema.erased.c.mark, schema.erased.c.until).where(
                schema.erased.c.mark.in_(names[start:start + _KEYS])))
        for mark, until in rows:
            found.update(dict.fromkeys(users[mark], until))
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
        gone = time <= np.array([until.get(one, np.nan) for one in user_id],
                                float)
    return gone, time < kept_since(connection)


def drop_before(connection, time: float) -> dict[str, int]:
    """Deletes rows from before a time, and refuses such rows from now on."""
    counts = {}
    for table in _HOLDERS:
        when = "time" if "time" in table.c else "asked"
        counts[table.name] = connection.execute(
            table.delete().where(table.c[when] < time)).rowcount
    if time > kept_since(connection):
        write_setting(connection, "kept_since", repr(float(time)))
    return counts


def kept_since(connection) -> float:
    """Returns the time before which everything was dropped."""
    return float(read_setting(connection, "kept_since") or "-inf")


def _key(connection) -> bytes:
    key = read_setting(connection, "erasure_key")
    if key is None:
        key = secrets.token_hex(32)
        write_setting(connection, "erasure_key", key)
    return bytes.fromhex(key)


def _mark(key: bytes, user_id: str) -> str:
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()
