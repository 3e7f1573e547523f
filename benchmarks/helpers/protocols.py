"""How `quality.py` judges: lists, tails, new items, one fresh click.

Plain functions of scores, so that ours and the peers are measured alike. A
method has `scores(users)`, float32 `[n, items]`, by what training knows; and
where it answers histories, `requests(users, histories)` as
`history_peers.HistoryPeer` has it.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from tfrecal import metrics, splits
from tfrecal.pool.positives import default_positive
from tfrecal.scoring.scorer import PoolScorer

TAIL = {"0": (0, 0), "1-5": (1, 5), "6-20": (6, 20), "more": (21, np.inf)}
K = 10


class Judge:
    """Judges the lists of methods on a split.

    Args:
        split: train, validation and test over the same tables.

    Attributes:
        positive: labels at or above this are relevant.
        shape: numbers of users and items.
        rows: training rows as sparse float32 matrices: "all" and "likes" of
            0 and 1, "ratings" of labels; only "likes" where labels are alike.
    """

    def __init__(self, split: splits.Split):
        self.split = split
        self.positive = default_positive(split.train.scale)
        self.shape = len(split.train.users), len(split.train.items)
        ones = {name: sparse.csr_matrix(self._pairs(
            split.train, likes)).astype(np.float32)
            for name, likes in (("all", False), ("likes", True))}
        train = split.train
        self.rows = ones | {"ratings": sparse.csr_matrix(
            (train.label, (train.user_code - 1, train.item_code - 1)),
            shape=self.shape)}
        if train.label.min() == train.label.max():
            self.rows = {"likes": ones["likes"]}

    def _pairs(self, part, likes: bool = False):
        keep = part.label >= (self.positive if likes else -np.inf)
        return metrics.pairs(part.user_code[keep] - 1,
                             part.item_code[keep] - 1, self.shape)

    def ranked(self, scores: Callable, part: str = "test",
               mask=None) -> metrics.RankingResult:
        """Ranks the catalogue; what came before the part is masked.

        Args:
            scores: of a method.
            part: whose positives are to be found.
            mask: bool `[items]`, which are ranked; None for all.
        """
        seen = self._pairs(self.split.train)
        if part == "test":
            seen = seen + self._pairs(self.split.validation)
        return metrics.ranking_from_scores(
            scores, self._pairs(getattr(self.split, part), True), seen, k=K,
            item_mask=mask)

    def ndcg(self, scores: Callable, part: str = "validation") -> float:
        return self.ranked(scores, part).mean()[f"ndcg@{K}"]

    def lists(self, scores: Callable) -> dict[str, float]:
        """NDCG, recall and coverage, and recall by labels of the item."""
        result = self.ranked(scores)
        found = result.mean()
        number = np.bincount(self.split.train.item_code - 1,
                             minlength=self.shape[1])
        relevant = self._pairs(self.split.test, True)
        tail = {name: recall_of(result, relevant, (
            low <= number) & (number <= high))
            for name, (low, high) in TAIL.items()}
        return {name: found[f"{name}@{K}"]
                for name in ("ndcg", "recall", "coverage")} | {
                    "tail": tail}

    def clicks(self) -> tuple[np.ndarray, list[np.ndarray], np.ndarray,
                              np.ndarray]:
        """Users of an ordered split with a fresh click and one to come.

        Returns:
            `(users [n], histories, clicked [n], next [n])`: positions; each
            history holds what the user liked in training, oldest first,
            and the validation item.
        """
        liked = [[] for _ in range(self.shape[0])]
        train, validation, test = self.split
        good = train.label >= self.positive
        for user, item in zip(train.user_code[good] - 1,
                              train.item_code[good] - 1):
            liked[user].append(item)
        clicked, to_come = ({
            user: item for user, item, label in zip(
                part.user_code - 1, part.item_code - 1, part.label)
            if label >= self.positive} for part in (validation, test))
        users = np.array(sorted(clicked.keys() & to_come), np.int64)
        return (users, [np.array(liked[user] + [clicked[user]], np.int32)
                        for user in users],
                *(np.array([of[user] for user in users], np.int32)
                  for of in (clicked, to_come)))

    def fresh_click(self, method) -> dict[str, float]:
        """NDCG@10 of the item after a click that training has not seen.

        `before`: without the click; `known`: it joins the history of the
        request; `one_click`: nobody knows the user, and it is the whole
        history.
        """
        users, histories, clicked, to_come = self.clicks()
        shape = len(users), self.shape[1]
        relevant = metrics.pairs(np.arange(len(users)), to_come, shape)
        seen = (self._pairs(self.split.train)
                + self._pairs(self.split.validation))[users]
        only = metrics.pairs(np.arange(len(users)), clicked, shape)

        def ndcg(scores, masked):
            return metrics.ranking_from_scores(
                scores, relevant, masked, k=K).mean()[f"ndcg@{K}"]

        return {
            "before": ndcg(lambda rows: method.scores(users[rows]), seen),
            "known": ndcg(lambda rows: method.requests(
                users[rows], [histories[row] for row in rows]), seen),
            "one_click": ndcg(lambda rows: method.requests(
                None, [clicked[row:row + 1] for row in rows]), only)}


def recall_of(result, relevant, group) -> float:
    """Recall of the relevant items of a group, in the mean of their users.

    Args:
        result: a `RankingResult` of the whole catalogue.
        relevant: sparse bool `[users, items]`.
        group: bool `[items]`.
    """
    rows = relevant[result.users].tocsr()
    wanted = rows @ group.astype(np.float64)
    some = wanted > 0
    if not some.any():
        return float("nan")
    items = np.maximum(result.items, 0)
    place = np.arange(len(items))[:, np.newaxis]
    hit = rows[place, items].toarray() & (result.items >= 0) & group[items]
    return float((hit.sum(axis=1)[some] / wanted[some]).mean())


def new_items(data, seed: int) -> tuple[splits.Split, splits.Split]:
    """Holds a fifth of the items out with all rows.

    Returns:
        Two splits with the same training and validation part; the test of
        the first has rows of the other items, that of the second those of
        the new ones.
    """
    cold = splits.cold_items(data, 0.2, seed=seed)
    warm = splits.random(cold.train, seed=seed)
    return warm, warm._replace(test=cold.test)


def judge_new_items(scores, warm: splits.Split,
                    new: splits.Split) -> dict[str, float]:
    """How new items rank, and what the others lose by them.

    Args:
        scores: of a method.
        warm, new: what `new_items` returned.

    Returns:
        `among`: NDCG@10 of new items among themselves; `recall`: recall@10
        over the whole catalogue; `places`: share of the places of these
        lists that new items take; `warm` and `warm_alone`: NDCG@10 of the
        other items, with the new ones in the catalogue and without.
    """
    judge, other = Judge(new), Judge(warm)
    is_new = np.zeros(judge.shape[1], bool)
    is_new[new.test.item_code - 1] = True
    result = judge.ranked(scores)
    return {
        "among": judge.ranked(scores, mask=is_new).mean()[f"ndcg@{K}"],
        "recall": result.mean()[f"recall@{K}"],
        "places": float(is_new[result.items].mean()),
        "warm": other.ndcg(scores, "test"),
        "warm_alone": other.ranked(
            scores, mask=~is_new).mean()[f"ndcg@{K}"]}


def cold_ndcg(model, pool, test) -> float:
    """NDCG@10 of items without a training row, ranked among themselves."""
    query, candidate = PoolScorer.of(model, pool).vectors("retrieval")
    shape = len(query) - 1, len(candidate) - 1
    good = test.label >= pool.positive
    cold = ~np.isin(np.arange(shape[1]), pool.item - 1)
    if not cold.any():
        return float("nan")
    return metrics.item_slices(
        query[1:], candidate[1:], metrics.pairs(
            test.user_code[good] - 1, test.item_code[good] - 1, shape),
        groups={"cold": cold}, among="themselves", k=K)["cold"][f"ndcg@{K}"]
