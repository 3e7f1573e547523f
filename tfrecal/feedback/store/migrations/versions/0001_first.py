"""What was shown, what came back, questions, runs, and who was erased."""
from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0001", None


def _text(name: str) -> sa.Column:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Double, nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "shown", _text("request_id"),
        sa.Column("rank", sa.Integer, nullable=False), _number("time"),
        _text("user_id"), _text("item_id"), _number("score", True),
        _number("propensity"), _text("model"),
        sa.Column("version", sa.BigInteger, nullable=False),
        _text("strategy"), _number("received"),
        sa.Column("run_id", sa.Integer),
        sa.PrimaryKeyConstraint("request_id", "rank"))
    op.create_index("shown_user", "shown", ["user_id"])
    op.create_index("shown_received", "shown", ["received"])
    op.create_table(
        "responses", _text("event_id"), _text("request_id"),
        _text("user_id"), _text("item_id"), _number("time"), _text("kind"),
        _number("value"), _number("received"),
        sa.Column("run_id", sa.Integer),
        sa.PrimaryKeyConstraint("event_id"))
    op.create_index("responses_user", "responses", ["user_id"])
    op.create_index("responses_received", "responses", ["received"])
    op.create_table(
        "questions", sa.Column("ticket", sa.Integer, primary_key=True),
        _text("user_id"), _text("item_id"),
        sa.Column("round", sa.Integer, nullable=False), _text("strategy"),
        _number("utility", True), _number("asked"), _number("expires", True),
        _text("state"))
    op.create_index("questions_state", "questions", ["state", "user_id"])
    op.create_index("questions_pair", "questions", ["user_id", "item_id"])
    op.create_table(
        "runs", sa.Column("run_id", sa.Integer, primary_key=True),
        _number("started"), _number("finished", True),
        sa.Column("base_version", sa.BigInteger),
        sa.Column("version", sa.BigInteger), _text("outcome"),
        _text("reason"), _text("record"))
    op.create_table(
        "erased", _text("mark"), _number("until"),
        sa.PrimaryKeyConstraint("mark"))
    op.create_table(
        "settings", _text("name"), _text("value"),
        sa.PrimaryKeyConstraint("name"))
