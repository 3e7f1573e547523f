"""Loading of version folders, whole and broken, and their warm-up."""
from __future__ import annotations

import contextlib
import shutil
import time

import grpc
import numpy as np
import pytest
import serving_models
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfrecal.serving.server import op_libraries
from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.servable import Servable
from tfrecal.serving.server.warm_up import FILE, warm_up

CODE = grpc.StatusCode


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "1"
    serving_models.write_model(folder)
    return folder


@pytest.fixture(scope="module")
def servable(exported):
    servable = Servable(exported, "m", 1)
    yield servable
    servable.close()


@pytest.fixture
def folder(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "2")


def test_arrays_in_arrays_out(servable):
    users = np.array([b"a", b"b"], object)
    found = servable.run("serving_default", {"user_id": users})
    np.testing.assert_array_equal(found["scores"], [[1, -1], [2, -2]])
    assert found["names"].tolist() == [b"user a", b"user b"]
    found = servable.run("serving_default", {"user_id": users}, ["names"], 10)
    assert set(found) == {"names"}


def test_signatures_are_those_of_the_file(servable):
    signature = servable.signatures["serving_default"]
    assert set(signature.inputs) == {"user_id", "bonus"}
    assert set(signature.defaults) == {"bonus"}


def test_number_of_runs_is_bounded(folder, monkeypatch):
    monkeypatch.setattr("tfrecal.serving.server.servable._MAX_SESSION_RUNS", 2)
    servable = Servable(folder, "m", 2)
    users = {"user_id": np.array([b"a"], object)}
    for outputs in (["names"], ["scores"], None, ["names"]):
        assert servable.run("serving_default", users, outputs)
        assert len(servable._session_runs) <= 2
    servable.close()


def test_runs_longer_than_their_deadline_are_ended(folder, monkeypatch):
    # On a fast machine no deadline would be watched after the short run.
    monkeypatch.setattr("tfrecal.serving.server.session_runs._FAR", 1e9)
    servable = Servable(folder, "m", 2)
    endless = {"rounds": np.array([1 << 30], np.int32)}
    short = {"rounds": np.array([200], np.int32)}
    for inputs in (endless, short, endless, endless):
        started = time.monotonic()
        with (pytest.raises(ServingError) if inputs is endless
              else contextlib.nullcontext()) as seen:
            servable.run("spin", inputs, timeout=0.2)
        assert time.monotonic() - started < 5
        assert not seen or seen.value.code == CODE.DEADLINE_EXCEEDED
    with pytest.raises(ServingError) as seen:
        servable.run("spin", short, timeout=0)
    assert seen.value.code == CODE.DEADLINE_EXCEEDED
    servable.close()


def remove(name):
    def change(folder):
        (folder / name).unlink()
    return change


def cut(pattern):
    def change(folder):
        path, = folder.glob(pattern)
        path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
    return change


def overwrite(folder):
    (folder / "saved_model.pb").write_bytes(b"no model" * 100)


@pytest.mark.parametrize("change, code, text", [
    (remove("saved_model.pb"), CODE.NOT_FOUND,
     "Specified file path does not appear to contain a SavedModel bundle"),
    (cut("saved_model.pb"), CODE.DATA_LOSS, "Can't parse"),
    (overwrite, CODE.DATA_LOSS, "Can't parse"),
    (remove("variables/variables.index"), CODE.NOT_FOUND, ""),
    (cut("variables/variables.data-*"), None, ""),
    (cut("variables/variables.index"), None, "")])
def test_broken_folder_is_an_error_of_its_own(folder, change, code, text):
    change(folder)
    with pytest.raises(ServingError) as seen:
        Servable(folder, "m", 2)
    assert seen.value.code == (code or seen.value.code)
    assert seen.value.code not in (CODE.INTERNAL, CODE.OK)
    assert seen.value.message.startswith(text)


def test_a_file_is_no_version(tmp_path):
    (tmp_path / "5").write_text("")
    with pytest.raises(ServingError, match="Specified file path"):
        Servable(tmp_path / "5", "m", 5)


def test_tags_must_be_there(exported):
    with pytest.raises(ServingError, match="gpu") as seen:
        Servable(exported, "m", 1, tags=("serve", "gpu"))
    assert seen.value.code == CODE.NOT_FOUND


def test_missing_ops_are_named_with_a_cure(folder, monkeypatch):
    path = folder / "saved_model.pb"
    model = path.read_bytes()
    # An op of the same length that no library has.
    assert b"LookupTableFindV2" in model
    path.write_bytes(model.replace(b"LookupTableFindV2",
                                   b"Scann>NoSuchOpV2X"))
    monkeypatch.setattr(op_libraries, "load", lambda: {
        "scann.scann_ops.py.scann_ops": "ImportError: none"})
    with pytest.raises(ServingError, match="Scann>NoSuchOpV2X") as seen:
        Servable(folder, "m", 2)
    assert "pip install '.[scann]'" in seen.value.message


def write_records(folder, *records):
    path = folder / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def predict_log(signature, **inputs):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name = "unused"
    request.model_spec.signature_name = signature
    for alias, values in inputs.items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(values))
    return log.SerializeToString()


def test_warm_up_runs_every_record(folder):
    servable = Servable(folder, "m", 2)
    assert warm_up(servable) == 0
    write_records(folder, predict_log("", user_id=["a"]), b"",
                  predict_log("add", x=[[1., 2.]], y=[[1., 2.]]))
    assert warm_up(servable, times=3) == 2
    assert {key[0] for key in servable._session_runs} == {
        "serving_default", "add"}
    servable.close()


@pytest.mark.parametrize("record, code, text", [
    (predict_log("none"), CODE.FAILED_PRECONDITION, "Serving signature key"),
    (predict_log("add", x=[[1.]]), CODE.INVALID_ARGUMENT, "input size"),
    (b"\xff" * 9, CODE.INVALID_ARGUMENT, "Failed to parse warmup record: "),
    (prediction_log_pb2.PredictionLog(
        session_run_log={}).SerializeToString(), CODE.UNIMPLEMENTED,
     "Unsupported log_type for warmup: 5")])
def test_warm_up_that_fails(folder, record, code, text):
    servable = Servable(folder, "m", 2)
    write_records(folder, record)
    with pytest.raises(ServingError) as seen:
        warm_up(servable)
    assert seen.value.code == code
    assert seen.value.message.startswith(text)
    servable.close()


def test_warm_up_file_that_is_none(servable, folder):
    (folder / "assets.extra").mkdir()
    (folder / FILE).write_bytes(b"not a record" * 10)
    other = Servable(folder, "m", 2)
    with pytest.raises(ServingError, match="TFRecord format") as seen:
        warm_up(other)
    assert seen.value.code == CODE.DATA_LOSS
    other.close()
