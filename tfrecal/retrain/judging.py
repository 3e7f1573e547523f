"""Judges the served and the retrained model on the newest feedback."""
from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from tfrecal import metrics
from tfrecal.metrics import off_policy
from tfrecal.metrics.top_k import top_k
from tfrecal.retrain.material import Material
from tfrecal.scoring.scorer import PoolScorer

_KEYS = ["request_id", "user_id", "item_id"]
_REWARDS = ("click", "purchase")


def vectors(model, pool):
    """Returns the retrieval vectors of all users and of all items, by code."""
    return PoolScorer.of(model, pool).vectors("retrieval")


def values(served, candidate, material: Material, shown, responses, *,
           metric: str, position_bias: float, clip: float):
    """Returns how well both models do on the held-out feedback, by user.

    - `"list_dcg"`: either model orders each list that was shown anew, and
      the DCG of the new order is taken. A click at shown rank r is worth
      r ** position_bias (at most `clip`), because fewer people look so far
      down. Values are in units of the served model's mean: 1.05 is 5% more.
      They are not normalised list by list, because a list with one click
      would then be worth most in the order in which it was shown. Items that
      are never shown cannot be judged.
    - `"rmse"`: the negative RMSE of ratings.
    - `"ndcg@10"` and the like: ranks the whole catalogue. Clicks fall on what
      the served model shows, which favours that model.

    Args:
        served, candidate: `(model, pool)`; the pool of `served` is over its
            own tables.
        material: the `Material` whose held-out rows judge.
        shown, responses: frames of the feedback store.
        metric: see above.
        position_bias: how fast the probability of a look falls with the
            rank.
        clip: the largest worth of a click.

    Returns:
        `(served, candidate)`, float64 `[users]` each, higher is better.

    Raises:
        ValueError: there is no such metric, or it needs other labels.

    Reference:
        `list_dcg`: Joachims et al. 2017, "Unbiased Learning-to-Rank with
        Biased Feedback", arXiv 1608.04468 (propensity-weighted estimate of
        an additive metric).
    """
    if metric == "list_dcg":
        return _list_dcg(served, candidate, material, shown, responses,
                         position_bias, clip)
    if metric == "rmse":
        return _rmse(served, candidate, material)
    name, _, k = metric.partition("@")
    if not k.isdecimal() or not int(k):
        raise ValueError(
            "`metric` must be list_dcg, rmse, or a metric of the catalogue "
            "with the length of its lists, such as ndcg@10. Received: "
            f"metric={metric!r}.")
    held, train = material.held_out, material.train
    shape = len(train.users), len(train.items)
    good = held.label >= candidate[1].positive
    relevant = metrics.pairs(
        held.user_code[good] - 1, held.item_code[good] - 1, shape)
    seen = metrics.pairs(train.user_code - 1, train.item_code - 1, shape)
    found = []
    for scores in _scores(served, candidate, material):
        result = metrics.ranking_from_scores(
            lambda rows: scores(1 + rows), relevant, seen, k=int(k))
        if metric not in result.per_user:
            raise ValueError(
                f"`metric` must be one of {sorted(result.per_user)}. "
                f"Received: metric={metric!r}.")
        found.append(result.per_user[metric])
    return tuple(found)


def _list_dcg(served, candidate, material, shown, responses, position_bias,
              clip):
    shown, responses = _held_out(material, shown, responses)
    users, items = material.train.codes(shown["user_id"], shown["item_id"])
    there = (users > 0) & (items > 0)
    shown, users, items = shown[there], users[there], items[there]
    worth = clicked(shown, responses) * np.minimum(
        shown["rank"].to_numpy(np.float64) ** position_bias, clip)
    request = pd.factorize(shown["request_id"])[0]
    distinct, row = np.unique(users, return_inverse=True)
    first = np.isin(np.arange(len(row)), np.unique(
        request, return_index=True)[1])
    requests = np.bincount(row, first)
    found = []
    for scores in _scores(served, candidate, material):
        place = _places(request, scores(distinct)[row, items - 1])
        found.append(np.bincount(row, worth / np.log2(place + 2)) / requests)
    mean = found[0].mean() if len(found[0]) else 0.0
    if not mean:  # there is no click
        return np.zeros(0), np.zeros(0)
    return tuple(value / mean for value in found)


def _places(request, score) -> np.ndarray:
    """Returns the place of each row in its request, ordered by `score`."""
    order = np.lexsort((-score, request))
    starts = np.flatnonzero(np.diff(request[order], prepend=-1))
    length = np.diff(np.r_[starts, len(order)])
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(starts, length)
    return place


