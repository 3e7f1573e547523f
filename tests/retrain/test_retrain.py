"""The loop: a served model hears from its users and is retrained."""
from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import postgres
import pytest
from feedback_stores import postgres_server  # noqa: F401
from serving_models import free_port

from tfrecal import cli
from tfrecal.data.world.clicks import seen
from tfrecal.data.world.world import World
from tfrecal.export.export_model import export_model
from tfrecal.export.manifest import read_manifest
from tfrecal.feedback import FeedbackStore
from tfrecal.feedback.exploration import Exploration
from tfrecal.feedback.log.feedback_log import FeedbackLog
from tfrecal.feedback.oracle import FeedbackOracle
from tfrecal.feedback.wanted_pairs import by_user
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain import job, promotion
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop
from tfrecal.retrain.material import NothingNew
from tfrecal.retrain.refresh import refresh
from tfrecal.runs import run
from tfrecal.runs.build import restore_trained
from tfrecal.runs.config import RunConfig
from tfrecal.serving.client.client import Recommender

pytestmark = [pytest.mark.serving, pytest.mark.large]
K = 10


class Shop:
    """A world, the files of its company, a served model and its feedback."""

    def __init__(self, folder):
        self.folder = folder
        self.world = World(users=150, items=90, topics=5, seed=3,
                           arrivals_users=6.0, arrivals_items=4.0)
        self.base = folder / "models" / "shop"
        log = self.world.log(days=14)
        log.frame.to_csv(folder / "log.csv", index=False)
        self.write_tables()
        self.config = RunConfig(
            data=str(folder / "log.csv"), users=str(folder / "users.csv"),
            items=str(folder / "items.csv"), encoder="none",
            oracle="people", rounds=1, final_epochs=7, dropout=0.1,
            batch_size=128)
        run.run(self.config, folder / "run", quiet=True)
        self.export(self.base)
        self.port = free_port()

    def export(self, base):
        """The first model as version 1 in `base`, which is returned."""
        built = restore_trained(
            RunFolder.of_run(self.folder / "run"), "The test")
        export_model(built.model, base, pool=built.pool, k=K)
        return base

    def write_tables(self):
        """The tables of today; new users and items have joined them."""
        self.world.users.to_csv(self.folder / "users.csv")
        self.world.items.to_csv(self.folder / "items.csv")

    @property
    def address(self):
        return f"localhost:{self.port}"

    @contextlib.contextmanager
    def served(self):
        process = subprocess.Popen([
            sys.executable, "-m", "tfrecal", "serve", f"--port={self.port}",
            "--model_name=shop", f"--model_base_path={self.base}",
            "--file_system_poll_wait_seconds=1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            promotion.wait_served(self.address, "shop", 1, timeout=300)
            yield
        finally:
            process.terminate()
            process.wait(timeout=120)

    def options(self, **changes):
        return RetrainConfig(**{
            "run": str(self.folder / "run"), "to": str(self.base),
            "feedback": str(self.folder / "feedback.db"), "k": K,
            "users": str(self.folder / "users.csv"),
            "items": str(self.folder / "items.csv"), "force": True,
            "timeout": 300.0,
            "batch_size": 256, **changes})

    def day(self, client, log):
        """A day of visits: lists are shown, clicks come back."""
        visits = self.world.visits()
        users = visits["user_id"].to_numpy(object)
        found = client.recommend(users, k=K)
        lists = np.array(found.item_ids, object)
        clicks = self.world.respond(users, lists, visits["time"].to_numpy())
        for row, col in zip(*np.nonzero(seen(clicks))):
            log.response(
                found.request_ids[row], lists[row, col],
                "click" if clicks[row, col] else "skip",
                user_id=users[row], time=float(visits["time"][row]) + 1)
        self.world.next_day()
        return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("shop"))
    with made.served():
        yield made


def test_the_loop(shop, capsys):
    """Three weeks: shown, clicked, retrained, promoted, rolled back."""
    store = FeedbackStore(shop.folder / "feedback.db")
    explore = Exploration(
        lambda: by_user(FeedbackOracle(store).waiting()), share=0.2,
        epsilon=0.7, seconds=3600)
    with FeedbackLog(store, shop.folder / "spill",
                     clock=lambda: shop.world.now) as log, Recommender(
            shop.address, "shop", log=log, explore=explore,
            timeout=30) as client:
        for _ in range(7):
            shop.day(client, log)
        assert log.flush(30)
        shop.write_tables()
        now = shop.world.now
        record = job.retrain(
            shop.folder / "loop", shop.options(
                address=shop.address, questions=40), now=now)
        assert record["outcome"] == "promoted", record["reason"]
        assert record["version"] == 2 and record["base_version"] == 1
        assert promotion.states(shop.address, "shop")[2][0] == "AVAILABLE"
        manifest = read_manifest(shop.base / "2")
        assert manifest["run"] == "1"
        assert manifest["data_fingerprint"] == record["fingerprint"]

        # A run record says which feedback went into which version.
        responses = store.responses()
        assert (responses["run_id"] == 1).all()
        assert store.counts()["unused_responses"] == 0

        # Items that arrived since then are known; the old ones keep rows.
        new = sorted(set(shop.world.items.index)
                     - set(pd.read_csv(shop.folder / "log.csv")["item_id"]))
        scores = client.score(["nobody"] * len(new), new)
        assert scores.version == 2 and np.isfinite(scores.score).all()

        # What acquisition wants to know is shown, and its answers are heard.
        asked = store.questions("open")
        assert len(asked) == 40 and set(asked["strategy"]) == {"vopt"}
        explore.wanted.refresh()
        for _ in range(7):
            shop.day(client, log)
        assert log.flush(30)
        shown = store.shown()
        explored = shown[shown["strategy"] == "vopt"]
        assert len(explored) and (explored["propensity"] < 1.0).any()
        assert not explored.merge(asked, on=["user_id", "item_id"]).empty
        # Clients see by themselves which pairs need no slot any more.
        waiting = FeedbackOracle(store).waiting()
        heard = store.responses().merge(asked, on=["user_id", "item_id"])
        heard = heard[heard["received"] > heard["asked"]]
        assert len(heard)
        assert set(waiting["ticket"]) == set(asked["ticket"]) - set(
            heard["ticket"])
        assert store.counts()["answered"] == heard["ticket"].nunique()
        record = job.retrain(
            shop.folder / "loop", shop.options(
                address=shop.address, questions=40), now=shop.world.now)
        assert record["version"] == 3 and record["base_run"] == "1"
        assert record["counts"]["new_pairs"] > 0

        # One command goes back, and the server follows.
        assert cli.main(["rollback", "--to", str(shop.base), "--address",
                         shop.address]) == 0
        assert client.recommend(["u1"]).version == 2
        assert cli.main(["status", "--to", str(shop.base), "--feedback",
                         str(shop.folder / "feedback.db"), "--address",
                         shop.address]) == 0
        out = capsys.readouterr().out
        assert "version 2" in out and "AVAILABLE" in out
        assert "retraining 2: promoted as version 3, withdrawn since" in out
        later = (store.responses()["received"]
                 > Loop(shop.folder / "loop").until(store, "1")).sum()
        assert f"version 2 has not learned {later:,} responses" in out
        # The number of a version that was withdrawn is not used again, and
        # the model starts from what is served.
        for _ in range(7):
            shop.day(client, log)
        assert log.flush(30)
        record = job.retrain(
            shop.folder / "loop", shop.options(address=shop.address),
            now=shop.world.now)
        assert record["version"] == 4 and record["base_version"] == 2


def test_erased_users_are_in_no_later_version(shop):
    store = FeedbackStore(shop.folder / "feedback.db")
    user = store.responses()["user_id"].iloc[-1]
    assert store.erase_user(user)["responses"] > 0
    version, run_id = Loop(shop.folder / "loop").served()
    responses = store.responses().tail(60)
    store.add_responses(responses.assign(
        event_id=responses["event_id"] + "-again", request_id="",
        time=responses["time"] + 1, kind="click", value=1.0))
    record = job.retrain(
        shop.folder / "loop", shop.options(address=shop.address),
        now=shop.world.now, quiet=True)
    assert record["version"] > version
    tables = shop.folder / "loop" / "runs" / str(record["run_id"]) / "tables"
    assert user not in pd.read_parquet(tables / "users.parquet").index
    old = shop.folder / "loop" / "runs" / run_id / "tables"
    assert user in pd.read_parquet(old / "users.parquet").index


def test_nothing_new_is_said(shop):
    with pytest.raises(ValueError, match="needs new feedback"):
        job.retrain(shop.folder / "loop", now=shop.world.now)


def test_new_items_are_served_without_training(shop):
    users = shop.world.users.index[:30].tolist()
    items = shop.world.items.index[:30].tolist()
    for _ in range(3):
        shop.world.next_day()
    shop.write_tables()
    with Recommender(shop.address, "shop", timeout=30) as client:
        before = client.score(users, items)
        record = refresh(
            shop.folder / "loop", shop.options(address=shop.address))
        assert record["outcome"] == "promoted"
        assert "items joined" in record["reason"]
        after = client.score(users, items)
        assert after.version == record["version"] > before.version
        with FeedbackStore(shop.folder / "feedback.db") as store:
            told = np.isin(users, store.responses()["user_id"])
        assert bool(record["feedback"]) == (
            "labels joined histories" in record["reason"])
        # Nothing was trained: only histories and the linear block moved.
        np.testing.assert_allclose(after.rating[~told], before.rating[~told],
                                   atol=1e-5)
        assert np.corrcoef(after.score, before.score)[0, 1] > 0.95
        # What nobody has clicked yet is in the catalogue all the same.
        everything = client.recommend(users[:1]).item_ids[0]
        assert len(everything) == K
    kept = shop.folder / "loop" / "runs" / str(record["run_id"]) / "tables"
    assert set(shop.world.items.index) <= set(
        pd.read_parquet(kept / "items.parquet").index)
    with pytest.raises(ValueError, match="needs new ids"):
        refresh(shop.folder / "loop")


def test_new_items_before_any_feedback(shop, tmp_path):
    """Then there is no store yet: it is made for the record."""
    options = shop.options(to=str(shop.export(tmp_path / "models" / "shop")),
                           feedback=str(tmp_path / "new.db"))
    record = refresh(tmp_path / "loop", options)
    assert record["outcome"] == "promoted" and record["version"] == 2
    with FeedbackStore(tmp_path / "new.db") as store:
        assert store.retrainings()["outcome"].tolist() == ["promoted"]
    with pytest.raises(ValueError, match="must be there"):
        job.retrain(tmp_path / "loop", shop.options(
            to=options.to, feedback=str(tmp_path / "wrong.db")))


def test_a_user_is_erased_where_nothing_is_new(shop, monkeypatch):
    """Also where it is killed once."""
    store = FeedbackStore(shop.folder / "feedback.db")
    users = shop.world.users.index[:30].tolist()
    items = shop.world.items.index[:30].tolist()
    store.erase_user(users[3])
    whole = Loop.export

    def die(*args, **more):
        raise KeyboardInterrupt
    with Recommender(shop.address, "shop", timeout=30) as client:
        before = client.score(users, items)
        monkeypatch.setattr(Loop, "export", die)
        with pytest.raises(KeyboardInterrupt):
            refresh(shop.folder / "loop")
        monkeypatch.setattr(Loop, "export", whole)
        record = refresh(shop.folder / "loop")
        assert "1 users were erased" in record["reason"]
        assert record["reason"].endswith("nothing was trained")
        assert store.retrainings()["outcome"].tolist()[-2:] == [
            "failed", "promoted"]
        after = client.score(users, items)
        assert after.version == record["version"] > before.version
        others = ~np.isin(users, [users[3], *store.responses()["user_id"]])
        np.testing.assert_allclose(
            after.rating[others], before.rating[others], atol=1e-5)
        assert abs(after.score[3] - before.score[3]) > 1e-5
    tables = shop.folder / "loop" / "runs" / str(record["run_id"]) / "tables"
    assert users[3] not in pd.read_parquet(tables / "users.parquet").index
    with pytest.raises(ValueError, match="needs new ids"):
        refresh(shop.folder / "loop")


def test_a_killed_refresh_does_not_keep_others_from_retraining(
        shop, monkeypatch):
    for _ in range(2):
        shop.world.next_day()
    shop.write_tables()

    def die(*args, **more):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "export", die)
        with pytest.raises(KeyboardInterrupt):
            refresh(shop.folder / "loop", shop.options(address=shop.address))
    with pytest.raises(NothingNew):
        job.retrain(shop.folder / "loop", now=shop.world.now)
    assert refresh(shop.folder / "loop")["outcome"] == "promoted"


