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
