"""Questions that users of a served model answer."""
from __future__ import annotations

import time

import pandas as pd
from feedback_stores import clicks, database_url, store  # noqa: F401

from tfrecal.feedback.oracle import FeedbackOracle
from tfrecal.oracles import Questions


def test_ids_are_those_of_the_store(store):  # noqa: F811
    oracle = FeedbackOracle(store)
    oracle.ask(Questions([4, 5], [" u1", "u2"], ["i1\u00a0", "i1"]))
    assert len(oracle.answers()) == 0
    store.add_responses(clicks(
        "a", user_id="u1 ", item_id="i1", time=time.time()))
    found = oracle.answers()
    assert found.ticket.tolist() == [4] and found.label.tolist() == [1]
    assert store.questions()["user_id"].tolist() == ["u2"]


def test_nothing_is_open(store):  # noqa: F811
    store.ask(pd.DataFrame({"user_id": ["u1"], "item_id": ["i1"]}))
    store.add_responses(clicks("a", user_id="u1", item_id="i1"))
    assert len(FeedbackOracle(store).answers()) == 0
