"""Templates, histories and the cleaning of texts."""
from __future__ import annotations

import unicodedata
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from tfrecal.data import templates
from tfrecal.data.templates import Template


def table(**columns):
    return pd.DataFrame(columns)


def test_fields_and_words_are_put_together():
    items = table(title=["Heat", "Ran"], year=[1995, 1985],
                  genres=["Action|Crime", "Drama"])
    found = Template(
        "title: {title}; year: {year}; genres: {genres}")(items)
    assert found == ["title: Heat; year: 1995; genres: Action, Crime",
                     "title: Ran; year: 1985; genres: Drama"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "", "  ", []])
def test_an_empty_field_goes_with_its_words(missing):
    items = pd.DataFrame({"title": ["Heat"]}).assign(
        genres=pd.Series([missing], dtype=object))
    assert Template("{title}; of {genres}")(items) == ["Heat"]


def test_a_segment_stays_while_one_of_its_fields_is_there():
    items = table(title=["Heat", None, "Ran"], year=[1995.0, np.nan, None])
    assert Template("{title} ({year})")(items) == [
        "Heat (1995)", "", "Ran ()"]
    items = items[:2]
    assert Template("film; {title}")(items) == ["film; Heat", "film"]


def test_values_are_data():
    items = table(a=["{b}; {a}", "%s {0}"], b=["x", "y"])
    assert Template("{a} / {b}")(items) == ["{b}; {a} / x", "%s {0} / y"]


@pytest.mark.parametrize("cell", [
    ["Action", "Comedy"], ("Action", "Comedy"),
    np.array(["Action", "Comedy"], object), "Action|Comedy",
    "Action | Comedy", "|Action||Comedy|"])
def test_lists_are_joined(cell):
    items = pd.DataFrame({"genres": pd.Series([cell], dtype=object)})
    assert Template("{genres}")(items) == ["Action, Comedy"]


def test_cells_can_be_left_whole():
    items = table(title=["A|B"])
    assert Template("{title}", separator=None)(items) == ["A|B"]


@pytest.mark.parametrize("value, text", [
    (1995.0, "1995"), (np.float32(3), "3"), (2.5, "2.5"), (7, "7"),
    (pd.Timestamp("1995-12-15"), "1995-12-15"), (pd.NaT, "")])
def test_values_other_than_text(value, text):
    items = pd.DataFrame({"x": pd.Series([value], dtype=object)})
    assert Template("{x}")(items) == [text]


def test_any_column_name_can_be_a_field():
    items = pd.DataFrame({"Book-Title": ["Emma"], "by; whom": ["Austen"]})
    assert Template("{Book-Title} by {by; whom}")(items) == [
        "Emma by Austen"]


def test_an_unknown_field_names_the_columns():
    with pytest.raises(ValueError, match=r"\['name'\].*\['title', 'year'\]"):
        Template("{name}")(table(title=["a"], year=[1]))


@pytest.mark.parametrize("pattern", [
    "", "no field", "{}", "{title", "title}", "{{title}}", "{title} {"])
def test_a_wrong_pattern_is_refused(pattern):
    with pytest.raises(ValueError, match="at least one {field}"):
        Template(pattern)


def test_an_empty_limit_is_refused():
    with pytest.raises(ValueError, match="max_characters=0"):
        Template("{a}", max_characters=0)


def test_long_texts_are_cut_at_a_word():
    long = "wonder " * 1500
    assert len(long) > 10_000
    found, = Template("{text}")(table(text=[long]))
    assert 1990 <= len(found) <= 2000
    assert set(found.split(" ")) == {"wonder"}


def test_a_long_word_is_cut_where_it_must_be():
    found, = Template("t: {text}", max_characters=50)(
        table(text=["x" * 10_000]))
    assert found == "t: " + "x" * 47


@pytest.mark.parametrize("most", [1, 5, 6, 10, 11, 100])
def test_shorten_keeps_to_its_limit_and_to_the_beginning(most):
    text = "alpha beta gamma"
    found = templates.shorten(text, most)
    assert len(found) <= most and text.startswith(found) and found
    if most >= 16:
        assert found == text
    if most == 10:
        assert found == "alpha beta"


def test_an_empty_table_gives_no_texts():
    assert Template("{a}")(pd.DataFrame({"a": []})) == []


def test_rows_keep_their_order_whatever_the_index():
    items = pd.DataFrame({"a": list("xyz")}, index=[2, 2, 0])
    assert Template("{a}")(items) == ["x", "y", "z"]


@pytest.mark.parametrize("raw, cleaned", [
    ("  a \t\n b ", "a b"), ("a\x00b\x1b", "ab"), ("a\u2028b", "a b"),
    ("cafe\u0301", "caf\u00e9"), ("\ufeffa \u200b b", "a b"),
    ("a\ud800b", "ab"), ("a\u00a0b", "a b"), ("", ""), ("\x00", "")])
def test_clean(raw, cleaned):
    assert templates.clean(raw) == cleaned


