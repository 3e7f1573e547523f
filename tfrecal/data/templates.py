"""Templates: turn rows of a table, and histories, into texts."""
from __future__ import annotations

import html
import re
import unicodedata
from numbers import Number

import numpy as np
import pandas as pd

from tfrecal.data import cells
from tfrecal.data.columns import as_numbers

_FIELD = re.compile(r"\{([^{}]+)\}")
_SPACE = re.compile(r"\s+")
# Control characters that are no white space, zero-width space, byte-order
# mark; lone surrogates have no UTF-8 form, so that TensorFlow refuses them.
_UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
                     "\u200b\ufeff\ud800-\udfff]")
_URL = re.compile(r"\s*(https?://|www\.)\S*\s*", re.IGNORECASE)
# "LÃ?Â¼bbe": UTF-8 taken for latin-1 twice, then "?" for what had no glyph.
_TWICE_ENCODED = re.compile("Ã\\?Â([\xa0-\xbf])")


class Template:
    """Turns rows into texts: `"title: {title}; genres: {genres}"`.

    Semicolons separate segments. A segment whose fields are all missing or
    empty is left out with its words. Braces and semicolons in values have no
    meaning.

    Args:
        pattern: text with `{column}` fields.
        separator: what separates the values of a cell; it is shown as
            ", ". None leaves cells as they are.
        max_characters: most characters; longer texts are cut at a word.

    Raises:
        ValueError: there is no field, or other braces.

    Example:
        Template("{title}; year: {year}")(data.items)
    """

    def __init__(self, pattern: str, separator: str | None = "|",
                 max_characters: int = 2000):
        self.pattern = pattern
        self.separator = separator
        self.max_characters = max_characters
        self.fields = list(dict.fromkeys(_FIELD.findall(pattern)))
        rest = _FIELD.sub("", pattern)
        if not self.fields or "{" in rest or "}" in rest:
            raise ValueError("A template must have at least one {field}, and "
                             "no other braces. Received: "
                             f"pattern={pattern!r}.")
        if max_characters < 1:
            raise ValueError("`max_characters` must be positive. Received: "
                             f"max_characters={max_characters}.")
        # Split at fields first: a field's name may hold a semicolon.
        pieces, self._segments = _FIELD.split(pattern), [[]]
        for place, piece in enumerate(pieces):
            if place % 2:
                self._segments[-1].append((True, piece))
                continue
            first, *others = piece.split(";")
            self._segments[-1].append((False, first))
            self._segments += [[(False, other)] for other in others]

    def __repr__(self) -> str:
        return f"Template({self.pattern!r})"

    def __call__(self, table: pd.DataFrame) -> list[str]:
        """Returns a text for each row; "" where all fields are empty.

        Args:
            table: a table with the fields as columns.

        Raises:
            ValueError: a field is no column of the table or several, or a
                cell is nothing that `data.cells` knows.
        """
        for field in self.fields:
            cells.check_column(table.get(field), field)
        missing = [f for f in self.fields if f not in table.columns]
        if missing:
            raise ValueError(
                f"Template fields must be columns. Received: {missing}; the "
                f"table has {[str(c) for c in table.columns]}.")
        texts = {f: self._column(table[f], f) for f in self.fields}
        written = [self._texts_of_segment(segment, texts, len(table))
                   for segment in self._segments]
        return [shorten("; ".join(filter(None, row)), self.max_characters)
                for row in zip(*written)]

    def _column(self, column, name: str) -> list[str]:
        """Returns the text of every cell of a column."""
        try:
            return [self._cell(value) for value in column.to_numpy(object)]
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from error

    def _texts_of_segment(self, segment, texts, rows: int) -> list[str]:
        """Returns a segment of every row; "" where its fields are empty."""
        columns = [texts[piece] if is_field else [piece] * rows
                   for is_field, piece in segment]
        fields = [texts[piece] for is_field, piece in segment if is_field]
        filled = [any(row) for row in zip(*fields)] if fields else [
            True] * rows
        return ["".join(row).strip() if there else ""
                for row, there in zip(zip(*columns), filled)]

    def _cell(self, value) -> str:
        if cells.is_many(value):
            values = cells.values_of(value)
            return ", ".join(filter(None, map(self._cell, values)))
        text = clean(cells.text_of(value))
        if not self.separator or self.separator not in text:
            return text
        values = (value.strip() for value in text.split(self.separator))
        return ", ".join(value for value in values if value)


