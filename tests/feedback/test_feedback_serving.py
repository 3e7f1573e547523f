"""A client with a log and exploration, against a real server."""
from __future__ import annotations

import numpy as np
import pytest
from memory_store import MemoryStore

from tfrecal.feedback.exploration import Exploration, chance_to_be_greatest
from tfrecal.feedback.log.feedback_log import FeedbackLog
from tfrecal.serving.client.client import Recommender

pytestmark = pytest.mark.large


@pytest.mark.parametrize("method", ["epsilon_greedy", "thompson"])
def test_lists_are_explored_recorded_and_answered(served, tmp_path, method):
    users, store = served.users[:4], MemoryStore()
    with Recommender(served.address, timeout=30) as plain:
        base = plain.recommend(users)
        wanted = {user: [(item, "BALD", 1.0) for item in served.items
                         if item not in base.item_ids[row]][:2]
                  for row, user in enumerate(users)}
        pairs = [(user, item) for row, user in enumerate(users)
                 for item in (base.item_ids[row][4], *(
                     item for item, *_ in wanted[user]))]
        beliefs = plain.score(*zip(*pairs))
    chances = np.full((4, 3), 0.25)
    chances[:, 0] = 0.5
    if method == "thompson":
        chances = np.array([chance_to_be_greatest(*row) for row in zip(
            beliefs.rating.reshape(4, 3), beliefs.uncertainty.reshape(4, 3))])
    explore = Exploration(lambda: wanted, method=method)
    changed = 0
    with FeedbackLog(store, tmp_path) as log, Recommender(
            served.address, timeout=30, log=log, explore=explore) as shop:
        for _ in range(20):
            found = shop.recommend(users)
            assert found.version == 1
            for row, user in enumerate(users):
                items = found.item_ids[row]
                assert items[:4] == base.item_ids[row][:4]
                changed += items[4] != base.item_ids[row][4]
                log.response(found.request_ids[row], items[4], "click",
                             user_id=user)
    assert 10 < changed < 70
    rows = store.rows["shown"]
    assert len(rows) == 20 * 4 * 5 and len(store.rows["responses"]) == 80
    for answer in store.rows["responses"].values():
        shown = rows[answer["request_id"], 5]
        row = users.index(answer["user_id"])
        assert shown["user_id"] == answer["user_id"]
        assert shown["item_id"] == answer["item_id"]
        arms = [base.item_ids[row][4], *(i for i, *_ in wanted[users[row]])]
        arm = arms.index(shown["item_id"])
        assert shown["propensity"] == pytest.approx(
            chances[row, arm], abs=1e-4)
        assert shown["strategy"] == ("BALD" if arm else "")
        assert np.isnan(shown["score"]) == bool(arm)


def test_ranked_candidates_are_recorded_in_their_order(served, tmp_path):
    store, users = MemoryStore(), [served.users[0], "", served.users[1]]
    items = [[*served.items[:4], ""], served.items[:5], [""] * 5]
    texts = [[""] * 4 + ["title: new"], [""] * 5, ["title: new"] * 5]
    with FeedbackLog(store, tmp_path) as log, Recommender(
            served.address, timeout=30, log=log) as shop:
        found = shop.rank(users, items=items, texts=texts)
        alone = shop.rank(history=[served.items[:2]], items=items[1:2])
    assert found.request_ids[1:] == ["", ""] and alone.request_ids == ()
    order = [items[0][place] for place in found.order[0] if items[0][place]]
    rows = store.rows["shown"]
    assert len(rows) == len(order) == 4
    assert [rows[found.request_ids[0], rank]["item_id"]
            for rank in range(1, 5)] == order
    for rank, item in enumerate(order, 1):
        row = rows[found.request_ids[0], rank]
        assert row["user_id"] == users[0] and row["propensity"] == 1
        assert row["score"] == found.scores[0][items[0].index(item)]


def test_thompson_draws_by_the_history_of_the_request(served, tmp_path):
    users = [served.users[0], "who is new"]
    history = [served.items[:3], served.items[3:6]]
    store = MemoryStore()
    with Recommender(served.address, timeout=30) as plain:
        base = plain.recommend(users, history=history)
        wanted = {user: [(item, "BALD", 1.0) for item in served.items
                         if item not in row][:1]
                  for user, row in zip(users, base.item_ids)}
        pairs = [(user, item) for user, row in zip(users, base.item_ids)
                 for item in (row[4], wanted[user][0][0])]
        told, without = (plain.score(*zip(*pairs), history=given)
                         for given in ([row for row in history
                                        for _ in range(2)], None))
    assert told.source == ["user+history"] * 2 + ["history"] * 2
    assert without.source[2:] == ["none"] * 2
    explore = Exploration(lambda: wanted, method="thompson")
    with FeedbackLog(store, tmp_path) as log, Recommender(
            served.address, timeout=30, log=log, explore=explore) as shop:
        found = shop.recommend(users, history=history)
    chances = [chance_to_be_greatest(*pair) for pair in zip(
        told.rating.reshape(2, 2), told.uncertainty.reshape(2, 2))]
    for row, user in enumerate(users):
        shown = store.rows["shown"][found.request_ids[row], 5]
        arm = int(shown["item_id"] == wanted[user][0][0])
        assert shown["propensity"] == pytest.approx(
            chances[row][arm], abs=1e-4)
