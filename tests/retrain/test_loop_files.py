"""The files of a loop: damaged, half or missing, killed, and private."""
from __future__ import annotations

import json
import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest

from tfrecal import datasets
from tfrecal.export.export_model import export_model
from tfrecal.feedback import FeedbackStore
from tfrecal.files import read_sealed, write_sealed
from tfrecal.pool.run_folder import RunFolder
from tfrecal.retrain import forgotten, job, models, promotion, records
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop
from tfrecal.retrain.refresh import refresh
from tfrecal.retrain.todays_tables import TablesWrong
from tfrecal.runs import run
from tfrecal.runs.build import restore_trained
from tfrecal.runs.config import RunConfig

pytestmark = pytest.mark.large
RECORD = {"until": 5.0, "now": 6.0, "base_version": 1, "base_run": "",
          "started": 6.0}


class Kill(BaseException):
    """Ends a process in the middle."""


class Stall:
    """A loop of ratings: two versions, the second from feedback."""

    def __init__(self, root):
        self.root, self.loop = root, root / "models" / "stall.loop"
        self.base, self.store = root / "models" / "stall", root / "f.db"
        self.kept = root.with_name(root.name + "-kept")
        self.thrice = root.with_name(root.name + "-thrice")
        data = datasets.shop(users=40, items=30, topics=4, ratings=500,
                             seed=0)
        self.users, self.items = data.users.index, data.items.index
        for name, table in (("users", data.users), ("items", data.items)):
            table.to_csv(root / f"{name}.csv")
        data.frame.to_csv(root / "log.csv", index=False)
        run.run(RunConfig(
            data=str(root / "log.csv"), users=str(root / "users.csv"),
            items=str(root / "items.csv"), encoder="none", oracle="people",
            rounds=1, final_epochs=1, batch_size=128), root / "run",
            quiet=True)
        made = restore_trained(RunFolder.of_run(root / "run"), "The test")
        export_model(made.model, self.base, pool=made.pool, k=5)
        self.rate(80, 1)
        job.retrain(self.loop, self.config(), quiet=True)
        self.rate(60, 2)
        shutil.copytree(root, self.kept)

    def config(self):
        return RetrainConfig(
            run=str(self.root / "run"), to=str(self.base), k=5, steps=2,
            feedback=str(self.store), users=str(self.root / "users.csv"),
            items=str(self.root / "items.csv"), force=True, passes=1)

    def reset(self):
        self.bring(self.kept)

    def bring(self, kept):
        shutil.rmtree(self.root)
        shutil.copytree(kept, self.root)

    def retrain_again(self):
        """A third version, made after a user of the second was erased."""
        if not self.thrice.exists():
            with FeedbackStore(self.store) as store:
                store.erase_user(self.users[3])
            self.rate(60, 7)
            assert job.retrain(self.loop, self.config(),
                               quiet=True)["version"] == 3
            shutil.copytree(self.root, self.thrice)
        self.bring(self.thrice)

    def rate(self, number, seed, **columns):
        rng = np.random.default_rng(seed)
        rows = pd.DataFrame({
            "event_id": [f"{seed}-{n}" for n in range(number)],
            "user_id": rng.choice(self.users, number),
            "item_id": rng.choice(self.items, number),
            "time": time.time() - 500 + np.arange(number),
            "kind": "rating", "value": rng.integers(1, 6, number), **columns})
        with FeedbackStore(self.store) as store:
            assert store.add_responses(rows).new == number

    def outcomes(self):
        with FeedbackStore(self.store) as store:
            return store.retrainings()["outcome"].tolist()

    def new_item(self, **cells):
        items = pd.read_csv(self.root / "items.csv", dtype=str)
        row = {**items.iloc[0], "item_id": "brand-new", **cells}
        pd.concat([items, pd.DataFrame([row])]).to_csv(
            self.root / "items.csv", index=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Stall(tmp_path_factory.mktemp("stall"))


@pytest.fixture
def stall(made):
    made.reset()
    return made


def damages(content: bytes):
    """Returns name -> what may stand in a file in place of its content."""
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0x15
    return {"empty": b"", "half": content[:len(content) // 2],
            "flipped": bytes(flipped), "nested": b"[" * 100_000,
            "number": b"-1", "other": b'{"until": NaN, "files": 5}',
            "later": b'{"format": 99}', "bytes": b"\xff\xfe\0"}


def test_every_damage_of_a_model_ends_in_one_line(stall):
    folder = stall.loop / "runs" / "1"
    files = sorted(path for path in folder.rglob("*") if path.is_file()
                   and path.name != "record.json")
    assert {path.name for path in files} == {
        "made.json", "pool.npz", "users.parquet", "items.parquet",
        "interactions.parquet", "meta.json", "model.index",
        "model.data-00000-of-00001"}
    models.check_model(folder)
    for path in files:
        content = path.read_bytes()
        for new in [None, *damages(content).values()]:
            path.unlink(missing_ok=True)
            if new is not None:
                path.write_bytes(new)
            with pytest.raises(ValueError) as error:
                models.check_model(folder)
            said = str(error.value)
            assert str(path) in said and "\n" not in said
            assert "Bring it back" in said or "Update" in said
        path.write_bytes(content)


def test_models_of_an_earlier_version_have_no_sums(stall):
    """They are read all the same, and what is broken is named."""
    folder = stall.loop / "runs" / "1"
    old = {"users": 40, "items": 30, "encoder": ""}
    (folder / "made.json").write_text(json.dumps(old))
    origin = models.Origin(str(stall.root / "run"))
    assert len(models.load_model(origin, folder)[1].users) == 40
    for name in ("pool.npz", "tables/users.parquet", "tables/meta.json",
                 "weights/model.index"):
        content = (folder / name).read_bytes()
        for new in damages(content).values():
            if new in (damages(content)["flipped"],):
                continue
            (folder / name).write_bytes(new)
            with pytest.raises(ValueError) as error:
                models.load_model(origin, folder)
            assert str(folder / name.split("/")[0]) in str(error.value)
            assert "\n" not in str(error.value)
        (folder / name).write_bytes(content)
    (folder / "made.json").write_text(json.dumps({**old, "users": 41}))
    with pytest.raises(ValueError, match="where 41 and 30 were written"):
        models.load_model(origin, folder)


@pytest.mark.parametrize("name", ["config.json", "name",
                                  "runs/1/weights/model.index"])
def test_a_damaged_loop_leaves_with_2(stall, command_line, name):
    path = stall.loop / name
    content = path.read_bytes()
    commands = (["retrain", "-o", stall.loop, "--quiet"],
                ["retrain", "-o", stall.loop, "--watch", 1],
                ["retrain", "-o", stall.loop, "--only-grow"],
                ["status", "--to", stall.base, "--feedback", stall.store])
    stall.new_item()
    damaged = ["empty", "bytes"] + ["nested"] * (name == "config.json")
    for new in (damages(content)[kind] for kind in damaged):
        path.write_bytes(new)
        for arguments in commands:
            code, text = command_line(*arguments)
            assert code == 2 and str(path) in text, (arguments, text)
            assert "Traceback" not in text
    path.write_bytes(content)
    assert stall.outcomes()[0] == "promoted"
    assert command_line(*commands[0], "--force")[0] == 0
    assert stall.outcomes()[-1] == "promoted"


@pytest.mark.parametrize("change", [
    {"until": None}, {"until": "x"}, {"until": float("nan")},
    {"base_version": -1}, {"base_version": 1.5}, {"base_run": 5},
    {"base_run": "../1"}, {"now": float("inf")}, {"gate": [1]},
    {"counts": {"a": "b"}}, {"scale": [1]}, {"reason": 3}])
def test_records_hold_what_they_must(tmp_path, change):
    path = tmp_path / "1" / "record.json"
    records.write(path, RECORD)
    assert records.read(path) == RECORD
    records.write(path, {**RECORD, **change})
    with pytest.raises(ValueError, match="as it was written.*which holds"):
        records.read(path)
    for name in RECORD:
        path.write_text(json.dumps(
            {key: RECORD[key] for key in RECORD if key != name}))
        with pytest.raises(ValueError, match=f"has no `{name}`"):
            records.read(path)


def test_an_open_retraining_whose_record_is_damaged(stall, command_line):
    """It is named; without the folder, it is done again."""
    with FeedbackStore(stall.store) as store:
        number = store.begin_retraining(2, {"loop": Loop(stall.loop).name})
    folder = stall.loop / "runs" / str(number)
    records.write(folder / "record.json", RECORD)
    content = (folder / "record.json").read_bytes()
    for new in damages(content).values():
        (folder / "record.json").write_bytes(new)
        for arguments in (["retrain", "-o", stall.loop],
                          ["retrain", "-o", stall.loop, "--only-grow"],
                          ["status", "--to", stall.base]):
            code, text = command_line(*arguments)
            assert code == 2 and "record.json" in text, text
            assert f"remove {folder}" in text or "Update" in text
    shutil.rmtree(folder)
    assert command_line("retrain", "-o", stall.loop, "--force")[0] == 0
    assert stall.outcomes() == ["promoted", "promoted"]


def test_a_record_in_the_store_is_checked(stall, command_line):
    for row in ("[1]", '{"until": "x"}', "[" * 100_000):
        stall.reset()
        with FeedbackStore(stall.store) as store:
            store._database.write(lambda connection: connection.exec_driver_sql(
                "UPDATE runs SET record = ?", (row,)))
        for arguments in (["retrain", "-o", stall.loop],
                          ["status", "--to", stall.base]):
            code, text = command_line(*arguments)
            assert code == 2 and "retraining 1 in sqlite" in text
            assert "Traceback" not in text


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("once", [job.retrain, refresh])
def test_a_kill_leaves_a_folder_that_goes_on(stall, monkeypatch, once, call):
    """Killed at its n-th renaming of a file or folder."""
    stall.new_item()
    calls = []

    def killing(whole):
        def rename(*arguments, **options):
            calls.append(arguments)
            if len(calls) == call:
                raise Kill
            return whole(*arguments, **options)
        return rename
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing(os.replace))
        patch.setattr(os, "rename", killing(os.rename))
        try:
            once(stall.loop, stall.config(), quiet=True)
        except Kill:
            pass
        else:
            assert len(calls) < call
            return
    found = once(stall.loop, stall.config(), quiet=True)
    assert found["outcome"] == "promoted"
    assert set(stall.outcomes()) <= {"promoted", "failed"}
    assert "brand-new" in pd.read_parquet(
        stall.loop / "runs" / str(found["run_id"]) / "tables"
        / "items.parquet").index


@pytest.mark.parametrize("once", [job.retrain, refresh])
def test_wrong_tables_end_it_before_anything_is_done(stall, once):
    stall.new_item(item_id="")
    config = RetrainConfig.from_folder(stall.loop, steps=3, force=True)
    before = {path: path.read_bytes() for path in stall.loop.rglob("*")
              if path.is_file()}
    with pytest.raises(TablesWrong, match="line 32: `item_id` is empty"):
        once(stall.loop, config, quiet=True)
    assert before == {path: path.read_bytes() for path in stall.loop.rglob(
        "*") if path.is_file()}
    assert stall.outcomes() == ["promoted"]
    shutil.copy(stall.kept / "items.csv", stall.root / "items.csv")
    stall.new_item()
    assert once(stall.loop, config, quiet=True)["outcome"] == "promoted"


def test_files_of_a_loop_are_private(stall):
    assert (stall.loop.stat().st_mode & 0o777) == 0o700
    for path in stall.loop.rglob("*"):
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_what_is_not_learned_is_told(stall, command_line):
    stall.rate(30, 3, kind="click", value=1.0)
    stall.rate(20, 4, value=9.0)
    code, text = command_line("status", "--to", stall.base)
    assert code == 0
    assert "of these, " in text and "of 110 responses are not learned" in text
    assert "30 of a kind that is no label" in text
    assert "20 off the scale (1 to 5)" in text
    code, text = command_line("retrain", "-o", stall.loop, "--force")
    assert code == 0 and "20 off the scale (1 to 5)" in text
    with FeedbackStore(stall.store) as store:
        record = json.loads(store.retrainings()["record"].iloc[-1])
    assert record["counts"]["off_the_scale"] == 20
    assert record["scale"] == [1.0, 5.0]
    assert "20 off the scale (1 to 5)" in command_line(
        "status", "--to", stall.base)[1]


def test_a_rollback_to_erased_users_needs_force(stall, command_line):
    """Also where the store is named by the loop only."""
    user, other = stall.users[3], stall.users[4]
    rollback = ["rollback", "--to", stall.base]
    with FeedbackStore(stall.store) as store:
        store.erase_user(user)
        store.erase_user(other)
        store.erase_user("who was never there")
        assert forgotten.erased_users(stall.base / "1", stall.loop,
                                      store) == 2
    code, text = command_line(*rollback)
    assert code == 2 and "version 1, which knows 2" in text
    assert "--force" in text and user not in text
    code, text = command_line("status", "--to", stall.base)
    assert code == 0
    assert "version 1 knows 2 erased users" in text
    assert "version 2 knows 2 erased users" in text
    # One of them comes back: only what was made before knows too much.
    stall.rate(5, 5, user_id=other, time=time.time() + 10)
    found = job.retrain(stall.loop, stall.config(), quiet=True,
                        now=time.time() + 100)
    table = pd.read_parquet(stall.loop / "runs" / str(found["run_id"])
                            / "tables" / "users.parquet")
    assert user not in table.index and other in table.index
    text = command_line("status", "--to", stall.base)[1]
    assert "version 2 knows 2 erased" in text and "version 3 kn" not in text
    assert promotion.rollback_target(stall.base).name == "2"
    assert command_line(*rollback)[0] == 2
    assert (stall.base / "3").exists()
    code, text = command_line(*rollback, "--force")
    assert code == 0 and "version 2 knows 2 erased users" in text
    assert not (stall.base / "3").exists()


def test_where_no_loop_is_known_it_is_said(stall, command_line, tmp_path):
    with FeedbackStore(stall.store) as store:
        store.erase_user(stall.users[3])
    code, text = command_line("rollback", "--to", stall.base, "-o",
                              tmp_path / "none", "--feedback", stall.store)
    assert code == 0 and "is not checked" in text and "none" in text


@pytest.mark.parametrize("damage", [
    lambda loop: (loop / "config.json").write_text("{"),
    lambda loop: (loop / "config.json").unlink(),
    lambda loop: (loop / "runs/1/tables/users.parquet").write_bytes(b"PAR1"),
    lambda loop: (loop / "name").write_text("other-00000000"),
    lambda loop: (loop.parents[1] / "f.db").write_bytes(b"")])
def test_a_rollback_that_cannot_tell_needs_force(stall, command_line, damage):
    """Here to the version of a retraining."""
    stall.retrain_again()
    damage(stall.loop)
    rollback = ["rollback", "--to", stall.base, "--feedback", stall.store]
    if not (stall.loop / "config.json").exists():
        rollback = rollback[:-2]  # the loop's config names it
    code, text = command_line(*rollback)
    assert code == 2 and "version 2 knows erased users must be told" in text
    assert "--force" in text
    assert str(stall.loop) in text or str(stall.store) in text
    assert text.count("tfrecal: ") == 1 and (stall.base / "3").exists()
    code, text = command_line(*rollback, "--force")
    assert code == 0 and "is not checked" in text
    assert not (stall.base / "3").exists()


def test_a_loop_retrains_only_the_model_that_it_made(stall, command_line):
    path = stall.loop / "name"
    name = path.read_text()
    stall.new_item()
    for other in ("stall.loop-00000000", None):
        path.unlink()
        if other is not None:
            path.write_text(other)
        for arguments in (["retrain", "-o", stall.loop, "--quiet"],
                          ["retrain", "-o", stall.loop, "--only-grow"],
                          ["status", "--to", stall.base]):
            code, text = command_line(*arguments)
            assert code == 2 and f"write {name} into {path}" in text, text
            assert path.exists() == (other is not None)
        path.write_text(name)
    made = stall.loop / "runs" / "1" / "made.json"
    content = read_sealed(made, "", "")
    assert (content["loop"], content["run"]) == (name, "1")
    for changed in ({"loop": "other-00000000"}, {"run": "2"}):
        write_sealed(made, {**content, **changed})
        code, text = command_line("retrain", "-o", stall.loop, "--quiet")
        assert code == 2 and f"{made}, which is of" in text
    assert stall.outcomes() == ["promoted"]