def _held_out(material, shown, responses):
    """Returns the lists and responses of the time that does not train."""
    since = material.held_out.frame["timestamp"].min()
    responses = responses[responses["time"] >= since]
    # A list may have been shown just before its first response.
    lists = shown["request_id"].isin(responses["request_id"])
    return shown[lists | (shown["time"] >= since)], responses


def _rmse(served, candidate, material):
    held = material.held_out
    if tuple(map(float, held.scale)) == (0.0, 1.0):
        raise ValueError("The metric rmse is of ratings. Received: labels "
                         "of 0 and 1. Use list_dcg or ndcg@10.")
    tables = material.before
    ids = held.frame["user_id"], held.frame["item_id"]
    user, item = tables.codes(*ids)
    both = (user > 0) & (item > 0)  # the served model knows both
    if not both.any():
        return np.zeros(0), np.zeros(0)
    owner = pd.factorize(ids[0][both])[0]
    count = np.bincount(owner)
    found = []
    for (model, pool), codes in (
            (served, (user[both], item[both])),
            (candidate, (held.user_code[both], held.item_code[both]))):
        wrong = PoolScorer.of(model, pool).predict(*codes) - held.label[both]
        found.append(-np.sqrt(np.bincount(owner, wrong ** 2) / count))
    return tuple(found)


def clicked(shown, responses) -> np.ndarray:
    """Returns 1 for each shown item that was clicked or bought, else 0."""
    won = responses[responses["kind"].isin(_REWARDS)]
    return pd.MultiIndex.from_frame(shown[_KEYS]).isin(
        pd.MultiIndex.from_frame(won[_KEYS])).astype(np.float64)


def _scores(served, candidate, material):
    """Returns two functions: user codes -> scores of all items, `[b, N]`."""
    query, items = vectors(*candidate)
    return (_served_scores(*served, material.before, material.train),
            lambda users: query[users] @ items[1:].T)


def _served_scores(model, pool, tables, grown):
    """Scores the grown tables' items by a model of the old tables.

    The model cannot list items that it does not know. A user whom it does
    not know gets its most popular items, as on the server.
    """
    query, items = vectors(model, pool)
    user = tables.user_vocabulary.codes_of(grown.user_vocabulary)
    item = tables.item_vocabulary.codes_of(grown.item_vocabulary)[1:]
    popular = np.log(pool.item_traffic + 1).astype(np.float32)
    known = query.any(axis=1)
    known[0] = False

    def scores(users):
        codes = user[users]
        of_all = np.where(known[codes, None], query[codes] @ items.T,
                          popular)
        return np.where(item > 0, of_all[:, item], -np.inf).astype(
            np.float32)
    return scores


def estimate(model, pool, material: Material, shown, responses, *, k: int,
             clip: float, seed: int) -> dict | None:
    """Estimates from logged lists what the candidate's would have earned.

    The estimate is of clicks and purchases a request, by `off_policy.snips`
    over the requests of the held-out time, with an interval by users. A log
    without exploration tells only of what it showed: see `warning`.

    Args:
        model, pool: the candidate and its pool.
        material: the `Material` whose held-out time counts.
        shown, responses: frames of the feedback store.
        k: number of items of a list.
        clip: the largest importance weight.
        seed: seed of the bootstrap.

    Returns:
        The fields of an `off_policy.Estimate`, or None where no list was
        logged.
    """
    shown, responses = _held_out(material, shown, responses)
    shown = shown[shown["rank"] <= k]
    user, item = material.train.codes(shown["user_id"], shown["item_id"])
    there = user > 0
    shown, user, item = shown[there], user[there], item[there]
    if not len(shown):
        return None
    query, items = vectors(model, pool)
    users, row = np.unique(user, return_inverse=True)
    lists = 1 + top_k(query[users] @ items[1:].T,
                      min(k, len(items) - 1), users, seed)
    rank = shown["rank"].to_numpy(np.int64)
    found = off_policy.snips(
        pd.factorize(shown["request_id"])[0], clicked(shown, responses),
        shown["propensity"].to_numpy(np.float64),
        off_policy.list_target(row, rank, item, lists), rank=rank, unit=user,
        clip=clip, seed=seed)
    return {name: None if isinstance(value, float) and not np.isfinite(value)
            else value for name, value in dataclasses.asdict(found).items()}
