"""Oracles: replayed logs, functions, and files that people fill in."""
from __future__ import annotations

import csv
import json

import numpy as np
import pandas as pd
import pytest
from contracts import OracleContract

from tfrecal.data.interactions import Interactions
from tfrecal.oracles import (
    Answers,
    CallableOracle,
    FileQueueOracle,
    Questions,
    ReplayOracle,
    read_answers,
    write_questions,
)


def log(labels=(1, 2, 4, 5), scale=(1, 5)):
    frame = pd.DataFrame({
        "user_id": ["a", "a", "b", "c"], "item_id": ["x", "y", "x", "y"],
        "label": np.array(labels, np.float32), "timestamp": 0})
    return Interactions.from_frame(frame, scale=scale)


def big_log(label):
    pairs = [(f"u{u}", f"i{i}") for u in range(50) for i in range(40)]
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    frame["label"] = np.resize(np.array(label, np.float32), len(frame))
    frame["timestamp"] = 0
    scale = (0, 1) if max(label) <= 1 else (1, 5)
    return Interactions.from_frame(frame, scale=scale)


def ask_all(oracle, interactions):
    frame = interactions.frame
    oracle.ask(Questions(np.arange(len(frame)), frame["user_id"],
                         frame["item_id"]))
    return oracle.answers()


