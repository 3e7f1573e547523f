"""Categories: what cells set, in Python and in the graph."""
from __future__ import annotations

import datetime
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecal.data import cells
from tfrecal.model.categories import MultiHot
from tfrecal.model.white_space import strip

import tensorflow as tf  # isort: skip  (tfrecal selects Keras 2 before)

SPACES = "\t\x1c\x85\xa0\u1680\u2003\u2028\u202f\u205f\u3000"
# A category that ends in a zero is not found yet: NumPy cuts it off.
TEXTS = st.text(st.one_of(
    st.characters(codec="utf-8", exclude_characters="\0"),
    st.sampled_from(SPACES + "|[]ab")),
    max_size=12)


def column(values, dtype=object):
    return pd.DataFrame({"x": pd.Series(values, dtype=dtype)})


def features(values, dtype=object):
    """The values that were found, and which of them each row has."""
    table = column(values, dtype)
    found = MultiHot.adapt(table, ["x"])
    rows = found.table(table)
    assert not rows[0].any()
    return list(found.columns.get("x", ())), rows[1:].astype(int).tolist()


def test_white_space_is_that_of_python():
    every = [chr(c) for c in range(sys.maxunicode + 1)
             if not 0xD800 <= c <= 0xDFFF]
    found = strip(tf.constant([c + "a" + c for c in every])).numpy()
    assert [text.decode() for text in found] == [
        (c + "a" + c).strip() for c in every]
    assert cells.WHITE_SPACE == "".join(filter(str.isspace, every))


@pytest.mark.parametrize("space", SPACES)
def test_spaces_around_a_category(space):
    found, rows = features(
        ["Drama", f"Drama{space}", f"Action|{space}Drama", f"{space}Action"])
    assert found == ["Action", "Drama"]
    assert rows == [[0, 1], [0, 1], [1, 1], [1, 0]]


@pytest.mark.parametrize("value", ["[UNK]", "[MASK]", "[UNK]]", " ", "0"])
def test_any_text_is_a_category(value):
    found, rows = features([value, "a", "b", "zz", None])
    known = sorted({value.strip(), "a", "b", "zz"} - {""})
    assert found == known
    assert rows == [[int(text == (cell or "").strip()) for text in known]
                    for cell in [value, "a", "b", "zz", None]]
    other = MultiHot.adapt(column([value, "a", "b"]), ["x"])
    assert not other({"x": tf.constant(["never seen"])}).numpy().any()


def test_an_empty_value_of_ones_own():
    """A hand-made vocabulary, as before."""
    made = MultiHot({"x": ["", "a"]})
    assert made({"x": tf.constant(["", "a", "a|"])}).numpy().tolist() == [
        [1, 0], [0, 1], [1, 1]]


@pytest.mark.parametrize("cell", [
    ["a", "b"], ("b", "a"), {"a", "b"}, frozenset("ab"), "a|b", "|b||a|a|",
    np.array(["a", "b"], object), np.array(["a", "b"]), ["a|b"],
    ["a", None, "b", np.nan, pd.NA, ""]])
def test_cells_of_many_values(cell):
    table = pd.DataFrame({"x": pd.Series(
        [cell, "c", None], dtype=object, index=list("ijk"))})
    found = MultiHot.adapt(table, ["x"])
    assert list(found.columns["x"]) == ["a", "b", "c"]
    assert found.table(table)[1:].tolist() == [
        [1, 1, 0], [0, 0, 1], [0, 0, 0]]


