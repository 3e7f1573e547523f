"""Which versions are loaded, when, and what happens when that fails."""
from __future__ import annotations

import shutil
import threading
import time

import grpc
import pytest
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from tfrecal.serving.server import model_configs
from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.manager import ModelManager

CODE = grpc.StatusCode
NAMES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING",
         50: "END"}


class Loaded:
    """Stands for a Servable; keeps a log of what is loaded and closed."""

    log: list = []

    def __init__(self, folder, name, version):
        text = (folder / "model").read_text()
        if text == "broken":
            raise ServingError(CODE.DATA_LOSS, "it is broken")
        if text == "crash":
            raise ZeroDivisionError("of its own")
        self.name, self.version = name, version
        self.log.append(("load", version))

    def close(self):
        self.log.append(("close", self.version))


@pytest.fixture
def log():
    Loaded.log.clear()
    return Loaded.log


@pytest.fixture
def make():
    """Starts managers and stops them."""
    made = []

    def make_manager(config, **options):
        options = {"poll_seconds": 0.02, "retry_seconds": 60, **options}
        made.append(ModelManager(config, load=Loaded, **options))
        made[-1].start()
        return made[-1]

    yield make_manager
    for manager in made:
        manager.stop()


def put(base, *numbers, text="fine"):
    for number in numbers:
        beside = base / f".{number}"
        beside.mkdir(parents=True)
        (beside / "model").write_text(text)
        beside.rename(base / str(number))


def config_of(base, name="m", policy=None, labels=None):
    config = model_configs.single(name, str(base))
    model = config.model_config_list.config[0]
    if policy == "all":
        model.model_version_policy.all.SetInParent()
    elif isinstance(policy, int):
        model.model_version_policy.latest.num_versions = policy
    elif policy is not None:
        model.model_version_policy.specific.SetInParent()
        model.model_version_policy.specific.versions.extend(policy)
    for label, version in (labels or {}).items():
        model.version_labels[label] = version
    return config


def joined(*configs):
    found = model_server_config_pb2.ModelServerConfig()
    for config in configs:
        found.MergeFrom(config)
    return found


def spec(name="m", version=None, label=None):
    found = model_pb2.ModelSpec(name=name)
    if version is not None:
        found.version.value = version
    if label is not None:
        found.version_label = label
    return found


def states(manager, name="m"):
    return {status.version: NAMES[status.state]
            for status in manager.status(name)}


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def used(manager, **what):
    with manager.use(spec(**what)) as servable:
        return servable.version


@pytest.mark.parametrize("policy, wanted", [
    (None, [12]), (0, [12]), (2, [3, 12]), ("all", [1, 3, 12]),
    ((1, 7), [1])])
def test_policies(tmp_path, make, policy, wanted):
    put(tmp_path, 1, 3, 12, "v99", "1.tmp")
    manager = make(config_of(tmp_path, policy=policy))
    until(lambda: manager.available() == {"m": wanted})
    assert used(manager) == wanted[-1]
    assert used(manager, version=wanted[0]) == wanted[0]
    numbers = [status.version for status in manager.status("m")]
    assert numbers == wanted[::-1]


def test_empty_list_of_versions_serves_nothing(tmp_path, make):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path, policy=()))
    assert manager.available() == {"m": []}


def test_newer_version_is_loaded_before_the_old_one_goes(
        tmp_path, make, log):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path))
    put(tmp_path, 2)
    until(lambda: states(manager) == {2: "AVAILABLE", 1: "END"})
    assert log == [("load", 1), ("load", 2), ("close", 1)]
    assert used(manager) == 2
    with pytest.raises(ServingError, match=r"Specific\(m, 1\)"):
        used(manager, version=1)


def test_broken_newest_version_leaves_the_old_one(tmp_path, make):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path), max_load_retries=1,
                   retry_seconds=0.1)
    put(tmp_path, 2, text="broken")
    until(lambda: states(manager).get(2) == "LOADING")
    until(lambda: states(manager) == {2: "END", 1: "AVAILABLE"})
    status = manager.status("m", 2)[0].status
    assert status.error_code == CODE.DATA_LOSS.value[0]
    assert status.error_message == "it is broken"
    assert used(manager) == 1
    put(tmp_path, 3)
    until(lambda: states(manager) == {3: "AVAILABLE", 2: "END", 1: "END"})
    assert manager.status("m", 1)[0].status.error_code == 0


