"""The doctor: made-up stacks by their metadata, and real processes."""
from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tfrecal import doctor

ROOT = Path(__file__).parents[1]
GOOD = {"tensorflow": "2.20.0", "tf-keras": "2.20.1",
        "tensorflow-text": "2.20.1", "tensorflow-recommenders": "0.7.7",
        "transformers": "4.53.3", "scann": "1.4.2"}


@pytest.fixture
def stack(monkeypatch):
    """Call it with the packages that shall seem installed; None removes."""
    def install(**changes):
        installed = {**GOOD, **{
            name.replace("_", "-"): value for name, value in changes.items()}}

        def version(name):
            if installed.get(name) is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed[name]

        monkeypatch.setattr(importlib.metadata, "version", version)
        return [p for p in doctor.check() if not p.note]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [])
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    monkeypatch.setattr(doctor, "EXTRAS", {"scann": (("scann",), "indexes")})
    # Other tests may have TensorFlow imported; these look at metadata.
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    return install


def test_good_stack(stack):
    assert stack() == [] and doctor.check() == []
    doctor.require()
    text, code = doctor.report()
    assert code == 0 and "tensorflow 2.20.0" in text
    assert "The stack is one that works." in text


@pytest.mark.parametrize("changes, name, parts", [
    ({"tensorflow": None}, "tensorflow", ["tensorflow==2.20"]),
    ({"tf_keras": None}, "tf-keras", ["not installed", "tf-keras==2.20.*"]),
    ({"tf_keras": "2.19.0"}, "tf-keras", ["2.19.0", "tf-keras==2.20.*"]),
    ({"tensorflow_text": "2.19.0"}, "tensorflow-text",
     ["2.19.0", "tensorflow-text==2.20.*"]),
    ({"tensorflow_text": None}, "tensorflow-text", ["not installed"]),
    ({"tensorflow_recommenders": None}, "tensorflow-recommenders",
     ["tensorflow-recommenders==0.7.7"]),
    ({"transformers": None}, "transformers", ["transformers==4.53.3"]),
    ({"transformers": "4.54.0"}, "transformers", ["safetensors", "4.53.3"]),
    ({"transformers": "4.57.6"}, "transformers", ["safetensors", "4.53.3"]),
    ({"transformers": "5.0.0rc1"}, "transformers", ["no TensorFlow classes"]),
    ({"tensorflow": "2.21.0", "tf_keras": "2.21.0",
      "tensorflow_text": "2.21.1"}, "scann", ["2.21.0", "uninstall scann"])])
def test_one_conflict_one_problem(stack, changes, name, parts):
    [problem] = stack(**changes)
    assert problem.name == name
    for part in parts:
        assert part in str(problem)
    with pytest.raises(ImportError) as error:
        doctor.require()
    assert str(problem) in str(error.value)
    text, code = doctor.report()
    assert code == 1 and str(problem) in text and "1 problem found" in text


@pytest.mark.parametrize("changes", [
    {"scann": None}, {"transformers": "4.51.3"}, {"scann": "1.3.0"},
    {"tensorflow": None, "tensorflow-cpu": "2.20.0"}])
def test_what_works_is_no_problem(stack, changes):
    assert stack(**changes) == []
    doctor.require()


def test_other_tensorflow_is_a_note(stack):
    assert stack(tensorflow="2.19.0", tf_keras="2.19.0",
                 tensorflow_text="2.19.0", scann=None) == []
    notes = {note.name: str(note) for note in doctor.check()}
    assert set(notes) == {"tensorflow", "scann"}
    assert 'pip install ".[scann]"' in notes["scann"]
    assert doctor.report()[1] == 0


def test_several_problems_are_told_at_once(stack):
    assert len(stack(tf_keras="2.15.0", transformers="5.1.0")) == 2
    with pytest.raises(ImportError, match="(?s)tf-keras.*transformers"):
        doctor.require()


@pytest.mark.parametrize("legacy, problems", [(False, 1), (True, 0)])
def test_tensorflow_imported_before(stack, monkeypatch, legacy, problems):
    module = types.SimpleNamespace(_tf_uses_legacy_keras=legacy)
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    found = stack()
    assert len(found) == problems
    assert all("Import tfrecal before" in p.cure for p in found)


@pytest.mark.parametrize("value, problems", [
    ("1", 0), ("true", 0), ("True", 0), ("0", 1), ("", 1), ("yes", 1)])
def test_setting_that_asks_for_keras_3(stack, monkeypatch, value, problems):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    assert len(stack()) == problems


