"""benchmarks/: each script has a quick form and stands in the table."""
from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tfrecal

FOLDER = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
ROWS = {row[0]: row[1:] for row in re.findall(
    r"^\| `(\w+\.py)` \| (.*?) \|(?: `(\w+)` \| (.*) \|)?$",
    (FOLDER / "README.md").read_text(), re.M)}


def question(path):
    return ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


def test_the_table_has_a_row_for_each_file():
    files = [*SCRIPTS, *FOLDER.glob("helpers/*.py")]
    assert sorted(ROWS) == sorted(path.name for path in files)
    for path in files:
        assert ROWS[path.name][0] == question(path), path.name


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_script(path):
    """`make bench` looks for its usage; the keys are those of its source."""
    source = path.read_text()
    assert re.search(rf"^    python benchmarks/{path.name} .*\[--quick\]",
                     source, re.M)
    options = [node.args[0].value for node in ast.walk(ast.parse(source))
               if isinstance(node, ast.Call)
               and getattr(node.func, "attr", "") == "add_argument"]
    assert "--quick" in options
    _, room, keys = ROWS[path.name]
    assert (Path(tfrecal.__file__).parent / room).is_dir()
    for key in re.findall(r"`([^`]*)`", keys):
        for part in re.split(r"<\w+>", key):
            assert part in source, key
