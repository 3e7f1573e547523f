"""Nothing bought twice, nothing lost, whatever is killed and when."""
from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrecal import callbacks
from tfrecal.callbacks.buying import Buying
from tfrecal.callbacks.choosing import Chosen
from tfrecal.data.interactions import Interactions
from tfrecal.files import replace_file
from tfrecal.oracles import (
    Answers,
    CallableOracle,
    FileQueueOracle,
    Oracle,
    Questions,
)
from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_folder import RunFolder

ASKED = Questions([0, 1, 2], ["a", "b", "c"], ["x", "y", "=z\u2028"], 0,
                  [0.1, np.nan, 1 / 3])
ANSWERED = Answers([0, 2], [4, np.nan], [False, True], [0.1, 0])


def columns(answers):
    return [part.tolist() for part in (
        answers.ticket, answers.label[~answers.declined], answers.declined,
        answers.cost)]


def filled(path):
    journal = Journal(path)
    journal.asked(ASKED, ["bald", "random", "bald"], [{"why": "cold"}])
    journal.answered(ANSWERED)
    journal.answered(Answers([1], [1], [False], [2]))
    return journal


@pytest.mark.parametrize("name", ["folder/journal.jsonl", None])
def test_what_was_written_is_read(name, tmp_path):
    journal = filled(name and tmp_path / name)
    if name:
        journal = Journal(tmp_path / name)
        for line in (tmp_path / name).read_text("utf-8").splitlines():
            assert json.loads(line)["kind"] in ("asked", "answered")
    questions, strategy, why = journal.asked_at(0)
    np.testing.assert_equal(questions.to_json(), ASKED.to_json())
    assert strategy.tolist() == ["bald", "random", "bald"]
    assert why == [{"why": "cold"}] and journal.asked_at(1) is None
    answers, end = journal.answers_at(1)
    assert end == 3 == len(journal)
    both = Answers([0, 2, 1], [4, np.nan, 1], [False, True, False],
                   [0.1, 0, 2])
    assert columns(answers) == columns(both)
    assert columns(journal.answers_at(0)[0]) == columns(Answers.empty())
    more = Questions([1, 7], ["b", "d"], ["y", "x"])
    assert journal.unanswered(more).ticket.tolist() == [7]


def test_a_torn_last_line_is_cut_off_wherever_it_tore(tmp_path):
    path = tmp_path / "journal.jsonl"
    filled(path)
    content = path.read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    for cut in range(start + 1, len(content)):
        for zeros in (0, len(content) - cut):  # blocks that never arrived
            path.write_bytes(content[:cut] + bytes(zeros))
            journal = Journal(path)
            assert len(journal) == 2
        journal.answered(Answers([1], [1], [False], [2]))
        assert path.read_bytes() == content
    middle = start + 40
    path.write_bytes(content[:middle] + bytes(8) + content[middle + 8:])
    assert len(Journal(path)) == 2


@pytest.mark.parametrize("damage", [
    lambda lines: [lines[0], lines[1].replace(b"4.0", b"5.0"), lines[2]],
    lambda lines: [lines[0], lines[1][:30] + b"\n", lines[2]],
    lambda lines: [lines[0], lines[2]],  # one is gone, each is whole
    lambda lines: [lines[0], lines[1].replace(b"4.0", b"5.0")]])
def test_a_damaged_line_is_an_error_that_says_what_to_do(damage, tmp_path):
    path = tmp_path / "journal.jsonl"
    filled(path)
    path.write_bytes(b"".join(damage(path.read_bytes().splitlines(True))))
    with pytest.raises(ValueError, match="line 2 of [23] is damaged. Bring"):
        Journal(path)


def test_the_first_answer_stays_and_others_are_counted():
    journal = filled(None)
    assert not len(journal.fresh(ANSWERED))  # the same again: no warning
    with pytest.warns(UserWarning, match="Received: 2 .* for ticket=2"):
        left = journal.fresh(Answers(
            [2, 9, 0, 1], [3, 5, 4, 2], [False] * 4, [1] * 4))
    assert left.ticket.tolist() == [9] and left.label.tolist() == [5]


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    journal = filled(path)
    content = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="could not be written: .*No space"):
        journal.answered(Answers([5], [1], [False], [1]))
    monkeypatch.undo()
    assert path.read_bytes() == content and len(journal) == 3
    journal.answered(Answers([5], [1], [False], [1]))
    assert len(Journal(path)) == 4


def test_one_process_a_journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    first, second = filled(path), Journal(path)
    second.answered(Answers([5], [1], [False], [1]))
    with pytest.raises(ValueError, match="One process at a time"):
        first.answered(Answers([6], [1], [False], [1]))
    assert len(Journal(path)) == 4


