"""The feedback store, on SQLite and PostgreSQL."""
from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import types

import numpy as np
import pandas as pd
import pytest
from feedback_stores import (  # noqa: F401
    NOW,
    clicks,
    database_url,
    postgres_server,
    shown_rows,
    store,
)

from tfrecal.feedback import FeedbackStore, FeedbackUnavailable
from tfrecal.feedback.store import schema


class TestRows:
    def test_what_goes_in_comes_out(self, store):  # noqa: F811
        rows = shown_rows(4)
        added = store.add_shown(rows.sample(frac=1, random_state=0))
        assert (added.new, added.known, len(added.rejected)) == (12, 0, 0)
        found = store.shown()
        assert found["received"].nunique() == 1
        assert found["run_id"].isna().all()
        pd.testing.assert_frame_equal(
            found[rows.columns].astype(object), rows.astype(object))

    def test_defaults(self, store):  # noqa: F811
        store.add_shown(shown_rows(1)[["request_id", "rank", "time",
                                       "user_id", "item_id", "propensity"]])
        assert store.shown()["score"].isna().all()
        assert store.shown()[["model", "version", "strategy"]].to_numpy(
            ).tolist() == [["", 0, ""]] * 3
        store.add_responses(clicks("ab", value=np.nan, kind=["click", "skip"]
                                   ).drop(columns="request_id"))
        found = store.responses()
        assert found["request_id"].tolist() == ["", ""]
        assert found["value"].tolist() == [1.0, 0.0]

    def test_ids_are_texts(self, store):  # noqa: F811
        store.add_responses(clicks(
            [7, 8, 9], user_id=[1.0, np.nan, 2.0], item_id=["007", "é", "💡"]))
        found = store.responses()
        assert found["event_id"].tolist() == ["7", "9"]
        assert found["user_id"].tolist() == ["1", "2"]
        assert found["item_id"].tolist() == ["007", "💡"]

    def test_a_users_text_is_data(self, store):  # noqa: F811
        text = "'; DROP TABLE responses; -- %s :x {y} \\"
        store.add_responses(clicks([text], user_id=text))
        store.add_responses(clicks([text], user_id=text))
        assert store.responses()["event_id"].tolist() == [text]
        store.ask(pd.DataFrame({"user_id": [text], "item_id": [text]}))
        assert store.questions(user_ids=[text])["item_id"].tolist() == [text]
        assert store.erase_user(text) == {
            "shown": 0, "responses": 1, "questions": 1}

    def test_idempotent_as_a_slow_loop_says(self, store):  # noqa: F811
        rng = np.random.default_rng(0)
        stored, new, known, wrong = {}, 0, 0, 0
        total = np.zeros(3, int)
        for _ in range(6):
            rows = clicks(rng.choice(list("abcdefghijkl"), 20),
                          item_id=rng.choice(["i1", "i2"], 20, p=[.8, .2]))
            for key, item in zip(rows["event_id"], rows["item_id"]):
                if key not in stored:
                    stored[key], new = item, new + 1
                elif stored[key] == item:
                    known += 1
                else:
                    wrong += 1
            added = store.add_responses(rows)
            total += added.new, added.known, len(added.rejected)
            assert all("contradicts" in reason
                       for reason in added.rejected["reason"])
        assert total.tolist() == [new, known, wrong]
        found = store.responses()
        assert dict(zip(found["event_id"], found["item_id"])) == stored

    def test_a_contradiction_names_the_row(self, store):  # noqa: F811
        rows = shown_rows(2)
        store.add_shown(rows)
        rows.loc[4, "score"] = 0.25  # it was NaN
        rows.index = rows.index + 100
        added = store.add_shown(rows)
        assert (added.new, added.known) == (0, 5)
        assert added.rejected.index.tolist() == [104]
        assert added.rejected["score"].tolist() == [0.25]

    def test_ratings_are_on_the_scale(self, database_url):  # noqa: F811
        rows = clicks("abcd", kind="rating", value=[0.5, 3, -1, np.nan])
        with FeedbackStore(database_url, scale=(1, 5)) as store:  # noqa: F811
            added = store.add_responses(rows)
            assert store.responses()["value"].tolist() == [3.0]
            assert "from 1 to 5" in added.rejected["reason"].iloc[0]
        with FeedbackStore(database_url) as store:  # the database keeps it
            assert store.scale == (1, 5)
            assert store.add_responses(rows).known == 1
        with pytest.raises(ValueError, match="ratings from 3 to 3"):
            FeedbackStore(database_url, scale=(4, 5))
        with FeedbackStore(database_url, scale=(0.5, 5)) as store:
            assert store.add_responses(rows).new == 1
        with FeedbackStore(database_url) as store:
            assert store.scale == (0.5, 5)
        with pytest.raises(ValueError, match="scale="):
            FeedbackStore(database_url, scale=(5, 1))

    def test_without_a_scale_any_rating_from_0_on_is_taken(
            self, store):  # noqa: F811
        assert store.scale is None
        rows = clicks("abc", kind="rating", value=[0.5, 300, -1])
        assert store.add_responses(rows).new == 2

    def test_a_frame_of_something_else(self, store):  # noqa: F811
        with pytest.raises(ValueError, match="without propensity"):
            store.add_shown(shown_rows(1).drop(columns="propensity"))
        with pytest.raises(TypeError, match="DataFrame"):
            store.add_responses([{"event_id": 1}])

    def test_nothing_at_all(self, store):  # noqa: F811
        added = store.add_shown(shown_rows(0))
        assert (added.new, added.known, len(added.rejected)) == (0, 0, 0)
        assert store.ask(pd.DataFrame({"user_id": [], "item_id": []})
                         ).tolist() == []
        assert store.close_questions([], "expired") == 0
        assert len(store.shown()) == 0 and list(store.chunks("shown")) == []

    def test_chunks_are_the_whole(self, store):  # noqa: F811
        store.add_shown(shown_rows(5))
        parts = list(store.chunks("shown", chunk=4))
        assert [len(part) for part in parts] == [4, 4, 4, 3]
        pd.testing.assert_frame_equal(
            pd.concat(parts, ignore_index=True), store.shown())

    def test_since_and_until_split_what_came(self, store):  # noqa: F811
        assert store.latest() == -np.inf
        store.add_responses(clicks("ab"))
        until = store.latest()
        store.add_responses(clicks("cd"))
        assert store.responses(until=until)["event_id"].tolist() == ["a", "b"]
        assert store.responses(since=until)["event_id"].tolist() == ["c", "d"]

    def test_received_rises_when_the_clock_goes_back(
            self, store, monkeypatch):  # noqa: F811
        store.add_responses(clicks("a", time=1e9))
        until = store.latest()
        monkeypatch.setattr("tfrecal.feedback.store.store.time",
                            types.SimpleNamespace(time=lambda: 1e9 + 1))
        store.add_responses(clicks("b", time=1e9))
        assert store.responses(since=until)["event_id"].tolist() == ["b"]


