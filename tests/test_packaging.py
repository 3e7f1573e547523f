"""What is installed: files, names for type checkers, version, metadata."""
from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

import tfrecal

ROOT = Path(__file__).parent.parent
STUB = ROOT / "tfrecal/__init__.pyi"


def test_checkers_see_the_public_names():
    """The stub hands on what `tfrecal.__getattr__` does, from there."""
    found = {}
    for node in ast.walk(ast.parse(STUB.read_text())):
        if isinstance(node, ast.ImportFrom):
            for name in node.names:
                found[name.asname] = f"{node.module}.{name.name}"
    names = {name: f"tfrecal.{module}.{name}"
             for name, module in tfrecal._PUBLIC.items()}
    modules = {name: f"tfrecal.{module}"
               for name, module in tfrecal._MODULES.items()
               if "." not in name}
    assert found == {
        **names, **modules, "metrics": "tfrecal.metrics"}


@pytest.mark.parametrize("command", [
    ["-m", "tfrecal"],
    ["-c", "import sys; from tfrecal.cli import main\n"
     "try: main(sys.argv[1:])\n"
     "finally: assert 'tensorflow' not in sys.modules"]])
def test_version(command):
    found = subprocess.run(
        [sys.executable, *command, "--version"], capture_output=True,
        text=True, cwd=ROOT)
    assert found.stdout == f"tfrecal {tfrecal.__version__}\n"
    assert not found.returncode and not found.stderr


def test_citation():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == tfrecal.__version__
    assert cited["type"] == "software" and cited["license"] == "Apache-2.0"
    for key in ("message", "title", "abstract", "repository-code"):
        assert cited[key] and isinstance(cited[key], str)
    assert cited["authors"] == [{"name": "the tfrecal team"}]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without a network, of a copy: building writes beside."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("setup.py", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "tfrecal", folder / "tfrecal",
                    ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps",
         "--no-build-isolation", "--disable-pip-version-check", "-w",
         "dist", "."], cwd=folder, check=True)
    [path] = (folder / "dist").iterdir()
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The site-packages of an environment of its own with the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip",
                    folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(packages)
    # The rest of the stack stays where it is.
    (packages / "stack.pth").write_text(
        "\n".join(path for path in sys.path if "site-packages" in path))
    return packages


def of_its_own(installed, *command):
    environment = {name: value for name, value in os.environ.items()
                   if name != "PYTHONPATH"}
    return subprocess.run(
        [installed.parents[2] / "bin/python", *command], cwd=installed.parent,
        env=environment, capture_output=True, text=True)


@pytest.mark.large
def test_wheel_holds_the_package_and_nothing_else(wheel):
    files = zipfile.ZipFile(wheel)
    names = {name for name in files.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tfrecal").rglob("*")
        if path.suffix in (".py", ".pyi", ".typed", ".html", ".css")}
    assert names == expected
    assert names >= {
        "tfrecal/py.typed", "tfrecal/__init__.pyi",
        "tfrecal/report/page.html", "tfrecal/report/page.css",
        "tfrecal/feedback/store/migrations/versions/0001_first.py"}
    rest = {name.split("/", 1)[1] for name in files.namelist()} - {
        name.split("/", 1)[1] for name in names}
    assert {re.sub(r".*/", "", name) for name in rest} == {
        "LICENSE", "METADATA", "RECORD", "WHEEL", "entry_points.txt",
        "top_level.txt"}


@pytest.mark.large
def test_metadata(wheel):
    files = zipfile.ZipFile(wheel)
    [path] = (name for name in files.namelist() if name.endswith("METADATA"))
    told = Parser().parsestr(files.read(path).decode())
    links = dict(line.split(", ") for line in told.get_all("Project-URL"))
    assert set(links) == {"Documentation", "Source", "Changelog", "Issues"}
    home = told["Home-page"]
    assert all(link.startswith(home) for link in links.values())
    assert told["Author"] == "the tfrecal team" and told["Keywords"]
    assert told["Version"] == tfrecal.__version__


@pytest.mark.large
def test_installed_package_works(installed):
    found = of_its_own(installed, "-c", (
        "import tfrecal; from tfrecal import Pool, TwoTower, datasets; "
        "from tfrecal.feedback import FeedbackStore; "
        "FeedbackStore('sqlite:///feedback.db').close(); "
        "print(tfrecal.__file__, len(datasets.shop(users=5, items=9, "
        "ratings=20)))"))
    assert found.stdout == f"{installed}/tfrecal/__init__.py 20\n", found
    found = of_its_own(installed, "-m", "tfrecal", "--version")
    assert found.stdout == f"tfrecal {tfrecal.__version__}\n", found


@pytest.mark.large
def test_a_users_checker_finds_the_types(installed):
    pytest.importorskip("mypy")
    python = installed.parents[2] / "bin/python"

    def check():
        return subprocess.run(
            [sys.executable, "-m", "mypy", "--python-executable", python,
             "--cache-dir", installed.parent / "cache", "--config-file",
             ROOT / "setup.cfg", ROOT / "tests/typed_user.py"],
            cwd=installed.parent, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": ""})

    found = check()
    assert not found.returncode, found.stdout
    (installed / "tfrecal/py.typed").unlink()
    assert "unused-ignore" in check().stdout
