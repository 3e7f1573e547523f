"""refresh: serves new users and items without any training."""
from __future__ import annotations

import time

import numpy as np

from tfrecal.data.interactions import Interactions
from tfrecal.export.export_model import without_advice
from tfrecal.pool.pool import Pool
from tfrecal.retrain import models, records
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop
from tfrecal.retrain.material import base_labels, grown_table, labels_of_today
from tfrecal.retrain.todays_tables import read_without_erased


def refresh(folder, config: RetrainConfig | None = None, *,
            quiet: bool = False) -> dict:
    """Exports the served model over the tables and the feedback of today.

    A new item is recommended by its text and columns. A new user is answered
    by columns and by the history in the request. Erased users are left out.
    Feedback joins the histories of users, and the linear block is solved
    anew with it. What was trained stays as it is, so no gate is needed. Use
    it as often as the catalogue changes or histories grow old, and `retrain`
    as often as feedback is worth a training.

    Args:
        folder, config, quiet: see `job.retrain`; `users` and `items` are the
            tables of today.

    Returns:
        The record, with `run_id`, `version` and `reason`.

    Raises:
        TablesWrong: a table of today does not fit the served ones.
        ValueError: there is no new user, item or feedback, no version is
            served, or a file of the loop is damaged.
    """
    loop = Loop(folder, config)
    config = loop.config
    loop.check()
    version, base_run = loop.served()
    with loop.lock(), loop.store(made=False) as store, without_advice():
        loop.check_owner(store, base_run)
        _end_killed_refresh(loop, store)
        origin = models.Origin(config.run)
        served, tables, pool = loop.load(origin, base_run)
        until = loop.until(store, base_run)
        rows, erased, forget = read_without_erased(
            store, config, origin, tables, until)
        gone = tables.users.index[tables.users.index.isin(forget)]
        today = _tables_of_today(tables, rows, gone, erased)
        if not quiet:
            for note in rows.notes:
                print(note, flush=True)
        new = [len(after.index.difference(before.index))
               for after, before in ((today.users, tables.users),
                                     (today.items, tables.items))]
        now, newest = time.time(), store.latest()
        labels, told = labels_of_today(
            base_labels(pool), today, store.responses(until=newest),
            store.shown(until=newest), now=now, patience=config.patience)
        fresh = told and newest > _heard(store, base_run, until)
        if not any(new) and not len(gone) and not fresh:
            raise ValueError(
                "A refresh needs new ids in `users` (`--users`) or `items` "
                "(`--items`), or new feedback on known items. Received: "
                f"users={config.users}, items={config.items}, of which the "
                "served model knows all, and no such feedback.")
        config.write(folder)
        run_id = store.begin_retraining(
            version, {"loop": loop.name, "only_grow": True})
        reason = f"{new[0]:,} users and {new[1]:,} items joined, "
        if len(gone):
            reason += f"{len(gone):,} users were erased, "
        if told:
            reason += f"{told:,} labels joined histories, "
        reason += "nothing was trained"
        record = {"only_grow": True, "loop": loop.name, "until": until,
                  "feedback": told, "feedback_until": newest,
                  "base_version": version, "base_run": base_run,
                  "reason": reason,
                  "started": now, "now": now}
        loop.keep(run_id, record)
        model = models.grown(origin, served, today, config.seed + run_id)
        model.compile()
        # Feedback that trained nothing is not kept with the model: the next
        # retraining learns from it, and its newest part judges.
        models.save_model(
            model, _pool_over(pool, base_labels(pool), today), today,
            loop.of_run(run_id), loop.name)
        made = loop.export(model, _pool_over(pool, labels, today), run_id)
        outcome, wrong = "promoted", loop.promote(made)
        if wrong:
            outcome, reason, made = "failed", wrong, None
        store.finish_retraining(run_id, outcome=outcome, version=made,
                                reason=reason, record=record)
        if not quiet:
            print(f"{outcome}: {reason}", flush=True)
        return {**record, "run_id": run_id, "outcome": outcome,
                "reason": reason, "version": made}


def _tables_of_today(tables, rows, gone, erased) -> Interactions:
    """Returns the served tables without the erased and with new ids."""
    # Erased users stay out even if today's table still has them.
    users = grown_table(tables.users.drop(index=gone), rows.users.drop(
        index=list(erased), errors="ignore"))
    return Interactions(
        tables.frame.iloc[:0], users, grown_table(tables.items, rows.items),
        tables.scale, tables.report, tables.name)


def _end_killed_refresh(loop: Loop, store) -> None:
    """Ends a refresh that was killed; its export, if any, is served."""
    retrainings = store.retrainings()
    for row in retrainings[retrainings["outcome"] == "running"].itertuples():
        run_id, record = row.run_id, loop.kept(row.run_id)
        if not {**records.of_row(row, store.url), **record}.get("only_grow"):
            raise ValueError("A retraining was interrupted. Received: one "
                             "that is still open. Finish it first: `tfrecal "
                             "retrain`.")
        version = (loop.exported(run_id, record["base_version"])
                   if record else None)
        store.finish_retraining(
            run_id, outcome="failed" if version is None else "promoted",
            reason="interrupted" if version is None else record["reason"],
            version=version, record=record)


def _heard(store, run: str, until: float) -> float:
    """Returns when the newest feedback of the served version was received."""
    return records.of_run(store, run).get(
        "feedback_until", until) if run else until


def _pool_over(pool: Pool, labels, today: Interactions) -> Pool:
    """Returns a pool of labels with a pool's traffic over today's tables."""
    labels = labels[labels["user_id"].isin(today.users.index)]
    traffic = []
    for counts, then, now in (
            (pool.user_traffic, pool.user_vocabulary, today.user_vocabulary),
            (pool.item_traffic, pool.item_vocabulary, today.item_vocabulary)):
        codes = now.codes_of(then)
        kept = (codes > 0) | (np.arange(len(codes)) == 0)
        traffic.append(np.repeat(codes[kept], counts[kept].astype(np.int64)))
    return Pool.cross(today.with_frame(labels), traffic_user=traffic[0],
                      traffic_item=traffic[1])