def test_a_model_that_is_worse_is_not_promoted(shop):
    store = FeedbackStore(shop.folder / "feedback.db")
    before = Loop(shop.folder / "loop").served()
    for _ in range(4):
        visits = shop.world.visits()
        users = visits["user_id"].to_numpy(object)
        lists = shop.world.best(users, K)  # by somebody who knows all
        clicks = shop.world.respond(
            users, lists, visits["time"].to_numpy())
        requests = [f"{shop.world.day}-{n}" for n in range(len(users))]
        shown = pd.DataFrame({
            "request_id": np.repeat(requests, K),
            "rank": np.tile(np.arange(1, K + 1), len(users)),
            "time": np.repeat(visits["time"].to_numpy(), K),
            "user_id": np.repeat(users, K), "item_id": lists.ravel(),
            "propensity": 1.0})
        store.add_shown(shown)
        told = clicks.ravel()
        store.add_responses(shown[told].assign(
            event_id=lambda f: f["request_id"] + f["item_id"], kind="click"))
        shop.world.next_day()
    shop.write_tables()
    wrong = shop.options(force=False, learning_rate=30.0)
    record = job.retrain(shop.folder / "loop", wrong, now=shop.world.now)
    assert record["outcome"] == "refused", record["reason"]
    assert record["gate"]["low"] < 0
    assert Loop(shop.folder / "loop").served() == before
    last = store.retrainings().iloc[-1]
    assert last["outcome"] == "refused" and last["reason"]
    # Another draw on the same feedback could pass by luck.
    with pytest.raises(NothingNew, match="was refused on"):
        job.retrain(shop.folder / "loop", now=shop.world.now)


