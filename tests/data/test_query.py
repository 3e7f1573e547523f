"""Queries: what pandas says where it is right, and nothing that runs."""
from __future__ import annotations

import decimal
import json
import os

import numpy as np
import pandas as pd
import pytest

from tfrecal.compare.config import ComparisonConfig
from tfrecal.data.query import LONGEST, check_query, rows_of
from tfrecal.runs.config import RunConfig


@pytest.fixture(scope="module")
def table():
    return pd.DataFrame({
        "age": [17, 21, 30, 45, 60], "height": [1.5, None, 1.7, 1.8, 2.0],
        "town": ["Bonn", None, "Ulm", "Bonn", "Jena"],
        "vip": [True, False, False, True, False],
        "maybe": pd.array([True, None, False, None, True], "boolean"),
        "visits": pd.array([1, None, 3, 4, 2 ** 53 + 1], "Int64"),
        "plan": pd.Categorical(["a", "b", None, "a", "c"]),
        "grade": pd.Categorical([1, 2, 3, None, 2 ** 53 + 1]),
        "genres": ["Action|Drama", "Action", "Drama | War", None, "War"],
        "tags": [["x", "y"], [], None, ["y"], ["xy"]],
        "since": pd.to_datetime(["2020-01-01", "2021-06-01", None,
                                 "2023-01-01", "2024-12-31"]),
        "price": [decimal.Decimal("1.5")] * 5,
        "first name": list("abcde"), "a.b": range(5), "none": [None] * 5,
        "odd": [1, "a", 2.5, "b", 3],
    }, index=pd.Index([f"u{row}" for row in range(5)], name="user_id"))


@pytest.mark.parametrize("query", [
    "age <= 21", "age < 30 and town == 'Bonn'", "not age < 30",
    "17 < age <= 45", "21 >= age", "age == 17 or age == 60", "age != 17",
    "age in [17, 60]", "age not in (17, 60)", "age > -5", "age > +5.5e0",
    "town == \"Bonn\" & age > 20", "age > 50 | age < 20 & vip",
    "~(age > 20)", "~vip", "vip", "not vip", "vip == True", "vip != False",
    "height > 1.6", "height != 1.7", "height != height", "town == 'Bonn'",
    "town != 'Bonn'", "town in ['Bonn', 'Ulm']", "town < 'C'",
    "town not in ['Bonn']", "plan == 'a'", "plan != 'a'", "`a.b` > 2",
    "`first name` == 'c'", "age > 2 * 1 or vip", "age in []",
    "user_id == 'u3'", "age == age", "age > height", "'Bonn' == town",
    "((((age > 20))))", "age\n>\t20"])
def test_as_pandas(table, query):
    if "*" in query:
        with pytest.raises(ValueError, match="holds arithmetic"):
            rows_of(table, query)
        return
    found = rows_of(table, query)
    wanted = np.asarray(table.eval(query.replace("\n", " "),
                                   engine="python"), bool)
    assert found.dtype == bool and found.tolist() == wanted.tolist()


@pytest.mark.parametrize("query, rows", [
    # A missing cell is unequal to all, also where pandas says <NA>.
    ("visits > 2", "2 3 4"), ("visits != 3", "0 1 3 4"),
    ("not visits > 2", "0 1"), ("visits not in [3]", "0 1 3 4"),
    ("visits == 9007199254740992", ""), ("visits == 9007199254740993", "4"),
    ("visits in [9007199254740993]", "4"),
    ("grade == 9007199254740993", "4"), ("grade >= 2", "1 2 4"),
    ("maybe", "0 4"), ("not maybe", "1 2 3"), ("maybe == False", "2"),
    ("none == 3", ""), ("none != 'a'", "0 1 2 3 4"), ("none", ""),
    ("none in ['a']", ""), ("town != town", "1"),
    ("'Action' in genres", "0 1"), ("'War' in genres", "2 4"),
    ("'Drama' not in genres", "1 3 4"), ("genres == 'Action'", "1"),
    ("'Act' in genres", ""), ("'y' in tags", "0 3"), ("'x' in tags", "0"),
    ("'a' in plan", "0 3"),
    ("since >= '2021-06-01'", "1 3 4"), ("since < '2020-01-02 00:00'", "0"),
    ("since in ['2023-01-01']", "3"), ("'2023-06-01' < since", "4"),
    ("since < '2020-01-01T01:00:00+02:00'", ""),
    ("price > 1.25", "0 1 2 3 4"), ("price > 2", ""),
    ("age < 99999999999999999999999999", "0 1 2 3 4"),
    ("age > -1e308", "0 1 2 3 4"), ("town == 'a & b | c'", ""),
    ("`first name` in ['a', 'b'] and not `a.b` == 0", "1"),
    ("town == 'Bo\\x6en'", "0 3"), ("index == 'u2'", "2")])
def test_the_rows(table, query, rows):
    assert " ".join(map(str, np.flatnonzero(rows_of(table, query)))) == rows


