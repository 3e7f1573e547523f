"""refresh: new users and items are served, and nothing is trained."""
from __future__ import annotations

import time

import numpy as np

from tfrecal import export
from tfrecal.interactions import Interactions
from tfrecal.pool import Pool
from tfrecal.retrain import models
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop
from tfrecal.retrain.material import base_labels, grown_table


def refresh(folder, config: RetrainConfig | None = None, *,
            quiet: bool = False) -> dict:
    """Exports the served model over the tables of today.

    A new item is recommended by its text and columns, a new user by columns
    and by the history in the request; what was learned of others stays as it
    is, so no gate is needed. Use it as often as the catalogue changes, and
    `retrain` as often as there is feedback.

    Args:
        folder, config, quiet: see `job.retrain`; `users` and `items` are the
            tables of today.

    Returns:
        the record, with `run_id`, `version` and `reason`.

    Raises:
        ValueError: nobody and nothing is new, nothing is served, or a user
            was erased since.
    """
    loop = Loop(folder, config)
    config = loop.config
    version, base_run = loop.served()
    with loop.lock(), loop.store() as store, export.quiet():
        if (store.runs()["outcome"] == "running").any():
            raise ValueError("A retraining was interrupted. Received: one "
                             "that is still open. Finish it first: `tfrecal "
                             "retrain`.")
        origin = models.Origin(config.run)
        served, tables, pool = loop.load(origin, base_run)
        until = loop.until(store, base_run)
        if any(erased > until for erased in store.erased(
                tables.users.index).values()):
            raise ValueError(
                "The served model must not hold users who were erased. "
                "Received: some who were since it was trained. Make one "
                "without them: `tfrecal retrain`.")
        today = Interactions(
            tables.frame.iloc[:0], grown_table(tables.users, config.users),
            grown_table(tables.items, config.items), tables.scale,
            tables.report, tables.name)
        new = [len(after) - len(before) for after, before in (
            (today.users, tables.users), (today.items, tables.items))]
        if not any(new):
            raise ValueError(
                "`users` or `items` must hold new ids. Received: "
                f"users={config.users}, items={config.items}, of which the "
                "served model knows all.")
        config.write(folder)
        run_id = store.begin_run(version, {"loop": loop.name})
        model = models.grown(origin, served, today, config.seed + run_id)
        model.compile()
        grown = _over(pool, tables, today)
        reason = (f"{new[0]:,} users and {new[1]:,} items joined, nothing "
                  "was trained")
        record = {"until": until, "base_version": version,
                  "base_run": base_run, "reason": reason,
                  "started": time.time(), "now": time.time()}
        models.save_model(model, grown, today, loop.of_run(run_id))
        loop.keep(run_id, record)
        made = loop.export(model, grown, run_id)
        outcome, wrong = "promoted", loop.promote(made)
        if wrong:
            outcome, reason, made = "failed", wrong, None
        store.finish_run(run_id, outcome=outcome, version=made,
                         reason=reason, record=record)
        if not quiet:
            print(f"{outcome}: {reason}", flush=True)
        return {**record, "run_id": run_id, "outcome": outcome,
                "reason": reason, "version": made}


def _over(pool: Pool, tables: Interactions, today: Interactions) -> Pool:
    """The labels and the traffic of a pool, over larger tables."""
    labels = base_labels(pool, tables)
    traffic = [np.repeat(np.arange(len(counts)), counts.astype(np.int64))
               for counts in (pool.user_traffic, pool.item_traffic)]
    # Old ids come first, so their codes stay.
    return Pool.cross(today.with_frame(labels), traffic_user=traffic[0],
                      traffic_item=traffic[1])