def test_feedback_that_trained_nothing_joins_histories(shop):
    """What was refused above: lists follow it, and it can still be learned."""
    loop = Loop(shop.folder / "loop")
    with FeedbackStore(shop.folder / "feedback.db") as store:
        clicks = store.responses()
        learned = loop.until(store, loop.served()[1])
    news = clicks[clicks["received"] > learned]
    user = news["user_id"].value_counts().index[0]
    options = shop.options(address=shop.address)
    with Recommender(shop.address, "shop", timeout=30) as client:
        before = client.recommend([user])
        record = refresh(loop.folder, options)
        after = client.recommend([user])
    assert record["outcome"] == "promoted" and record["feedback"] > 0
    assert f"{record['feedback']:,} labels joined" in record["reason"]
    assert after.version > before.version
    assert not np.allclose(after.scores[0], before.scores[0], atol=1e-4)
    with pytest.raises(ValueError, match="needs new ids .* or new feedback"):
        refresh(loop.folder, options)
    with FeedbackStore(shop.folder / "feedback.db") as store:
        assert loop.until(store, loop.served()[1]) == learned


def test_force_holds_for_one_retraining(shop):
    """And whom there are too few of is noticed before the training."""
    few = shop.options(least_users=10_000)
    mild = dataclasses.replace(few, force=False)
    record = job.retrain(shop.folder / "loop", mild, now=shop.world.now)
    assert record["outcome"] == "refused" and "too few" in record["reason"]
    assert "fit_seconds" not in record
    record = job.retrain(shop.folder / "loop", few, now=shop.world.now)
    assert record["reason"].startswith("forced, although")
    config = RetrainConfig.from_folder(shop.folder / "loop")
    assert config == mild