class TestReplay(OracleContract):

    def make(self, tmp_path):
        return ReplayOracle(log(), noise=0.5, decline=0.3, seed=4)

    def test_labels_of_the_log(self):
        oracle = ReplayOracle(log(), cost=[10, 20, 30, 40])
        oracle.ask(Questions(
            [7, 8, 9, 3, 2], ["b", "a", "b", "nobody", "c"],
            ["x", "y", "y", "x", "nothing"]))
        found = oracle.answers()
        assert found.ticket.tolist() == [7, 8, 9, 3, 2]
        np.testing.assert_array_equal(
            found.label, [4, 2, np.nan, np.nan, np.nan])
        assert found.declined.tolist() == [False, False, True, True, True]
        assert found.cost.tolist() == [30, 20, 0, 0, 0]

    def test_chance_does_not_depend_on_order(self):
        interactions = big_log([1, 2, 3, 4, 5])
        users, items = interactions.frame["user_id"], interactions.frame[
            "item_id"]
        oracle = ReplayOracle(interactions, noise=1, decline=0.2, seed=1)
        whole = ask_all(oracle, interactions)
        order = np.random.default_rng(0).permutation(len(users))
        for part in np.array_split(order, 7):
            oracle.ask(Questions(part, users.iloc[part], items.iloc[part]))
        found = oracle.answers()
        np.testing.assert_array_equal(found.label, whole.label[order])
        other = ask_all(ReplayOracle(
            interactions, noise=1, decline=0.2, seed=2), interactions)
        assert (other.declined != whole.declined).any()

    def test_rating_noise(self):
        half = big_log([3.5])
        found = ask_all(ReplayOracle(half, noise=0.3, seed=0), half).label
        assert found.mean() == pytest.approx(3.5, abs=0.03)
        assert found.std() == pytest.approx(0.3, abs=0.03)
        whole = big_log([5])
        found = ask_all(ReplayOracle(whole, noise=1.0), whole).label
        assert set(found.tolist()) <= {1, 2, 3, 4, 5}
        # a normal around 5 rounds to 5 from 4.5 up: 69%
        assert (found == 5).mean() == pytest.approx(0.69, abs=0.05)

    def test_binary_noise_flips(self):
        binary = big_log([0, 1])
        truth = binary.frame["label"].to_numpy()
        found = ask_all(ReplayOracle(binary, noise=0.2), binary).label
        assert set(found.tolist()) == {0, 1}
        for label in (0, 1):
            wrong = (found != truth)[truth == label].mean()
            assert wrong == pytest.approx(0.2, abs=0.05)

    def test_declining_is_free(self):
        ratings = big_log([3])
        found = ask_all(ReplayOracle(ratings, decline=0.4, cost=2), ratings)
        assert found.declined.mean() == pytest.approx(0.4, abs=0.05)
        assert set(found.cost[found.declined].tolist()) == {0}
        assert set(found.cost[~found.declined].tolist()) == {2}

    def test_who_declines_tells_nothing_of_the_noise(self):
        ratings = big_log([3.5])
        found = ask_all(ReplayOracle(ratings, noise=0.3, decline=0.5),
                        ratings)
        assert np.nanmean(found.label) == pytest.approx(3.5, abs=0.05)

    def test_expected_cost(self):
        users = np.array(["a", "nobody"], object)
        items = np.array(["y", "y"], object)

        def cost(given):
            return ReplayOracle(log(), cost=given).expected_cost(
                users, items).tolist()
        assert cost(3.0) == [3, 3]
        assert cost([10, 20, 30, 40]) == [20, 25]
        assert cost(lambda u, i: np.arange(len(u))) == [0, 1]

    @pytest.mark.parametrize("cost", [[1, -1], [1, np.nan], [1], 1])
    def test_what_is_no_cost(self, cost):
        oracle = ReplayOracle(log(), cost=lambda users, items: cost)
        with pytest.raises(ValueError, match="`cost`.*one for each of 2 "):
            oracle.expected_cost(["a", "b"], ["x", "x"])

    @pytest.mark.parametrize("options", [
        {"noise": -1}, {"decline": 1.5}, {"cost": -1}, {"cost": [1, 2]},
        {"noise": float("nan")}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
            ReplayOracle(log(), **options)
        with pytest.raises(ValueError, match="from 0 to 1"):
            ReplayOracle(log((0, 1, 1, 0), (0, 1)), noise=1.5)


class TestCallable(OracleContract):

    def make(self, tmp_path):
        return CallableOracle(lambda users, items: [
            None if user == "b" else 3 for user in users], cost=2)

    def test_none_and_nan_decline(self):
        oracle = CallableOracle(lambda users, items: [None, np.nan, 4], 2)
        oracle.ask(self.questions())
        found = oracle.answers()
        assert found.declined.tolist() == [True, True, False]
        assert found.cost.tolist() == [0, 0, 2]
        assert found.label[2] == 4

    def test_an_error_loses_nothing(self):
        broken = [True]

        def function(users, items):
            if broken:
                raise OSError("no line")
            return [len(user + item) for user, item in zip(users, items)]
        oracle = CallableOracle(function)
        oracle.ask(self.questions())
        for _ in range(2):
            with pytest.raises(RuntimeError, match=(
                    "3 questions with OSError: no line.*stay open")) as error:
                oracle.answers()
            assert isinstance(error.value.__cause__, OSError)
        broken.clear()
        assert oracle.answers().label.tolist() == [2, 2, 2]

    def test_ctrl_c_loses_nothing(self):
        asked = []

        def function(users, items):
            asked.extend(users)
            if len(asked) == 4:
                raise KeyboardInterrupt
            return [3] * len(users)
        oracle = CallableOracle(function)
        oracle.ask(self.questions())
        oracle.ask(Questions([12], ["d"], ["y"], 2))
        with pytest.raises(KeyboardInterrupt):
            oracle.answers()
        assert len(oracle.state()["open"]) == 2  # none is delivered yet
        assert oracle.answers().ticket.tolist() == [4, 5, 9, 12]
        assert "".join(asked) == "aabdd" and not len(oracle.answers())

    @pytest.mark.parametrize("labels", [
        [1, 2], [1, 2, "much"], [1, 2, np.inf], [1, 2, 9], 5])
    def test_what_is_no_label(self, labels):
        oracle = CallableOracle(lambda users, items: labels, scale=(1, 5))
        oracle.ask(self.questions())
        with pytest.raises(ValueError, match="3 numbers from 1 to 5"):
            oracle.answers()
        assert len(oracle.state()["open"]) == 1

    def test_not_a_function(self):
        with pytest.raises(TypeError, match="function=3"):
            CallableOracle(3)


def rows_of(path):
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path, labels, to=None, **changes):
    """Saves a copy of a question file with labels filled in."""
    rows = rows_of(path)
    for row, label in zip(rows, labels):
        row["label"] = label
    for place, values in changes.items():
        rows[int(place.strip("r"))].update(values)
    to = to or path
    to.parent.mkdir(parents=True, exist_ok=True)
    with open(to, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def question_file(tmp_path):
    return next((tmp_path / "queue" / "questions").glob("*.csv"))


class TestFileQueue(OracleContract):

    def make(self, tmp_path):
        return FileQueueOracle(tmp_path / "queue")

    def let_answer(self, oracle, tmp_path):
        fill(question_file(tmp_path), ["4", "decline", "2.5"],
             tmp_path / "queue" / "answers" / "mine.csv")

    def test_labels(self, tmp_path):
        oracle = FileQueueOracle(tmp_path / "queue", cost=3)
        oracle.ask(self.questions())
        self.let_answer(oracle, tmp_path)
        found = oracle.answers()
        np.testing.assert_array_equal(found.label, [4, np.nan, 2.5])
        assert found.declined.tolist() == [False, True, False]
        assert found.cost.tolist() == [3, 0, 3]

    def test_answers_in_parts_and_in_place(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        fill(question_file(tmp_path), ["4", "", ""])
        assert oracle.answers().ticket.tolist() == [4]
        oracle.ask(Questions([12], ["b"], ["y"], 2))
        fill(question_file(tmp_path), ["4", "SKIP", " "])
        found = oracle.answers()
        assert found.ticket.tolist() == [5] and found.declined.all()
        left = oracle.state()["open"]
        assert [part["ticket"] for part in left] == [[9], [12]]

    def test_a_new_process_goes_on(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        fill(question_file(tmp_path), ["4", "", ""])
        oracle.answers()
        again = self.make(tmp_path)
        assert len(again.answers()) == 0
        fill(question_file(tmp_path), ["4", "1", "2"])
        assert again.answers().ticket.tolist() == [5, 9]

    def test_what_a_killed_run_took_comes_again(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(Questions([1], ["c"], ["y"], 0))
        saved = [json.dumps(oracle.state())]
        oracle.ask(self.questions())
        saved.append(json.dumps(oracle.state()))
        self.let_answer(oracle, tmp_path)
        assert len(oracle.answers()) == 3
        assert len(self.make(tmp_path).answers()) == 0  # as documented
        for _ in range(2):
            again = self.make(tmp_path)
            again.restore(json.loads(saved[1]))
            assert again.answers().label[0] == 4
        again = self.make(tmp_path)
        again.restore(json.loads(saved[0]))  # before they were asked
        again = self.make(tmp_path)
        again.restore(json.loads(json.dumps(again.state())))
        assert len(again.answers()) == 0
        again.ask(self.questions())
        assert again.answers().ticket.tolist() == [4, 5, 9]

    def test_ctrl_c_loses_nothing(self, tmp_path, monkeypatch):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        self.let_answer(oracle, tmp_path)

        def interrupted(_):
            raise KeyboardInterrupt
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("os.fsync", interrupted)
            oracle.answers()
        assert len(oracle.answers()) == 3

    @pytest.mark.parametrize("labels, message", [
        (["4.0", "skip", "2.50"], None),
        (["3", "", ""], "line 2: ticket=4 has 3, and 4 was taken"),
        (["decline", "", ""], "ticket=4 has decline, and 4 was"),
        (["", "2", ""], "ticket=5 has 2, and decline was")])
    def test_what_was_delivered_stands(self, tmp_path, labels, message):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        self.let_answer(oracle, tmp_path)
        oracle.answers()
        fill(question_file(tmp_path), labels)
        for oracle in (oracle, self.make(tmp_path)):
            if message is None:
                assert len(oracle.answers()) == 0
                continue
            with pytest.raises(ValueError, match=f"round0001.*{message}"):
                oracle.answers()

    def test_asking_again_keeps_work_in_the_file(self, tmp_path):
        oracle = self.make(tmp_path)
        state = oracle.state()
        oracle.ask(self.questions())
        fill(question_file(tmp_path), ["4", "", ""])
        oracle.restore(state)  # the run was cut off before it was saved
        oracle.ask(self.questions())
        assert oracle.answers().ticket.tolist() == [4]
        oracle.restore(state)
        oracle.ask(Questions([4], ["other"], ["x"], 1))  # another run
        assert len(oracle.answers()) == 0
        stale = list((tmp_path / "queue" / "questions" / "stale").iterdir())
        assert [row["label"] for row in rows_of(stale[0])] == ["4", "", ""]

    def test_a_wrong_file_is_refused_whole(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        answers = tmp_path / "queue" / "answers" / "mine.csv"
        fill(question_file(tmp_path), ["4", "9", "good"], answers)
        for _ in range(2):
            with pytest.raises(ValueError) as error:
                oracle.answers()
            assert "line 3: label '9'; line 4: label 'good'" in str(
                error.value)
            assert "line 2" not in str(error.value)
        fill(question_file(tmp_path), ["4", "3", "2"], answers)
        assert len(oracle.answers()) == 3

    def test_a_file_of_another_ending_is_named_once(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        self.let_answer(oracle, tmp_path)
        other = tmp_path / "queue" / "answers" / "more.xlsx"
        other.write_text("")
        (other.parent / ".~lock.mine.csv#").write_text("")
        with pytest.warns(UserWarning, match="more.xlsx.*CSV") as given:
            assert len(oracle.answers()) == 3
            assert len(oracle.answers()) == 0
        assert len(given) == 1

    def test_two_files_that_differ(self, tmp_path):
        oracle = self.make(tmp_path)
        oracle.ask(self.questions())
        folder = tmp_path / "queue" / "answers"
        fill(question_file(tmp_path), ["4", "skip"], folder / "one.csv")
        fill(question_file(tmp_path), ["4", "skip"], folder / "two.csv")
        fill(question_file(tmp_path), ["", "", "1"], folder / "three.csv",
             r1={"label": "2"})
        with pytest.raises(ValueError, match=(
                "ticket=5 with decline in .*one.csv and 2 in .*three.csv")):
            oracle.answers()
        (folder / "three.csv").unlink()
        assert oracle.answers().ticket.tolist() == [4, 5]

    @pytest.mark.parametrize("options", [
        {"format": "xls"}, {"scale": (5, 1)}, {"cost": -1}])
    def test_bad_options(self, tmp_path, options):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
            FileQueueOracle(tmp_path, **options)


ITEMS = pd.DataFrame(
    {"title": ["=HYPERLINK(1)", "Amélie,\n\"two\" lines"],
     "genres": [["drama", "comedy"], None]}, index=["007", "@y"])
ASKED = Questions([3, 8], ["-u", "v"], ["007", "@y"])


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_files_there_and_back(tmp_path, ending):
    path = write_questions(tmp_path / f"q.{ending}", ASKED, None, ITEMS)
    assert len(read_answers(path, ASKED, (1, 5))) == 0
    if ending == "csv":
        fill(path, ["1", "5"])
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert rows[1]["item.title"] == "Amélie,\n\"two\" lines"
        assert rows[0]["item.title"] == "=HYPERLINK(1)"
        rows[0]["label"], rows[1]["label"] = 1, "5"
        path.write_text("\n".join(map(json.dumps, rows)))
    found = read_answers(path, ASKED, (1, 5))
    assert isinstance(found, Answers)
    assert found.ticket.tolist() == [3, 8]
    assert found.label.tolist() == [1, 5] and found.cost.tolist() == [1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_texts_and_formulas(tmp_path):
    users = pd.DataFrame({"age": [pd.NA], "+cmd": ["\t=1"], "a": ["\n=1"],
                          "b": ["＝1"]}, index=["-u"])
    first, second = rows_of(
        write_questions(tmp_path / "q.csv", ASKED, users, ITEMS))
    assert first == {
        "ticket": "3", "user_id": "'-u", "item_id": "007", "user.age": "",
        "user.+cmd": "'\t=1", "user.a": "'\n=1", "user.b": "'＝1",
        "item.title": "'=HYPERLINK(1)", "item.genres": "drama, comedy",
        "label": ""}
    assert second["item_id"] == "'@y" and second["item.genres"] == ""
    assert second["item.title"] == "Amélie,\n\"two\" lines"
    for row in (first, second):
        assert not any(cell.startswith(tuple("=+-@\t\r\n＝＋－＠"))
                       for cell in row.values())


def test_tables_of_whole_numbers_are_shown_too(tmp_path):
    questions = Questions([0, 1], ["7", "u"], ["1", "2"])
    write_questions(
        tmp_path / "q.csv", questions,
        pd.DataFrame({"age": [30]}, index=pd.Index([7], name="user_id")),
        pd.DataFrame({"item_id": [2, 1], "year": [1999, 2001]}))
    assert pd.read_csv(tmp_path / "q.csv", dtype=str).fillna("")[
        ["user.age", "item.year"]].values.tolist() == [
            ["30", "2001"], ["", "1999"]]


def test_reprs_of_oracles(tmp_path):
    oracle = ReplayOracle(log(), noise=0.5)
    assert repr(oracle) == ("ReplayOracle(4 labels of 'interactions', "
                            "noise=0.5, decline=0, 0 open questions)")
    oracle.ask(Questions([0, 1], ["a", "b"], ["x", "x"]))
    assert "2 open questions" in repr(oracle)
    assert repr(CallableOracle(len, cost=2)) == (
        "CallableOracle(len, cost=2, 0 open questions)")
    oracle = FileQueueOracle(tmp_path)
    oracle.ask(Questions([3], ["a"], ["x"]))
    assert repr(oracle) == (f"FileQueueOracle({str(tmp_path)!r}, csv, "
                            "cost=1, 1 open questions)")


def test_what_spreadsheets_do_is_understood(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        "\ufeffticket;user_id;item_id;label\r\n3.0;-u;7; 4.5 \r\n;;;\r\n"
        "8;v;@y;Skip\r\n".encode())
    found = read_answers(path, ASKED, (1, 5))
    np.testing.assert_array_equal(found.label, [4.5, np.nan])


@pytest.mark.parametrize("content, message", [
    ("ticket,user_id,label\n3,-u,1\n", "line 1: no item_id"),
    ("ticket,user_id,item_id,label\n3,-u,007\n", "line 2: 3 cells under 4"),
    ("ticket,user_id,item_id,label\n3,-u,007,1\n3,-u,007,1\n",
     "line 3: ticket 3 is there twice"),
    ("ticket,user_id,item_id,label\n4,-u,007,1\n", "line 2: ticket 4 was"),
    ("ticket,user_id,item_id,label\nx,-u,007,1\n", "line 2: ticket 'x'"),
    ("ticket,user_id,item_id,label\n3,v,007,1\n", "line 2: user_id is 'v'"),
    ("ticket,user_id,item_id,label\n3,-u,8,1\n", "line 2: item_id is '8'"),
    ("ticket,user_id,item_id,label\n3,-u,007,nan\n", "line 2: label 'nan'"),
    ("", "no lines"), ("ticket,user_id,item_id,label\n,,,\n", "only a header"),
    ("ticket,user_id,item_id,label,label\n3,-u,007,1,2\n",
     "line 1: column label is there twice"),
    ("ticket;user_id;item_id;label\n3;-u;007;4,5\n",
     "line 2: label '4,5', write 4.5"),
    ("ticket,user_id,item_id,label\n3,-u,007,4,5\n",
     "line 2: 5 cells under 4 columns .*4.5"),
    ("ticket,user_id,item_id,label\n\n\"3\",-u,\"007\",\"a\nb\"\n8,v,@y,6\n",
     "line 3: label 'a.*; line 5: label '6'"),
    ("ticket,user_id,item_id,label\n3,-u,007,\"1\n8,v,@y,2\n",
     "line 2: a quote that is not closed"),
    ("ticket,user_id,item_id,label\n3,-u,007,0_3\n", "line 2: label '0_3'"),
    ("ticket,user_id,item_id,label\n0_3,-u,007,3\n", "line 2: ticket '0_3'"),
])
def test_wrong_lines_are_named(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=f"(?s)a.csv.*{message}.*Nothing"):
        read_answers(path, ASKED, (1, 5))


def test_wrong_json_and_wrong_files(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"ticket": 3\n[1]\n{"ticket": 3}\n{"ticket": 3, '
                    '"user_id": "-u", "item_id": "007", "label": true}\n'
                    '{"label": 1, "label": 2}\n' + "[" * 100_000)
    with pytest.raises(ValueError) as error:
        read_answers(path, ASKED, (1, 5))
    for part in ("line 1: not a JSON object", "line 2: not a JSON object",
                 "line 3: no user_id, item_id, label", "line 4: label True",
                 "line 5: not a JSON object", "line 6: not a JSON object"):
        assert part in str(error.value)
    (tmp_path / "a.csv").write_bytes("é".encode("latin-1"))
    with pytest.raises(ValueError, match="no utf-8 in line 1.*as UTF-8"):
        read_answers(tmp_path / "a.csv", ASKED, (1, 5))
    with pytest.raises(ValueError, match="a.xlsx"):
        read_answers(tmp_path / "a.xlsx", ASKED, (1, 5))


@pytest.mark.parametrize("name, content", [
    ("a.csv", b"ticket,user_id,item_id,label\n3,-u,007,1\n8,v,@y\xff,2\n"),
    ("a.jsonl", b'{"ticket": 3, "user_id": "-u", "item_id": "007", '
     b'"label": 1}\n\n{"ticket": 8, "user_id": "\xff"}\n')])
def test_a_bad_byte_names_its_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match="line 3: bytes that are no utf-8"):
        read_answers(tmp_path / name, ASKED, (1, 5))


@pytest.mark.parametrize("step", ["os.fsync", "os.replace"])
def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = write_questions(tmp_path / "q.csv", ASKED)
    before = path.read_bytes()

    def full(*_):
        raise OSError("disk full")
    monkeypatch.setattr(step, full)
    with pytest.raises(OSError, match="disk full"):
        write_questions(path, ASKED, None, ITEMS)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fields, message", [
    (([1, 1], ["a", "b"], ["x", "y"]), "1 that repeat"),
    (([1, 2], ["a"], ["x", "y"]), "`user_id` must hold one value"),
    (([1], ["a"], ["x"], 0, [1, 2]), "`utility`")])
def test_bad_questions(fields, message):
    with pytest.raises(ValueError, match=message):
        Questions(*fields)


@pytest.mark.parametrize("fields, message", [
    (([1], [np.nan], [False], [0]), "NaN where `declined`"),
    (([1, 1], [2, 3], [False] * 2, [0, 0]), "1 that repeat"),
    (([1, 7], [2, 3], [False] * 2, [0, -1]), "cost=-1.0 at place 1"),
    (([1], [2], [False], [np.nan]), "cost=nan")])
def test_bad_answers(fields, message):
    with pytest.raises(ValueError, match=message):
        Answers(*fields)


@pytest.mark.parametrize("name, form", [
    ("a.tsv", {}), ("a.tab", {"encoding": "utf-16"}),
    ("a.csv", {"encoding": "cp1252", "separator": "|"}), ("a.parquet", {}),
    ("a.pq", {})])
def test_answers_come_back_in_other_forms(tmp_path, name, form):
    write_questions(tmp_path / "q.csv", ASKED)
    frame = pd.read_csv(tmp_path / "q.csv", encoding="utf-8-sig", dtype=str)
    frame["note"] = "B\u00e4r, Tee"
    frame.loc[0, "label"] = "4"
    if "p" in name[2:]:
        frame = frame.assign(ticket=frame["ticket"].astype(int),
                             label=frame["label"].astype(float))
        frame.to_parquet(tmp_path / name)
    else:
        frame.to_csv(tmp_path / name, index=False, sep=form.get(
            "separator", "\t"), encoding=form.get("encoding", "utf-8"))
    found = read_answers(tmp_path / name, ASKED, (1, 5), **form)
    assert found.label.tolist() == [4]
    assert found.ticket.tolist() == [int(frame["ticket"][0])]


def test_whole_numbers_are_shown_whole(tmp_path):
    items = pd.DataFrame({"year": [1984.0, np.nan], "price": [9.5, 2.0]},
                         index=pd.Index(["007", "@y"], name="item_id"))
    path = write_questions(tmp_path / "q.csv", ASKED, None, items)
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    assert lines[1].endswith("007,1984,9.5,")
    assert lines[2].endswith("@y,,2,")
