"""Records of CSV files against Python's own reader, and what is refused."""
from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from tfrecal.data import csv_records
from tfrecal.data.csv_records import CsvRecords


def read(tmp_path, content, **options):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes)
                     else content.encode())
    return CsvRecords(path, **options)


@pytest.mark.parametrize("content, header, found", [
    ("a,b\n1,2\n\n3,4", ["a", "b"], [(2, ["1", "2"]), (4, ["3", "4"])]),
    ("\n \na;b\r\n1,5;2\r\n  \r\n3;\r\n", ["a", "b"],
     [(4, ["1,5", "2"]), (6, ["3", ""])]),
    ("a\tb\r1\t2\r", ["a", "b"], [(2, ["1", "2"])]),
    ('"a;x;y",b\n"1\n2",3\n"4""5",6\n', ["a;x;y", "b"],
     [(2, ["1\n2", "3"]), (4, ['4"5', "6"])]),
    ('a,b\n1,x"y\n', ["a", "b"], [(2, ["1", 'x"y'])]),
    ("a\n1\n \n\n2\n", ["a"], [(2, ["1"]), (3, [" "]), (5, ["2"])]),
    (b"\xef\xbb\xbfa,b\n\xc3\xa9,\xe6\x97\xa5\n", ["a", "b"],
     [(2, ["é", "日"])]),
    ("a,b\n", ["a", "b"], [])])
def test_good_files(tmp_path, content, header, found):
    records = read(tmp_path, content)
    assert records.header == header
    assert list(records) == found
    assert list(records) == found  # it can be read again


@pytest.mark.parametrize("bad, reason", [
    (b'x,"y', "a quote that is not closed"), (b'"x,y', "quote"),
    (b'x,"y"z', "'\"'"), (b"x", "1 cells under 2 columns"),
    (b"x,y,z", "3 cells under 2 columns"),
    (b"x,\xff", "bytes that are no utf-8"), (b"x,a\0b", "NUL"),
    (b"\xed\xa0\x80,y", "bytes that are no utf-8")])
@pytest.mark.parametrize("block", [1, 2, 3, 1000])
def test_a_bad_line_costs_no_other(tmp_path, monkeypatch, bad, reason, block):
    monkeypatch.setattr(csv_records, "_BLOCK", block)
    good = [b"1,2", b"3,4", b'"5\n6",7', b"8,9"]
    for place in range(len(good) + 1):
        lines = [*good[:place], bad, *good[place:]]
        records = list(read(tmp_path, b"\n".join([b"a,b", *lines])))
        assert [cells for _, *cells in records if len(cells) == 1] == [
            [["1", "2"]], [["3", "4"]], [["5\n6", "7"]], [["8", "9"]]]
        line, told, content = next(r for r in records if len(r) == 3)
        assert line == 2 + place + (place > 2)
        assert reason in told
        assert content == bad.decode(errors="surrogateescape")


def test_chunks_hold_what_one_reading_holds(tmp_path):
    rng = np.random.default_rng(0)
    cells = [["".join(rng.choice(list('ab,;"\né日 '), size=rng.integers(6)))
              for _ in range(3)] for _ in range(5000)]
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_MINIMAL).writerows(
        [["x", "y", "z"], *cells])
    records = read(tmp_path, out.getvalue())
    for size in (1, 999, 1001, 10 ** 6):
        chunks = list(records.chunks(size))
        assert [row for chunk in chunks for row in chunk.cells] == cells
        assert not any(chunk.faults for chunk in chunks)
        assert all(len(chunk.lines) <= size for chunk in chunks)
        assert chunks[-1].done == records.size
    content = out.getvalue().encode()
    lines = [line for chunk in chunks for line in chunk.lines]
    starts = content.split(b"\n")
    assert lines == sorted(lines) and lines[0] == 2
    assert len(starts) > lines[-1]


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "gb18030",
                                      "utf-8", "UTF8", "utf-16-le"])
def test_encodings(tmp_path, encoding):
    content = "a,b\nü,1\né,2\n"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    records = read(tmp_path, (mark + content).encode(encoding),
                   encoding=encoding)
    assert records.header == ["a", "b"]
    assert list(records) == [(2, ["ü", "1"]), (3, ["é", "2"])]


def test_separators(tmp_path):
    assert list(read(tmp_path, "a|b\n1,2|3\n", separator="|")) == [
        (2, ["1,2", "3"])]
    records = read(tmp_path, 'a::b\n1::"2\n\n3::4::5\n', separator="::")
    assert list(records) == [(2, ["1", '"2']),
                             (4, "3 cells under 2 columns", "3::4::5")]
    for separator in ("", '"', "\n"):
        with pytest.raises(ValueError, match="`separator`"):
            read(tmp_path, "a,b\n", separator=separator)


@pytest.mark.parametrize("content, options, message", [
    (b"", {}, "which is empty"), (b"\n\n", {}, "which is empty"),
    ("a,b\n1,2\n".encode("utf-16"), {}, "must be text in utf-8.*UTF-16 in"),
    ("a,b\n1,2\n".encode("utf-16-le"), {}, "a NUL in line 1"),
    (b"\x1f\x8b\x08\0\xff", {}, "a gzip archive in line 1"),
    (b"PK\x03\x04\0\0", {}, "workbook in line 1"),
    (b"a,\xff\n", {}, "bytes that are no utf-8 in line 1.*--encoding"),
    (b"\na,\"b\n1,2\n", {}, "line 2: a quote that is not closed"),
    (b"a,b\n", {"encoding": "klingon"}, "`encoding` .* must be one"),
    (b"a,b\n", {"encoding": "rot13"}, "`encoding` .* must be one")])
def test_refused_files(tmp_path, content, options, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, content, **options)


def test_what_no_decoder_can_mark(tmp_path):
    content = "a,b\n1,2\n".encode("utf-16-le") + b"\x00\xd8\x31\x00"
    with pytest.raises(ValueError, match="must be text in utf-16-le"):
        list(read(tmp_path, content, encoding="utf-16-le"))
