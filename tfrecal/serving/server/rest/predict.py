"""Predict requests of TensorFlow Serving's REST interface."""
from __future__ import annotations

import codecs
import json
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrecal.serving.server.errors import ServingError, invalid
from tfrecal.serving.server.rest.tensors import (
    array_of,
    is_object,
    is_text,
    shown,
)


def parse_request(body: bytes) -> dict:
    """Reads the JSON object that a body starts with.

    Text after it is ignored. Strings that are not UTF-8 keep their bytes
    (as surrogate escapes), since ids are byte strings.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no object.
    """
    text = body.removeprefix(codecs.BOM_UTF8).decode(
        "utf-8", "surrogateescape")
    start = len(text) - len(text.lstrip(" \t\r\n"))
    if start == len(text):
        raise invalid("JSON Parse error: The document is empty")
    try:
        request, _ = json.JSONDecoder().raw_decode(text, start)
    except json.JSONDecodeError as error:
        offset = len(text[:error.pos].encode("utf-8", "surrogateescape"))
        raise invalid("JSON Parse error: Invalid value. "
                      f"at offset: {offset}") from error
    except (ValueError, RecursionError) as error:
        # A number of more than 4,300 digits, a thousand lists in lists.
        raise invalid(f"JSON Parse error: {error}. "
                      f"at offset: {start}") from error
    if not isinstance(request, dict):
        raise invalid(f"JSON Value: {shown(request)} Is not object")
    return request


def signature_name(request: dict) -> str:
    """Returns the request's `signature_name`, "" where it has none."""
    name = request.get("signature_name", "")
    if not isinstance(name, str) or not is_text(name, "strict"):
        raise invalid(
            f"JSON Value: {shown(request)} not formatted correctly. "
            "'signature_name' key must be a string value.")
    return name


def request_arrays(request: dict, inputs: Mapping
                   ) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the arrays of a predict request.

    Args:
        request: what `parse_request` returned.
        inputs: the signature's inputs, name -> TensorInfo.

    Returns:
        Name -> array (strings as bytes objects), and whether the request
        has the row format, which the answer then has too.

    Raises:
        ServingError: INVALID_ARGUMENT; UNIMPLEMENTED for a dtype that JSON
            does not carry.
    """
    if not inputs:
        raise invalid("Failed to get input map for signature: "
                      f"{signature_name(request) or 'DEFAULT'}")
    dtypes = {name: tf.as_dtype(info.dtype) for name, info in inputs.items()}
    if "instances" not in request:
        if "inputs" not in request:
            raise invalid("Missing 'inputs' or 'instances' key")
        return _arrays_of_columns(request["inputs"], dtypes), False
    rows = request["instances"]
    if "inputs" in request:
        fault = ("Not formatted correctly expecting only one of 'inputs' or "
                 "'instances' keys to exist ")
    elif not isinstance(rows, list):
        fault = "Expecting 'instances' to be an list/array"
    elif not rows:
        fault = "No values in 'instances' array"
    else:
        return _arrays_of_rows(rows, dtypes), True
    raise invalid(f"JSON Value: {shown(request)} {fault}")


def _arrays_of_columns(value, dtypes: Mapping) -> dict[str, np.ndarray]:
    if is_object(value):
        for name in dtypes:
            if name not in value:
                raise invalid(
                    f"Missing named input: {name} in 'inputs' object.")
        return {name: array_of(value[name], dtype)
                for name, dtype in dtypes.items()}
    if len(dtypes) > 1:
        raise invalid(
            "inputs is a plain value/list, but expecting an object as "
            "multiple input tensors required as per tensorinfo_map")
    (name, dtype), = dtypes.items()
    return {name: array_of(value, dtype)}


def _arrays_of_rows(rows: list, dtypes: Mapping) -> dict[str, np.ndarray]:
    objects = is_object(rows[0])
    if not objects and len(dtypes) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as "
            "multiple input tensors required as per tensorinfo_map")
    for number, row in enumerate(rows):
        if is_object(row) != objects:
            mix = ("object but got list" if objects
                   else "value/list but got object")
            raise invalid(
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
        return invalid(
            f"Failed to process element: {number} key: {extra[0]} of "
            "'instances' list. Error: INVALID_ARGUMENT: JSON object: does "
            f"not have named input: {extra[0]}")
    return invalid(
        f"Failed to process element: {number} of 'instances' list. JSON "
        f"object: {shown(row)} keys must be equal to: "
        f"{','.join(sorted(dtypes))}")


def _stacked(items: list, dtype: tf.DType, key: str) -> np.ndarray:
    """Returns one array of all rows; an error names the row at fault."""
    try:
        return array_of(items, dtype)
    except ServingError:
        first = None
        for number, item in enumerate(items):
            try:
                array = array_of(item, dtype)
                first = array if first is None else first
                _check_equal_shapes(first, array)
            except ServingError as error:
                raise invalid(
                    f"Failed to process element: {number}{key} of "
                    f"'instances' list. Error: {error.code.name}: "
                    f"{error.message}") from None
        raise


def _check_equal_shapes(first: np.ndarray, array: np.ndarray) -> None:
    if array.size != first.size:
        raise invalid(f"Expecting tensor size: {first.size} but got: "
                      f"{array.size}")
    if array.shape != first.shape:
        shapes = [str(list(a.shape)).replace(" ", "")
                  for a in (first, array)]
        raise invalid(f"Expecting shape {shapes[0]} but got: {shapes[1]}")