def rows():
    pairs = [(f"u{u}", f"i{i}") for u in range(6) for i in range(8)]
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    frame["label"] = np.resize(np.float32([1, 2, 3, 4, 5]), len(frame))
    frame["timestamp"] = 0
    return Interactions.from_frame(frame, scale=(1, 5))


def world(initial=0):
    return Pool.from_interactions(rows(), initial)


class Billing(Oracle):
    """Bills each ticket once; odd ones are answered a call later."""

    def __init__(self, folder):
        super().__init__()
        self.ledger, self.journal = folder / "ledger", folder / "journal"
        self.ages = {}

    def _check(self, tickets):
        """It must not hear of what has an answer in the journal."""
        for record in Journal(self.journal).records[1:]:
            if record["kind"] == "answered":
                assert not np.isin(tickets, record["ticket"]).any()

    def ask(self, questions):
        self._check(questions.ticket)
        super().ask(questions)

    def answers(self):
        due = []
        for ticket in np.concatenate([p.ticket for p in self._open] or [[]]):
            age = self.ages.get(str(int(ticket)), 0)
            self.ages[str(int(ticket))] = age + 1
            if age or not ticket % 2:
                due.append(int(ticket))
        self._check(due)
        self._open = [part for part in (
            part.take(~np.isin(part.ticket, due)) for part in self._open)
            if len(part)]
        billed = self.billed()
        with open(self.ledger, "a") as file:
            for ticket in due:
                if ticket not in billed:
                    file.write(f"{ticket}\n")
                    file.flush()
                    os.fsync(file.fileno())
        due = np.array(due, int)
        declined = due % 5 == 4
        return Answers(due, np.where(declined, np.nan, due % 5 + 1),
                       declined, np.where(declined, 0, due + 0.25))

    def billed(self):
        return list(map(int, self.ledger.read_text().split())) if (
            self.ledger.exists()) else []

    def state(self):
        return {**super().state(), "ages": dict(self.ages)}

    def restore(self, state):
        super().restore(state)
        self.ages = dict(state["ages"])


def live(folder, numerics=0):
    """Three rounds, from whatever stands in the folder to the end."""
    pool, first = world(), 0
    state = folder / "state.json"
    if state.exists():
        state = json.loads(state.read_text())
        pool, first = Pool.load(folder / state["pool"], rows()), state["round"]
    buying = Buying(pool, Billing(folder), Journal(folder / "journal"))
    if first:
        buying.restore(state)
    whys = list(state["whys"]) if first else []
    for number in range(first, 3):
        found = buying.collect()
        repeated = buying.repeated(number)
        if repeated:
            questions, why = repeated
        else:
            user, item = pool.candidates()
            picks = np.random.default_rng(
                [number, numerics]).permutation(len(user))[:5]
            why = [{"first": str(picks[0])}]
            questions = buying.ask(Chosen(
                user[picks], item[picks], picks / 3,
                np.resize(np.array(["a", "b"], object), 5)), number, why)
        whys += why
        buying.tell(questions)
        for name, count in buying.collect().items():
            found[name] += count
        whys.append(found)
        pool.save(folder / f"{number}.npz")
        replace_file(folder / "state.json", lambda beside: beside.write_text(
            json.dumps({"pool": f"{number}.npz", "round": number + 1,
                        "whys": whys, **buying.state()})))
    return pool, whys


def test_killed_before_any_step_it_ends_as_if_undisturbed(
        tmp_path, monkeypatch):
    whole, copies = tmp_path / "whole", []
    whole.mkdir()
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            def copied(*args, real=getattr(os, name)):
                copies.append(tmp_path / f"killed{len(copies)}")
                shutil.copytree(whole, copies[-1])
                return real(*args)
            patch.setattr(os, name, copied)
        expected, expected_whys = live(whole)
        # Odd questions of the last round are open still.
        assert expected.pending == 2
    sizes = [path.stat().st_size if path.exists() else 0 for path in (
        folder / "journal" for folder in copies)]
    written = np.flatnonzero(np.diff(sizes, prepend=0))
    assert len(copies) >= 40 and len(written) == 8
    for number, folder in enumerate(copies):
        if number in written[::2]:
            # On its way to the disk: with the power, a part of it is lost.
            os.truncate(folder / "journal", sizes[number] - 9)
        pool, whys = live(folder)
        for name in ("state", "label", "cost", "ticket", "round",
                     "strategy", "utility"):
            np.testing.assert_array_equal(
                getattr(pool, name), getattr(expected, name),
                f"{name}, killed at step {number}")
        assert whys == expected_whys
        billed = Billing(folder).billed()
        assert len(billed) == len(set(billed)) == 13
        assert pool.spent == sum(t + 0.25 for t in billed if t % 5 != 4)