def test_pins_and_extras_are_those_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", config["options"][
        "install_requires"], re.MULTILINE))
    assert pins["transformers"] == doctor.TRANSFORMERS
    assert doctor._minor(pins["tensorflow"]) == doctor.TENSORFLOW
    for extra, (packages, _) in doctor.EXTRAS.items():
        listed = config["options.extras_require"][extra]
        assert set(packages) == set(re.findall(r"^([\w-]+)", listed, re.M))
    # Those of developers have a command of their own.
    assert set(doctor.EXTRAS) == set(
        config["options.extras_require"]) - {"lint", "test"}


def test_a_missing_database_library_is_a_note(monkeypatch):
    missing = {"alembic", "psycopg"}
    monkeypatch.setattr(
        doctor, "version", lambda name: None if name in missing else "1.0")
    notes = {note.name: str(note) for note in doctor._extras()}
    assert notes["feedback"].startswith("alembic not installed")
    assert "`tfrecal retrain`" in notes["feedback"]
    assert notes["postgres"].startswith("psycopg not installed")


def python(code, **environment):
    kept = {name: value for name, value in os.environ.items()
            if name != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True,
        cwd=ROOT, env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3", **environment})


def test_import_selects_keras_2_and_stays_light():
    done = python(
        "import tfrecal, os, sys\n"
        "heavy = {'tensorflow', 'keras', 'tf_keras', 'pandas', 'numpy'}\n"
        "print(os.environ['TF_USE_LEGACY_KERAS'], heavy & set(sys.modules))")
    assert done.stdout.strip() == "1 set()", done.stderr


def test_import_after_keras_3_is_refused():
    done = python("import tensorflow\nimport tfrecal")
    assert done.returncode == 1
    assert "ImportError: tfrecal cannot work" in done.stderr
    assert "Import tfrecal before tensorflow" in done.stderr


def test_import_with_keras_3_asked_for_is_refused():
    done = python("import tfrecal", TF_USE_LEGACY_KERAS="0")
    assert "TF_USE_LEGACY_KERAS=0" in done.stderr and done.returncode == 1


def test_python_of_another_version_is_a_note(stack, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert stack() == []
    [note] = doctor.check()
    assert note.found == "Python 3.14" and "3.10 to 3.12" in note.why


def test_report_compares_requirements(stack, monkeypatch):
    needs = {"tensorflow": [
        "protobuf>=5.28", 'pandas>=2; sys_platform == "amiga"',
        'pandas>=2; extra == "and-cuda"', "grpcio>=1.24,<2"],
        "scann": ["pandas>=1.5"]}
    monkeypatch.setattr(importlib.metadata, "requires", needs.get)
    assert stack(protobuf="4.25.0", pandas="1.0.0", grpcio="1.85.0") == []
    text, code = doctor.report()
    assert code == 1 and "1 problem found" in text
    assert 'pip install "protobuf>=5.28"' in text
    assert "note: pandas 1.0.0: scann needs pandas>=1.5" in text
    assert text.count("note:") == 1


def test_report_tells_a_conflict_once(stack, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [
        "transformers==4.53.3"])
    stack(transformers="5.0.0")
    assert doctor.report()[0].count("transformers 5.0.0:") == 1


def test_machine_is_described(tmp_path, monkeypatch):
    info = tmp_path / "info"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 sse\n"
                    "MemAvailable:    2097152 kB\n")
    real = doctor._proc
    monkeypatch.setattr(
        doctor, "_proc", lambda path, key: real(str(info), key))
    found = doctor.machine()
    assert found["vector instructions"] == "avx2"
    assert found["free memory"].startswith("2.0 GiB, little")
    assert int(found["cores"]) >= 1
    info.unlink()
    assert doctor.machine()["free memory"] == "not known"


def test_report_names_a_package_of_setup_cfg_that_is_missing(
        stack, monkeypatch):
    monkeypatch.setattr(
        importlib.metadata, "requires", lambda name: [
            "tensorflow-serving-api==2.20.0",
            'colorama; sys_platform == "nowhere"',
            'ipykernel; extra == "notebook"'] if name == "tfrecal" else [])
    stack(tfrecal="0.1.0")
    text, code = doctor.report()
    assert code == 1 and "colorama" not in text and "ipykernel" not in text
    assert 'pip install "tensorflow-serving-api==2.20.0"' in text


def test_recommenders_come_alone_on_macos(stack, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    problem, = stack(tensorflow_recommenders=None)
    assert "--no-deps" in problem.cure