REFUSED = [
    "age.to_csv('written.csv') == age", "__import__('os').system('id') == 1",
    "age.map(print) == 1", "@table", "@table.age > 3", "age @ age",
    "age[0] == 1", "age.values > 1", "f'{age}' == town", "f'{open(\"x\")}'",
    "(lambda: age)() == age", "(x := age) == age", "age + 1 > 3", "age + 1",
    "-age > 3", "age if vip else town", "[a for a in town] == town",
    "print(age)", "age > 3; age", "age = 3", "exec('1')", "town == b'a'",
    "age == 3j", "age == ...", "age is 3", "town is not None", "*age",
    "age ** 2 > 3", "{} == age", "{'a': 1} == age", "age in {**vip}",
    "'' 'a' '''b''' == town", "age > 3 # and vip", "age > 1e999",
    "age == None", "age", "town", "None", "True", "1", "'a'", "1 < 2",
    "1 < 2 < age", "age in town", "age in 'abc'", "1 in age", "'a' in ['a']",
    "age == [1, 2]", "[1] == [1]", "age in [[1]]", "age in [vip]",
    "age in [1, 'a']", "age in [1, True]", "age > 'old'", "town == 3",
    "vip == 1", "age == True", "vip < True", "plan == 1", "grade == 'a'",
    "odd == 1", "tags == 'x'", "genres in ['Action', 3]", "since > 2020",
    "since > 'soon'", "since > 'NaT'", "since > '01'", "since > 'today'",
    "since in ['-1']", "agee > 3", "`age > 3`", "a.b > 1",
    "", "  ", "age >", "(age > 3", "age > 3)", "age > 3 and", "not",
    "age\0 > 3", "age > '\ud800", "\ud800 > 3", "`a\ud800` > 3",
    "\u0661 < age < \u0663 and", "age \uff1e 3", "age > 0x", "`` == 1",
    "age > 3 and __import__('os')", "().__class__.__bases__ == age",
    "getattr(age, 'x') == 1", "await age", "yield", "not " * 2000 + "vip",
    "~" * 5000 + "vip", "-" * 5000 + "1 < age", "(" * 5000 + "vip",
    "(" * 90 + "vip" + ")" * 90 + "]", "[" * 4000, "age" + ".a" * 4000,
    "age" + "()" * 4000, "age > 3 or " * 100_000, "9" * 5000 + " > age",
    "age in [" + "1," * 100_000 + "]"]


@pytest.mark.parametrize("query", REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(table, query, tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        rows_of(table, query)
    said = str(error.value)
    assert "\n" not in said and len(said) < 700 and "Received" in said
    assert said.encode() and not os.listdir(tmp_path) and not list(recwarn)


@pytest.mark.parametrize("query, message", [
    ("agee > 3", "'agee'; did you mean `age`?"),
    ("age > 'old'", "texts stand in quotes, numbers do not"),
    ("age > 'old'", "`age`, which holds numbers, cannot"),
    ("town == 3", "`town`, which holds texts, cannot be compared with 3"),
    ("age", "true or false for each row, and `age` holds numbers"),
    ("a.b > 1", "in backquotes"), ("age.x()", "a call"),
    ("town == None", "`a != a` is true where a cell is missing"),
    ("x" * (LONGEST + 1), "may have 10,000 characters"),
    ("not " * 60 + "vip", "nested too deep")])
def test_the_message_has_the_cure(table, query, message):
    with pytest.raises(ValueError) as error:
        rows_of(table, query)
    assert message in str(error.value)


def test_a_column_twice_and_other_tables():
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(ValueError, match="stands twice"):
        rows_of(twice, "a == 1")
    assert rows_of(pd.DataFrame({7: [1, 2]}), "`7` == 2").tolist() == [0, 1]
    assert rows_of(pd.DataFrame({"a": []}), "a == 2").tolist() == []
    assert rows_of(pd.DataFrame({"_column0": [1, 2], "b c": [2, 2]}),
                   "_column0 == 2 and `b c` == 2").tolist() == [0, 1]


def test_a_config_refuses_it_before_any_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    query = "age.to_csv('written.csv') == age"
    for make in (lambda: RunConfig(target_users=query),
                 lambda: RunConfig(target_items=query),
                 lambda: ComparisonConfig(segment=query)):
        with pytest.raises(ValueError, match="holds a call"):
            make()
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": "shop", "target_users": query}))
    with pytest.raises(ValueError, match="`target_users`: A query compares"):
        RunConfig.from_file(path)
    assert os.listdir(tmp_path) == ["a.json"]
    check_query(target_users="wealth > 9 and `a b` in ['x']")


def test_a_million_rows_are_quick():
    rng = np.random.default_rng(0)
    large = pd.DataFrame({
        "age": rng.integers(0, 90, 10 ** 6),
        "genres": rng.choice(["a|b", "b|c", "c"], 10 ** 6)})
    import time
    started = time.perf_counter()
    found = rows_of(large, "(age < 30 or age in [40, 50]) and 'b' in genres")
    assert time.perf_counter() - started < 3
    assert found.sum() == ((large["age"].lt(30) | large["age"].isin([40, 50]))
                           & large["genres"].ne("c")).sum()
