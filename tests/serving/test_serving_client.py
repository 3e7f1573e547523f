"""The gRPC client: the same answers as the model, and what goes wrong."""
from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from exports import K
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrecal.serving.client import answers, wire
from tfrecal.serving.client.client import (
    TLS,
    Recommender,
    ServingUnavailable,
    explain,
)
from tfrecal.serving.server import tensor_protos

pytestmark = pytest.mark.large  # half a minute
CODE = grpc.StatusCode
_PATIENT = 30.0


@pytest.fixture(scope="module")
def shop_client(served):
    with Recommender(served.address, timeout=_PATIENT) as client:
        yield client


class Script(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers with ids of the size asked for, or as it is told.

    Args:
        plan: a status code or a version for each of the next requests; then
            version 1 answers.
    """

    def __init__(self, *plan):
        self.plan, self.seen = list(plan), []
        self.seconds = 0.0
        self._lock = threading.Lock()

    def Predict(self, request, context):
        with self._lock:
            self.seen.append(request)
            step = self.plan.pop(0) if self.plan else 1
        time.sleep(self.seconds)
        if isinstance(step, grpc.StatusCode):
            context.abort(step, "as planned.")
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = step
        name = "text" if "text" in request.inputs else "user_id"
        rows = request.inputs[name].string_val
        response.outputs["item_ids"].CopyFrom(tf.make_tensor_proto(
            np.array([[b"of " + row, b""] for row in rows], object)))
        response.outputs["scores"].CopyFrom(tf.make_tensor_proto(
            np.array([[step, -np.inf]] * len(rows), np.float32)))
        return response


@contextlib.contextmanager
def playing(script, address="localhost:0", credentials=None):
    """A server with a script; its address."""
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            script, server)
        port = server.add_insecure_port(address) if credentials is None \
            else server.add_secure_port(address, credentials)
        server.start()
        try:
            yield f"localhost:{port}"
        finally:
            server.stop(0).wait()


def matrix(rows):
    width = max(map(len, rows))
    return [[*row, *[""] * (width - len(row))] for row in rows]


def assert_ranked(found, expected):
    assert found.version == 1
    ids, scores = expected["item_ids"], expected["scores"]
    for row in range(len(ids)):
        there = ids[row] != b""
        assert found.item_ids[row] == [i.decode() for i in ids[row][there]]
        np.testing.assert_allclose(found.scores[row], scores[row][there],
                                   rtol=1e-5, atol=1e-6)
    assert len(found.item_ids) == len(found.scores) == len(ids)


def test_recommends_what_the_model_recommends(served, shop_client):
    history = [served.items[n:n + n % 3] for n in range(len(served.users))]
    exclude = [served.items[:n] for n in range(len(served.users))]
    assert_ranked(shop_client.recommend(served.users),
                  served.expect("recommend", user_id=served.users))
    assert_ranked(
        shop_client.recommend(served.users, history=history,
                              exclude=exclude),
        served.expect("recommend", user_id=served.users,
                      history=matrix(history), exclude=matrix(exclude)))


def test_fewer_items_by_k_and_where_the_rest_is_excluded(
        served, shop_client):
    found = shop_client.recommend(served.users, k=2)
    assert [len(ids) for ids in found.item_ids] == [2] * len(served.users)
    found = shop_client.recommend(
        served.users[:2], exclude=[served.items[1:], served.items])
    assert found.item_ids == [served.items[:1], []]
    assert [len(s) for s in found.scores] == [1, 0]
    with pytest.raises(ValueError, match="`k` must be at most 5, .* k=6"):
        shop_client.recommend(served.users, k=K + 1)


def test_search(served, shop_client):
    texts = ["red shoe", "a lamp", ""]
    exclude = [served.items[:3], [], []]
    assert_ranked(shop_client.search(texts),
                  served.expect("search", text=texts))
    assert_ranked(
        shop_client.search(texts, users=served.users[:3], exclude=exclude),
        served.expect("search", text=texts, user_id=served.users[:3],
                      exclude=matrix(exclude)))


def test_score(served, shop_client):
    items = served.items[:len(served.users)]
    found = shop_client.score(served.users, items)
    expected = served.expect("score", user_id=served.users, item_id=items)
    assert found.source == expected.pop("source").astype(str).tolist()
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(found, name), values, rtol=1e-5)


def test_embeds(served, shop_client):
    found = shop_client.embed_queries(
        served.users, texts=["lamp"] * len(served.users))
    expected = served.expect("embed_queries", user_id=served.users,
                             text=["lamp"] * len(served.users))
    np.testing.assert_allclose(found.vectors, expected["embedding"],
                               rtol=1e-4, atol=1e-6)
    found = shop_client.embed_candidates(["new", served.items[0]],
                                         texts=["lamp", "lamp"])
    expected = served.expect("embed_candidates", text=["lamp", "lamp"],
                             item_id=["new", served.items[0]])
    np.testing.assert_allclose(found.vectors, expected["embedding"],
                               rtol=1e-4, atol=1e-6)
    assert found.vectors.dtype == np.float32 and found.version == 1


@pytest.mark.parametrize("rows", [0, 6, 7, 19])
def test_parts_of_a_batch_are_put_together(served, shop_client, rows):
    users = (served.users * 3)[:rows]
    exclude = [served.items[n:n + n % 4] for n in range(rows)]
    whole = shop_client.recommend(users, exclude=exclude)
    with Recommender(served.address, timeout=_PATIENT,
                     max_batch=3) as client:
        parts = client.recommend(users, exclude=exclude)
    assert parts.item_ids == whole.item_ids and len(whole.item_ids) == rows
    for one, other in zip(parts.scores, whole.scores):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_blanks_for_batching_servers_change_no_answer(served, shop_client):
    with Recommender(served.address, timeout=_PATIENT,
                     batching=True) as client:
        request = client.request("recommend", users=["a", "b"],
                                 history=[["x"], []])
        assert [list(request.inputs[name].string_val)
                for name in ("user_id", "history", "exclude")] == [
            [b"a", b"b"], [b"", b"x", b"", b""], [b"", b""]]
        # Values start with a blank, so TensorFlow Serving pads with blanks.
        history = [served.items[:2]] * len(served.users)
        assert client.recommend(served.users).item_ids == \
            shop_client.recommend(served.users).item_ids
        assert client.recommend(served.users, history=history).item_ids == \
            shop_client.recommend(served.users, history=history).item_ids
        assert client.search(["lamp"]).item_ids == \
            shop_client.search(["lamp"]).item_ids


def test_works_without_tensorflow(served):
    code = f"""
import sys
from tfrecal.serving.client import Recommender
with Recommender("{served.address}", timeout={_PATIENT}) as client:
    print(client.recommend(["{served.users[0]}"]).item_ids[0])
assert not [name for name in sys.modules
            if name.partition(".")[0] in ("tensorflow", "tf_keras")]
"""
    done = subprocess.run([sys.executable, "-c", code], text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    with Recommender(served.address, timeout=_PATIENT) as client:
        expected = client.recommend(served.users[:1]).item_ids[0]
    assert done.stdout == f"{expected}\n"


def test_server_says_what_is_wrong_with_a_call(served):
    with Recommender(served.address, "other", timeout=_PATIENT) as client:
        with pytest.raises(ServingUnavailable, match=(
                "The model 'other' at .* must answer `recommend`. Received: "
                r"NOT_FOUND: Servable not found for request: Latest\(other\)."
                " Check `model`")) as seen:
            client.recommend(["a"])
        assert seen.value.code == CODE.NOT_FOUND
    with Recommender(served.address, version=7, timeout=_PATIENT) as client:
        with pytest.raises(ServingUnavailable, match="Specific.*, 7"):
            client.recommend(["a"])
    with Recommender(served.address, label="x", timeout=_PATIENT) as client:
        with pytest.raises(ValueError, match="version label: x"):
            client.recommend(["a"])
    with Recommender(served.address, version=1, timeout=_PATIENT) as client:
        assert client.recommend(["a"]).version == 1
        with pytest.raises(ValueError, match="FAILED_PRECONDITION: Serving "
                           'signature key "explain" not found. Export'):
            client._ask_or_recall("explain", users=["a"])


def test_only_what_may_pass_is_tried_again():
    script = Script(CODE.UNAVAILABLE, CODE.UNAVAILABLE)
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT) as client:
        assert client.recommend(["a"]).item_ids == [["of a"]]
        assert len(script.seen) == 3
        for code, error in ((CODE.INVALID_ARGUMENT, ValueError),
                            (CODE.FAILED_PRECONDITION, ValueError),
                            (CODE.RESOURCE_EXHAUSTED, ServingUnavailable),
                            (CODE.INTERNAL, ServingUnavailable)):
            script.seen.clear()
            script.plan = [code]
            with pytest.raises(error, match=f"{code.name}: as planned. "):
                client.recommend(["a"])
            assert len(script.seen) == 1


def test_tries_end_with_the_deadline():
    script = Script(*[CODE.UNAVAILABLE] * 50)
    with playing(script) as address, \
            Recommender(address, timeout=0.15) as client:
        started = time.monotonic()
        with pytest.raises(ServingUnavailable):
            client.recommend(["a"])
        assert time.monotonic() - started < 1
        script.plan, script.seconds = [], 0.5
        with pytest.raises(ServingUnavailable, match="`timeout`") as seen:
            client.recommend(["a"])
        assert seen.value.code == CODE.DEADLINE_EXCEEDED


def test_server_that_restarts():
    script = Script()
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT) as client:
        assert client.recommend(["a"]).item_ids
        port = address.rpartition(":")[2]
    with Recommender(address, timeout=2) as client:
        with pytest.raises(ServingUnavailable, match="`tls`") as seen:
            client.recommend(["a"])
        assert seen.value.code == CODE.UNAVAILABLE
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(client.recommend, ["b"])
            time.sleep(0.1)
            with playing(script, f"localhost:{port}"):
                assert call.result().item_ids == [["of b"]]


def test_parts_are_of_one_version():
    script = Script(1, 2)
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT, max_batch=1) as client:
        script.plan = [1, 2, 2, 2]
        assert client.recommend(["a", "b"]).version == 2
        assert len(script.seen) == 4
        script.plan = [1, 2] * 3
        with pytest.raises(ServingUnavailable, match=r"of \[1, 2\]") as seen:
            client.recommend(["a", "b"])
        assert seen.value.code == CODE.ABORTED


def test_failing_part_fails_the_call():
    script = Script(1, CODE.INTERNAL)
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT, max_batch=1) as client:
        with pytest.raises(ServingUnavailable, match="INTERNAL"):
            client.recommend(list("abcdefghij"))
        time.sleep(0.1)
        assert len(script.seen) < 10


def test_identical_searches_are_kept_for_one_version(monkeypatch):
    script = Script()
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT, cache=2) as client:
        first = client.search(["a"], users=["u"])
        first.item_ids[0].append("changed by the caller")
        first.scores[0][:] = 9
        again = client.search(["a"], users=["u"])
        assert again.item_ids == [["of a"]] and again.scores[0] == [1]
        assert again.version == 1 and len(script.seen) == 1
        client.search(["a"], users=["v"])
        client.search(["a"])
        assert len(script.seen) == 3
        client.search(["a"], users=["u"])  # was dropped: two are kept
        assert len(script.seen) == 4
        script.plan = [2]
        client.recommend(["x"])
        assert client.search(["a"], users=["u"]).version == 1
        assert len(script.seen) == 6
        monkeypatch.setattr(answers, "_SECONDS", 0)
        client.search(["b"])
        client.search(["b"])
        assert len(script.seen) == 8


def test_nothing_is_kept_unless_asked_for():
    script = Script()
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT) as client:
        client.search(["a"])
        client.search(["a"])
    assert len(script.seen) == 2


def test_ids_are_sent_as_they_are():
    client = Recommender("localhost:1", "m")
    request = client.request(
        "recommend", users=["é", b"\xff", 7, np.int64(8), np.str_("n")])
    assert list(request.inputs["user_id"].string_val) == [
        "é".encode(), b"\xff", b"7", b"8", b"n"]
    assert set(request.inputs) == {"user_id"}
    request = client.request("embed_queries", users=np.array([1, 2]),
                             history=np.array([["a", "b"], ["c", "d"]]))
    assert [d.size for d in request.inputs["history"].tensor_shape.dim] == [
        2, 2]


def test_request_is_the_one_of_tensorflow_serving():
    client = Recommender("localhost:1", "m", version=0)
    request = client.request("recommend", users=["a", "b"],
                             exclude=[["x", "y"], ["z"]])
    expected = predict_pb2.PredictRequest()
    expected.model_spec.name = "m"
    expected.model_spec.version.value = 0
    expected.model_spec.signature_name = "recommend"
    expected.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a", "b"]))
    expected.inputs["exclude"].CopyFrom(
        tf.make_tensor_proto([["x", "y"], ["z", ""]]))
    assert predict_pb2.PredictRequest.FromString(
        request.SerializeToString()) == expected
    text = explain(request)
    assert json_format.Parse(text, predict_pb2.PredictRequest()) == expected
    assert json.loads(text)["inputs"]["user_id"]["dtype"] == "DT_STRING"
    client = Recommender("localhost:1", label="stable")
    request = client.request("search", texts=["a"])
    assert json.loads(explain(request))["model_spec"] == {
        "name": "recommender", "signature_name": "search",
        "version_label": "stable"}


@pytest.mark.parametrize("mine, real", [
    (wire.PredictRequest, predict_pb2.PredictRequest),
    (wire.PredictResponse, predict_pb2.PredictResponse),
    (wire.TensorProto, tensor_pb2.TensorProto)])
def test_messages_have_the_numbers_of_tensorflow_serving(mine, real):
    def compare(one, other):
        if one.full_name.startswith("google."):
            assert one.full_name == other.full_name
            return
        for field in one.fields:
            same = other.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (
                same.number, same.type, same.is_repeated)
            if field.enum_type:
                numbers = same.enum_type.values_by_name
                for value in field.enum_type.values:
                    assert numbers[value.name].number == value.number
            if field.message_type:
                assert field.message_type.GetOptions().map_entry == \
                    same.message_type.GetOptions().map_entry
                compare(field.message_type, same.message_type)

    compare(mine.DESCRIPTOR, real.DESCRIPTOR)


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("array", [
    np.array([[1.5, -np.inf], [np.nan, 0]], np.float32),
    np.zeros([0, 3], np.float32), np.float32(2).reshape(()),
    np.array([[b"", b"a" * 300], [b"\xff", b"c"]], object),
    np.zeros([0, 2], object)])
def test_both_forms_of_tensors_are_read(array, content):
    proto = tensor_pb2.TensorProto()
    tensor_protos.to_proto(array, proto, content)
    found = wire.read(wire.TensorProto.FromString(proto.SerializeToString()))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def _tensor(shape, **fields):
    tensor = wire.TensorProto(**fields)
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize("tensor", [
    _tensor([1], dtype=9), _tensor([3], dtype=1, float_val=[1, 2]),
    _tensor([2], dtype=1, tensor_content=b"abcd"),
    _tensor([2], dtype=7, string_val=[b"a"]),
    _tensor([2], dtype=7, tensor_content=b"\x01"),
    _tensor([1], dtype=7, tensor_content=b"\x05abc"),
    _tensor([1], dtype=7, tensor_content=b"\x80")])
def test_tensors_that_are_not_whole(tensor):
    with pytest.raises(ValueError):
        wire.read(tensor)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(certificate_files, mutual):
    certificate, key = certificate_files
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        certificate.read_bytes() if mutual else None, mutual)
    alone = TLS(str(certificate))
    both = TLS(str(certificate), str(certificate), str(key))
    with playing(Script(), credentials=credentials) as address:
        with Recommender(address, tls=both, timeout=_PATIENT) as client:
            assert client.recommend(["a"]).item_ids == [["of a"]]
        for tls in (None, alone) if mutual else (None,):
            with Recommender(address, tls=tls, timeout=1) as client:
                with pytest.raises(ServingUnavailable):
                    client.recommend(["a"])
        if not mutual:
            with Recommender(address, tls=alone, timeout=_PATIENT) as client:
                assert client.recommend(["a"]).item_ids == [["of a"]]


@pytest.mark.parametrize("arguments, text", [
    ({"address": "localhost"}, "`address` must be host:port"),
    ({"address": "http://localhost:8501"}, "`address` must be host:port"),
    ({"address": "localhost:99999"}, "`address` must be host:port"),
    ({"timeout": 0}, "`timeout` must be a positive number. .* seconds"),
    ({"max_batch": 0}, "`max_batch` must be a whole number of at least 1"),
    ({"cache": -1}, "`cache` must be a whole number of at least 0"),
    ({"version": 1.5}, "`version` must be a whole number"),
    ({"version": 1, "label": "a"}, "Either `version` or `label`")])
def test_arguments_that_cannot_be(arguments, text):
    with pytest.raises((TypeError, ValueError), match=text):
        Recommender(**{"address": "localhost:1", **arguments})


@pytest.mark.parametrize("roots, text", [
    ("no such file", "`roots` must be a PEM file. Received: .*No such file"),
    (__file__, "which holds no block of one")])
def test_tls_files_that_cannot_be(roots, text):
    with pytest.raises(ValueError, match=text):
        Recommender("localhost:1", tls=TLS(roots))
    with pytest.raises(ValueError, match="must be given together"):
        TLS(certificate="client.pem")


@pytest.mark.parametrize("call, error, text", [
    (lambda c: c.recommend("u"), TypeError, "`users` must be a list of ids"),
    (lambda c: c.recommend([1.0]), TypeError, "`users` .* Received: 1.0"),
    (lambda c: c.recommend([None]), TypeError, "`users` must be a list"),
    (lambda c: c.recommend([True]), TypeError, "`users` must be a list"),
    (lambda c: c.recommend(["u"], exclude=["i"]), TypeError,
     "`exclude` must be a list of lists of ids"),
    (lambda c: c.recommend(["u"], history=[3]), TypeError,
     "`history` must be a list of lists of ids"),
    (lambda c: c.search([5]), TypeError, "`texts` must be a list of texts"),
    (lambda c: c.recommend(["u"], exclude=[]), ValueError,
     "each must have a row .*'users': 1, 'exclude': 0"),
    (lambda c: c.score(["u"], ["i", "j"]), ValueError, "must have a row"),
    (lambda c: c.embed_queries(), ValueError, "Received: none"),
    (lambda c: c.recommend(["u"], k=0), ValueError, "`k` must be a whole"),
    (lambda c: c.request("recommend", user=["u"]), ValueError,
     "An input must be one of .*'user'")])
def test_calls_that_cannot_be(call, error, text):
    with Recommender("localhost:1", timeout=0.1) as client:
        with pytest.raises(error, match=text):
            call(client)


def test_answers_of_another_kind_of_model():
    script = Script()
    with playing(script) as address, \
            Recommender(address, timeout=_PATIENT) as client:
        with pytest.raises(ValueError, match="must answer with `score`"):
            client.score(["a"], ["b"])


def test_many_threads_share_a_client(served, shop_client):
    expected = shop_client.recommend(served.users).item_ids

    def ask(n):
        row = n % len(served.users)
        found = shop_client.recommend(served.users[row:row + 1])
        return found.item_ids == [expected[row]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(100)))
