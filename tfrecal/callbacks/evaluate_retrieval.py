"""EvaluateRetrieval: how good are the lists and the predicted labels?"""
from __future__ import annotations

import time

import numpy as np
import tf_keras

from tfrecal import metrics
from tfrecal.scoring.scorer import PoolScorer

#: Part of a split -> how the names of its metrics begin.
PREFIXES = {"validation": "val_", "test": "test_"}
_TILE = 1 << 16  # rows of lists whose vectors are gathered at once


class EvaluateRetrieval(tf_keras.callbacks.Callback):
    """Computes full-catalogue metrics of the validation or the test part.

    The validation part is evaluated at the end of each epoch, for callbacks
    that choose by it: stopping, schedules, a chooser. The test part says how
    good the finished model is. It is evaluated once, when training ends, so
    that nothing can choose by it.

    Users and items are encoded once. All pairs of a user in the pool are
    masked, labelled or not; masking only the labelled ones would favour
    strategies that leave good items in the pool. The callback writes
    `val_ndcg@10`, `val_recall@10`, `val_mrr@10`, `val_map@10`,
    `val_coverage@10`, `val_popularity_bias@10`, `val_novelty@10` and
    `val_rmse` (for 0/1 labels `val_auc`) into `logs`, and slices by cold
    and warm users and items as `val_ndcg@10/cold_items`. Where held-out rows
    were shown in lists, `val_list_auc` and `val_list_ndcg@10` say how well
    the retrieval vectors order each list (`metrics.within_lists`; NaN where
    no list holds both a positive and another row). Metrics of the test
    part are `test_ndcg@10` and so on; `History` holds NaN for the epochs
    before the last.

    Callbacks run in their order: one that sets other weights when training
    ends, as `EarlyStopping(restore_best_weights=True)`, comes before that of
    the test part.

    Args:
        pool: the `Pool` that is trained on.
        held_out: `Interactions` over the same tables; labels at or above
            `pool.positive` are relevant.
        k: length of the lists.
        seen: further `Interactions` to mask, such as the validation part
            when the test part is evaluated.
        every: epochs from one evaluation to the next; None means 1 for the
            validation part, and only the end of training for the test part.
        part: which part of a split `held_out` is: `"validation"` or
            `"test"`.

    Attributes:
        found: the metrics that were written last, name -> value.
        counts: numbers of `rows` that were evaluated last, and of `users`
            among them with something to find.

    Raises:
        ValueError: a held-out pair is in the pool, or there is no pair.

    Example:
        test = EvaluateRetrieval(
            pool, split.test, seen=split.validation, part="test")
        model.fit(pool.sequence(256), epochs=10, callbacks=[
            EvaluateRetrieval(pool, split.validation), test])
        test.found["test_ndcg@10"]
    """

    def __init__(self, pool, held_out, *, k: int = 10, seen=None,
                 every: int | None = None, part: str = "validation"):
        super().__init__()
        if part not in PREFIXES:
            raise ValueError("`part` must be \"validation\" or \"test\". "
                             f"Received: part={part!r}.")
        if not len(held_out):
            raise ValueError(
                "`held_out` must hold at least one row. Received: none. Take "
                "a part of a split that has rows, such as with "
                "`validation=0.1`.")
        if not pool.lazy:
            pool.check_leakage(held_out)
        self.pool = pool
        self.held_out = held_out
        self.k = k
        self.seen = seen
        self.every = every
        self.part = part
        self.found: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        # The test part is evaluated only when training has ended.
        self._last_only = every is None and part == "test"

    def on_train_begin(self, logs=None):
        self.found, self.counts = {}, {}
        self._scorer(self.model).check()

    def on_epoch_end(self, epoch, logs=None):
        if self._last_only or (epoch + 1) % (self.every or 1):
            return
        started = time.perf_counter()
        found = self._measure()
        if logs is not None:
            logs.update(found)
            logs["evaluate_seconds"] = time.perf_counter() - started

    def on_train_end(self, logs=None):
        if not self._last_only:
            return
        found = self._measure()
        if logs is not None:
            logs.update(found)
        columns = self.model.history.history
        before = max(map(len, columns.values()), default=1) - 1
        columns.update({name: [np.nan] * before + [value]
                        for name, value in found.items()})

    def _measure(self):
        prefix = PREFIXES[self.part]
        self.found = {prefix + name: value for name, value
                      in self.evaluate(self.model).items()}
        return self.found

    def evaluate(self, model) -> dict[str, float]:
        """Returns metrics of a model, without `val_` or `test_` before them.

        Args:
            model: any model that `PoolScorer` can score with.
        """
        scorer = self._scorer(model)
        held_out = self.held_out
        query, candidate, relevant, seen, result = self.ranked(scorer)
        found = result.mean()
        self.counts = {"rows": len(held_out), "users": len(result.users)}
        if scorer.offers.labels:
            predicted = scorer.predict(held_out.user_code, held_out.item_code)
            found.update(self._label_metrics(
                scorer.labels().loss, held_out.label, predicted))
        found.update(self._slices(
            result, query, candidate, relevant, seen))
        if held_out.list_code is not None:
            found.update(self._list_metrics(query, candidate))
        return found

    def _scorer(self, model) -> PoolScorer:
        """Returns the scorer, and holds it so that other callbacks find it."""
        self._held = PoolScorer.of(model, self.pool)
        return self._held

    def ranked(self, scorer):
        """Ranks the catalogue for all users with something to find.

        Args:
            scorer: a `PoolScorer` of the model.

        Returns:
            `(query, candidate, relevant, seen, result)`: vectors
            `[users, d]` and `[items, d]`; which pairs are relevant and which
            are masked, sparse `[users, items]`; a `RankingResult`.
        """
        held_out = self.held_out
        query, candidate = (
            vectors[1:] for vectors in scorer.vectors("retrieval"))
        shape = len(query), len(candidate)
        good = held_out.label >= self.pool.positive
        relevant = metrics.pairs(held_out.user_code[good] - 1,
                                 held_out.item_code[good] - 1, shape)
        seen = metrics.pairs(*self._masked_pairs(), shape)
        result = metrics.ranking(
            query, candidate, relevant, seen, k=self.k,
            popularity=self.pool.item_traffic[1:])
        return query, candidate, relevant, seen, result

    def _masked_pairs(self):
        pairs = [(self.pool.user, self.pool.item)]
        if self.seen is not None:
            pairs.append((self.seen.user_code, self.seen.item_code))
        user, item = map(np.concatenate, zip(*pairs))
        return user - 1, item - 1

    def _list_metrics(self, query, candidate):
        held_out = self.held_out
        rows = np.flatnonzero(held_out.list_code)
        score = np.concatenate([np.zeros(0), *(
            np.einsum("nd,nd->n", query[held_out.user_code[some] - 1],
                      candidate[held_out.item_code[some] - 1])
            for some in np.split(rows, range(_TILE, len(rows), _TILE)))])
        return metrics.within_lists(
            held_out.list_code[rows],
            held_out.label[rows] >= self.pool.positive, score, self.k)

    def _label_metrics(self, loss, label, predicted):
        if loss == "mse":
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
