"""JSON of TensorFlow Serving's REST interface, from and to arrays."""
from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf

from tfrecal.serving.errors import ServingError

# Of a value in an error message: the body may hold 100 MB.
_SHOWN = 500
_JSON_TYPES = {type(None): "Null", bool: "Bool", dict: "Object",
               list: "Array", str: "String", int: "Number", float: "Number"}
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")


def parse_request(body: bytes) -> dict:
    """The JSON object that a body starts with.

    Text after it is ignored. Strings that are not UTF-8 keep their bytes
    (as surrogate escapes), since ids are byte strings.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no object.
    """
    text = body.decode("utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise _invalid("JSON Parse error: The document is empty")
    try:
        request, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        offset = len(text[:error.pos].encode("utf-8", "surrogateescape"))
        raise _invalid("JSON Parse error: Invalid value. "
                       f"at offset: {offset}") from error
    except (ValueError, RecursionError) as error:
        # A number of more than 4,300 digits, a thousand lists in lists.
        raise _invalid(f"JSON Parse error: {error}. "
                       f"at offset: {start}") from error
    if not isinstance(request, dict):
        raise _invalid(f"JSON Value: {_shown(request)} Is not object")
    return request


def signature_name(request: dict) -> str:
    """The request's `signature_name`, "" where it has none."""
    name = request.get("signature_name", "")
    # A lone surrogate is no text: the name of no signature.
    if not isinstance(name, str) or not _is_text(name):
        raise _invalid(
            f"JSON Value: {_shown(request)} not formatted correctly. "
            "'signature_name' key must be a string value.")
    return name


def request_arrays(request: dict, inputs: Mapping
                   ) -> tuple[dict[str, np.ndarray], bool]:
    """Arrays of a predict request.

    Args:
        request: as `parse_request` returns it.
        inputs: name to TensorInfo, of the signature.

    Returns:
        Name to array (strings as bytes objects), and whether the request
        has the row format, in which the answer then is given.
    Raises:
        ServingError: INVALID_ARGUMENT; UNIMPLEMENTED for a dtype that JSON
            does not carry.
    """
    if not inputs:
        raise _invalid("Failed to get input map for signature: "
                       f"{signature_name(request) or 'DEFAULT'}")
    dtypes = {name: tf.as_dtype(info.dtype) for name, info in inputs.items()}
    if "instances" not in request:
        if "inputs" not in request:
            raise _invalid("Missing 'inputs' or 'instances' key")
        return _columns(request["inputs"], dtypes), False
    rows = request["instances"]
    if "inputs" in request:
        fault = ("Not formatted correctly expecting only one of 'inputs' or "
                 "'instances' keys to exist ")
    elif not isinstance(rows, list):
        fault = "Expecting 'instances' to be an list/array"
    elif not rows:
        fault = "No values in 'instances' array"
    else:
        return _rows(rows, dtypes), True
    raise _invalid(f"JSON Value: {_shown(request)} {fault}")


def _columns(value, dtypes: Mapping) -> dict[str, np.ndarray]:
    if _is_object(value):
        for name in dtypes:
            if name not in value:
                raise _invalid(
                    f"Missing named input: {name} in 'inputs' object.")
        return {name: _array(value[name], dtype)
                for name, dtype in dtypes.items()}
    if len(dtypes) > 1:
        raise _invalid(
            "inputs is a plain value/list, but expecting an object as "
            "multiple input tensors required as per tensorinfo_map")
    (name, dtype), = dtypes.items()
    return {name: _array(value, dtype)}


def _rows(rows: list, dtypes: Mapping) -> dict[str, np.ndarray]:
    objects = _is_object(rows[0])
    if not objects and len(dtypes) > 1:
        raise _invalid(
            "instances is a plain list, but expecting list of objects as "
            "multiple input tensors required as per tensorinfo_map")
    for number, row in enumerate(rows):
        if _is_object(row) != objects:
            mix = ("object but got list" if objects
                   else "value/list but got object")
            raise _invalid(
                f"Expecting {mix} at item {number} of input list")
    if not objects:
        (_, dtype), = dtypes.items()
        return {name: _stacked(rows, dtype, "") for name in dtypes}
    for number, row in enumerate(rows):
        if row.keys() != dtypes.keys():
            raise _wrong_keys(number, row, dtypes)
    return {name: _stacked([row[name] for row in rows], dtype,
                           f" key: {name}")
            for name, dtype in dtypes.items()}


def _wrong_keys(number: int, row: dict, dtypes: Mapping) -> ServingError:
    extra = [name for name in row if name not in dtypes]
    if extra:
        return _invalid(
            f"Failed to process element: {number} key: {extra[0]} of "
            "'instances' list. Error: INVALID_ARGUMENT: JSON object: does "
            f"not have named input: {extra[0]}")
    return _invalid(
        f"Failed to process element: {number} of 'instances' list. JSON "
        f"object: {_shown(row)} keys must be equal to: "
        f"{','.join(sorted(dtypes))}")


def _stacked(items: list, dtype: tf.DType, key: str) -> np.ndarray:
    """One array of all rows; on failure it says which row is at fault."""
    try:
        return _array(items, dtype)
    except ServingError:
        first = None
        for number, item in enumerate(items):
            try:
                array = _array(item, dtype)
                first = array if first is None else first
                _check_equal_shapes(first, array)
            except ServingError as error:
                raise _invalid(
                    f"Failed to process element: {number}{key} of "
                    f"'instances' list. Error: {error.code.name}: "
                    f"{error.message}") from None
        raise


def _check_equal_shapes(first: np.ndarray, array: np.ndarray) -> None:
    if array.size != first.size:
        raise _invalid(f"Expecting tensor size: {first.size} but got: "
                       f"{array.size}")
    if array.shape != first.shape:
        shapes = [str(list(a.shape)).replace(" ", "")
                  for a in (first, array)]
        raise _invalid(f"Expecting shape {shapes[0]} but got: {shapes[1]}")


def _array(value, dtype: tf.DType) -> np.ndarray:
    shape = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        if not probe:
            break
        probe = probe[0]
    level = [value]
    for depth, size in enumerate(shape):
        for item in level:
            if not isinstance(item, list):
                raise _invalid(
                    f"JSON Value: {_shown(item)} found at incorrect level: "
                    f"{depth + 1} in the JSON DOM. Expected at level: "
                    f"{len(shape)}")
            if len(item) != size:
                raise _invalid(
                    f"Encountered list at unexpected size: {len(item)} at "
                    f"level: {depth} expected size: {size}")
        level = list(itertools.chain.from_iterable(level))
    if any(isinstance(item, list) for item in level):
        raise _invalid(f"Encountered list at unexpected level: {len(shape)} "
                       f"expected < {len(shape)}")
    return _typed(level, dtype).reshape(shape)


def _typed(values: list, dtype: tf.DType) -> np.ndarray:
    """Values of exactly the JSON type that belongs to the dtype."""
    types = set(map(type, values))
    if dtype == tf.string:
        _check_types(values, types, {str, dict}, dtype)
        strings = np.empty(len(values), object)
        strings[:] = [_string(value) for value in values]
        return strings
    if dtype == tf.bool:
        _check_types(values, types, {bool}, dtype)
    elif dtype in (tf.float32, tf.float64):
        _check_types(values, types, {int, float}, dtype)
        _check_lossless(values, dtype)
    elif dtype.name in _INTEGERS:
        _check_types(values, types, {int}, dtype)
        for value in values:
            if not dtype.min <= value <= dtype.max:
                raise _wrong_type(value, dtype)
    else:
        first = _shown(values[0]) if values else "[]"
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"Conversion of JSON Value: {first} to type: {dtype.name}")
    return np.array(values, dtype.as_numpy_dtype)