def test_broken_newest_version_at_the_start(tmp_path, make):
    put(tmp_path, 1, 2)
    put(tmp_path, 3, 4, text="crash")
    manager = make(config_of(tmp_path), retry_seconds=60)
    assert used(manager) == 2
    # The newest is still being tried; the one before it is given up.
    assert states(manager) == {4: "LOADING", 3: "END", 2: "AVAILABLE"}
    assert "ZeroDivisionError: of its own" in \
        manager.status("m", 3)[0].status.error_message


def test_load_is_tried_again(tmp_path, make):
    put(tmp_path, 1, text="broken")
    manager = make(config_of(tmp_path), retry_seconds=0.05,
                   max_load_retries=1000)
    with pytest.raises(ServingError, match=r"Latest\(m\)"):
        used(manager)
    assert "DATA_LOSS: it is broken" in manager.problems()["m"]
    (tmp_path / "1" / "model").write_text("fine")
    until(lambda: states(manager) == {1: "AVAILABLE"})


def test_version_that_left_and_came_back_is_loaded_anew(tmp_path, make, log):
    put(tmp_path, 1, text="broken")
    manager = make(config_of(tmp_path), max_load_retries=0)
    until(lambda: states(manager) == {1: "END"})
    shutil.rmtree(tmp_path / "1")
    time.sleep(0.2)
    put(tmp_path, 1)
    until(lambda: states(manager) == {1: "AVAILABLE"})
    put(tmp_path, 2)
    until(lambda: states(manager) == {2: "AVAILABLE", 1: "END"})
    # Deleting the newest brings the one before it back, first loaded.
    shutil.rmtree(tmp_path / "2")
    until(lambda: states(manager) == {2: "END", 1: "AVAILABLE"})
    assert log[-2:] == [("load", 1), ("close", 2)]


def test_unloading_waits_for_requests(tmp_path, make, log):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path))
    with manager.use(spec()) as servable:
        put(tmp_path, 2)
        until(lambda: states(manager) == {2: "AVAILABLE", 1: "UNLOADING"})
        assert used(manager) == 2
        time.sleep(0.2)
        assert ("close", 1) not in log and servable.version == 1
    until(lambda: ("close", 1) in log)


def test_missing_and_empty_base_paths_hold_up_nothing(tmp_path, make):
    put(tmp_path / "good", 1)
    (tmp_path / "empty").mkdir()
    manager = make(joined(config_of(tmp_path / "missing", "missing"),
                          config_of(tmp_path / "empty", "empty"),
                          config_of(tmp_path / "good", "good")))
    assert used(manager, name="good") == 1
    assert "Could not find base path" in manager.problems()["missing"]
    with pytest.raises(ServingError, match="Could not find any versions"):
        manager.status("missing")
    put(tmp_path / "missing", 5)
    put(tmp_path / "empty", 6)
    until(lambda: manager.available() == {
        "missing": [5], "empty": [6], "good": [1]})
    # Once loaded, a model stays when its folder goes, but not its versions.
    (tmp_path / "missing").rename(tmp_path / "away")
    shutil.rmtree(tmp_path / "empty" / "6")
    until(lambda: states(manager, "empty") == {6: "END"})
    assert used(manager, name="missing") == 5


def test_links_out_of_the_base_path_are_no_versions(tmp_path, make):
    put(tmp_path / "elsewhere", 9)
    put(tmp_path / "base", 1)
    (tmp_path / "base" / "9").symlink_to(tmp_path / "elsewhere" / "9")
    (tmp_path / "base" / "8").symlink_to(tmp_path / "base" / "1")
    manager = make(config_of(tmp_path / "base"))
    assert manager.available() == {"m": [8]}


def test_reload_adds_changes_and_removes(tmp_path, make, log):
    put(tmp_path / "a", 1, 2)
    put(tmp_path / "b", 7)
    manager = make(config_of(tmp_path / "a", "a"))
    manager.reload(joined(config_of(tmp_path / "a", "a", "all"),
                          config_of(tmp_path / "b", "b")))
    assert used(manager, name="b") == 7
    until(lambda: manager.available() == {"a": [1, 2], "b": [7]})
    manager.reload(config_of(tmp_path / "b", "b"))
    until(lambda: states(manager, "a") == {2: "END", 1: "END"})
    with pytest.raises(ServingError, match=r"Latest\(a\)"):
        used(manager, name="a")
    assert used(manager, name="b") == 7


