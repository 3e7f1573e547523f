"""Ids to codes and back, whatever type a column has; pairs of them."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal.data import Interactions
from tfrecal.data.pairs import Pairs
from tfrecal.data.vocabulary import Vocabulary

IDS = ["7", "b", "-3", "x y", "007"]


@pytest.fixture
def vocabulary():
    return Vocabulary(IDS, "item_id")


def slow_codes(ids):
    """By a dict, one id at a time."""
    code = {}
    for text in IDS:
        code[text] = len(code) + 1
    found = []
    for id in ids:
        text = "" if pd.isna(id) else str(id).strip()
        text = text[:-2] if text.endswith(".0") else text
        found.append(code.get(text, 0))
    return found


@pytest.mark.parametrize("ids", [
    ["b", "7", "nobody", "", None, float("nan"), " b ", "7.0", "007"],
    [7, -3, 8], [np.int64(7), "b", -3.0], (7, "7"), [], pd.Index([7, 8]),
    np.array([7, -3]), np.array([7.0, np.nan]), np.array(["b", "q"]),
    np.array([7, 8], np.uint8), pd.Series(["b", "7"], index=[4, 4]),
    pd.Series(["b", None, "q", "b"], dtype="category"),
    pd.Series([7, 8, 7], dtype="category"),
    pd.Categorical(["x y", "b"]), pd.Series(["b", None], dtype="string")],
    ids=repr)
def test_ids_of_any_type_have_the_codes_of_a_dict(vocabulary, ids):
    found = vocabulary.codes(ids)
    assert found.dtype == np.int32
    assert found.tolist() == slow_codes(list(ids))


def test_nullable_integers_have_codes(vocabulary):
    for column in (pd.Series([7, None, 8], dtype="Int64"),
                   pd.array([7, None, 8], "Int32"),
                   pd.Series([7, pd.NA, "8"], dtype=object)):
        assert vocabulary.codes(column).tolist() == [1, 0, 0]


def test_codes_keep_the_shape_and_know_the_way_back(vocabulary):
    codes = vocabulary.codes(np.array([["b", "7"], ["q", "x y"]]))
    assert codes.tolist() == [[2, 1], [0, 4]]
    assert vocabulary.codes(np.array([[7], [8]])).tolist() == [[1], [0]]
    back = vocabulary.ids(codes[0])
    assert back.tolist() == ["b", "7"] and back.dtype == object
    assert vocabulary.ids().tolist() == IDS
    assert vocabulary.ids([]).tolist() == []
    for wrong in ([0, 1], [6], [-1]):
        with pytest.raises(ValueError, match="`item_id` must lie in 1 to 5"):
            vocabulary.ids(wrong)


def test_the_code_of_an_id_does_not_depend_on_its_company(vocabulary):
    # "7.0" is 7 beside texts too.
    assert vocabulary.codes(["7.0", "b"]).tolist() == [1, 2]
    assert Vocabulary(["7.0", "8.5"]).codes(["7", 7, "8.5"]).tolist() == [
        1, 1, 2]
    with pytest.raises(ValueError, match="once.*'7.0'"):
        Vocabulary(["7", "7.0"])


def test_sizes_membership_equality_and_repr(vocabulary):
    assert len(vocabulary) == 5 and vocabulary.size == 6
    assert 7 in vocabulary and "8" not in vocabulary
    assert vocabulary == Vocabulary([7, " b", -3, "x y", "007"])
    assert vocabulary != Vocabulary(IDS[::-1]) and vocabulary != IDS
    assert repr(vocabulary) == "Vocabulary(5 item_id: '7', 'b', '-3', ...)"
    assert repr(Vocabulary([])) == "Vocabulary(0 id: )"


@pytest.mark.parametrize("ids, message", [
    (["a", "b", "a"], r"`id` must be there once.*1 of 3.*'a'"),
    ([7, "7"], "1 of 2.*'7'"), (["a", None], "1 of 2.*None"),
    (["a", " "], "1 of 2.*' '"), ([1.5], "whole numbers.*1.5"),
    ([True], r"True \(bool\)"), ([b"a"], r"b'a' \(bytes\)")])
def test_what_is_no_vocabulary(ids, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(ids)


@pytest.mark.parametrize("ids, message", [
    ([2.5], "2.5"), (np.array([0.5, 7]), "0.5"), ([b"b"], "bytes"),
    (np.array([True]), "bool"), ([["b"], ["7", "b"]], "equally long"),
    (pd.Series(pd.to_datetime(["2020-01-01"])), "Timestamp")])
def test_what_is_no_id(vocabulary, ids, message):
    with pytest.raises(ValueError, match=f"`item_id` must hold.*{message}"):
        vocabulary.codes(ids)


def test_codes_of_another_vocabulary(vocabulary):
    other = Vocabulary(["q", "x y", "7"])
    for _ in range(2):
        assert vocabulary.codes_of(other).tolist() == [0, 0, 4, 1]
    assert vocabulary.codes_of(Vocabulary(IDS)).tolist() == [0, 1, 2, 3, 4, 5]
    assert vocabulary.codes_of(other).dtype == np.int32


def test_the_ids_of_a_table():
    table = pd.DataFrame({"item_id": [7, 8], "year": [1, 2]})
    for form in (table, table.set_index("item_id"),
                 table.set_index(pd.Index(["7", "8 "]))[["year"]]):
        assert Vocabulary.of_table(form, "item_id").ids().tolist() == [
            "7", "8"]
    with pytest.raises(ValueError, match=r"column \(or an index\) `user_id`"):
        Vocabulary.of_table(table, "user_id")


def test_parts_of_interactions_share_their_vocabularies():
    data = Interactions.from_frame(pd.DataFrame({
        "user_id": [1, 2, 2], "item_id": ["x", "y", "x"],
        "label": [1.0, 5.0, 3.0]}))
    assert data.user_ids is data.user_vocabulary.ids()
    # The table's own index: its hashes are made once.
    assert data.user_vocabulary._index is data.users.index
    for part in (data.take([0]), data.binarise(3), data.normalise("minmax"),
                 data.with_frame(data.frame.iloc[1:])):
        assert part.user_vocabulary is data.user_vocabulary
        assert part.item_vocabulary is data.item_vocabulary
    core = data.take([1, 2]).k_core(1)
    assert core.user_ids.tolist() == ["2"]


def test_other_rows_may_have_ids_of_another_type():
    data = Interactions.from_frame(pd.DataFrame({
        "user_id": [1, 2], "item_id": ["x", "y"], "label": [1.0, 5.0]}))
    other = data.with_frame(data.frame.assign(user_id=[2, 1]))
    assert other.user_code.tolist() == [2, 1]
    assert other.frame["user_id"].tolist() == ["2", "1"]


def test_pairs_make_their_ids_once(vocabulary):
    users = Vocabulary([10, 20], "user_id")
    pairs = Pairs([2, 1, 2], [1, 5, 4], users, vocabulary)
    assert pairs.user_id.tolist() == ["20", "10", "20"]
    assert pairs.item_id is pairs.item_id and len(pairs) == 3
    some = pairs.take(np.array([True, False, True]))
    assert some.item_id.tolist() == ["7", "x y"] and some.user.dtype == "i4"
    assert repr(pairs) == "Pairs(3 of 2 users and 5 items)"
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        Pairs([1, 1, 1], [1, 2], users, vocabulary)


def test_pairs_of_ids():
    pairs = Pairs.of_ids([10, 20, 10], ["x", None, "y"])
    assert pairs.user_id.tolist() == ["10", "20", "10"]
    assert pairs.item.tolist() == [1, 0, 2]
    with pytest.raises(ValueError, match="no name"):
        pairs.item_id
