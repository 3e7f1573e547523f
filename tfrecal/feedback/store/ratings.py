"""The scale of a store's ratings, which its database keeps."""
from __future__ import annotations

import json

import sqlalchemy as sa

from tfrecal.feedback.store import schema
from tfrecal.feedback.store.settings import read_setting, write_setting


def kept_scale(connection) -> tuple[float, float] | None:
    """Returns the scale that the database was given last, or None."""
    text = read_setting(connection, "scale")
    if text is None:
        return None
    low, high = json.loads(text)
    return low, high


def keep_scale(connection, scale) -> None:
    """Makes a scale that of the database.

    Raises:
        ValueError: a stored rating lies off it.
    """
    low, high = map(float, scale)
    value = schema.responses.c.value
    least, most = connection.execute(
        sa.select(sa.func.min(value), sa.func.max(value)).where(
            schema.responses.c.kind == "rating")).one()
    if least is not None and not low <= least <= most <= high:
        raise ValueError(
            "`scale` (`--scale`) must hold all ratings of the store. "
            f"Received: {low:g} to {high:g}, and the store has ratings from "
            f"{least:g} to {most:g}. Give a scale that holds them.")
    write_setting(connection, "scale", json.dumps([low, high]))
