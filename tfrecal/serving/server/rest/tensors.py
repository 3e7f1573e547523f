"""Turns JSON of TensorFlow Serving's REST interface into arrays and back."""
from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf

from tfrecal.serving.server.errors import ServingError, invalid

# Characters of a value in an error message: the body may hold 100 MB.
_SHOWN = 500
# NumPy's limit.
_MAX_RANK = 64
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")


def array_of(value, dtype: tf.DType) -> np.ndarray:
    """Returns the array of a JSON value, strings as bytes in an object array.

    Raises:
        ServingError: INVALID_ARGUMENT unless all lists of a level are
            equally long and each value has the JSON type that belongs to
            the dtype; UNIMPLEMENTED for a dtype that JSON does not carry.
    """
    shape = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        if not probe:
            break
        probe = probe[0]
    if len(shape) > _MAX_RANK:
        raise invalid(f"A tensor must have at most {_MAX_RANK} dimensions. "
                      f"Received: {len(shape)}.")
    level = [value]
    for depth, size in enumerate(shape):
        for item in level:
            if not isinstance(item, list):
                raise invalid(
                    f"JSON Value: {shown(item)} found at incorrect level: "
                    f"{depth + 1} in the JSON DOM. Expected at level: "
                    f"{len(shape)}")
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at "
                    f"level: {depth} expected size: {size}")
        level = list(itertools.chain.from_iterable(level))
    if any(isinstance(item, list) for item in level):
        raise invalid(f"Encountered list at unexpected level: {len(shape)} "
                      f"expected < {len(shape)}")
    return _typed(level, dtype).reshape(shape)


def _typed(values: list, dtype: tf.DType) -> np.ndarray:
    """Returns an array of values that all have the dtype's JSON type."""
    types = set(map(type, values))
    if dtype == tf.string:
        _check_types(values, types, {str, dict}, dtype)
        strings = np.empty(len(values), object)
        strings[:] = [string_of(value) for value in values]
        return strings
    if dtype == tf.bool:
        _check_types(values, types, {bool}, dtype)
    elif dtype in (tf.float32, tf.float64):
        _check_types(values, types, {int, float}, dtype)
        _check_lossless(values, dtype)
    elif dtype.name in _INTEGERS:
        _check_types(values, types, {int}, dtype)
        least, most = dtype.min, dtype.max
        for value in values:
            if not least <= value <= most:
                raise _wrong_type(value, dtype)
    else:
        first = shown(values[0]) if values else "[]"
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {first} to type: {_name(dtype)}")
    return np.array(values, dtype.as_numpy_dtype)


def _check_types(values: list, types: set, allowed: set, dtype) -> None:
    if not types <= allowed:
        raise _wrong_type(
            next(v for v in values if type(v) not in allowed), dtype)


def _check_lossless(values: list, dtype: tf.DType) -> None:
    limits = np.finfo(dtype.as_numpy_dtype)
    largest = {int: 2 ** (limits.nmant + 1) - 1, float: float(limits.max)}
    for value in values:
        if largest[type(value)] < abs(value) < math.inf:
            raise invalid(f"Cannot convert JSON value: {shown(value)} to "
                          f"{_name(dtype)} without loss of precision.")


