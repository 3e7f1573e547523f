"""refresh: new users and items are served, and nothing is trained."""
from __future__ import annotations

import json
import time

import numpy as np

from tfrecal import export
from tfrecal.files import replace_file
from tfrecal.interactions import Interactions
from tfrecal.pool import Pool
from tfrecal.retrain import models, promotion
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
        ValueError: nobody and nothing is new, or nothing is served.
        NotServed: the server did not load it; it is withdrawn.
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
        served, tables, pool = _served(loop, origin, base_run)
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
        run_id = store.begin_run(version)
        model = models.grown(origin, served, today, config.seed + run_id)
        model.compile()
        grown = _over(pool, tables, today)
        reason = (f"{new[0]:,} users and {new[1]:,} items joined, nothing "
                  "was trained")
        until = -np.inf
        if base_run:
            records = store.runs().set_index("run_id")["record"]
            until = json.loads(records[int(base_run)])["until"]
        record = {"until": until, "base_version": version,
                  "base_run": base_run, "reason": reason,
                  "started": time.time(), "now": time.time()}
        kept = loop.folder / "runs" / str(run_id)
        models.save_model(model, grown, today, kept)
        replace_file(kept / "record.json", lambda path: path.write_text(
            json.dumps(record), "utf-8"))
        path = export.export_model(
            model, loop.base, pool=grown, k=config.k, index=config.index,
            target_recall=config.target_recall, server=config.server,
            run=str(run_id), seed=config.seed)
        made = int(path.name)
        outcome = "promoted"
        try:
            if config.address is not None:
                promotion.wait_served(
                    config.address, config.model or loop.base.name, made,
                    config.timeout)
        except promotion.NotServed as error:
            promotion.withdraw(loop.base, made)
            outcome, reason, made = "failed", str(error), None
        store.finish_run(run_id, outcome=outcome, version=made,
                         reason=reason, record=record)
        if not quiet:
            print(f"{outcome}: {reason}", flush=True)
        return {**record, "run_id": run_id, "outcome": outcome,
                "reason": reason, "version": made}


def _served(loop, origin, base_run):
    if not base_run:
        return origin.model, origin.tables, origin.pool
    kept = loop.folder / "runs" / base_run
    model, tables = models.load_model(origin, kept)
    return model, tables, models.load_pool(tables, kept)


def _over(pool: Pool, tables: Interactions, today: Interactions) -> Pool:
    """The labels and the traffic of a pool, over larger tables."""
    labels = base_labels(pool, tables)
    traffic = [np.repeat(np.arange(len(counts)), counts.astype(np.int64))
               for counts in (pool.user_traffic, pool.item_traffic)]
    # Old ids come first, so their codes stay.
    return Pool.cross(today.with_frame(labels), traffic_user=traffic[0],
                      traffic_item=traffic[1])
