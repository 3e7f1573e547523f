"""Templates: rows of a table, and histories, as text for the encoder."""
from __future__ import annotations

import re
import unicodedata

import pandas as pd

_FIELD = re.compile(r"\{(\w+)\}")
_SPACE = re.compile(r"\s+")


class Template:
    """Turns rows into texts: `"title: {title}; genres: {genres}"`.

    Segments stand between semicolons; a segment whose fields are all
    missing or empty is left out together with its words. Values are data:
    braces and semicolons in them mean nothing.

    Args:
        pattern: text with `{column}` fields.
        separator: between the values of one cell; shown as ", ".
        max_characters: longer texts are cut at a word.

    Example:
        Template("{title}; year: {year}")(data.items)
    """

    def __init__(self, pattern: str, separator: str = "|",
                 max_characters: int = 2000):
        self.pattern = pattern
        self.separator = separator
        self.max_characters = max_characters
        self.fields = _FIELD.findall(pattern)
        if not self.fields:
            raise ValueError("A template must have at least one {field}. "
                             f"Received: pattern={pattern!r}.")

    def __call__(self, table: pd.DataFrame) -> list[str]:
        """One text a row.

        Raises:
            ValueError: a field that is no column of the table.
        """
        missing = [f for f in self.fields if f not in table.columns]
        if missing:
            raise ValueError(
                f"Template fields must be columns. Received: {missing}; the "
                f"table has {[str(c) for c in table.columns]}.")
        cells = {f: [self._cell(v) for v in table[f]] for f in self.fields}
        segments = [s.strip() for s in self.pattern.split(";")]
        parsed = [(_FIELD.split(s), _FIELD.findall(s)) for s in segments]
        return [self._row(parsed, {f: cells[f][i] for f in self.fields})
                for i in range(len(table))]

    def _cell(self, value) -> str:
        if isinstance(value, (list, tuple)):
            value = self.separator.join(map(str, value))
        if value is None or value != value or value is pd.NA:
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return clean(str(value)).replace(self.separator, ", ")

    def _row(self, parsed, values) -> str:
        found = []
        for pieces, fields in parsed:
            if fields and not any(values[f] for f in fields):
                continue
            found.append("".join(
                values[piece] if i % 2 else piece
                for i, piece in enumerate(pieces)).strip())
        return shorten("; ".join(found), self.max_characters)


def default_template(table: pd.DataFrame, most: int = 6) -> Template:
    """`"title: {title}; year: {year}; ..."` over the first `most` columns.

    Raises:
        ValueError: a table without columns.
    """
    columns = [c for c in table.columns if re.fullmatch(r"\w+", str(c))]
    if not columns:
        raise ValueError(
            "Item texts need at least one column in the items table. "
            f"Received: columns={[str(c) for c in table.columns]}. Pass "
            "`items=` with a title, or build a model without `encoder`.")
    return Template("; ".join(f"{c}: {{{c}}}" for c in columns[:most]))


def history_text(titles: list[str], limit: int = 10) -> str:
    """The last `limit` titles of a history as one text, latest first."""
    return "; ".join(clean(t) for t in list(titles)[:-limit - 1:-1])


def clean(text: str) -> str:
    """NFC, without control characters, white space collapsed."""
    text = unicodedata.normalize("NFC", text)
    text = _SPACE.sub(" ", text)
    return "".join(c for c in text
                   if unicodedata.category(c) not in ("Cc", "Cs")).strip()


def shorten(text: str, most: int) -> str:
    """Cut at a word to at most `most` characters."""
    if len(text) <= most:
        return text
    cut = text[:most + 1].rsplit(" ", 1)[0]
    return cut if 0 < len(cut) <= most else text[:most]
