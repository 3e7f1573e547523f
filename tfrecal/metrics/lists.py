"""How well the rows of each list that was shown are ordered."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.hashes import noise


def within_lists(lists, clicked, score, k: int = 10,
                 seed: int = 0) -> dict[str, float]:
    """Returns the AUC and the NDCG of each list, averaged over lists.

    Only lists with clicked and other rows count, each as much as any other
    (Wu et al. 2020, "MIND: A Large-scale Dataset for News Recommendation",
    ACL, section 5.1).

    Args:
        lists: number of each row's list, int `[n]`.
        clicked: which rows were clicked, bool `[n]`.
        score: `[n]`, higher is better. Ties count a half in the AUC.
        k: cut-off of the NDCG, which has binary gains.
        seed: orders ties for the NDCG.

    Returns:
        `{"list_auc": ..., "list_ndcg@<k>": ...}`; NaN where no list counts.

    Raises:
        ValueError: lengths differ, or scores are not finite.

    Example:
        within_lists([1, 1, 1], [False, True, False], [0.5, 0.9, 0.1])
    """
    checks.whole(1, k=k)
    clicked = np.asarray(clicked, bool)
    score = np.asarray(score, np.float64)
    shapes = [np.shape(lists), clicked.shape, score.shape]
    if len(set(shapes)) > 1 or score.ndim != 1:
        raise ValueError(
            "`lists`, `clicked` and `score` must be [n] of one n. Received: "
            f"shapes {shapes}.")
    if not np.isfinite(score).all():
        raise ValueError(
            f"`score` must be finite. Received: {(~np.isfinite(score)).sum()}"
            f" of {len(score)} are not. Look at the vectors first.")
    _, unit = np.unique(lists, return_inverse=True)
    order = np.lexsort((noise(seed, unit, np.arange(len(unit))), -score,
                        unit))
    unit, hit, score = unit[order], clicked[order], score[order]
    number, hits = np.bincount(unit), np.bincount(unit, hit)
    both = (hits > 0) & (hits < number)
    if not both.any():
        return {"list_auc": np.nan, f"list_ndcg@{k}": np.nan}
    place = np.arange(len(unit)) - (np.cumsum(number) - number)[unit]
    tie = np.cumsum((place == 0) | (np.diff(score, prepend=0) != 0)) - 1
    rank = number[unit] - place
    rank = (np.bincount(tie, rank) / np.bincount(tie))[tie]
    above = np.bincount(unit, rank * hit) - hits * (hits + 1) / 2
    auc = above[both] / (hits * (number - hits))[both]
    gain = np.where(place < k, 1 / np.log2(place + 2), 0)
    ideal = np.cumsum(1 / np.log2(np.arange(k) + 2))
    ndcg = np.bincount(unit, gain * hit)[both] / ideal[
        np.minimum(hits[both], k).astype(int) - 1]
    return {"list_auc": float(auc.mean()), f"list_ndcg@{k}": float(
        ndcg.mean())}
