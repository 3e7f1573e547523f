"""JSON of the REST interface: requests to arrays, arrays to answers."""
from __future__ import annotations

import base64
import codecs
import json

import grpc
import ml_dtypes
import numpy as np
import pytest
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.rest.examples import examples_input
from tfrecal.serving.server.rest.predict import (
    parse_request,
    request_arrays,
    signature_name,
)
from tfrecal.serving.server.rest.tensors import response_json


def inputs(**dtypes):
    return {name: meta_graph_pb2.TensorInfo(
        dtype=types_pb2.DataType.Value(f"DT_{dtype}"))
        for name, dtype in dtypes.items()}


def arrays(body, **dtypes):
    return request_arrays(parse_request(body.encode()), inputs(**dtypes))


def fault(function, *values, **dtypes):
    with pytest.raises(ServingError) as caught:
        function(*values, **dtypes)
    return caught.value


@pytest.mark.parametrize("dtype, text, expected", [
    ("FLOAT", "[1, 2.5, NaN, -Infinity]", [1, 2.5, np.nan, -np.inf]),
    ("DOUBLE", "[[0.1], [3]]", [[0.1], [3]]),
    ("INT64", "[9223372036854775807, -1]", [2 ** 63 - 1, -1]),
    ("INT32", "7", 7), ("UINT8", "[255]", [255]),
    ("BOOL", "[true, false]", [True, False]),
    ("STRING", '["a\\u0000", {"b64": "/w"}, "\\u00e9"]',
     [b"a\0", b"\xff", "é".encode()]),
    ("STRING", "[]", []), ("STRING", "[[], []]", [[], []]),
    ("STRING", '{"b64": "/w=="}', b"\xff")])
def test_column_of_each_dtype(dtype, text, expected):
    found, row = arrays(f'{{"inputs": {text}}} and more', x=dtype)
    assert not row
    kind = object if dtype == "STRING" else dtype.lower().replace(
        "float", "float32").replace("double", "float64")
    assert found["x"].dtype == kind
    expected = np.array(expected, kind)
    assert found["x"].shape == expected.shape
    np.testing.assert_array_equal(found["x"], expected)


def test_rows_become_columns():
    body = json.dumps({"instances": [
        {"user": "a", "history": [1, 2], "x": {"b64": "AA=="}},
        {"history": [3, 4], "user": "b", "x": "c"}]})
    found, row = arrays(body, user="STRING", history="INT64", x="STRING")
    assert row
    assert found["user"].tolist() == [b"a", b"b"]
    assert found["history"].tolist() == [[1, 2], [3, 4]]
    assert found["x"].tolist() == [b"\0", b"c"]
    plain, _ = arrays('{"instances": [[1], [2]]}', x="FLOAT")
    assert plain["x"].tolist() == [[1.0], [2.0]]


def test_bytes_that_are_not_utf8_are_kept():
    content = parse_request(codecs.BOM_UTF8 + b' {"inputs": ["\xff\xe9"]}')
    found, _ = request_arrays(content, inputs(x="STRING"))
    assert found["x"].tolist() == [b"\xff\xe9"]


@pytest.mark.parametrize("dtype, value, kind", [
    ("STRING", "123", "Number"), ("STRING", "null", "Null"),
    ("INT64", "1.0", "Number"), ("INT64", "true", "True"),
    ("INT64", "9223372036854775808", "Number"), ("INT32", "-0.5", "Number"),
    ("UINT8", "256", "Number"), ("FLOAT", '"1"', "String"),
    ("FLOAT", "false", "False"), ("BOOL", "1", "Number"),
    ("FLOAT", '{"b64": "AA=="}', "Object")])
def test_types_are_strict(dtype, value, kind):
    error = fault(arrays, f'{{"inputs": [{value}]}}', x=dtype)
    name = dtype.lower()
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == (f"JSON Value: {value} Type: {kind} is not of "
                             f"expected type: {name}")
    error = fault(arrays, f'{{"instances": [{value}]}}', x=dtype)
    assert error.message.startswith(
        "Failed to process element: 0 of 'instances' list. Error: "
        f"INVALID_ARGUMENT: JSON Value: {value} Type")


