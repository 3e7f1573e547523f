"""Brings a database to the schema of this package, with Alembic.

A new revision is a file in `versions/` (see the last one there), and its name
goes into `schema.HEAD`. Revisions that were released are never changed.
"""
from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sa

from tfrecal.feedback.store import schema

FOLDER = Path(__file__).parent
# Alembic keeps the running migration in a global variable.
_ONE_AT_A_TIME = threading.Lock()


def current(connection) -> str | None:
    """Returns a database's revision; None where it has none of tfrecal's."""
    if not sa.inspect(connection).has_table(schema.VERSION_TABLE):
        return None
    version = sa.table(schema.VERSION_TABLE, sa.column("version_num"))
    return connection.execute(sa.select(version.c.version_num)).scalar()


def upgrade(connection) -> None:
    """Upgrades a database inside the connection's transaction.

    Args:
        connection: a connection in a transaction that holds the writers'
            lock.

    Raises:
        ValueError: the database has a revision that is not known here, or
            has tables of these names that tfrecal did not make.
    """
    found = current(connection)
    if found == schema.HEAD:
        return
    # Imported here: it takes a quarter of a second and is rarely needed.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    # Alembic reads % as the start of a variable.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    script = ScriptDirectory.from_config(config)
    known = [revision.revision for revision in script.walk_revisions()]
    if found is not None and found not in known:
        raise ValueError(
            "The feedback database must have a schema that this tfrecal "
            f"knows, at most {schema.HEAD}. Received: {found}. A newer "
            "tfrecal has upgraded it: update this one.")
    if found is None:
        taken = sorted(set(sa.inspect(connection).get_table_names())
                       & set(schema.metadata.tables))
        if taken:
            raise ValueError(
                "The feedback database must be empty or made by tfrecal. "
                f"Received: one with tables {', '.join(taken)} of somebody "
                "else. Give feedback a database of its own.")
    with _ONE_AT_A_TIME:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
