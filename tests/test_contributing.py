"""The code of CONTRIBUTING.md runs, and passes the contracts."""
from __future__ import annotations

import re
from pathlib import Path

import pytest

import tfrecal
from tfrecal.text.architectures import ARCHITECTURES

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()
# pytest finds the tests among the names of this module.
for _block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
    exec(compile(_block, "CONTRIBUTING.md", "exec"))


@pytest.fixture(autouse=True, scope="module")
def named():
    """What the page tells to name is named, while these tests run."""
    with pytest.MonkeyPatch.context() as patch:
        kind = globals()["PreLayerNorm"]
        patch.setitem(ARCHITECTURES, kind.kind, kind)
        yield


def test_each_section_with_code_has_its_contract():
    for section in TEXT.split("\n## ")[1:]:
        title, blocks = section.split("\n")[0], section.count("```python")
        assert blocks == 2 * len(re.findall(r"^class Test", section, re.M)), (
            title)
    assert sum(name.startswith("Test") for name in globals()) == 4


def test_rooms_and_floors_are_those_of_the_package():
    rooms = {path.parent.name
             for path in Path(tfrecal.__file__).parent.glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)` \|", TEXT, re.M)) == rooms
    setup = (Path(__file__).parent.parent / "setup.cfg").read_text()
    [floors] = re.findall(r"layers =\n((?:    .*\n)+)", setup)
    expected = [{name.removeprefix("tfrecal.") for name in line.split(" | ")}
                for line in floors.replace("    ", "").splitlines()]
    [told] = re.findall(r"```\n(cli\n.*?)```", TEXT, re.S)
    assert [set(line.split()) for line in told.splitlines()] == expected