def test_two_retrainers_at_once(shop):
    with Loop(shop.folder / "loop").lock():
        with pytest.raises(ValueError, match="another one is at work"):
            job.retrain(shop.folder / "loop")


def test_a_server_that_never_loads(shop):
    """The version is withdrawn, and what is served stays."""
    store = FeedbackStore(shop.folder / "feedback.db")
    responses = store.responses().tail(40)
    store.add_responses(responses.assign(
        event_id=responses["event_id"] + "-more", request_id="",
        time=responses["time"] + 2, kind="click", value=1.0))
    version, _ = Loop(shop.folder / "loop").served()
    started = time.monotonic()
    record = job.retrain(
        shop.folder / "loop", shop.options(
            address=f"localhost:{free_port()}", timeout=2.0),
        now=shop.world.now)
    assert record["outcome"] == "failed" and time.monotonic() - started < 60
    assert "AVAILABLE within 2 seconds" in record["reason"]
    assert Loop(shop.folder / "loop").served()[0] == version
    assert store.retrainings()["outcome"].iloc[-1] == "failed"


def test_a_database_that_restarts_while_a_retraining_runs(
        shop, postgres_server, tmp_path, monkeypatch):  # noqa: F811
    """It goes on, asks each question once and knows what it used."""
    if isinstance(postgres_server, postgres.GivenPostgres):
        pytest.skip("a server that was given is not restarted")
    base = shop.export(tmp_path / "models" / "shop")
    url = postgres_server.new_database()
    monkeypatch.setenv("TFRECAL_FEEDBACK", url)
    with FeedbackStore(shop.folder / "feedback.db") as old:
        shown, responses = old.shown(), old.responses()
    fit = job._Retraining._fit

    def down(*arguments):
        postgres_server.stop()
        timer = threading.Timer(0.5, postgres_server.start)
        timer.start()
        fit(*arguments)
        timer.join()
        postgres_server.restart()

    monkeypatch.setattr(job._Retraining, "_fit", down)
    with FeedbackStore(url) as store:
        store.add_shown(shown)
        store.add_responses(responses)
        record = job.retrain(tmp_path / "loop", shop.options(
            to=str(base), feedback=None, questions=20), now=shop.world.now)
        assert record["outcome"] == "promoted" and record["version"] == 2
        assert store.retrainings()["outcome"].tolist() == ["promoted"]
        assert store.counts()["unused_responses"] == 0
        asked = store.questions("open")
        assert len(asked) == record["asked"] == 20
        assert not asked.duplicated(["user_id", "item_id"]).any()
