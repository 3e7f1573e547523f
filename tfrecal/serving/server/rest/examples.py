"""Classify and regress requests of TensorFlow Serving's REST interface."""
from __future__ import annotations

import math

from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    regression_pb2,
)

from tfrecal.serving.server.errors import invalid
from tfrecal.serving.server.rest.tensors import (
    decimal,
    dump,
    json_type,
    shown,
    string_of,
)

_INT64 = range(-2 ** 63, 2 ** 63)
_CONVERT = {"bytes": string_of, "int64": int, "float": float}
_FLOAT_MAX = 3.4028234663852886e38


def examples_input(request: dict) -> input_pb2.Input:
    """Reads the examples and the context of a request.

    Raises:
        ServingError: INVALID_ARGUMENT if the request holds no examples.
    """
    found = input_pb2.Input()
    target = found.example_list
    if "context" in request:
        target = found.example_list_with_context
        _fill(target.context, request["context"])
    examples = request.get("examples")
    if "examples" not in request:
        fault = ("When method is classify, key 'examples' is expected and "
                 "was not found")
    elif not isinstance(examples, list):
        fault = "Expecting 'examples' value to be an list/array"
    elif not examples:
        fault = "'examples' value is an empty array"
    else:
        for example in examples:
            _fill(target.examples.add(), example)
        return found
    raise invalid(f"JSON Value: {shown(request)} {fault}")


def classification_json(
        result: classification_pb2.ClassificationResult) -> bytes:
    """Returns `[[label, score], ...]` for each example, as JSON."""
    return dump("results", [
        [[entry.label, decimal(entry.score)] for entry in part.classes]
        for part in result.classifications])


def regression_json(result: regression_pb2.RegressionResult) -> bytes:
    """Returns one number for each example, as JSON."""
    return dump("results", [decimal(part.value)
                            for part in result.regressions])


def _fill(example: example_pb2.Example, content) -> None:
    if not isinstance(content, dict):
        raise invalid("Example must be JSON object but got JSON "
                      f"{json_type(content)}")
    for name, values in content.items():
        values = values if isinstance(values, list) else [values]
        kinds = {_kind(name, value) for value in values}
        if len(kinds) > 1:
            raise invalid(f"Unexpected element type in feature: {name} "
                          f"expecting type: {_kind(name, values[0])}")
        try:
            feature = example.features.feature[name]
        except UnicodeEncodeError as error:
            raise invalid("The name of a feature must be UTF-8. Received: "
                          f"{name!r}.") from error
        for kind in kinds:
            getattr(feature, f"{kind}_list").value.extend(
                map(_CONVERT[kind], values))


def _kind(name: str, value) -> str:
    if isinstance(value, str) or (
            isinstance(value, dict) and value.keys() == {"b64"}):
        return "bytes"
    if isinstance(value, int):
        if value not in _INT64:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 "
                          "is supported.")
        return "int64"
    if isinstance(value, float):
        if _FLOAT_MAX < abs(value) < math.inf:
            raise invalid(f"Cannot convert JSON value: {value} to float "
                          "without loss of precision.")
        return "float"
    raise invalid(f"Feature: {name} has element with unexpected JSON type: "
                  f"{json_type(value)}")
