"""Turns TensorProtos into arrays and back, as TensorFlow Serving does.

`tf.make_ndarray` refuses what the server takes (too many values, strings in
`tensor_content`) and costs ten times as much for a single row.
"""
from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from google.protobuf.internal.decoder import _DecodeVarint32
from google.protobuf.internal.encoder import _VarintBytes
from tensorflow.core.framework import tensor_pb2, types_pb2

from tfrecal.serving.server.errors import ServingError, invalid

# Bytes that a short list of values may be repeated into.
_LARGEST = 1 << 28
_STRING = types_pb2.DT_STRING
# Where each type keeps its values.
_FIELDS = {
    "string_val": ("string",),
    "float_val": ("float32",), "double_val": ("float64",),
    "int_val": ("int32", "int16", "int8", "uint16", "uint8"),
    "int64_val": ("int64",), "uint32_val": ("uint32",),
    "uint64_val": ("uint64",), "bool_val": ("bool",),
    "half_val": ("float16", "bfloat16"),
    "scomplex_val": ("complex64",), "dcomplex_val": ("complex128",)}
_FIELD_OF = {tf.as_dtype(name).as_datatype_enum: field
             for field, names in _FIELDS.items() for name in names}
_NUMPY = {number: np.dtype(tf.as_dtype(number).as_numpy_dtype)
          for number in _FIELD_OF}
_KINDS = {dtype: number for number, dtype in _NUMPY.items()}
# Fields whose entries are not values: type of an entry, entries of a value.
_ENTRIES = {"scomplex_val": (np.float32, 2), "dcomplex_val": (np.float64, 2),
            "half_val": (np.uint16, 1)}
# Packed fields whose bytes are those of the array: their tag in a TensorProto.
_TAGS = {types_pb2.DT_FLOAT: b"\x2a", types_pb2.DT_DOUBLE: b"\x32"}


def from_proto(proto: tensor_pb2.TensorProto, alias: str) -> np.ndarray:
    """Returns the array of a tensor in a request.

    Where there are too few values, the last one is repeated; no values at
    all give zeros or empty strings; of too many, the first ones are taken.

    Args:
        proto: a TensorProto of any type and form.
        alias: the name of the input, for errors.

    Raises:
        ServingError: INVALID_ARGUMENT for an invalid type or shape, for
            `tensor_content` of another length than the shape's, or for a
            short message that asks for a huge tensor.
    """
    kind = proto.dtype
    field = _FIELD_OF.get(kind)
    if field is None:
        raise _unparsable(alias)
    shape = _shape(proto, alias)
    size = math.prod(shape)
    dtype = _NUMPY[kind]
    if proto.tensor_content:
        flat = _from_content(proto.tensor_content, kind, size, alias)
        return flat.reshape(shape)
    values = getattr(proto, field)
    if kind == _STRING:
        flat = np.empty(min(len(values), size), object)
        flat[:] = values[:size]
    elif field in _ENTRIES:
        entry, number = _ENTRIES[field]
        whole = min(len(values) // number, size) * number
        flat = np.array(values[:whole]).astype(entry).view(dtype)
    else:
        flat = np.array(values[:size]).astype(dtype)
    if len(flat) < size:
        flat = _repeated(flat, size, kind, alias)
    return flat.reshape(shape)


def dtype_of(array: np.ndarray) -> int:
    """Returns the number of an array's DataType; objects are strings."""
    return _KINDS.get(array.dtype, types_pb2.DT_INVALID)


def to_proto(array: np.ndarray, proto: tensor_pb2.TensorProto,
             content: bool = False) -> None:
    """Writes an output of the session into an empty TensorProto.

    Args:
        array: a NumPy array; strings are bytes in an object array.
        proto: an empty TensorProto, which is written into.
        content: whether to write into `tensor_content` and not into the
            typed field.
    """
    proto.dtype = kind = dtype_of(array)
    shape = proto.tensor_shape
    for size in array.shape:
        shape.dim.add().size = size
    if content:
        proto.tensor_content = _to_content(array)
        return
    field = _FIELD_OF[kind]
    if kind in _TAGS and array.size > 32:
        data = array.tobytes()
        proto.MergeFromString(_TAGS[kind] + _VarintBytes(len(data)) + data)
        return
    flat = np.ravel(array)
    if field in _ENTRIES:
        flat = flat.view(_ENTRIES[field][0])
    getattr(proto, field).extend(flat.tolist())


def _shape(proto, alias) -> tuple:
    if proto.tensor_shape.unknown_rank:
        return ()
    shape = tuple([dim.size for dim in proto.tensor_shape.dim])
    if min(shape, default=0) < 0 or math.prod(shape) >= 1 << 63:
        raise _unparsable(alias)
    return shape


def _from_content(content, kind, size, alias) -> np.ndarray:
    if kind == _STRING:
        return _strings(content, size, alias)
    if len(content) != size * _NUMPY[kind].itemsize:
        raise _unparsable(alias)
    return np.frombuffer(content, _NUMPY[kind])


def _strings(content: bytes, size: int, alias: str) -> np.ndarray:
    """Reads strings: first all lengths as varints, then all bytes."""
    if size > len(content):
        raise _unparsable(alias)
    lengths, place = [], 0
    try:
        for _ in range(size):
            length, place = _DecodeVarint32(content, place)
            lengths.append(length)
    except Exception as error:  # an IndexError or one of protobuf's own
        raise _unparsable(alias) from error
    if place + sum(lengths) != len(content):
        raise _unparsable(alias)
    flat = np.empty(size, object)
    for n, length in enumerate(lengths):
        flat[n] = content[place:place + length]
        place += length
    return flat


def _to_content(array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    values = np.ravel(array).tolist()
    return b"".join([*(_VarintBytes(len(v)) for v in values), *values])


def _repeated(flat, size, kind, alias) -> np.ndarray:
    if size * _NUMPY[kind].itemsize > _LARGEST:
        raise ServingError(
            invalid("").code, f"tensor parsing error: {alias}: {size} values "
            f"must be sent, or less than {_LARGEST} bytes filled up. "
            f"Received: {len(flat)}.")
    blank = b"" if kind == _STRING else 0
    full = np.full(size, flat[-1] if len(flat) else blank, _NUMPY[kind])
    full[:len(flat)] = flat
    return full


def _unparsable(alias: str) -> ServingError:
    return invalid(f"tensor parsing error: {alias}")