def test_reload_reports_new_models_that_fail_and_keeps_the_others(
        tmp_path, make):
    put(tmp_path / "a", 1)
    put(tmp_path / "b", 2, text="broken")
    manager = make(config_of(tmp_path / "a", "a"))
    both = joined(config_of(tmp_path / "a", "a"),
                  config_of(tmp_path / "b", "b"))
    with pytest.raises(ServingError) as seen:
        manager.reload(both)
    assert seen.value.code == CODE.UNKNOWN
    assert seen.value.message == (
        "1 model(s) did not become available: {{name: b version: 2} due to "
        "error: DATA_LOSS: it is broken, }")
    with pytest.raises(ServingError, match="did not become available: "
                       r"\{\{name: c\} due to error: NOT_FOUND"):
        manager.reload(joined(both, config_of(tmp_path / "c", "c")))
    assert used(manager, name="a") == 1


def test_reload_with_a_deadline(tmp_path, make):
    put(tmp_path / "a", 1)
    manager = make(config_of(tmp_path / "a", "a"))
    go_on = threading.Event()

    def slow(folder, name, version):
        go_on.wait(10)
        return Loaded(folder, name, version)

    manager._load_servable = slow
    put(tmp_path / "b", 1)
    with pytest.raises(ServingError) as seen:
        manager.reload(joined(config_of(tmp_path / "a", "a"),
                              config_of(tmp_path / "b", "b")), timeout=0.1)
    assert seen.value.code == CODE.DEADLINE_EXCEEDED
    assert used(manager, name="a") == 1
    go_on.set()
    until(lambda: manager.available() == {"a": [1], "b": [1]})


def changed(**fields):
    config = config_of("/base", "a")
    for name, value in fields.items():
        setattr(config.model_config_list.config[0], name, value)
    return config


@pytest.mark.parametrize("config, text", [
    (joined(config_of("/x"), config_of("/y")),
     "Illegal to list model m multiple times in config list"),
    (config_of("relative"),
     "Expected model m to have an absolute path or URI; got base_path()="),
    (changed(model_platform=""), "Illegal setting neither"),
    (changed(model_platform="torch"), "Illegal to change a model's platform"),
    (changed(name="new", model_platform="torch"),
     "Model new requests unsupported platform torch")])
def test_bad_config_changes_nothing(tmp_path, make, config, text):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path, "a"))
    with pytest.raises(ServingError) as seen:
        manager.reload(config)
    assert seen.value.code == CODE.INVALID_ARGUMENT
    assert seen.value.message.startswith(text)
    assert manager.available() == {"a": [1]}
    manager.reload(config_of(tmp_path, "a"))


def test_labels(tmp_path, make):
    put(tmp_path, 1, 2)
    manager = make(config_of(tmp_path, policy="all"))
    until(lambda: manager.available() == {"m": [1, 2]})
    for label in ("stable", "canary"):
        with pytest.raises(ServingError, match="Unrecognized servable "
                           f"version label: {label}"):
            used(manager, label=label)
    labels = {"stable": 1, "canary": 2}
    manager.reload(config_of(tmp_path, policy="all", labels=labels))
    assert used(manager, label="stable") == 1
    assert used(manager, label="canary") == 2
    with pytest.raises(ServingError) as seen:
        manager.reload(config_of(tmp_path, policy="all",
                                 labels={"stable": 3}))
    assert seen.value.code == CODE.FAILED_PRECONDITION
    assert seen.value.message == (
        "Request to assign label to version 3 of model m, which is not "
        "currently available for inference")
    assert used(manager, label="stable") == 1
    manager.reload(config_of(tmp_path, policy="all", labels={"stable": 2}))
    assert used(manager, label="stable") == 2
    with pytest.raises(ServingError, match="label: canary"):
        used(manager, label="canary")


def test_label_whose_version_went_is_not_found(tmp_path, make):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path))
    manager.reload(config_of(tmp_path, labels={"stable": 1}))
    put(tmp_path, 2)
    until(lambda: manager.available() == {"m": [2]})
    with pytest.raises(ServingError, match=r"Specific\(m, 1\)"):
        used(manager, label="stable")


def test_labels_at_the_start_need_the_flag(tmp_path, make):
    put(tmp_path, 1)
    config = config_of(tmp_path, labels={"stable": 1})
    with pytest.raises(ServingError, match="Request to assign label"):
        make(config)
    manager = make(config, allow_early_labels=True)
    assert used(manager, label="stable") == 1


def test_labels_before_any_config(make):
    manager = make(model_server_config_pb2.ModelServerConfig())
    with pytest.raises(ServingError, match="Model labels does not init yet"):
        used(manager, label="stable")


def test_polling_once(tmp_path, make):
    put(tmp_path, 1)
    manager = make(config_of(tmp_path), poll_seconds=0)
    put(tmp_path, 2)
    time.sleep(0.3)
    assert manager.available() == {"m": [1]}
    manager.reload(config_of(tmp_path))
    until(lambda: manager.available() == {"m": [2]})
