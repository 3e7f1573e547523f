"""Messages and tensors of TensorFlow Serving, without TensorFlow.

The classes of `tensorflow_serving.apis` import TensorFlow, four seconds at a
client's start. These hold the same fields under the same numbers, as far as
Predict needs them, in a descriptor pool of their own, so that both can be
loaded in one process.
"""
from __future__ import annotations

import math

import numpy as np
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    wrappers_pb2,
)

FLOAT, INT32, STRING = 1, 3, 7
_TYPES = {"DT_INVALID": 0, "DT_FLOAT": FLOAT, "DT_INT32": INT32,
          "DT_STRING": STRING}
# Package -> message -> field -> (number, type). A * marks a list, {} a map
# from strings.
_MESSAGES = {
    "tensorflow": {
        "Dim": {"size": (1, "int64")},
        "TensorShapeProto": {"dim": (2, "*.tensorflow.Dim")},
        "TensorProto": {
            "dtype": (1, "enum"),
            "tensor_shape": (2, ".tensorflow.TensorShapeProto"),
            "tensor_content": (4, "bytes"),
            "float_val": (5, "*float"),
            "int_val": (7, "*int32"),
            "string_val": (8, "*bytes")}},
    "tensorflow.serving": {
        "ModelSpec": {
            "name": (1, "string"),
            "version": (2, ".google.protobuf.Int64Value"),
            "signature_name": (3, "string"),
            "version_label": (4, "string")},
        "PredictRequest": {
            "model_spec": (1, ".tensorflow.serving.ModelSpec"),
            "inputs": (2, "{}.tensorflow.TensorProto"),
            "output_filter": (3, "*string")},
        "PredictResponse": {
            "outputs": (1, "{}.tensorflow.TensorProto"),
            "model_spec": (2, ".tensorflow.serving.ModelSpec")}}}


def write_strings(values: list[bytes], tensor) -> None:
    """Writes a row for each value.

    Args:
        values: the values of a batch.
        tensor: an empty TensorProto, which is written into.
    """
    tensor.dtype = STRING
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.string_val.extend(values)


def write_lists(rows: list[tuple[bytes, ...]], width: int, tensor) -> None:
    """Writes a row for each list, with empty strings after shorter lists.

    Args:
        rows: the lists of a batch.
        width: length of a row, at least that of the longest list.
        tensor: an empty TensorProto, which is written into.
    """
    tensor.dtype = STRING
    tensor.tensor_shape.dim.add(size=len(rows))
    tensor.tensor_shape.dim.add(size=width)
    for row in rows:
        tensor.string_val.extend(row)
        tensor.string_val.extend([b""] * (width - len(row)))


def write_ids(rows: list[list[int]], tensor, shape: tuple[int, ...]
              ) -> None:
    """Writes a row for each list of token ids, with -1 after shorter lists.

    Args:
        rows: the lists of a batch.
        tensor: an empty TensorProto, which is written into.
        shape: of the lists, `(rows,)` or `(rows, lists of a row)`.
    """
    width = max(map(len, rows), default=0)
    tensor.dtype = INT32
    for size in (*shape, width):
        tensor.tensor_shape.dim.add(size=size)
    for row in rows:
        tensor.int_val.extend(row)
        tensor.int_val.extend([-1] * (width - len(row)))


def read(tensor) -> np.ndarray:
    """Reads an array of an answer: float32, int32, or bytes as objects.

    Args:
        tensor: a TensorProto with typed fields, which TensorFlow Serving
            sends, or with `tensor_content`.

    Raises:
        ValueError: the tensor has another type, or not as many values as
            its shape says.
    """
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == FLOAT:
        values = np.frombuffer(tensor.tensor_content, "<f4") \
            if tensor.tensor_content else np.array(tensor.float_val, "f4")
        return values.reshape(shape)
    if tensor.dtype == INT32:
        values = np.frombuffer(tensor.tensor_content, "<i4") \
            if tensor.tensor_content else np.array(tensor.int_val, "i4")
        return values.reshape(shape)
    if tensor.dtype != STRING:
        raise ValueError("A tensor must hold strings, float32 or int32. "
                         f"Received: dtype={tensor.dtype}.")
    found = tensor.string_val[:] or _strings(
        tensor.tensor_content, math.prod(shape))
    values = np.empty(len(found), object)
    values[:] = found
    return values.reshape(shape)


def _strings(content: bytes, number: int) -> list[bytes]:
    """Reads strings: first all lengths as varints, then all bytes."""
    place, lengths = 0, []
    for _ in range(number):
        length = shift = 0
        while True:
            if place == len(content):
                raise ValueError(f"A tensor must hold {number} strings. "
                                 f"Received: {len(lengths)}.")
            byte = content[place]
            place += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        lengths.append(length)
    if place + sum(lengths) != len(content):
        raise ValueError(f"A tensor's strings must have {sum(lengths)} "
                         f"bytes. Received: {len(content) - place}.")
    found = []
    for length in lengths:
        found.append(content[place:place + length])
        place += length
    return found


def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    pool.Add(wrappers)
    before = wrappers.name
    for package, messages in _MESSAGES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"tfrecal/{package}.proto", package=package,
            syntax="proto3", dependency=[before],
            public_dependency=[0])
        if package == "tensorflow":
            enum = file.enum_type.add(name="DataType")
            for name, number in _TYPES.items():
                enum.value.add(name=name, number=number)
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for field, (number, kind) in fields.items():
                if kind.startswith("{}"):
                    kind = _add_entry(message, field, kind[2:],
                                      f".{package}.{name}")
                _add_field(message, field, number, kind)
        pool.Add(file)
        before = file.name
    return pool


def _add_entry(message, field: str, kind: str, name: str) -> str:
    """Adds the entry message of a map; returns the type of its field."""
    entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "string")
    _add_field(entry, "value", 2, kind)
    return f"*{name}.{entry.name}"


def _add_field(message, name: str, number: int, kind: str) -> None:
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.startswith("*") \
        else field.LABEL_OPTIONAL
    kind = kind.lstrip("*")
    if kind == "enum":
        field.type, field.type_name = field.TYPE_ENUM, ".tensorflow.DataType"
    elif kind.startswith("."):
        field.type, field.type_name = field.TYPE_MESSAGE, kind
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")


_POOL = _pool()
TensorProto, PredictRequest, PredictResponse = (
    message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))
    for name in ("tensorflow.TensorProto",
                 "tensorflow.serving.PredictRequest",
                 "tensorflow.serving.PredictResponse"))
