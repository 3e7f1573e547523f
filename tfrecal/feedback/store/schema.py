"""Tables of the feedback database; `migrations/` makes them.

A change of a table needs a new revision, which `HEAD` must name. Times are
seconds since the epoch (UTC), ids are texts.
"""
from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

HEAD = "0001"
VERSION_TABLE = "tfrecal_schema"

KINDS = ("click", "rating", "purchase", "skip")
STATES = ("open", "answered", "expired")
OUTCOMES = ("running", "promoted", "refused", "failed")

metadata = MetaData()


def _text(name: str, **options) -> Column:
    return Column(name, Text, nullable=False, **options)


def _number(name: str, nullable: bool = False) -> Column:
    return Column(name, Double, nullable=nullable)


def _marks() -> list[Column]:
    """Columns: when a row came in, and which retraining used it first."""
    return [_number("received"), Column("run_id", Integer)]


shown = Table(
    "shown", metadata,
    _text("request_id", primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    _number("time"), _text("user_id"), _text("item_id"),
    _number("score", nullable=True), _number("propensity"),
    _text("model"), Column("version", BigInteger, nullable=False),
    _text("strategy"), *_marks(),
    Index("shown_user", "user_id"), Index("shown_received", "received"))

responses = Table(
    "responses", metadata,
    _text("event_id", primary_key=True), _text("request_id"),
    _text("user_id"), _text("item_id"), _number("time"), _text("kind"),
    _number("value"), *_marks(),
    Index("responses_user", "user_id"),
    Index("responses_received", "received"))

questions = Table(
    "questions", metadata,
    Column("ticket", Integer, primary_key=True), _text("user_id"),
    _text("item_id"), Column("round", Integer, nullable=False),
    _text("strategy"), _number("utility", nullable=True), _number("asked"),
    _number("expires", nullable=True), _text("state"),
    Index("questions_state", "state", "user_id"),
    Index("questions_pair", "user_id", "item_id"))

runs = Table(
    "runs", metadata,
    Column("run_id", Integer, primary_key=True), _number("started"),
    _number("finished", nullable=True), Column("base_version", BigInteger),
    Column("version", BigInteger), _text("outcome"), _text("reason"),
    _text("record"))

# A keyed hash of each erased id, so that a replayed file cannot bring the
# user back although the id itself is gone.
erased = Table(
    "erased", metadata,
    _text("mark", primary_key=True), _number("until"))

settings = Table(
    "settings", metadata, _text("name", primary_key=True), _text("value"))
