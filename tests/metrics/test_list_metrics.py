"""AUC and NDCG within lists, against one list at a time."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal import metrics


def test_each_list_counts_the_same():
    rng = np.random.default_rng(0)
    lists = rng.permutation(np.repeat(np.arange(30), rng.integers(1, 40, 30)))
    clicked = rng.random(len(lists)) < 0.3
    score = rng.normal(size=len(lists))
    auc, ndcg = [], []
    for number in range(30):
        label, own = clicked[lists == number], score[lists == number]
        if label.all() or not label.any():
            continue
        auc.append(metrics.auc(label, own))
        ndcg.append(metrics.ranking_from_scores(
            own[None], label[None], k=5).mean()["ndcg@5"])
    assert 5 < len(auc) < 30
    found = metrics.within_lists(lists, clicked, score, k=5)
    assert found == pytest.approx({
        "list_auc": np.mean(auc), "list_ndcg@5": np.mean(ndcg)})


def test_ties_count_a_half_and_their_order_is_drawn():
    lists = np.repeat([7, 9], 4)
    clicked = np.tile([True, False, False, False], 2)
    score = np.array([1, 1, 1, 0, 2, 2, 2, 2])
    assert metrics.within_lists(lists, clicked, score)["list_auc"] == (
        pytest.approx((2 / 3 + 1 / 2) / 2))
    many = np.repeat(np.arange(2000), 2)
    found = metrics.within_lists(many, np.tile([True, False], 2000),
                                 np.zeros(4000))
    assert found["list_ndcg@10"] == pytest.approx(
        (1 + 1 / np.log2(3)) / 2, abs=0.01)


def test_lists_of_one_kind_say_nothing():
    found = metrics.within_lists([1, 1, 2], [True, True, False], [1., 2, 3])
    assert np.isnan(found["list_auc"]) and np.isnan(found["list_ndcg@10"])
    assert np.isnan(metrics.within_lists([], [], [])["list_auc"])


@pytest.mark.parametrize("lists, score, words", [
    ([1], [1.0, 2.0], "one n"), ([1, 1], [np.nan, 1.0], "finite")])
def test_bad_scores_are_refused(lists, score, words):
    with pytest.raises(ValueError, match=words):
        metrics.within_lists(lists, [True, False], score)