def default_template(table: pd.DataFrame, most: int = 6) -> Template:
    """Returns `"title: {title}; year: {year}; ..."` over text-like columns.

    These are columns of texts or lists, except web addresses, and columns of
    whole numbers with "year" in their name; a title or name comes first.

    Args:
        table: a users or items table.
        most: most columns to take.

    Raises:
        ValueError: there is no such column.
    """
    columns = [name for name in table.columns
               if _FIELD.fullmatch(f"{{{name}}}")
               and _text_like(table[name], str(name))]
    columns.sort(key=lambda name: not re.search(
        r"title|name", str(name), re.IGNORECASE))
    if not columns:
        raise ValueError(
            "Texts need at least one column of texts in the table. "
            f"Received: columns={[str(c) for c in table.columns]}. Pass "
            "`items=` with a title, give a `Template`, or build a model "
            "without `encoder` (`--encoder none`).")
    return Template("; ".join(f"{name}: {{{name}}}"
                              for name in columns[:most]))


def check_texts(encoder: str, items: pd.DataFrame) -> None:
    """Refuses a table of columns none of which an encoder can read.

    Args:
        encoder: name of the encoder; "none" reads no texts.
        items: the items table; one without columns needs no texts.

    Raises:
        ValueError: see `default_template`.
    """
    if encoder != "none" and len(items.columns):
        default_template(items)


def _text_like(column: pd.Series, name: str) -> bool:
    cells.check_column(column, name)
    values = column.dropna()
    if not len(values):
        return False
    if cells.is_numeric(values):
        year = re.search(r"year", name, re.IGNORECASE)
        return bool(year) and bool((as_numbers(values) % 1 == 0).all())
    sample = values.iloc[:1000].tolist()
    texts = [value for value in sample
             if isinstance(value, str) or cells.is_many(value)]
    # A title may be a number: "1984" beside "Heat".
    others = [value for value in sample if isinstance(value, Number)
              and not isinstance(value, (bool, np.bool_))]
    addresses = sum(isinstance(value, str) and bool(_URL.fullmatch(value))
                    for value in texts)
    return (len(texts) + len(others) == len(sample)
            and addresses * 2 < len(texts))


def history_text(titles: list[str], limit: int = 10) -> str:
    """Returns a history as one text, latest title first.

    Args:
        titles: titles, oldest first; missing and empty ones are ignored.
        limit: most titles to take.
    """
    if limit < 0:
        raise ValueError("`limit` must not be negative. Received: "
                         f"limit={limit}.")
    known = [clean(t) for t in titles if isinstance(t, str)]
    latest = [t for t in reversed(known) if t]
    return "; ".join(latest[:limit])


def clean(text: str) -> str:
    """Returns text in NFC, without control characters or double spaces."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return _SPACE.sub(" ", _UNSEEN.sub("", text)).strip()


def shorten(text: str, most: int) -> str:
    """Cuts a text to `most` characters, at a word if one ends near."""
    if len(text) <= most:
        return text
    cut = text[:most + 1].rsplit(" ", 1)[0]
    near = most // 2 <= len(cut) <= most
    return (cut if near else text[:most]).rstrip("; ,")


def unescape(text: str) -> str | None:
    """Decodes HTML entities and twice encoded letters; None if empty."""
    text = _TWICE_ENCODED.sub(
        lambda match: chr(ord(match[1]) + 0x40), html.unescape(text))
    return " ".join(text.split()) or None
