"""Records each retraining and the feedback that it used."""
from __future__ import annotations

import json
import time

import numpy as np
import pandas as pd
import sqlalchemy as sa

from tfrecal import checks
from tfrecal.feedback.store import schema
from tfrecal.feedback.store.schema import OUTCOMES

_TABLE = schema.runs


class RetrainingTable:
    """The retrainings of a store; `FeedbackStore` inherits from it.

    The database calls them `runs`, and a retraining's number `run_id`.
    """

    def begin_retraining(self, base_version: int | None = None,
                         record: dict | None = None) -> int:
        """Records that a retraining has begun.

        Args:
            base_version: the version of the model that it starts from.
            record: says whose retraining it is; JSON.

        Returns:
            The `run_id`, from 1.
        """
        def work(connection):
            last = connection.execute(
                sa.select(sa.func.max(_TABLE.c.run_id))).scalar() or 0
            connection.execute(_TABLE.insert().values(
                run_id=last + 1, started=time.time(), outcome="running",
                base_version=base_version, reason="",
                record=json.dumps(record or {})))
            return last + 1

        return self._database.write(work)

    def finish_retraining(self, run_id: int, outcome: str,
                          version: int | None = None, reason: str = "",
                          record: dict | None = None) -> None:
        """Records how a retraining ended.

        Args:
            run_id: what `begin_retraining` returned.
            outcome: "promoted", "refused" or "failed".
            version: the version that it made, or None.
            reason: the reason for the outcome, in words.
            record: counts, numbers of the gate, fingerprint; JSON.

        Raises:
            ValueError: there is no such retraining, or the outcome is
                another word.
        """
        checks.one_of("outcome", outcome, OUTCOMES[1:])
        values = {"finished": time.time(), "outcome": outcome,
                  "version": version, "reason": reason,
                  "record": json.dumps(record or {}, sort_keys=True)}
        found = self._database.write(lambda connection: connection.execute(
            _TABLE.update().where(_TABLE.c.run_id == int(run_id)).values(
                values)).rowcount)
        if not found:
            raise ValueError("`run_id` must be one from `begin_retraining`. "
                             f"Received: run_id={run_id}.")

    def retrainings(self) -> pd.DataFrame:
        """Returns one row a retraining, in order; `record` is JSON text."""
        names = [column.name for column in _TABLE.columns]
        found = self._database.read(lambda connection: connection.execute(
            sa.select(_TABLE).order_by(_TABLE.c.run_id)).all())
        return pd.DataFrame(found, columns=names).astype({
            "run_id": np.int64, "started": np.float64,
            "finished": np.float64, "base_version": "Int64",
            "version": "Int64"})

    def mark_used(self, run_id: int, until: float) -> dict[str, int]:
        """Records that a retraining used all feedback up to a time.

        Rows that an earlier retraining used stay marked with that one.

        Args:
            run_id: what `begin_retraining` returned.
            until: the latest `received` that it has read.

        Returns:
            The number of marked rows by table.
        """
        def work(connection):
            return {table.name: connection.execute(
                table.update().where(table.c.run_id.is_(None),
                                     table.c.received <= until)
                .values(run_id=int(run_id))).rowcount
                for table in (schema.shown, schema.responses)}

        return self._database.write(work)
