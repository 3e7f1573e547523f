"""Metrics against hand-computed numbers and against slow loops."""
from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from scipy import sparse

from tfrecal import metrics

NAMES = ("recall", "ndcg", "mrr", "map", "hit_rate")


def matrix(rows):
    return sparse.csr_array(np.array(rows, bool))


def slow_values(scores, relevant, seen, mask, k):
    """Metrics of one user, written from the definitions, no ties."""
    ranked = [i for i in sorted(range(len(scores)), key=lambda i: -scores[i])
              if mask[i] and not seen[i]][:k]
    wanted = {i for i in range(len(scores))
              if relevant[i] and mask[i] and not seen[i]}
    if not wanted:
        return None, ranked
    hits, dcg, precisions, first = 0, 0.0, 0.0, 0.0
    for rank, item in enumerate(ranked, start=1):
        if item in wanted:
            hits += 1
            dcg += 1 / math.log2(rank + 1)
            precisions += hits / rank
            first = first or 1 / rank
    most = min(k, len(wanted))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, most + 1))
    return {"recall": hits / len(wanted), "ndcg": dcg / ideal, "mrr": first,
            "map": precisions / most, "hit_rate": float(hits > 0)}, ranked


def test_numbers_by_hand():
    # ranking of the user: items 2, 0, 4, 1, 3; relevant 0, 1, 3
    scores = np.array([[4.0, 2.0, 5.0, 1.0, 3.0]])
    result = metrics.ranking_from_scores(
        scores, matrix([[1, 1, 0, 1, 0]]), k=(2, 4))
    assert result.items.tolist() == [[2, 0, 4, 1]]
    mean = result.mean()
    assert mean["recall@2"] == pytest.approx(1 / 3)
    assert mean["recall@4"] == pytest.approx(2 / 3)
    assert mean["mrr@2"] == mean["mrr@4"] == pytest.approx(1 / 2)
    assert mean["map@2"] == pytest.approx((1 / 2) / 2)
    assert mean["map@4"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    log3, log5 = math.log2(3), math.log2(5)
    assert mean["ndcg@2"] == pytest.approx((1 / log3) / (1 + 1 / log3))
    assert mean["ndcg@4"] == pytest.approx(
        (1 / log3 + 1 / log5) / (1 + 1 / log3 + 1 / 2))
    assert mean["coverage@4"] == pytest.approx(4 / 5)


@pytest.mark.parametrize("masked", [False, True])
def test_equals_slow_loops(masked):
    rng = np.random.default_rng(0)
    shape, k = (40, 30), (1, 3, 10)
    queries, candidates = (rng.normal(size=(n, 4)).astype("float32")
                           for n in shape)
    relevant, seen = (rng.random(shape) < p for p in (0.08, 0.3))
    seen[3] = True
    mask = rng.random(shape[1]) < 0.7 if masked else np.ones(30, bool)
    result = metrics.ranking(
        queries, candidates, sparse.csr_array(relevant),
        sparse.csr_array(seen), k=k, item_mask=mask if masked else None)
    scores = queries @ candidates.T
    row = 0
    for user in range(shape[0]):
        for cut in k:
            expected, ranked = slow_values(
                scores[user], relevant[user], seen[user], mask, cut)
            if expected is None:
                assert user not in result.users
                continue
            assert result.users[row] == user
            listed = result.items[row, :cut]
            assert listed[listed >= 0].tolist() == ranked
            for name in NAMES:
                assert result.per_user[f"{name}@{cut}"][row] == (
                    pytest.approx(expected[name])), name
        row += expected is not None
    assert 10 < row == len(result.users) < 40


def test_seen_is_never_listed_and_never_relevant():
    scores = np.arange(5.0)[None].repeat(3, 0)
    seen = matrix([[0, 0, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]])
    relevant = matrix([[1, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]])
    result = metrics.ranking_from_scores(scores, relevant, seen, k=4)
    assert result.users.tolist() == [0]
    assert result.items.tolist() == [[1, 0, -1, -1]]
    assert result.mean()["recall@4"] == 1
    assert result.mean()["ndcg@4"] == pytest.approx(1 / math.log2(3))
    assert result.mean()["coverage@4"] == pytest.approx(2 / 5)
    assert np.isfinite(scores).all()  # the caller's array is left alone


def test_k_beyond_the_catalogue():
    result = metrics.ranking_from_scores(
        np.array([[1.0, 2.0]]), matrix([[1, 0]]), k=5)
    assert result.items.tolist() == [[1, 0, -1, -1, -1]]
    assert result.mean()["ndcg@5"] == pytest.approx(1 / math.log2(3))


def test_minus_infinity_is_never_listed():
    scores = np.array([[-np.inf, 2.0, -np.inf, -np.inf]])
    result = metrics.ranking_from_scores(scores, matrix([[1, 1, 0, 0]]), k=3)
    assert result.items.tolist() == [[1, -1, -1]]


def test_ties_are_random_for_each_user_and_follow_the_seed():
    users, items = 4000, 5
    relevant = matrix(np.ones((users, items)))
    scores = np.zeros((users, items), np.float32)
    scores[:, 2] = 1.0
    listed = metrics.ranking_from_scores(scores, relevant, k=2).items
    assert (listed[:, 0] == 2).all()
    share = np.bincount(listed[:, 1], minlength=items) / users
    # four items, sd of a share 0.0068: five sd
    np.testing.assert_allclose(share, [.25, .25, 0, .25, .25], atol=0.034)
    short = metrics.ranking_from_scores(scores, relevant, k=2, tile=7).items
    np.testing.assert_array_equal(listed, short)
    other = metrics.ranking_from_scores(scores, relevant, k=2, seed=1).items
    assert (listed != other).any()


def test_ties_inside_the_list_are_random_too():
    scores = np.tile(np.float32([3, 3, 1, 0]), (1000, 1))
    listed = metrics.ranking_from_scores(
        scores, matrix(np.ones((1000, 4))), k=3).items
    assert 0.4 < (listed[:, 0] == 0).mean() < 0.6
    assert (listed[:, 2] == 2).all()


def test_wide_catalogues_are_scored_in_short_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    scores, relevant = rng.random((50, 20)), matrix(rng.random((50, 20)) < .5)
    whole = metrics.ranking_from_scores(scores, relevant)
    asked = []

    def score(rows):
        asked.append(len(rows))
        return scores[rows]

    # The room hands on a function of the module's name.
    module = sys.modules["tfrecal.metrics.ranking"]
    monkeypatch.setattr(module, "_CELLS", 200)
    result = metrics.ranking_from_scores(score, relevant)
    assert max(asked) == 10 and sum(asked) == len(result.users)
    np.testing.assert_array_equal(result.items, whole.items)


def test_popularity_and_novelty_by_hand():
    # two users, lists (0, 1) and (1, 2); counts 7, 3, 3, 0 of 13
    scores = np.array([[9.0, 8, 0, 0], [0, 9, 8, 0]])
    mean = metrics.ranking_from_scores(
        scores, matrix([[1, 0, 0, 0], [0, 1, 0, 0]]), k=2,
        popularity=[7, 3, 3, 0]).mean()
    # percentiles: 0.875 for 7, 0.5 for both 3, 0.125 for 0
    assert mean["popularity_bias@2"] == pytest.approx(
        (0.875 + 0.5 + 0.5 + 0.5) / 4)
    assert mean["novelty@2"] == pytest.approx(
        (-math.log2(8 / 17) - 3 * math.log2(4 / 17)) / 4)
    assert mean["coverage@2"] == pytest.approx(3 / 4)


def test_user_slices():
    scores = np.array([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0]])
    result = metrics.ranking_from_scores(
        scores, matrix([[1, 0], [0, 0], [1, 0]]), k=1)
    found = metrics.slices(result, {
        "cold": np.array([True, True, False]),
        "warm": np.array([False, False, True]),
        "none": np.array([False, True, False])})
    assert found["cold"]["users"] == found["warm"]["users"] == 1
    assert found["cold"]["recall@1"] == 1 and found["warm"]["recall@1"] == 0
    assert found["warm"]["coverage@1"] == 0.5
    assert found["none"]["users"] == 0
    assert math.isnan(found["none"]["recall@1"])


