"""EvaluateRetrieval: how good are the lists and the predicted labels?"""
from __future__ import annotations

import time

import numpy as np
import tf_keras

from tfrecal import metrics
from tfrecal.model.tasks import Rating
from tfrecal.scoring.scorer import PoolScorer


class EvaluateRetrieval(tf_keras.callbacks.Callback):
    """Full-catalogue metrics of held-out rows at the end of an epoch.

    Users and items are encoded once. A user's pairs of the whole pool are
    masked, labelled or not; masking only the labelled ones would favour
    strategies that leave good items in the pool. Writes
    `val_ndcg@10`, `val_recall@10`, `val_mrr@10`, `val_map@10`,
    `val_coverage@10`, `val_popularity_bias@10`, `val_novelty@10` and
    `val_rmse` (for 0/1 labels `val_auc`) into `logs`, and slices by cold
    and warm users and items as `val_ndcg@10/cold_items`.

    Args:
        pool: the `Pool` that is trained on.
        held_out: `Interactions` over the same tables; labels at or above
            `pool.positive` are relevant.
        k: length of the lists.
        seen: further `Interactions` to be masked, such as the validation
            part while the test part is evaluated.
        every: epochs between evaluations.
        prefix: of the names in `logs`.

    Raises:
        ValueError: a held-out pair is in the pool.
    """

    def __init__(self, pool, held_out, *, k: int = 10, seen=None,
                 every: int = 1, prefix: str = "val_"):
        super().__init__()
        if not pool.lazy:
            pool.check_leakage(held_out)
        self.pool = pool
        self.held_out = held_out
        self.k = k
        self.seen = seen
        self.every = every
        self.prefix = prefix

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0 and logs is not None:
            started = time.perf_counter()
            logs.update({self.prefix + name: value for name, value
                         in self.evaluate(self.model).items()})
            logs["evaluate_seconds"] = time.perf_counter() - started

    def evaluate(self, model) -> dict[str, float]:
        """Metric name -> value, without the prefix."""
        scorer = PoolScorer.of(model, self.pool)
        held_out = self.held_out
        query, candidate, relevant, seen, result = self.ranked(scorer)
        found = result.mean()
        if model.task(Rating) is not None:
            predicted = scorer.predict(held_out.user_code, held_out.item_code)
            found.update(self._pointwise(model, held_out.label, predicted))
        found.update(self._slices(
            result, query, candidate, relevant, seen))
        return found

    def ranked(self, scorer):
        """Vectors of users and items, what is relevant and seen, the lists.

        Args:
            scorer: a `PoolScorer` of the model.

        Returns:
            `(query, candidate, relevant, seen, result)`: `[users, d]` and
            `[items, d]`, two sparse `[users, items]`, a `RankingResult`.
        """
        held_out = self.held_out
        query, candidate = (
            vectors[1:] for vectors in scorer.vectors("retrieval"))
        shape = len(query), len(candidate)
        good = held_out.label >= self.pool.positive
        relevant = metrics.pairs(held_out.user_code[good] - 1,
                                 held_out.item_code[good] - 1, shape)
        seen = metrics.pairs(*self._seen(), shape)
        result = metrics.ranking(
            query, candidate, relevant, seen, k=self.k,
            popularity=self.pool.item_traffic[1:])
        return query, candidate, relevant, seen, result

    def _seen(self):
        parts = [(self.pool.user, self.pool.item)]
        if self.seen is not None:
            parts.append((self.seen.user_code, self.seen.item_code))
        user, item = map(np.concatenate, zip(*parts))
        return user - 1, item - 1

    def _pointwise(self, model, label, predicted):
        if model.task(Rating).loss == "mse":
            return {"rmse": metrics.rmse(label, predicted)}
        both = 0 < (label > 0).sum() < len(label)
        return {"auc": metrics.auc(label, predicted) if both else np.nan}

    def _slices(self, result, query, candidate, relevant, seen):
        rows = self.pool.labelled_rows()
        users = np.isin(np.arange(len(query)), self.pool.user[rows] - 1)
        items = np.isin(np.arange(len(candidate)), self.pool.item[rows] - 1)
        name = f"ndcg@{self.k}"
        by_user = metrics.slices(
            result, {"warm_users": users, "cold_users": ~users})
        groups = {key: group for key, group in (
            ("warm_items", items), ("cold_items", ~items)) if group.any()}
        by_item = metrics.item_slices(
            query, candidate, relevant, seen, groups=groups, k=self.k)
        found = {f"{name}/{key}": np.nan for key in (
            "warm_users", "cold_users", "warm_items", "cold_items")}
        for key, means in {**by_user, **by_item}.items():
            found[f"{name}/{key}"] = means[name]
        return found
