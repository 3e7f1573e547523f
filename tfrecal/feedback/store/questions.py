"""Questions of acquisition, which wait for a list that shows their item."""
from __future__ import annotations

import time

import numpy as np
import pandas as pd
import sqlalchemy as sa

from tfrecal import checks
from tfrecal.feedback.store import erasure, rows, schema
from tfrecal.feedback.store.schema import STATES

_TABLE = schema.questions
_COLUMNS = [column.name for column in _TABLE.columns]


class QuestionTable:
    """The questions of a store; `FeedbackStore` inherits from it."""

    def ask(self, frame: pd.DataFrame) -> np.ndarray:
        """Records questions, all of them or none.

        A pair that waits for an answer keeps its question, so asking again
        changes nothing.

        Args:
            frame: has `user_id` and `item_id`, and where they are known
                `round`, `strategy`, `utility`, `asked` (by default now),
                `expires`.

        Returns:
            The ticket of each row, int64 `[n]`, from 1. It is 0 where the
            user was erased and has not come back: such users are not asked.
        """
        missing = {"user_id", "item_id"} - set(frame.columns)
        if missing:
            raise ValueError(
                "Questions must have the columns `user_id` and `item_id`. "
                f"Received: columns={list(frame.columns)}.")
        frame = frame.assign(**{
            name: rows.clean_ids(frame[name].tolist(), name)
            for name in ("user_id", "item_id")})
        names = [name for name in _COLUMNS
                 if name in frame and name not in ("ticket", "state")]
        wanted = frame[names].astype(object)
        wanted = wanted.where(wanted.notna(), None).to_dict("records")
        defaults = {"round": 0, "strategy": "", "utility": None,
                    "asked": time.time(), "expires": None, "state": "open"}

        def work(connection):
            open_ = {(user, item): ticket for ticket, user, item in
                     connection.execute(sa.select(
                         _TABLE.c.ticket, _TABLE.c.user_id, _TABLE.c.item_id
                     ).where(_TABLE.c.state == "open"))}
            gone = erasure.absent(
                connection, {row["user_id"] for row in wanted})
            tickets = []
            last = connection.execute(
                sa.select(sa.func.max(_TABLE.c.ticket))).scalar() or 0
            new = []
            for row in wanted:
                pair = row["user_id"], row["item_id"]
                if pair[0] in gone:
                    tickets.append(0)
                    continue
                if pair not in open_:
                    last += 1
                    open_[pair] = last
                    new.append({**defaults, **row, "ticket": last})
                tickets.append(open_[pair])
            if new:
                connection.execute(_TABLE.insert(), new)
            return np.array(tickets, np.int64)

        return self._database.write(work)

    def questions(self, state: str | None = "open",
                  user_ids=None) -> pd.DataFrame:
        """Returns questions, one a row, by ticket.

        Args:
            state: "open", "answered", "expired", or None for all. An open
                question stays open after `expires` until it is closed.
            user_ids: at most some 30,000 users whose questions are wanted;
                None for all users.
        """
        checks.one_of("state", state, (None, *STATES))
        statement = sa.select(_TABLE).order_by(_TABLE.c.ticket)
        if state is not None:
            statement = statement.where(_TABLE.c.state == state)
        if user_ids is not None:
            statement = statement.where(_TABLE.c.user_id.in_(
                sorted(set(rows.clean_ids(list(user_ids), "user_id")))))
        found = self._database.read(
            lambda connection: connection.execute(statement).all())
        return pd.DataFrame(found, columns=_COLUMNS).astype({
            "ticket": np.int64, "round": np.int64, "utility": np.float64,
            "asked": np.float64, "expires": np.float64})

    def close_questions(self, tickets, state: str) -> int:
        """Closes open questions; closed ones stay as they are.

        Args:
            tickets: the tickets of the questions.
            state: "answered" or "expired".

        Returns:
            How many were closed.
        """
        checks.one_of("state", state, (None, *STATES))
        statement = _TABLE.update().where(
            _TABLE.c.ticket == sa.bindparam("which"),
            _TABLE.c.state == "open").values(state=state)
        which = [{"which": int(ticket)} for ticket in tickets]
        if not which:
            return 0
        return self._database.write(lambda connection: connection.execute(
            statement, which).rowcount)