def _check_types(values: list, types: set, allowed: set, dtype) -> None:
    if not types <= allowed:
        raise _wrong_type(
            next(v for v in values if type(v) not in allowed), dtype)


def _check_lossless(values: list, dtype: tf.DType) -> None:
    largest_int = 2 ** (np.finfo(dtype.as_numpy_dtype).nmant + 1) - 1
    for value in values:
        if isinstance(value, int):
            lossless = abs(value) <= largest_int
        else:
            lossless = (abs(value) <= dtype.max or value != value
                        or abs(value) == float("inf"))
        if not lossless:
            name = "float" if dtype == tf.float32 else "double"
            raise _invalid(f"Cannot convert JSON value: {_shown(value)} to "
                           f"{name} without loss of precision.")


def _string(value: str | dict) -> bytes:
    if isinstance(value, dict):
        if _is_object(value):
            raise _invalid(f"JSON Value: {_shown(value)} not formatted "
                           "correctly for base64 data")
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise _invalid("Unable to base64 decode") from error
    if not _is_text(value):
        raise _invalid("JSON Parse error: The surrogate pair in string is "
                       "invalid.")
    return value.encode("utf-8", "surrogateescape")


def response_json(outputs: Mapping[str, np.ndarray], row: bool) -> bytes:
    """The answer to a predict request, in the request's format.

    Strings are written as they are, even where they are not UTF-8; those
    of an output whose name ends in `_bytes` as base64. A float has the
    digits that give the same float again.

    Raises:
        ServingError: INVALID_ARGUMENT for a dtype that JSON does not carry,
            and in the row format for outputs of unequal batch size.
    """
    if not outputs:
        raise _invalid("Cannot convert empty tensor map to JSON")
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
    text = json.dumps(body, ensure_ascii=False)
    key = "predictions" if row else "outputs"
    return f'{{\n    "{key}": {text}\n}}'.encode("utf-8", "surrogateescape")


def error_json(message: str) -> bytes:
    """The body of every answer that is an error; ASCII."""
    return f'{{\n    "error": {json.dumps(message)}\n}}'.encode()


def _check_batch_sizes(outputs: Mapping[str, np.ndarray]) -> None:
    batch_size = None
    for name, array in outputs.items():
        shape = np.shape(array)
        if not shape:
            raise _invalid(
                f"Tensor name: {name} has no shape information ")
        if batch_size not in (None, shape[0]):
            raise _invalid(
                f"Tensor name: {name} has inconsistent batch size: "
                f"{shape[0]} expecting: {batch_size}")
        batch_size = shape[0]


def _plain(array: np.ndarray, name: str):
    """Nested lists of what `json` writes."""
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
    raise _invalid("Failed to write JSON value for tensor type: "
                   f"{tf.as_dtype(array.dtype).name}")


def _short_decimals(array: np.ndarray) -> np.ndarray:
    """float64 that print with six digits where these give the same float32.

    Printed as they are, all float32 would have noise: 0.2 would be
    0.20000000298023224.
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


def _is_object(value) -> bool:
    """A JSON object that is not the base64 form of a string."""
    return isinstance(value, dict) and not (
        len(value) == 1 and isinstance(value.get("b64"), str))


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _shown(value) -> str:
    """The beginning of a value, for a message."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _wrong_type(value, dtype: tf.DType) -> ServingError:
    # TensorFlow Serving has the C++ names of types in this message.
    name = {"float32": "float", "float64": "double"}.get(
        dtype.name, dtype.name)
    return _invalid(f"JSON Value: {_shown(value)} Type: "
                    f"{_JSON_TYPES[type(value)]} is not of expected type: "
                    f"{name}")


def _invalid(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)
