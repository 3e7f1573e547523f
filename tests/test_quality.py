"""benchmarks/quality.py: its peers and its measures, against plain sums."""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tfrecal import splits
from tfrecal.data.interactions import Interactions

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from helpers import history_peers, protocols  # noqa: E402

ROWS = np.float32([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 1, 1, 0],
                   [1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 0, 1, 0]])


@pytest.fixture
def rows():
    return sparse.csr_matrix(ROWS)


def test_ease_is_the_closed_form(rows):
    weights = history_peers.ease(history_peers.gram(rows), 2.0)
    inverse = np.linalg.inv(ROWS.T @ ROWS + 2 * np.eye(5))
    wanted = np.eye(5) - inverse / np.diag(inverse)
    np.testing.assert_allclose(weights, wanted, atol=1e-5)


def test_item_knn_keeps_the_nearest(rows):
    weights = history_peers.item_knn(
        history_peers.gram(rows), 2, 1.0).toarray()
    norm = np.linalg.norm(ROWS, axis=0)
    cosine = ROWS.T @ ROWS / (np.outer(norm, norm) + 1)
    np.fill_diagonal(cosine, 0)
    for item in range(5):  # those next to an item speak for it
        kept = cosine[:, item] >= np.sort(cosine[:, item])[-2]
        np.testing.assert_allclose(
            weights[:, item], np.where(kept, cosine[:, item], 0), atol=1e-6)


def test_requests_bring_a_history(rows):
    peer = history_peers.ItemToItem(
        rows, np.arange(25, dtype=np.float32).reshape(5, 5))
    np.testing.assert_allclose(peer.scores([1]), ROWS[1:2] @ peer.weights)
    np.testing.assert_allclose(  # 3 is new, 1 is known already
        peer.requests([1], [np.array([1, 3, 3])]),
        np.float32([[0, 1, 1, 1, 0]]) @ peer.weights)
    np.testing.assert_allclose(
        peer.requests(None, [np.array([4]), np.array([0])]),
        peer.weights[[4, 0]])


@pytest.mark.parametrize("peak", [1, 4, 7, 9])
def test_climb_ends_at_the_peak(peak):
    made = list(history_peers.climb(
        range(1, 10), lambda value: (-abs(value - peak), value)))
    assert max(made)[1] == peak
    assert len(made) == len(set(made)) < 9


def interactions(rows):
    return Interactions.from_frame(pd.DataFrame(
        rows, columns=["user_id", "item_id", "label", "timestamp"]),
        scale=(1, 5))


@pytest.fixture
def ordered():
    """a and b like their last two, c does not like the one before last."""
    return splits.leave_last_n(interactions([
        ("a", "x", 5, 1), ("a", "y", 2, 2), ("a", "z", 5, 3), ("a", "w", 4, 4),
        ("b", "y", 4, 1), ("b", "x", 5, 2), ("b", "w", 5, 3),
        ("c", "w", 5, 1), ("c", "z", 1, 2), ("c", "y", 5, 3)]), 1, 1)


def test_clicks_are_liked_and_followed_by_a_liked_item(ordered):
    ids = ordered.train.item_ids
    users, histories, clicked, to_come = protocols.Judge(ordered).clicks()
    assert list(ordered.train.user_ids[users]) == ["a", "b"]
    assert [list(ids[history]) for history in histories] == [
        ["x", "z"], ["y", "x"]]
    assert list(ids[clicked]) == ["z", "x"] and list(ids[to_come]) == ["w"] * 2


class Follows:
    """Ranks what `after` says of the last item of a history first."""

    def __init__(self, after):
        self.after = after

    def scores(self, users):
        return np.zeros((len(users), len(self.after)), np.float32)

    def requests(self, users, histories):
        last = [history[-1] for history in histories]
        found = np.zeros((len(last), len(self.after)), np.float32)
        found[np.arange(len(last)), self.after[last]] = 1
        return found


def test_a_fresh_click_is_judged_by_the_next_item(ordered):
    judge = protocols.Judge(ordered)
    codes = {item: n for n, item in enumerate(ordered.train.item_ids)}
    after = np.full(4, codes["w"])
    assert judge.fresh_click(Follows(after))["known"] == 1
    assert judge.fresh_click(Follows(after))["one_click"] == 1
    after[codes["z"]] = codes["y"]  # so that w is second, or third, for a
    found = judge.fresh_click(Follows(after))
    assert found["known"] == 1  # y is masked: a has seen it
    assert 0.75 <= found["one_click"] < 1


def test_lists_and_recall_by_labels(ordered):
    judge = protocols.Judge(ordered)
    codes = {item: n for n, item in enumerate(ordered.train.item_ids)}
    score = np.zeros(4, np.float32)
    score[[codes["y"], codes["w"]]] = 2, 1
    found = judge.lists(lambda users: np.tile(score, (len(users), 1)))
    # a and b wait for w, c for y; y, the first for c, is seen by a and b.
    assert found["ndcg"] == found["recall"] == 1
    assert found["tail"]["1-5"] == 1 and np.isnan(found["tail"]["0"])
    score[codes["y"]] = 0  # behind x, or behind nothing: z, w are seen by c
    score[codes["x"]] = 2
    found = judge.lists(lambda users: np.tile(score, (len(users), 1)))
    assert found["ndcg"] == pytest.approx((1 + 1 + 1 / np.log2(3)) / 3)


def test_recall_of_a_group_counts_its_items_only():
    judge_rows = sparse.csr_array(np.array(
        [[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]], bool))
    result = protocols.metrics.ranking_from_scores(
        np.float32([[4, 3, 2, 1], [4, 3, 2, 1], [1, 0, 4, 3]]), judge_rows,
        k=2)
    group = np.array([True, True, True, False])
    assert protocols.recall_of(result, judge_rows, group) == pytest.approx(
        (1 + 0 + 0) / 3)
    assert protocols.recall_of(
        result, judge_rows, np.array([True, False, False, False])) == 1


def test_new_items_rank_among_themselves_and_among_all():
    rng = np.random.default_rng(0)
    data = interactions([
        (f"u{user}", f"i{item:02}", 5, 0) for user in range(30)
        for item in rng.choice(40, 15, replace=False)])
    warm, new = protocols.new_items(data, seed=0)
    held_out = np.unique(new.test.item_code)
    assert len(held_out) == 8
    assert not np.isin(warm.train.item_code, held_out).any()
    assert not np.isin(warm.test.item_code, held_out).any()
    is_new = np.isin(np.arange(1, 41), held_out)

    def last(users):  # new ones never enter a list
        return np.tile(np.where(is_new, -1, 0).astype(np.float32),
                       (len(users), 1))

    found = protocols.judge_new_items(last, warm, new)
    assert found["recall"] == found["places"] == 0
    assert found["warm"] == found["warm_alone"] and found["among"] > 0.2
    first = protocols.judge_new_items(lambda users: -last(users), warm, new)
    assert first["recall"] == 1 and first["places"] == pytest.approx(0.8)
    assert first["warm"] < first["warm_alone"]