def test_an_interrupted_round_is_not_chosen_anew(tmp_path, monkeypatch):
    """Not even where another library version would choose other pairs."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    real, calls = Pool.save, []

    def killed(self, path):
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(self, path)

    monkeypatch.setattr(Pool, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        live(first)
    monkeypatch.undo()
    shutil.copytree(first, second)
    same, other = live(first)[0], live(second, numerics=1)[0]
    early = (same.round >= 0) & (same.round <= 1)
    np.testing.assert_array_equal(same.ticket[early], other.ticket[early])
    assert (same.ticket[~early] != other.ticket[~early]).any()


class Scripted(Oracle):
    """Answers what a test tells it to."""

    def ask(self, questions):
        pass

    def answers(self):
        found, self.next = self.next, Answers.empty()
        return found

    next = Answers.empty()


def bought(journal=None):
    buying = Buying(world(), Scripted(), journal)
    buying.ask(Chosen(np.array([1, 2]), np.array([1, 1]), np.zeros(2),
                      np.array(["a", "a"], object)), 0, [])
    return buying


def test_late_answers_to_questions_asked_again(tmp_path):
    buying = bought(Journal(tmp_path / "journal"))
    pool, oracle = buying.pool, buying.oracle
    assert pool.expire(1) == 2
    buying.ask(Chosen(np.array([1]), np.array([1]), np.zeros(1),
                      np.array(["a"], object)), 1, [])
    oracle.next = Answers([0], [4], [False], [1])  # late: asked as 2 since
    assert buying.collect() == {"acquired": 1, "declined": 0}
    oracle.next = Answers([2], [5], [False], [1])  # paid, but not the first
    assert buying.collect() == {"acquired": 0, "declined": 0}
    assert pool.spent == 2 and pool.label[pool.rows([1], [1])].tolist() == [4]
    oracle.next = Answers([0, 2], [4, 5], [False, False], [1, 1])
    assert buying.collect() == {"acquired": 0, "declined": 0}
    oracle.next = Answers([0], [1], [False], [1])
    with pytest.warns(UserWarning, match="The first answer .* stays"):
        buying.collect()
    assert pool.spent == 2 and len(Journal(tmp_path / "journal")) == 4


def test_answers_that_came_while_the_process_was_dead(tmp_path):
    buying = bought(Journal(tmp_path / "journal"))
    buying.pool.save(tmp_path / "pool.npz")
    state = buying.state()
    buying.ask(Chosen(np.array([3]), np.array([1]), np.zeros(1),
                      np.array(["a"], object)), 1, [])

    pool = Pool.load(tmp_path / "pool.npz", rows())
    again = Buying(pool, Scripted(), Journal(tmp_path / "journal"))
    again.restore(state)
    again.oracle.next = Answers([0, 1], [4, 2], [False] * 2, [1, 1])
    assert again.collect() == {"acquired": 0, "declined": 0}  # not yet
    assert again.repeated(1)[0].ticket.tolist() == [2]
    assert again.collect() == {"acquired": 2, "declined": 0}
    assert pool.spent == 2 and pool.pending == 1
    assert again.state()["journal"] == len(Journal(tmp_path / "journal")) == 3


def test_no_ticket_is_given_out_while_a_round_is_interrupted(tmp_path):
    folder = RunFolder(tmp_path)
    buying = bought(folder.journal())
    with pytest.raises(ValueError, match="holds 1 records .* --resume"):
        folder.check_whole()
    folder.write(buying.pool, acquire=buying.state())
    folder.check_whole()


@pytest.mark.parametrize("answers, message", [
    (Answers([0], [9], [False], [1]), "scale 1 to 5. .*label=9.*ticket=0"),
    (Answers([2], [3], [False], [1]), "ticket=2, and 2 tickets were given"),
    (Answers([0, -1], [3, 3], [False] * 2, [1, 1]), "ticket=-1, and 2")])
def test_what_the_pool_refuses_is_not_recorded(answers, message, tmp_path):
    buying = bought(Journal(tmp_path / "journal"))
    buying.oracle.next = answers
    with pytest.raises(ValueError, match=f"{message}.*Nothing was"):
        buying.collect()
    assert len(Journal(tmp_path / "journal")) == 1 and buying.pool.spent == 0


def test_a_journal_of_another_pool_is_refused(tmp_path):
    bought(Journal(tmp_path / "journal"))
    other = world(initial=1.0)  # the pairs are labelled there
    with pytest.raises(ValueError, match="must be that of the pool. Rec"):
        Buying(other, Scripted(), Journal(tmp_path / "journal")).repeated(0)
    with pytest.raises(ValueError, match="of this pool as round 3"):
        Buying(world(), Scripted(), Journal(tmp_path / "journal")).repeated(3)


def test_a_journal_that_is_short_or_gone(tmp_path):
    state = {**bought().state(), "journal": 2}
    bought(Journal(tmp_path / "short"))
    with pytest.raises(ValueError, match="with 1 records where 2 are due"):
        Buying(world(), Oracle(), Journal(tmp_path / "short")).restore(state)
    with pytest.warns(UserWarning, match="may be bought again"):
        Buying(world(), Oracle(), Journal(tmp_path / "gone")).restore(state)


def test_money_set_aside_for_declined_questions_is_spent(monkeypatch):
    pool = world(initial=1)
    oracle = Scripted()
    acquire = callbacks.AcquireLabels(
        pool, "random", oracle, batch_size=4, budget=4, every=2)
    monkeypatch.setattr(acquire, "choose", lambda: Chosen(
        *(part[:4] for part in pool.candidates()), np.zeros(4),
        np.array(["random"] * 4, object)))

    def epoch(number, answers):
        oracle.next = answers
        acquire.on_epoch_begin(number)
        acquire.on_epoch_end(number, {})
        return acquire.exhausted

    epoch(1, Answers.empty())
    acquire.exhausted = "the budget of 4 is spent"  # four are open
    assert epoch(2, Answers([0, 1, 2, 3], [np.nan] * 4, [True] * 4,
                            [0] * 4)) == ""
    assert epoch(3, Answers.empty()) == "" and pool.pending == 4
    assert epoch(4, Answers([4, 5, 6, 7], [3] * 4, [False] * 4, [1] * 4)
                 ) == ""
    assert epoch(5, Answers.empty()) == "the budget of 4 is spent"


def test_weights_are_on_the_disk_before_they_are_named(
        tmp_path, monkeypatch):
    model = tf.Module()
    model.weight = tf.Variable([1.0])
    model.fingerprint = ""
    model.stop_training = False
    save = callbacks.SavePool(world(initial=1), tmp_path)
    save.set_model(model)
    save.set_params({"epochs": 1})
    steps, real = [], os.fsync

    def noted(descriptor):
        steps.append(os.path.basename(
            os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    save.on_epoch_begin(0)
    save.on_epoch_end(0)
    weights = [steps.index(path.name)
               for path in (tmp_path / "weights").glob("ckpt-1.*")]
    state, = (n for n, name in enumerate(steps) if "state.json" in name)
    assert len(weights) == 2 and max(weights) < steps.index("weights")
    assert steps.index("weights") < state and steps[state + 1:] == [
        tmp_path.name]


def test_the_function_is_not_called_for_journalled_answers(tmp_path):
    calls = []

    def function(users, items):
        calls.append(list(users))
        return [3.0] * len(users)

    for _ in range(2):  # the second starts from nothing but the journal
        buying = Buying(world(), CallableOracle(function),
                        Journal(tmp_path / "journal"))
        repeated = buying.repeated(0)
        questions = repeated[0] if repeated else buying.ask(Chosen(
            np.array([1, 2]), np.array([1, 1]), np.zeros(2),
            np.array(["a", "a"], object)), 0, [])
        buying.tell(questions)
        assert buying.collect() == {"acquired": 2, "declined": 0}
    assert calls == [["u0", "u1"]] and buying.pool.spent == 2


@pytest.mark.parametrize("answered", [[0], [1]])
def test_a_killed_queue_keeps_the_sheet_and_the_work_in_it(
        answered, tmp_path):
    def buying():
        return Buying(world(), FileQueueOracle(tmp_path / "people"),
                      Journal(tmp_path / "journal"))

    first = buying()
    state = first.state()
    first.tell(first.ask(Chosen(
        np.array([1, 2, 3]), np.array([1, 1, 1]), np.zeros(3),
        np.array(["a"] * 3, object)), 0, []))
    sheet, = (tmp_path / "people" / "questions").iterdir()

    def fill(rows):
        table = pd.read_csv(sheet, dtype=str)
        table.loc[rows, "label"] = "4"
        table.to_csv(sheet, index=False)

    fill(answered)
    assert first.collect() == {"acquired": 1, "declined": 0}
    fill([0, 1, 2])  # killed; people go on
    second = buying()
    second.restore(state)
    assert second.collect() == {"acquired": 0, "declined": 0}
    second.tell(second.repeated(0)[0])
    assert second.collect() == {"acquired": 3, "declined": 0}
    assert second.pool.spent == 3 and sheet.exists()
    assert not (tmp_path / "people" / "questions" / "stale").exists()


def test_a_keyed_function_takes_the_tickets():
    oracle = CallableOracle(lambda users, items, tickets: tickets % 5 + 1.0,
                            keyed=True)
    oracle.ask(Questions([7, 3], ["a", "b"], ["x", "y"]))
    assert oracle.answers().label.tolist() == [3, 4]