@pytest.mark.parametrize("body, message", [
    ("", "JSON Parse error: The document is empty"),
    (" \n", "JSON Parse error: The document is empty"),
    ('{"é": x', "JSON Parse error: Invalid value. at offset: 7"),
    ("[" * 100_000, "JSON Parse error: "),
    ('{"inputs": ' + "9" * 5000 + "}", "JSON Parse error: "),
    ("[1, 2]", "JSON Value: [1, 2] Is not object"),
    ("{}", "Missing 'inputs' or 'instances' key"),
    ('{"inputs": [], "instances": []}', 'JSON Value: {"inputs": [], "insta'
     'nces": []} Not formatted correctly expecting only one of '),
    ('{"instances": 1}', "JSON Value: {\"instances\": 1} Expecting "
     "'instances' to be an list/array"),
    ('{"instances": []}', "JSON Value: {\"instances\": []} No values in "
     "'instances' array"),
    ('{"instances": [1]}', "instances is a plain list, but expecting list "),
    ('{"inputs": [1]}', "inputs is a plain value/list, but expecting an "),
    ('{"inputs": {"a": [1]}}', "Missing named input: b in 'inputs' object."),
    ('{"inputs": {"a": [[1], 2], "b": []}}', "JSON Value: 2 found at "
     "incorrect level: 2 in the JSON DOM. Expected at level: 2"),
    ('{"inputs": {"a": [[1], [2, 3]], "b": []}}', "Encountered list at "
     "unexpected size: 2 at level: 1 expected size: 1"),
    ('{"inputs": {"a": [1, [2]], "b": []}}', "Encountered list at "
     "unexpected level: 1 expected < 1"),
    ('{"inputs": {"a": %s1%s, "b": []}}' % ("[" * 99, "]" * 99),
     "A tensor must have at most 64 dimensions. Received: 99."),
    ('{"inputs": {"a": [16777217], "b": []}}', "Cannot convert JSON value: "
     "16777217 to float without loss of precision."),
    ('{"inputs": {"a": [1e39], "b": []}}', "Cannot convert JSON value: "),
    ('{"inputs": {"a": [], "b": {"b64": "?"}}}', "Unable to base64 decode"),
    ('{"inputs": {"a": [], "b": [{"c": 1}]}}', 'JSON Value: {"c": 1} not '
     "formatted correctly for base64 data"),
    ('{"inputs": {"a": [], "b": "\\ud800"}}', "JSON Parse error: The surrog"),
    ('{"instances": [{"a": 1, "b": "x"}, [2]]}',
     "Expecting object but got list at item 1 of input list"),
    ('{"instances": [{"a": 1}]}', "Failed to process element: 0 of "
     "'instances' list. JSON object: {\"a\": 1} keys must be equal to: a,b"),
    ('{"instances": [{"a": 1, "b": "", "z": 0}]}', "Failed to process "
     "element: 0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON "
     "object: does not have named input: z"),
    ('{"instances": [{"a": 1, "b": ""}, {"a": [1, 2], "b": ""}]}', "Failed "
     "to process element: 1 key: a of 'instances' list. Error: INVALID_ARG"
     "UMENT: Expecting tensor size: 1 but got: 2"),
    ('{"instances": [{"a": [1, 2], "b": ""}, {"a": [[1, 2]], "b": ""}]}',
     "Failed to process element: 1 key: a of 'instances' list. Error: "
     "INVALID_ARGUMENT: Expecting shape [2] but got: [1,2]")])
def test_requests_that_are_refused(body, message):
    error = fault(arrays, body, a="FLOAT", b="STRING")
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message.startswith(message)
    assert len(error.message) < 1000


def test_object_among_plain_rows_and_no_inputs():
    error = fault(arrays, '{"instances": [1, {"x": 1}]}', x="FLOAT")
    assert error.message == ("Expecting value/list but got object at item 1 "
                             "of input list")
    error = fault(arrays, '{"inputs": []}')
    assert error.message == ("Failed to get input map for signature: DEFAULT")


@pytest.mark.parametrize("name", ["1", '"\\ud800"'])
def test_signature_name_is_a_string(name):
    content = parse_request(f'{{"signature_name": {name}}}'.encode())
    assert "'signature_name' key must be a string value." in fault(
        signature_name, content).message


