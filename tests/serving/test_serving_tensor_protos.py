"""Tensors of requests, read as leniently as TensorFlow reads them."""
from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from tfrecal.serving.server.errors import ServingError
from tfrecal.serving.server.tensor_protos import from_proto, to_proto

NUMBERS = ["float16", "bfloat16", "float32", "float64", "int8", "uint8",
           "int16", "uint16", "int32", "int64", "uint32", "uint64", "bool",
           "complex64", "complex128"]


def tensor(dtype, shape, **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("name", NUMBERS)
def test_every_type_of_number_comes_back(name, content):
    array = np.arange(80).reshape(2, 40) % 7
    array = array.astype(tf.as_dtype(name).as_numpy_dtype)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto, content)
    assert bool(proto.tensor_content) == content
    np.testing.assert_array_equal(tf.make_ndarray(proto), array)
    for sent in (proto, tf.make_tensor_proto(array)):
        found = from_proto(sent, "x")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_strings_in_tensor_content_come_back():
    array = np.array([[b"a", b""], [b"\xff\x00", b"x" * 300]], object)
    proto = tensor_pb2.TensorProto()
    to_proto(array, proto, content=True)
    assert from_proto(proto, "x").tolist() == array.tolist()
    to_proto(array, proto := tensor_pb2.TensorProto())
    assert list(proto.string_val) == array.ravel().tolist()
    assert from_proto(proto, "x").tolist() == array.tolist()


@pytest.mark.parametrize("proto, wanted", [
    (tensor(types_pb2.DT_FLOAT, [3], float_val=[1, 2]), [1, 2, 2]),
    (tensor(types_pb2.DT_FLOAT, [2], float_val=[1, 2, 3]), [1, 2]),
    (tensor(types_pb2.DT_FLOAT, [2], int_val=[1, 2]), [0, 0]),
    (tensor(types_pb2.DT_INT8, [2], int_val=[1, 300]), [1, 44]),
    (tensor(types_pb2.DT_COMPLEX64, [2], scomplex_val=[1, 2, 3]),
     [1 + 2j, 1 + 2j]),
    (tensor(types_pb2.DT_STRING, [2]), [b"", b""]),
    (tensor(types_pb2.DT_STRING, [], string_val=[b"a", b"b"]), b"a"),
    (tensor(types_pb2.DT_INT64, [0], int64_val=[5]), []),
    (tensor(types_pb2.DT_INT64, [2, 0]), [[], []])])
def test_the_number_of_values_need_not_fit(proto, wanted):
    # The session reads a TensorProto by Tensor::FromProto, as the real
    # server does.
    found = from_proto(proto, "x")
    assert found.tolist() == wanted
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.get_default_graph().as_graph_def()
        node = graph.node.add(name="c", op="Const")
        node.attr["value"].tensor.CopyFrom(proto)
        node.attr["dtype"].type = proto.dtype
        value, = tf.import_graph_def(graph, return_elements=["c:0"])
        assert np.asarray(session.run(value)).tolist() == wanted


@pytest.mark.parametrize("proto", [
    tensor(types_pb2.DT_INVALID, [1]),
    tensor(types_pb2.DT_RESOURCE, [1]),
    tensor(12345, [1]),
    tensor(types_pb2.DT_FLOAT, [-1]),
    tensor(types_pb2.DT_FLOAT, [2], tensor_content=b"1234"),
    tensor(types_pb2.DT_STRING, [2], tensor_content=b"\x05ab"),
    tensor(types_pb2.DT_STRING, [2], tensor_content=b"\xff\xff\xff\xff\xff"),
    tensor(types_pb2.DT_STRING, [1], tensor_content=b"\x01ab"),
    tensor(types_pb2.DT_FLOAT, [1 << 40, 1 << 40]),
    # A few bytes must not fill the memory.
    tensor(types_pb2.DT_FLOAT, [1 << 40], float_val=[1])])
def test_what_is_no_tensor_is_refused(proto):
    with pytest.raises(ServingError, match="tensor parsing error: x") as seen:
        from_proto(proto, "x")
    assert seen.value.code == grpc.StatusCode.INVALID_ARGUMENT
