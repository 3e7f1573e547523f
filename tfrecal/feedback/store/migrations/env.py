"""Alembic runs this; the connection, with its lock, comes from `upgrade`."""
from __future__ import annotations

from alembic import context

from tfrecal.feedback.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata, version_table=schema.VERSION_TABLE,
    # SQLite can roll DDL back, because the transaction was begun by hand.
    transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