class TestConcurrency:
    def test_threads_and_connections(self, database_url):  # noqa: F811
        stores = [FeedbackStore(database_url) for _ in range(2)]
        new, known = [], []

        def write(store, seed):  # noqa: F811
            order = np.random.default_rng(seed).permutation(30)
            for n in range(0, 30, 10):
                added = store.add_responses(clicks(
                    [f"e{i}" for i in order[n:n + 10]]))
                new.append(added.new)
                known.append(added.known)

        threads = [threading.Thread(target=write, args=(stores[n % 2], n))
                   for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (sum(new), sum(known)) == (30, 90)
        assert stores[0].counts()["responses"] == 30
        for one in stores:
            one.close()

    def test_a_forked_process_has_its_own_connection(
            self, store):  # noqa: F811
        store.add_responses(clicks("a"))
        child = os.fork()
        if child == 0:
            try:
                store.add_responses(clicks("b"))
                os._exit(0)
            finally:
                os._exit(1)
        store.add_responses(clicks("c"))
        assert os.waitpid(child, 0)[1] == 0
        assert sorted(store.responses()["event_id"]) == ["a", "b", "c"]


class TestQuestions:
    def test_ask_answer_expire(self, store):  # noqa: F811
        pairs = pd.DataFrame({
            "user_id": ["u1", "u2", "u1"], "item_id": ["i1", "i2", "i1"],
            "round": 4, "strategy": "margin", "utility": [.5, np.nan, .5],
            "expires": [NOW, None, NOW]})
        assert store.ask(pairs).tolist() == [1, 2, 1]
        assert store.ask(pairs[1:]).tolist() == [2, 1]
        found = store.questions()
        assert found["ticket"].tolist() == [1, 2]
        assert found["utility"].tolist()[0] == 0.5
        assert np.isnan(found["utility"][1]) and np.isnan(found["expires"][1])
        assert store.questions(user_ids=["u2", "u3"])["ticket"].tolist() == [2]
        assert store.close_questions([1, 99], "answered") == 1
        assert store.close_questions([1, 2], "expired") == 1
        assert store.questions(None)["state"].tolist() == [
            "answered", "expired"]
        assert store.ask(pairs).tolist() == [3, 4, 3]

    def test_bad_questions(self, store):  # noqa: F811
        with pytest.raises(ValueError, match="user_id"):
            store.ask(pd.DataFrame({"item_id": ["i1"]}))
        with pytest.raises(ValueError, match="state='lost'"):
            store.close_questions([1], "lost")


class TestRuns:
    def test_the_first_run_that_used_a_row_keeps_it(self, store):  # noqa: F811
        store.add_responses(clicks("ab"))
        store.add_shown(shown_rows(1))
        first = store.begin_retraining(base_version=6)
        until = store.latest()
        store.add_responses(clicks("c"))
        assert store.mark_used(first, until) == {"shown": 3, "responses": 2}
        store.finish_retraining(first, "promoted", 7, "better", {"rows": 5})
        second = store.begin_retraining(base_version=7)
        assert store.mark_used(second, store.latest()) == {
            "shown": 0, "responses": 1}
        assert store.responses()["run_id"].tolist() == [1, 1, 2]
        runs = store.retrainings()
        assert runs["outcome"].tolist() == ["promoted", "running"]
        assert runs["version"].tolist()[0] == 7
        assert runs["record"][0] == '{"rows": 5}'
        assert runs["finished"].notna().tolist() == [True, False]
        assert store.counts()["unused_responses"] == 0

    def test_bad_runs(self, store):  # noqa: F811
        with pytest.raises(ValueError, match="run_id=5"):
            store.finish_retraining(5, "failed")
        with pytest.raises(ValueError, match="outcome='won'"):
            store.finish_retraining(1, "won")


class TestErasure:
    def test_nothing_is_left_and_a_replay_brings_nothing(
            self, store):  # noqa: F811
        rows, events = shown_rows(5), clicks("ab", user_id=["u1", "u2"])
        store.add_shown(rows)
        store.add_responses(events)
        store.ask(pd.DataFrame({"user_id": ["u1"], "item_id": ["i9"]}))
        assert store.erased(["u1"]) == {}
        assert store.erase_user("u1") == {
            "shown": 3, "responses": 1, "questions": 1}
        assert list(store.erased(["u1", "u2"])) == ["u1"]
        added = store.add_shown(rows)
        assert (added.new, added.known, len(added.rejected)) == (0, 12, 3)
        assert set(added.rejected["reason"]) == {"the user was erased"}
        assert store.add_responses(events).new == 0
        assert store.ask(pd.DataFrame({
            "user_id": ["u1"], "item_id": ["i9"]})).tolist() == [0]
        for frame in (store.shown(), store.responses(),
                      store.questions(None)):
            assert "u1" not in set(frame["user_id"])

    def test_who_signs_up_again_is_welcome(self, store):  # noqa: F811
        # This client's clock was ahead.
        now = time.time()
        store.add_responses(clicks("a", time=now + 200))
        store.erase_user("u0")
        assert store.add_responses(clicks("ab", time=now + 199)).new == 0
        assert store.add_responses(clicks("c", time=now + 201)).new == 1
        assert store.ask(pd.DataFrame({
            "user_id": ["u0"], "item_id": ["i9"]})).tolist() == [1]

    def test_a_file_holds_no_trace(self, tmp_path):
        path = tmp_path / "feedback.db"
        with FeedbackStore(path) as store:  # noqa: F811
            store.add_responses(clicks("a", user_id="unforgettable"))
            assert any(b"unforgettable" in file.read_bytes()
                       for file in tmp_path.iterdir())
            store.erase_user("unforgettable")
            assert not any(b"unforgettable" in file.read_bytes()
                           for file in tmp_path.iterdir())

    @pytest.mark.parametrize("user", ["unforgettable-%d", "%d", "d'Üser %d"])
    def test_a_hundred_users_are_in_no_byte(self, tmp_path, user):
        path = tmp_path / "feedback.db"
        rng = np.random.default_rng(0)
        users = [user % (918_273_000 + n) for n in range(100)]
        others = [f"kept {n}" for n in range(40)]
        with FeedbackStore(path) as store:  # noqa: F811
            for batch in range(5):
                who = rng.permutation(np.repeat([*users, *others], 3))
                names = [f"{batch}.{n}" for n in range(len(who))]
                store.add_responses(clicks(
                    names, user_id=who,
                    request_id=[f"r of {one}" for one in who]))
                store.add_shown(pd.DataFrame({
                    "request_id": names, "rank": 1, "time": NOW - 9,
                    "user_id": who, "item_id": "i", "propensity": 1}))
                store.ask(pd.DataFrame({
                    "user_id": who, "item_id": f"i{batch}"}))
            for one in users[:9]:
                run_id = store.begin_retraining(1, {"user_id": one})
                store.finish_retraining(
                    run_id, "failed", reason=f"no row of '{one}'",
                    record={"users": [one], "counts": {one: 1, "rows": 7}})
            for one in rng.permutation(users):
                store.erase_user(one)
            for file in tmp_path.iterdir():
                content = file.read_bytes()
                assert not [one for one in users
                            if one.encode() in content], file
            assert len(store.retrainings()) == 9
            assert '"rows": 7' in store.retrainings()["record"].iloc[0]
            assert set(store.responses()["user_id"]) == set(others)
            assert store.add_responses(clicks(
                "xy", user_id=[users[0], f" {users[1]}\u3000"])).new == 0

    def test_postgres_is_vacuumed(self, postgres_server):  # noqa: F811
        with FeedbackStore(postgres_server.new_database()) as store:  # noqa: F811,E501
            store.add_responses(clicks("ab", user_id=["u1", "u2"]))
            assert store.erase_user("u1")["responses"] == 1

            def last(connection):
                return connection.exec_driver_sql(
                    "SELECT last_vacuum FROM pg_stat_user_tables "
                    "WHERE relname = 'responses'").scalar()

            deadline = time.monotonic() + 120  # statistics come late
            while store._database.read(last) is None:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert store.responses()["user_id"].tolist() == ["u2"]

    def test_numbers_in_records_are_no_users(self, store):  # noqa: F811
        run_id = store.begin_retraining(1)
        reason = "7 users of version 7: '7' and user 7 have user_id=7"
        store.finish_retraining(run_id, "failed", reason=reason, record={
            "count": 7, "user": "7", "7": ["7", "17"]})
        store.erase_user("7")
        found = store.retrainings().iloc[0]
        assert found["reason"] == (
            "7 users of version 7: '(erased)' and user (erased) have "
            "user_id=(erased)")
        assert json.loads(found["record"]) == {
            "count": 7, "user": "(erased)", "(erased)": ["(erased)", "17"]}

    def test_ids_are_cleaned_here_too(self, store):  # noqa: F811
        store.add_responses(clicks("ab", user_id=[" u1", "u2"]))
        store.ask(pd.DataFrame({"user_id": ["u1\u00a0"], "item_id": [" i"]}))
        assert store.questions()["item_id"].tolist() == ["i"]
        assert len(store.questions(user_ids=["u1 "])) == 1
        assert store.erase_user("\u3000u1 ") == {
            "shown": 0, "responses": 1, "questions": 1}
        assert list(store.erased([" u1", "u2"])) == [" u1"]
        for empty in ("", " ", None):
            with pytest.raises(ValueError, match="must be an id"):
                store.erase_user(empty)

    def test_ids_of_earlier_versions_are_erased_too(
            self, store):  # noqa: F811
        store.add_responses(clicks("abc", user_id=["x%y", "x%yz", "xaay"]))
        store._database.write(lambda connection: connection.execute(
            schema.responses.update().where(
                schema.responses.c.user_id == "x%y").values(
                    user_id="\u00a0x%y")))
        assert store.erase_user("x%y")["responses"] == 1
        assert set(store.responses()["user_id"]) == {"x%yz", "xaay"}

    def test_while_another_reads(self, tmp_path):
        path = tmp_path / "feedback.db"
        with FeedbackStore(path, patience=0.3) as store:  # noqa: F811
            store.add_responses(clicks("ab", user_id=["unforgettable", "u"]))
            reader = sqlite3.connect(path, isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM responses").fetchone()
            with pytest.raises(FeedbackUnavailable, match="another process"):
                store.erase_user("unforgettable")
            assert store.counts()["responses"] == 1
            reader.execute("COMMIT")
            assert store.erase_user("unforgettable")["responses"] == 0
            assert not any(b"unforgettable" in file.read_bytes()
                           for file in tmp_path.iterdir())

    def test_beside_a_writer(self, database_url, tmp_path):  # noqa: F811
        stop, told = threading.Event(), []

        def write():
            with FeedbackStore(database_url) as other:
                n = 0
                while not stop.is_set():
                    n += 1
                    told.append(other.add_responses(clicks(
                        [f"w{n}", f"x{n}"], user_id=["unforgettable", "u"])))

        writer = threading.Thread(target=write)
        with FeedbackStore(database_url) as store:  # noqa: F811
            writer.start()
            try:
                for _ in range(5):
                    time.sleep(0.2)
                    store.erase_user("unforgettable")
            finally:
                stop.set()
                writer.join()
            store.erase_user("unforgettable")
            assert len(told) > 5
            # Events of that moment are of before: their time is past.
            assert len(store.responses()) == len(told)
        if database_url.startswith("sqlite"):
            assert not any(b"unforgettable" in file.read_bytes()
                           for file in tmp_path.iterdir())

    def test_retention(self, store):  # noqa: F811
        rows = shown_rows(4)
        store.add_shown(rows)
        store.add_responses(clicks("ab", time=[NOW - 1e4, NOW - 100]))
        limit = rows["time"][6]
        assert store.drop_before(limit) == {
            "shown": 6, "responses": 1, "questions": 0}
        assert store.drop_before(limit - 100)["shown"] == 0
        added = store.add_shown(rows)
        assert (added.new, added.known) == (0, 6)
        assert set(added.rejected["reason"]) == {"older than what is kept"}
        with pytest.raises(ValueError, match="limit=inf"):
            store.drop_before(np.inf)