def test_empty_lists_and_other_separators():
    assert features([["a", "b"], [], ["b"]])[1] == [[1, 1], [0, 0], [0, 1]]
    table = column(["a;b|c", ["a", "d"]])
    found = MultiHot.adapt(table, ["x"], separator=";")
    assert list(found.columns["x"]) == ["a", "b|c", "d"]
    assert found.table(table)[1:].tolist() == [[1, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize("values, dtype, known", [
    (["b", None, "a"], "category", ["a", "b"]),
    ([2, None, 1], "category", ["1", "2"]),
    (["b", None, "a"], "string", ["a", "b"]),
    ([True, None, False], object, ["False", "True"]),
    (["b", 1984.0, Decimal(7), "7"], object, ["1984", "7", "b"]),
    ([datetime.date(2020, 1, 2), None, "x"], object, ["2020-01-02", "x"]),
    (["2020-01-02", None], "datetime64[ns]", ["2020-01-02"]),
    (["2020-01-02 10:00", None], "datetime64[ns]", ["2020-01-02 10:00:00"]),
    ([b"a", "b"], object, ["a", "b"])])
def test_values_of_other_types(values, dtype, known):
    found, rows = features(values, dtype)
    assert found == known
    assert [sum(row) for row in rows] == [
        int(value is not None) for value in values]


@pytest.mark.parametrize("values, dtype", [
    ([1, None, 3], "Int64"), ([1, None, 3], "Float64"),
    ([1, None, 3], float), ([1, None, 3], object),
    ([Decimal(1), None, Decimal("3.0")], object),
    ([Decimal(1), Decimal("NaN"), 3.0], object),
    ([1, np.inf, 3], float), ([1, -np.inf, 3], object),
    ([1, 1e300, 3], float)])
def test_numbers(values, dtype):
    found, rows = features(values, dtype)
    np.testing.assert_allclose(found, np.linspace(1, 3, 11)[1:-1])
    assert rows[0] == [1] + 9 * [0] and rows[2] == 9 * [0] + [1]
    assert not any(rows[1])


@pytest.mark.parametrize("values, dtype", [
    ([True] + 9 * [False], bool), (9 * [True] + [False], bool),
    ([True, False], bool), ([True, None, False, False], "boolean")])
def test_truth_values_have_two_bins(values, dtype):
    rows = np.array(features(values, dtype)[1])
    known = [value is not None for value in values]
    assert (rows.sum(axis=1) == known).all()
    true = [value is True for value in values]
    of_true, of_false = rows[true], rows[[
        value is False for value in values]]
    assert len(np.unique(of_true, axis=0)) == len(
        np.unique(of_false, axis=0)) == 1
    assert (of_true[0] != of_false[0]).any()


@pytest.mark.parametrize("values", [
    [], [None, None], [np.nan, np.nan], ["", " "], [[], None], [pd.NaT]])
def test_columns_without_a_value_set_nothing(values):
    assert features(values)[0] == []


@pytest.mark.parametrize("value, part", [
    ({"a": 1}, "{'a': 1}"), (1j, "1j"), ([["a"]], "['a']"),
    (object, "type")])
def test_what_is_no_cell_is_refused(value, part):
    table = column(["a", value])
    with pytest.raises(ValueError, match="`x`: A cell must be") as found:
        MultiHot.adapt(table, ["x"])
    assert part in str(found.value) and "\n" not in str(found.value)
    # Nobody asked for the column.
    assert MultiHot.adapt(table).columns == {}


def test_columns_that_stand_twice_or_not_at_all():
    twice = pd.DataFrame([["a", "b"]], columns=["x", "x"])
    for columns in (["x"], None):
        with pytest.raises(ValueError, match="2 columns `x`"):
            MultiHot.adapt(twice, columns)
    made = MultiHot({"x": ["a"]})
    with pytest.raises(ValueError, match=r"without \['x'\]"):
        made.table(pd.DataFrame({"y": ["a"]}))


def test_texts_where_numbers_are_read():
    made = MultiHot.adapt(pd.DataFrame({"year": [1995, 1996, 1997]}))
    table = pd.DataFrame({"year": ["1995", "", "199?"]})
    with pytest.raises(ValueError, match="`year` must hold numbers.*199\\?.*"
                                         "row 2"):
        made.table(table)
    rows = made.table(table[:2])
    assert rows[1].sum() == 1 and not rows[2].any()


def test_tensors_of_whole_numbers_and_truth_values():
    made = MultiHot({"x": ["7", "True"]})
    assert made({"x": tf.constant([7, 8])}).numpy().tolist() == [
        [1, 0], [0, 0]]
    assert made({"x": tf.constant([True, False])}).numpy().tolist() == [
        [0, 1], [0, 0]]
    with pytest.raises(ValueError, match="`x` must hold strings"):
        made({"x": tf.constant([7.0])})


def test_embeddings_in_cells_are_no_categories():
    table = column([np.ones(3), np.ones(3), None])
    assert MultiHot.adapt(table).columns == {}


def reference(texts):
    """What is known, and which of it each text has, in plain Python."""
    split = [{part.strip() for part in text.split("|")} - {""}
             for text in texts]
    known = sorted(set().union(*split))
    return known, [[int(value in parts) for value in known]
                   for parts in split]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(TEXTS, min_size=1, max_size=6))
def test_any_unicode_text(texts):
    known, rows = reference(texts)
    assert features(texts) == (known, rows)
    if known:
        made = MultiHot.adapt(column(texts), ["x"])
        found = made({"x": tf.constant(texts)}).numpy()
        np.testing.assert_array_equal(found, rows)
        # Lists of the same values set the same.
        lists = column([text.split("|") for text in texts])
        np.testing.assert_array_equal(made.table(lists)[1:], rows)


def test_unnamed_columns_count_only_what_is_there():
    """Each value twice on average: separators at ends are no values."""
    assert MultiHot.adapt(column(["a|", "b|", "c|"])).columns == {}
    assert list(MultiHot.adapt(column(["a|", "a", "b", "b"])).columns[
        "x"]) == ["a", "b"]
