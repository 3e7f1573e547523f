"""Cells, texts and bytes that files of users may hold, for `fuzz.py`."""
from __future__ import annotations

import csv
import io
import re
from random import Random

PLAIN_IDS = ["u1", "u2", "i1", "i2", "7", "42", "anna", "b-9"]
ODD_IDS = [
    "007", "07", " u1", "u1 ", "u1\u00a0", "\u3000u1", "7.0", "7.00", "-7.0",
    "7.", ".0", "1e5", "1E5", "NA", "null", "None", "nan", "NaN", "", " ",
    "9007199254740993", "9007199254740992", "18446744073709551615",
    "-9223372036854775808", "123456789012345678901234", "[UNK]", "True",
    "=1+1", "'u1", 'a"b', "a,b", "x;y", "a\tb", "x::y", "x\ny", "x\r\ny",
    "x\ry", "\ufeffu1", "u\u200b1", "e\u0301", "\u00e9", "\u65e5\u672c",
    "\U0001f600", "\x1fu1", "u1\x1c", "\x85u1", "u1\u2028", "\u180eu1", "\x00",
    "+7", "-0", "-0.0", "0", "0.0", "1_000", "\u0664", "\uff17", "inf",
    "x" * 300, "|"]
PLAIN_LABELS = ["1", "2", "3", "4", "5", "2.5"]
ODD_LABELS = [
    "", "0", "6", "-1", "05", "5.", ".5", "+3", "1e0", "1e400", "1e39", "-0",
    "3.4028235e38", "3.5e38", "nan", "NaN", "inf", "Infinity", "NA", "null",
    "None", "True", "4,5", " 3", "3 ", "\u00a03", "\u0663", "1_0", "0x3",
    "four", "3\u200b", "1.0000000001", "4.999999999", "0.1", "1e-400", "--1"]
PLAIN_TIMES = ["1700000000", "1700000001.5", "1600000000", "1712345678.25"]
ISO_TIMES = ["2024-05-01T10:00:00Z", "2023-01-02 03:04:05", "2021-06-05",
             "2022-12-31T23:59:59.25+02:00", "2021-06-05T10:00",
             "2024-02-29T00:00:00.123456Z", "2021-06", "1969-07-20T20:17:40Z"]
OTHER_TIMES = {
    "ms": ["1700000000123", "1600000000000", "1700000000124.5"],
    "us": ["1700000000123456", "1600000000000000"],
    "ns": ["1700000000123456789", "1600000000000000001"],
    "date": ["20240501", "20231231", "20240229", "20230229", "20241301"],
    "year": ["1999", "2024", "2000"], "excel": ["45292.5", "45293", "30000"]}
ODD_TIMES = [
    "", "0", "-1", "9999-12-31", "9999-12-31T23:59:59Z", "0001-01-01",
    "0000-01-01", "2023-02-29", "2024-13-01", "2024-04-31", "2024-5-1",
    "01.05.2024", "05/01/2024", "noon", "now", "today", "NaT", "NA", "nan",
    "inf", "1e11", "1e12", "1.7e9", "1_700_000_000", "2024-05-01T24:00:00Z",
    "2024-05-01T23:59:60Z", "2024-05-01T10:00:00+24:00", "20240501T101010",
    "2024-05-01t10:00:00z", "2024-05-01T10:00:00+0530", "2024-W18-3",
    "2024-05-01T10:00:00.123456789Z", "2024-05-01T10:00:00,5", "2024-122",
    "2024-05-01T10:00:00 +01", "2024-05-01T10:00:00-00:30", "\u00a01700000000",
    "2024-05-01T10", "2024-05-01T1010", "2024-05-01T10:00:00.Z", "20240501",
    "2024", "45292", "1700000000123", "202405", "2024-0501", "202405-01",
    "2262-04-12T00:00:00Z", "1677-09-21", "5138-11-16", "2024-05-01T25:00",
    "2024-05-01T10:00:00+99:99", "2024-05-01  10:00:00",
    "2024-05-01\u00a010:00"]
TITLES = [
    "Alien", "007", "1984", "1984.0", "", "NA", "null", "Caf\u00e9", "A|B",
    "\u7535\u5f71", 'say "hi"', "a, b", "line\nend", "1e5", "1e-05", " x ",
    "+3", "1,000", "True", "x" * 200, "\u00a0", "3.50",
    "12345678901234567", "-0", "0.1", "[UNK]", "=SUM(A1)", "1e+999",
    "-5", "2024-05-01"]
YEARS = ["1999", "2001", "2020", "", "7", "0", "2.5", "-3"]
CHARACTERS = [
    '"', '""', ",", ";", "\t", "::", "\n", "\r", "\r\n", "\n\n", "\x00", " ",
    "\u00a0", "\u3000", "\ufeff", "\x1c", "\x1f", "\x85", "\u2028", "\u200b",
    "'", "\\", "|", "0", ".0", "-", "\u0663", "a", "e", "NA", "null", "nan",
    "None", "{", "}", "[", "]", ":", "1e999"]
BYTES = [b'"', b",", b"\n", b"\r", b"\0", b"\xff", b"\xfe", b"\xef\xbb\xbf",
         b"\xed\xa0\x80", b"\xc3", b"\x80", b"\xe9", b";", b"\t", b"\xff\xfe"]


def some(rng: Random, plain: list, odd: list, share: float):
    """Returns a plain value, or with this probability an odd one."""
    return rng.choice(odd if rng.random() < share else plain)


def written(rng: Random, names: list[str], rows: list[list[str]],
            separator: str) -> str:
    """Returns rows as text, in one of the ways that programs write them."""
    end = rng.choice(["\n", "\n", "\r\n", "\r"])
    if len(separator) > 1:
        return "".join(separator.join(row) + end for row in [names, *rows])
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end, quoting=rng.choice(
        [csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL,
         csv.QUOTE_NONNUMERIC])).writerows([names, *rows])
    text = out.getvalue()
    return text[:-len(end)] if rng.random() < 0.1 else text


def names_in(line: str, separator: str) -> list[str]:
    """Returns the names in a line of them."""
    return [name.strip('" \r') for name in line.split(separator)]


def mutated_text(rng: Random, text: str) -> str:
    """Returns a text after a few changes, most often below its header."""
    head = re.match("[^\r\n]*(\r\n|\r|\n)?", text)[0]
    if rng.random() < 0.15:
        head = ""
    return head + mutated(rng, text[len(head):], CHARACTERS)


def mutated(rng: Random, content, pieces: list):
    """Returns a text or bytes after a few changes, often none."""
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 4])):
        place = rng.randrange(len(content) + 1)
        until = min(len(content), place + rng.choice([1, 1, 2, 8, 40]))
        kind = rng.randrange(6)
        if kind < 2:
            new = rng.choice(pieces)
        elif kind == 2:
            new = content[:0]
        elif kind == 3:
            new = content[place:until] * 2
        elif kind == 4:
            new, until = rng.choice(pieces), place
        else:
            other = rng.randrange(len(content) + 1)
            new, until = content[other:other + 20], place
        content = content[:place] + new + content[until:]
    if rng.random() < 0.02:
        content = content[:rng.randrange(len(content) + 1)]
    return content


def shorter(content):
    """Yields shorter texts or bytes: without lines, then without parts."""
    end = "\n" if isinstance(content, str) else b"\n"
    lines = content.split(end)
    for place in range(len(lines)):
        if len(lines) > 1:
            yield end.join(lines[:place] + lines[place + 1:])
    size = len(content)
    step = size // 2
    while step:
        for place in range(0, size, step):
            yield content[:place] + content[place + step:]
        step //= 2
