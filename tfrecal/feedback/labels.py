"""Labels of pairs from what was shown and what came back."""
from __future__ import annotations

import numpy as np
import pandas as pd

from tfrecal.checks import on_scale

_PAIR = ["user_id", "item_id"]
COLUMNS = [*_PAIR, "label", "timestamp", "rank", "propensity", "explored",
           "told", "list_id"]


def label_values(scale) -> dict[str, float | None]:
    """Returns what a response of each kind says of its pair, on a scale.

    Returns:
        kind -> label; None stands for the response's own value. A missing
        kind gives no label: a click tells nothing of a rating from 1 to 5.
    """
    if tuple(map(float, scale)) == (0.0, 1.0):
        return {"click": 1.0, "purchase": 1.0, "skip": 0.0, "rating": None}
    return {"rating": None}


def feedback_labels(responses: pd.DataFrame, shown: pd.DataFrame, scale, *,
                    now: float, patience: float = 3600.0
                    ) -> tuple[pd.DataFrame, dict[str, int]]:
    """Makes one label for each pair that feedback tells of.

    The latest response of a pair counts. On the scale 0 to 1, an item that
    stood above a clicked one and got no response within `patience` was
    looked at and passed over: its label is 0, unless the pair has a response
    elsewhere. Silence never undoes a click; a skip does. An item below the
    last click may never have been seen, and gets no label.

    Args:
        responses: what `FeedbackStore.responses` returned.
        shown: what `FeedbackStore.shown` returned.
        scale: (lowest, highest) label.
        now: seconds since the epoch; later rows are left out.
        patience: seconds after which a missing response counts as a 0.

    Returns:
        `(frame, counts)`. The frame has one row a pair: `user_id`,
        `item_id`, `label`, `timestamp`, and of the list that showed it
        `rank`, `propensity` (NaN where no list is known), `explored`
        (whether the slot was given to exploration), `told` (whether a
        response says the label, or silence) and `list_id` ("request:" and
        its request, "" where no list is known). The counts say how many
        responses and shown rows were used or left out, and why.

    Reference:
        Joachims et al. 2005, "Accurately Interpreting Clickthrough Data as
        Implicit Feedback", SIGIR, strategy "Click > Skip Above".
    """
    values = label_values(scale)
    later = responses["time"].to_numpy(np.float64) > now
    responses = responses[~later]
    known = responses["kind"].isin(list(values)).to_numpy()
    counts = {"responses": int(len(later)),
              "later_than_now": int(later.sum()),
              "responses_of_other_kinds": int((~known).sum())}
    found = responses[known]
    label = found["kind"].map(values).astype(np.float64)
    found = found.assign(
        label=label.where(label.notna(), found["value"].astype(np.float64)))
    on = on_scale(found["label"], scale)
    counts["off_the_scale"], found = int((~on).sum()), found[on]
    keys = ["request_id", *_PAIR]
    # One pair can stand in a list once, so a response finds one row.
    slots = shown.drop_duplicates(keys)
    found = found.merge(
        slots[[*keys, "rank", "propensity", "strategy"]], on=keys, how="left")
    counts["responses_without_a_list"] = int(found["rank"].isna().sum())
    parts = [found.assign(told=True)]
    if values.get("skip") == 0.0:
        silent, waiting = _silent(slots, responses, now - patience)
        counts["silent"], counts["waiting"] = len(silent), waiting
        pairs = pd.MultiIndex.from_frame(found[_PAIR])
        told = pd.MultiIndex.from_frame(silent[_PAIR]).isin(pairs)
        parts.append(silent[~told].assign(label=0.0, told=False))
    rows = pd.concat(parts, ignore_index=True)
    rows = rows.sort_values(["time", "request_id"], kind="stable")
    rows = rows.drop_duplicates(_PAIR, keep="last").reset_index(drop=True)
    rows = rows.assign(
        label=rows["label"].astype(np.float32),
        told=rows["told"].astype(bool),
        timestamp=np.floor(rows["time"]).astype(np.int64),
        explored=rows["strategy"].fillna("") != "",
        list_id=("request:" + rows["request_id"].astype(object)).where(
            rows["rank"].notna(), ""))
    counts["replaced"] = len(found) - int(rows["told"].sum())
    counts["pairs"] = len(rows)
    return rows[COLUMNS], counts


def _silent(slots, responses, before):
    """Returns rows above a click that got no response in time.

    Also returns how many such rows may still get one.
    """
    keys = ["request_id", *_PAIR]
    told = pd.MultiIndex.from_frame(slots[keys])
    won = responses[responses["kind"].isin(["click", "purchase"])]
    clicks = slots[told.isin(pd.MultiIndex.from_frame(won[keys]))]
    last = clicks.groupby("request_id")["rank"].max()
    above = (slots["rank"] < slots["request_id"].map(last).astype(
        np.float64).fillna(0))
    silent = slots[above & ~told.isin(
        pd.MultiIndex.from_frame(responses[keys]))]
    late = silent["time"].to_numpy() <= before
    return silent[late], int((~late).sum())