def test_dtypes_that_json_does_not_carry():
    error = fault(arrays, '{"inputs": [1]}', x="HALF")
    assert error.code is grpc.StatusCode.UNIMPLEMENTED
    assert error.message == "Conversion of JSON Value: 1 to type: half"
    assert fault(arrays, '{"instances": [1]}', x="BFLOAT16").code is (
        grpc.StatusCode.INVALID_ARGUMENT)
    for dtype, name in ((np.float16, "half"),
                        (ml_dtypes.bfloat16, "bfloat16")):
        assert fault(response_json, {"y": np.zeros(1, dtype)}, True).message \
            == f"Failed to write JSON value for tensor type: {name}"


def test_answers_of_both_formats():
    one = {"y": np.array([[1, 2], [3, 4]])}
    assert json.loads(response_json(one, True)) == {
        "predictions": [[1, 2], [3, 4]]}
    assert json.loads(response_json({"y": np.float32(2)}, False)) == {
        "outputs": 2.0}
    two = {"ids": np.array([[b"a\0"], [b"b"]], object),
           "raw_bytes": np.array([b"\xff", b""], object)}
    assert json.loads(response_json(two, True)) == {"predictions": [
        {"ids": ["a\0"], "raw_bytes": {"b64": "/w=="}},
        {"ids": ["b"], "raw_bytes": {"b64": ""}}]}
    assert json.loads(response_json(two, False))["outputs"]["ids"] == [
        ["a\0"], ["b"]]
    assert response_json({"y": np.array([b"\xff\xe9"], object)}, False) \
        == b'{\n    "outputs": ["\xff\xe9"]\n}'
    assert json.loads(response_json({"y": np.zeros([0, 3])}, True)) == {
        "predictions": []}


def test_floats_print_short_and_give_the_same_float_again():
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    values[:3] = [0.2, 3, 1e-8]
    text = response_json({"y": values}, False).decode()
    assert "[0.2, 3.0, 1e-08, " in text
    found = np.array(json.loads(text)["outputs"], np.float32)
    assert (found == values).all()
    longest = max(map(len, text[text.index("[") + 1:-3].split(", ")))
    assert longest <= len("-0.0123456789e-05")
    ends = np.array([np.nan, np.inf, -np.inf, 3.4028235e38], np.float32)
    assert b"[NaN, Infinity, -Infinity, 3.40282347e+38]" in response_json(
        {"y": ends}, False)


def test_rows_need_one_batch_size():
    assert fault(response_json, {"n": np.float32(1)}, True).message \
        == "Tensor name: n has no shape information "
    outputs = {"a": np.zeros(2), "b": np.zeros(3)}
    assert "b has inconsistent batch size: 3 expecting: 2" in fault(
        response_json, outputs, True).message
    assert "empty tensor map" in fault(response_json, {}, True).message


def test_examples():
    raw = base64.b64encode(b"\xff").decode()
    found = examples_input({
        "context": {"c": "x"},
        "examples": [{"a": [1, True], "b": 0.5}, {"d": {"b64": raw}}, {}]})
    found = found.example_list_with_context
    assert found.context.features.feature["c"].bytes_list.value == [b"x"]
    first, second, _ = found.examples
    assert first.features.feature["a"].int64_list.value == [1, 1]
    assert first.features.feature["b"].float_list.value == [0.5]
    assert second.features.feature["d"].bytes_list.value == [b"\xff"]


@pytest.mark.parametrize("content, message", [
    ({}, "When method is classify, key 'examples' is expected and was not"),
    ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
    ({"examples": []}, "'examples' value is an empty array"),
    ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
    ({"examples": [{"a": None}]}, "unexpected JSON type: Null"),
    ({"examples": [{"a": [[1]]}]}, "unexpected JSON type: Array"),
    ({"examples": [{"a": [1, 0.5]}]}, "Unexpected element type in feature"),
    ({"examples": [{"a": 2 ** 63}]}, "has uint64 element"),
    ({"examples": [{"a": 1e39}]}, "without loss of precision"),
    ({"examples": [{"\ud800": 1}]}, "must be UTF-8")])
def test_examples_that_are_refused(content, message):
    assert message in fault(examples_input, content).message
