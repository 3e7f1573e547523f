"""Settings of a feedback database, by name."""
from __future__ import annotations

import sqlalchemy as sa

from tfrecal.feedback.store import schema

_TABLE = schema.settings


def read_setting(connection, name: str) -> str | None:
    """Returns the text of a setting, None where it was never written."""
    return connection.execute(
        sa.select(_TABLE.c.value).where(_TABLE.c.name == name)).scalar()


def write_setting(connection, name: str, value: str) -> None:
    """Gives a setting another text."""
    connection.execute(_TABLE.delete().where(_TABLE.c.name == name))
    connection.execute(_TABLE.insert().values(name=name, value=value))
