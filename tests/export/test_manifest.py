"""The manifest of a version: its files are there and as they were."""
from __future__ import annotations

import json

import pytest
from broken_folders import broken, outcome

from tfrecal.export.export_model import next_version
from tfrecal.export.manifest import read_manifest, write_manifest
from tfrecal.files import write_sealed
from tfrecal.serving.manifest import WARM_UP, check_whole


def write_version(folder, content=b"graph"):
    for name in ("saved_model.pb", "variables/variables.index",
                 "assets/words.txt", f"assets.extra/{WARM_UP}"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content + name.encode())
    write_manifest(folder, {"made": "2026-01-01", "run": "", "k": 5,
                            "metrics": {"val_rmse": 0.9}})
    return folder


def test_what_is_written_is_read(tmp_path):
    folder = write_version(tmp_path / "1")
    found = read_manifest(folder)
    assert found["metrics"] == {"val_rmse": 0.9} and set(found["files"]) == {
        "saved_model.pb", "variables/variables.index", "assets/words.txt"}
    (folder / "assets.extra" / WARM_UP).write_bytes(b"others")
    assert check_whole(folder) == found


def test_a_damaged_file_is_named_or_changes_nothing(tmp_path):
    whole = write_version(tmp_path / "1")
    other = write_version(tmp_path / "2", b"grapn")
    expected = read_manifest(whole)
    for name, damage, folder in broken(whole, tmp_path / "3", other):
        if WARM_UP in name:
            continue
        if damage == "of another":
            name = ""  # a manifest names other sums than the files have
        found = outcome(lambda path: check_whole(path, needed=True), folder,
                        name)
        assert found is None, (name, damage)
        found = outcome(read_manifest, folder, name)
        assert found in (None, expected)


def test_versions_of_earlier_ones_and_of_others(tmp_path):
    folder = write_version(tmp_path / "1")
    path = folder / "assets.extra" / "tfrecal.json"
    old = {"format": 1, "made": "2025", "metrics": {}, "run": "3"}
    path.write_text(json.dumps(old))
    assert read_manifest(folder) == old
    for wrong in ({"made": 3}, {"metrics": []}, {"metrics": {"a": "b"}},
                  {"run": 3}):
        path.write_text(json.dumps({**old, **wrong}))
        with pytest.raises(ValueError, match="other than a manifest"):
            read_manifest(folder)
    write_sealed(path, {**old, "format": 3})
    with pytest.raises(ValueError, match="Update tfrecal"):
        read_manifest(folder)
    path.unlink()
    assert check_whole(folder) == {}
    with pytest.raises(ValueError, match="tfrecal.json, which is missing"):
        read_manifest(folder)


@pytest.mark.parametrize("content", [b"", b"x", b"1.5", b"\xff", b"9" * 5000])
def test_the_number_of_the_last_version_is_named(content, tmp_path):
    (tmp_path / "3").mkdir()
    assert next_version(tmp_path) == 4
    path = tmp_path / ".last_version"
    path.write_bytes(b"7\n")
    assert next_version(tmp_path) == 8
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}, which .*Delete it"):
        next_version(tmp_path)