def test_item_slices():
    queries, candidates = np.ones((1, 1)), np.array([[4.0], [3], [2], [1]])
    relevant, cold = matrix([[1, 0, 0, 1]]), np.array([0, 0, 1, 1], bool)
    groups = {"cold": cold, "warm": ~cold}
    among_all = metrics.item_slices(
        queries, candidates, relevant, groups=groups, k=4)
    assert among_all["cold"]["mrr@4"] == pytest.approx(1 / 4)
    assert among_all["warm"]["recall@4"] == 1
    alone = metrics.item_slices(
        queries, candidates, relevant, groups=groups, among="themselves", k=4)
    assert alone["cold"]["mrr@4"] == pytest.approx(1 / 2)
    assert alone["cold"]["coverage@4"] == 1
    with pytest.raises(ValueError, match="among"):
        metrics.item_slices(queries, candidates, relevant, groups=groups,
                            among="others")
    with pytest.raises(ValueError, match="one entry a candidate"):
        metrics.item_slices(queries, candidates, relevant,
                            groups={"short": cold[:2]})


def test_nobody_to_evaluate_gives_nan():
    result = metrics.ranking(np.ones((2, 3)), np.ones((4, 3)),
                             matrix(np.zeros((2, 4))), popularity=np.ones(4))
    assert len(result.users) == 0
    assert all(math.isnan(value) for value in result.mean().values())