def test_cleaned_texts_stay_as_they_are():
    rng = np.random.default_rng(0)
    pool = [*map(chr, range(0, 0x250)), "\ud800", "\u0301", "\u200b",
            "\ufeff", "\u3000", "\U0001f600"]
    for _ in range(200):
        text = templates.clean("".join(rng.choice(pool, 30)))
        assert templates.clean(text) == text
        assert "  " not in text and text == text.strip()
        assert not any(unicodedata.category(c) in ("Cc", "Cs")
                       for c in text)
        text.encode("utf-8")


def test_the_default_template_takes_what_reads_like_text():
    items = table(
        price=[3.5, 2.0], genres=[["a"], ["b"]], year=[1995.0, np.nan],
        image=["http://x.org/1.jpg", "https://x.org/2.jpg"],
        title=["Heat", None], nothing=[None, None], stock=[3, 4])
    template = templates.default_template(items)
    assert template.pattern == (
        "title: {title}; genres: {genres}; year: {year}")
    assert template(items) == ["title: Heat; genres: a; year: 1995",
                               "genres: b"]


def test_the_default_template_takes_a_few_columns_only():
    items = table(**{f"c{i}": ["a"] for i in range(9)})
    assert templates.default_template(items, most=2).fields == ["c0", "c1"]


@pytest.mark.parametrize("items", [
    pd.DataFrame(index=["a"]), pd.DataFrame({"price": [1.5]}),
    pd.DataFrame({"title": [None]})])
def test_a_table_without_texts_has_no_default_template(items):
    with pytest.raises(ValueError, match="at least one column of texts"):
        templates.default_template(items)


def test_the_shop_has_item_texts(shop):
    found = templates.default_template(shop.items)(shop.items)
    assert len(found) == len(shop.items)
    assert all(text.startswith("title: ") for text in found)


def test_a_history_is_read_from_its_end():
    titles = ["first", None, " ", "second", "third\n part"]
    assert templates.history_text(titles, 2) == "third part; second"
    assert templates.history_text(titles, 9) == "third part; second; first"
    assert templates.history_text([], 3) == ""
    assert templates.history_text(titles, 0) == ""
    with pytest.raises(ValueError, match="limit=-1"):
        templates.history_text(titles, -1)


@pytest.mark.parametrize("text, clean", [
    ("K&amp;R", "K&R"), ("ErzÃ?Â¤hlungen", "Erzählungen"),
    ("Señor", "Señor"), ("  a \t b ", "a b"), ("", None)])
def test_unescape(text, clean):
    assert templates.unescape(text) == clean


@pytest.mark.parametrize("value, text", [
    (Decimal("1984"), "1984"), (Decimal("1984.0"), "1984"),
    (Decimal("12.50"), "12.50"), (Decimal("NaN"), ""),
    (Decimal("Infinity"), ""), (np.inf, ""), (-np.inf, ""), (True, "True"),
    ({"b", "a"}, "a, b"), (frozenset([2, 10]), "2, 10"),
    (np.datetime64("1995-12-15"), "1995-12-15"), (b"Heat", "Heat"),
    (np.datetime64("NaT"), ""), (["a|b", None, "c"], "a, b, c")])
def test_one_rule_of_cells(value, text):
    items = pd.DataFrame({"x": pd.Series([value], dtype=object)})
    assert Template("{x}")(items) == [text]


@pytest.mark.parametrize("dtype", ["Int64", "Float64", object, float])
def test_numbers_beside_missing_cells(dtype):
    items = pd.DataFrame({"x": pd.Series([1984, None], dtype=dtype)})
    assert Template("{x}")(items) == ["1984", ""]


@pytest.mark.parametrize("dtype", ["category", "string", object])
def test_texts_beside_missing_cells(dtype):
    items = pd.DataFrame({"x": pd.Series(["a|b", None], dtype=dtype)})
    assert Template("{x}")(items) == ["a, b", ""]
    assert templates.default_template(items).pattern == "x: {x}"


def test_cells_that_are_no_text_are_refused():
    items = pd.DataFrame({"x": [{"a": 1}]})
    with pytest.raises(ValueError, match="`x`: A cell must be.*{'a': 1}"):
        Template("{x}")(items)
    twice = pd.DataFrame([["a", "b"]], columns=["x", "x"])
    for use in (Template("{x}"), templates.default_template):
        with pytest.raises(ValueError, match="2 columns `x`"):
            use(twice)


def test_default_columns_of_other_types():
    items = pd.DataFrame({
        "title": ["Heat", 1984], "tags": [{"a"}, {"b"}],
        "year": [Decimal(1995), Decimal("1984.0")],
        "year_of_price": [1.5, 2.5], "flag": [True, False],
        "raw": [{"a": 1}, {"a": 2}]})
    found = templates.default_template(items)
    assert found.pattern == "title: {title}; tags: {tags}; year: {year}"
    assert found(items) == ["title: Heat; tags: a; year: 1995",
                            "title: 1984; tags: b; year: 1984"]
