"""Files of one JSON object: read strictly, refused in one line."""
from __future__ import annotations

import pytest

from tfrecal import checks

REFUSED = [
    (b"", "which is empty"), (b" \n", "which is empty"),
    (b"[" * 100_000, "nested too deep"),
    (b'{"a":' * 100_000, "nested too deep"),
    (b'{"a": 1, "b": {"c": 1, "c": 1}}', "in which 'c' stands twice"),
    (b'{"a": NaN}', "which holds 'NaN', no finite number"),
    (b'{"a": -Infinity}', "'-Infinity'"), (b'{"a": 1e999}', "'1e999'"),
    (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5,000 digits"),
    (b'{"a": "\xe9"}', "not in UTF-8 (byte 7)"),
    (b"[1]", "which holds [1]"), (b"null", "which holds None"),
    (b'{"a": 1', "no JSON: line 1, column 8"),
    (b'{"a": 1} {}', "no JSON: line 1, column 10"),
    (b"[" * 90 + b"]" * 90, "which holds [[[["),
]


@pytest.mark.parametrize("content, message", REFUSED)
def test_what_is_refused(content, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        checks.read_json(path, "A tea")
    said = str(error.value)
    assert said.startswith("A tea must be a file with a JSON object. Received")
    assert message in said and str(path) in said
    assert "\n" not in said and len(said) < 400


def test_what_is_no_file(tmp_path):
    for path, message in ((tmp_path / "no.json", "no.json, which is missing"),
                          (tmp_path, "which is a folder"),
                          ("a\0b", "null byte"), ("x" * 5000, "too long")):
        with pytest.raises(ValueError, match=message):
            checks.read_json(path, "A tea")


def test_what_is_read(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes('\ufeff{"a": 1, "b": [1.5, "\u8336"]}'.encode())
    assert checks.read_json(path, "A tea") == {"a": 1, "b": [1.5, "\u8336"]}
    assert checks.parse_json(b"{}") == {}


def test_shown_is_short_and_in_one_line():
    deep = []
    for _ in range(100_000):
        deep = [deep]

    class Odd:
        def __repr__(self):
            return "an\nodd " + "one" * 1000

    for value in (deep, "a\nb" * 10_000, 10 ** 6000, -10 ** 6000, Odd(),
                  list(range(10_000)), {"a": deep}, [10 ** 6000]):
        said = checks.shown(value)
        assert len(said) < 200 and "\n" not in said
    assert checks.shown(True) == "True" and checks.shown(-5) == "-5"
    assert checks.did_you_mean("batchsize", ["seed", "batch_size"]) == (
        "; did you mean `batch_size`?")
    assert checks.did_you_mean("q", ["seed"]) == ""