def test_pairs_are_or_ed():
    found = metrics.pairs([0, 0, 1], [2, 2, 0], (2, 3))
    assert found.toarray().tolist() == [[False, False, True],
                                        [True, False, False]]


GOOD = dict(query_vectors=np.ones((2, 3)), candidate_vectors=np.ones((4, 3)),
            relevant=matrix(np.eye(2, 4)))


@pytest.mark.parametrize("change, message", [
    (dict(query_vectors=np.full((2, 3), np.nan)),
     "`query_vectors` must be finite.*2 of 2 rows"),
    (dict(candidate_vectors=np.full((4, 3), np.inf)), "`candidate_vectors`"),
    (dict(candidate_vectors=np.ones((4, 2))), "one d"),
    (dict(query_vectors=np.ones(3)), "one d"),
    (dict(relevant=matrix(np.eye(3, 4))), "one row a query"),
    (dict(seen=matrix(np.eye(2, 3))), "`seen` and `relevant`"),
    (dict(item_mask=np.ones(3, bool)), "`item_mask`"),
    (dict(item_mask=np.zeros(4, bool)), "0 true"),
    (dict(item_mask=np.arange(4)), "`item_mask`"),
    (dict(popularity=np.ones(3)), "`popularity`"),
    (dict(popularity=[1, 2, np.nan, 1]), "`popularity`"),
    (dict(k=0), "`k`"), (dict(k=()), "`k`"), (dict(k=(5, 2.5)), "`k`")])
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        metrics.ranking(**(GOOD | change))


def test_bad_scores_are_named():
    relevant = matrix(np.eye(2, 4))
    scores = np.zeros((2, 4))
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match=" 1 NaN"):
        metrics.ranking_from_scores(scores, relevant)
    with pytest.raises(ValueError, match=r"shape=\(2, 3\)"):
        metrics.ranking_from_scores(np.zeros((2, 3)), relevant)


def test_errors_of_predictions():
    assert metrics.rmse([1, 2, 5], [1, 4, 4]) == pytest.approx(
        math.sqrt(5 / 3))
    assert metrics.mae([1, 2, 5], [1, 4, 4]) == pytest.approx(1)
    assert metrics.log_loss([1, 0], [0.8, 0.4]) == pytest.approx(
        -(math.log(0.8) + math.log(0.6)) / 2)
    assert metrics.log_loss([1], [0.0]) == pytest.approx(-math.log(1e-7))


def test_auc_equals_all_pairs():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 60), rng.integers(0, 8, 60)
    wins = [(p > n) + (p == n) / 2 for p in score[label == 1]
            for n in score[label == 0]]
    assert metrics.auc(label, score) == pytest.approx(np.mean(wins))


@pytest.mark.parametrize("call, message", [
    (lambda: metrics.rmse([1, 2], [1]), "2 labels, 1 pred"),
    (lambda: metrics.mae([], []), "not empty"),
    (lambda: metrics.rmse([np.nan, 1], [1, np.inf]), "1 bad labels, 1 bad"),
    (lambda: metrics.auc([1, 1], [1, 2]), "2 positives, 0 negatives"),
    (lambda: metrics.auc([1, 4], [1, 2]), "must be 0 or 1"),
    (lambda: metrics.log_loss([1, 0], [1.5, 0]), "`probability`")])
def test_bad_predictions_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_equals_cornac():
    cornac = pytest.importorskip("cornac.metrics")
    rng = np.random.default_rng(3)
    scores, relevant = rng.random((60, 80)), rng.random((60, 80)) < 0.08
    result = metrics.ranking_from_scores(scores, matrix(relevant), k=10)
    for name, theirs in (("ndcg", cornac.NDCG(k=10)),
                         ("recall", cornac.Recall(k=10))):
        expected = [theirs.compute(gt_pos=np.flatnonzero(relevant[user]),
                                   pd_rank=np.argsort(-scores[user]))
                    for user in result.users]
        np.testing.assert_allclose(result.per_user[f"{name}@10"], expected)


def test_weighted_auc_counts_pairs_by_the_product_of_their_weights():
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 50), rng.integers(0, 9, 50) / 9
    weight = rng.random(50) + 0.1
    above = total = 0.0
    for good in np.flatnonzero(label == 1):
        for bad in np.flatnonzero(label == 0):
            both = weight[good] * weight[bad]
            total += both
            above += both * ((score[good] > score[bad])
                             + (score[good] == score[bad]) / 2)
    found = metrics.weighted_auc(label, score, weight)
    assert found == pytest.approx(above / total)
    assert metrics.weighted_auc(label, score, np.full(50, 3.0)) == (
        pytest.approx(metrics.auc(label, score)))
    assert np.isnan(metrics.weighted_auc(label * 0, score, weight))