def string_of(value: str | dict) -> bytes:
    """Returns the bytes of a JSON string or of its base64 form."""
    if isinstance(value, dict):
        if is_object(value):
            raise invalid(f"JSON Value: {shown(value)} not formatted "
                          "correctly for base64 data")
        text = value["b64"]
        padding = "=" * (-len(text) % 4)
        try:
            return base64.b64decode(text + padding, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid("Unable to base64 decode") from error
    if not is_text(value):
        raise invalid("JSON Parse error: The surrogate pair in string is "
                      "invalid.")
    return value.encode("utf-8", "surrogateescape")


def response_json(outputs: Mapping[str, np.ndarray], row: bool) -> bytes:
    """Writes the answer to a predict request, in the request's format.

    Strings are written as they are, even where they are not UTF-8; strings
    of an output whose name ends in `_bytes` are written as base64. A float
    has the digits that give the same float again.

    Raises:
        ServingError: INVALID_ARGUMENT for a dtype that JSON does not carry,
            and in the row format for outputs of unequal batch size.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if row:
        _check_batch_sizes(outputs)
    values = {name: _plain(np.asarray(array), name)
              for name, array in outputs.items()}
    if len(values) == 1:
        body, = values.values()
    elif row:
        body = [dict(zip(values, items)) for items in zip(*values.values())]
    else:
        body = values
    return dump("predictions" if row else "outputs", body)


def dump(key: str, value) -> bytes:
    """Writes a JSON object of one key; strings may hold surrogate bytes."""
    text = json.dumps(value, ensure_ascii=False)
    return f'{{\n    "{key}": {text}\n}}'.encode("utf-8", "surrogateescape")


def decimal(value: float) -> float:
    """Returns a float32 as the float that prints without noise."""
    return _short_decimals(np.array(value, np.float32)).item()


def _check_batch_sizes(outputs: Mapping[str, np.ndarray]) -> None:
    batch_size = None
    for name, array in outputs.items():
        shape = np.shape(array)
        if not shape:
            raise invalid(
                f"Tensor name: {name} has no shape information ")
        if batch_size not in (None, shape[0]):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: "
                f"{shape[0]} expecting: {batch_size}")
        batch_size = shape[0]


def _plain(array: np.ndarray, name: str):
    """Returns an array as nested lists that `json` can write."""
    if array.dtype == np.float32:
        return _short_decimals(array).tolist()
    if array.dtype.kind in "OSU":
        texts = np.empty(array.shape, object)
        texts.flat = [_text(value, name.endswith("_bytes"))
                      for value in array.flat]
        return texts.tolist()
    if array.dtype in (np.bool_, np.float64) or (
            array.dtype.name in _INTEGERS):
        return array.tolist()
    raise invalid("Failed to write JSON value for tensor type: "
                  f"{_name(tf.as_dtype(array.dtype))}")


def _short_decimals(array: np.ndarray) -> np.ndarray:
    """Returns float64 with six digits where these give the same float32.

    A float32 printed as it is has noise: 0.2 would be 0.20000000298023224.
    """
    values = array.ravel().tolist()
    short = np.array([float(f"{value:.6g}") for value in values])
    full = np.array([float(f"{value:.9g}") for value in values])
    with np.errstate(over="ignore"):
        exact = short.astype(np.float32) == array.ravel()
    return np.where(exact, short, full).reshape(array.shape)


def _text(value: bytes | str, as_base64: bool):
    value = value.encode() if isinstance(value, str) else bytes(value)
    if as_base64:
        return {"b64": base64.b64encode(value).decode("ascii")}
    return value.decode("utf-8", "surrogateescape")


def is_object(value) -> bool:
    """Whether a value is a JSON object, other than a string in base64."""
    return isinstance(value, dict) and not (
        len(value) == 1 and isinstance(value.get("b64"), str))


def is_text(value: str, surrogates: str = "surrogateescape") -> bool:
    """Whether a text has no lone surrogate except those that are bytes."""
    try:
        value.encode("utf-8", surrogates)
    except UnicodeEncodeError:
        return False
    return True


def shown(value) -> str:
    """Returns the beginning of a value, for a message."""
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "(lists in lists)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def json_type(value) -> str:
    """Returns the name that RapidJSON has for the type of a value."""
    if isinstance(value, bool):
        return str(value)
    return {dict: "Object", list: "Array", str: "String", int: "Number",
            float: "Number"}.get(type(value), "Null")


def _wrong_type(value, dtype: tf.DType) -> ServingError:
    return invalid(f"JSON Value: {shown(value)} Type: "
                   f"{json_type(value)} is not of expected type: "
                   f"{_name(dtype)}")


def _name(dtype: tf.DType) -> str:
    """Returns the name that a dtype has in TensorFlow's C++."""
    names = {"float32": "float", "float64": "double", "float16": "half"}
    return names.get(dtype.name, dtype.name)
