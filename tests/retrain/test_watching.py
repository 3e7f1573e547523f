"""`tfrecal retrain --watch`: when it retrains, and what it puts up with."""
from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import pandas as pd
import pytest

from tfrecal.feedback import FeedbackStore
from tfrecal.feedback.log.feedback_log import FeedbackLog
from tfrecal.retrain import job, watching
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.material import NothingNew
from tfrecal.retrain.todays_tables import TablesWrong


class Enough(Exception):
    """Ends a watch."""


class Watched:
    """A loop whose retrainings are made up; `outcomes` tells them all."""

    def __init__(self, folder, monkeypatch, outcomes):
        self.store = FeedbackStore(folder / "feedback.db")
        self.config = RetrainConfig(
            run=str(folder), to=str(folder / "models"),
            spill=str(folder / "spill"),
            feedback=str(folder / "feedback.db"))
        (folder / "spill").mkdir()
        (folder / "models" / "1").mkdir(parents=True)
        (folder / "models" / "1" / "saved_model.pb").touch()
        self.folder, self.left, self.number = folder, list(outcomes), 0
        self.pauses, self.before = [], iter(())
        monkeypatch.setattr(job, "retrain", self.retrain)
        monkeypatch.setattr(watching.Loop, "served", lambda _: (1, ""))
        # Not `time.sleep` itself, which threads of other tests may call.
        monkeypatch.setattr(watching, "time", SimpleNamespace(
            sleep=self.sleep))

    def retrain(self, folder, config, quiet):
        outcome = self.left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        run = self.store.begin_retraining(1)
        if outcome != "failed":
            self.store.mark_used(run, until=self.store.latest())
        self.store.finish_retraining(
            run, outcome=outcome, reason="", version=None, record={})
        return {"outcome": outcome}

    def sleep(self, seconds):
        """What happens between two looks: the next of `before`."""
        self.pauses.append(seconds)
        try:
            next(self.before)
        except StopIteration:
            raise Enough from None

    def click(self, count):
        found = self.store.add_responses(pd.DataFrame([
            {"event_id": f"e{self.number + n}", "user_id": "u",
             "item_id": "i", "time": time.time(), "kind": "click"}
            for n in range(count)]))
        assert found.new == count
        self.number += count

    def watch(self, before=(), **options):
        self.before = iter(before)
        with pytest.raises(Enough):
            watching.watch(self.folder / "loop", self.config, seconds=7,
                           quiet=True, **options)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    return lambda *outcomes: Watched(tmp_path, monkeypatch, outcomes)


def test_it_waits_for_enough_feedback(watched):
    loop = watched("promoted", "refused")

    def days():
        loop.click(2)
        yield
        assert len(loop.left) == 2
        loop.click(1)
        yield
        assert len(loop.left) == 1  # and what it used is not new again
        yield
        loop.click(3)
        yield
    loop.watch(days(), least=3)
    assert not loop.left and loop.pauses == [7] * 5


def test_force_and_reset_hold_for_one_retraining(watched, monkeypatch):
    loop = watched("failed", "promoted", "refused")
    loop.config = dataclasses.replace(loop.config, force=True, reset=True)
    outcome, given = job.retrain, []

    def retrain(folder, config, **options):
        given.append((config.force, config.reset))
        return outcome(folder, config, **options)
    monkeypatch.setattr(job, "retrain", retrain)

    def days():
        for _ in range(3):
            loop.click(1)
            yield
    loop.watch(days(), least=1)
    # A failure is done again as it was asked for.
    assert given == [(True, True), (True, True), (False, False)]


def test_rows_that_a_log_left_count(watched):
    loop = watched("promoted")
    with FeedbackLog(None, loop.folder / "spill") as log:
        log.response("", "i", "click", user_id="u")
    loop.watch(least=1)
    assert not loop.left and loop.store.counts()["responses"] == 1


def test_an_interrupted_retraining_is_done_again(watched):
    loop = watched("promoted")
    loop.store.begin_retraining(1)
    loop.watch(least=100)
    assert not loop.left


@pytest.mark.parametrize("outcome, said", [
    (OSError("The database must answer."), "The database must answer."),
    (NothingNew("needs new feedback"), "needs new feedback"),
    ("failed", "")])
def test_it_goes_on_after_a_failure_and_takes_its_time(
        watched, capsys, outcome, said):
    loop = watched(outcome, "promoted")

    def days():
        loop.click(1)
        yield
        yield  # the same feedback is tried again
    loop.watch(days(), least=1)
    assert not loop.left and loop.pauses == [7, 70, 7]
    assert said in capsys.readouterr().err


def test_a_database_that_is_down_is_waited_for(watched, monkeypatch, capsys):
    loop = watched("promoted")
    loop.click(1)
    whole = watching.Loop.store
    asked = []

    def store(self):
        asked.append(self)
        if len(asked) == 1:
            raise OSError("The feedback store must answer.")
        return whole(self)
    monkeypatch.setattr(watching.Loop, "store", store)
    loop.watch([None], least=1)
    assert not loop.left and loop.pauses == [70, 7]
    assert "must answer" in capsys.readouterr().err


def test_wrong_tables_are_said_once_and_looked_at_again(watched, capsys):
    """They are not read again before their file has changed."""
    wrong = TablesWrong("items.csv, line 3: `year` must be a number.")
    loop = watched(wrong, wrong, "promoted")
    items = loop.folder / "items.csv"
    items.write_text("item_id\n")
    loop.config = dataclasses.replace(loop.config, items=str(items))

    def days():
        loop.click(1)
        yield
        yield
        yield
        assert len(loop.left) == 2
        items.write_text("item_id\n1\n")  # other, and wrong as before
        yield
        assert len(loop.left) == 1
        items.unlink()
        yield
        items.write_text("item_id\n12\n")
        yield
    loop.watch(days(), least=1)
    assert not loop.left and set(loop.pauses) == {7}
    assert capsys.readouterr().err.count("line 3") == 1


def test_a_users_mistake_ends_it(watched):
    loop = watched(ValueError("`run` must be a folder."))
    loop.click(1)
    with pytest.raises(ValueError, match="must be a folder"):
        watching.watch(loop.folder / "loop", loop.config, least=1)
    with pytest.raises(ValueError, match="positive number.* seconds"):
        watching.watch(loop.folder / "loop", loop.config, seconds=0)
