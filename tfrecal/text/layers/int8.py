"""Products with int8 kernels, by an operation that all servers have.

`QuantizedMatMulWithBias` belongs to TensorFlow itself, and oneDNN runs it on
x86 (fast with `AVX512_VNNI` and the like). It multiplies unsigned activations
by signed kernels. This module applies the scales of tokens and columns.
"""
from __future__ import annotations

import functools
from typing import NamedTuple, Sequence

import tensorflow as tf

# Largest value of a kernel. Processors without VNNI add two products of u8
# and s8 in 16 bits; with kernels of seven bits, 2 * 255 * 64 still fits.
# Activations have outliers and need the eight bits more than kernels do.
_MOST = 64
_HALF, _ZERO = 127, 128


class Kernel(NamedTuple):
    """A kernel `[into, out]` in int8, with a scale for each column."""

    values: tf.Tensor  # [into, out] int8
    scale: tf.Tensor  # [out] float32; values * scale is the kernel
    offset: tf.Tensor  # [out] int32, for the zero of activations

    @classmethod
    def spec(cls, shape: Sequence[int]) -> Kernel:
        """Returns the `TensorSpec`s of a kernel of this shape."""
        return cls(tf.TensorSpec(shape, tf.int8), tf.TensorSpec(shape[1:]),
                   tf.TensorSpec(shape[1:], tf.int32))


def quantise(kernel: tf.Tensor) -> Kernel:
    """Rounds float32 `[into, out]` to int8, scaled column by column."""
    values, scale = rounded(kernel, 0, _MOST)
    total = tf.reduce_sum(tf.cast(values, tf.int32), 0)
    return Kernel(values, tf.reshape(scale, [-1]), -_ZERO * total)


def rounded(values: tf.Tensor, axis: int, most: int = 127
            ) -> tuple[tf.Tensor, tf.Tensor]:
    """Rounds float32 `[n, m]` to int8; returns them and scales by an axis."""
    scale = tf.reduce_max(tf.abs(values), axis, keepdims=True) / most
    scale = tf.where(scale > 0, scale, 1.0)
    return tf.cast(tf.round(values / scale), tf.int8), scale


def product(values: tf.Tensor, kernel: Kernel) -> tf.Tensor:
    """Computes `values @ kernel` with activations rounded token by token.

    The kernel must be a constant of the graph: oneDNN reorders it at the
    first call and keeps the result.

    Args:
        values: `[tokens, into]` float32.
        kernel: what `quantise` returned.

    Returns:
        `[tokens, out]` float32.

    Raises:
        RuntimeError: TensorFlow runs without oneDNN.
    """
    if not _has_onednn():
        raise RuntimeError(
            "int8 layers need oneDNN. Received: a TensorFlow without it, or "
            "imported before tfrecal on a processor without AVX-512. Set "
            "TF_ENABLE_ONEDNN_OPTS=1 before Python starts.")
    return _product(values, kernel)


@functools.cache
def _has_onednn() -> bool:
    """Returns whether the operation works; elsewhere it answers nothing."""
    with tf.init_scope():
        try:
            found = _product(tf.ones([1, 8]), quantise(tf.ones([8, 8])))
        except tf.errors.OpError:
            return False
        return found.shape == [1, 8]


def _product(values, kernel):
    scale = tf.reduce_max(tf.abs(values), 1, keepdims=True) / _HALF
    whole = tf.round(tf.math.divide_no_nan(values, scale)) + _ZERO
    ends = {"min_a": 0.0, "max_a": 255.0, "min_b": -127.0, "max_b": 127.0}
    total = tf.raw_ops.QuantizedMatMulWithBias(
        a=tf.bitcast(tf.cast(whole, tf.uint8), tf.quint8),
        b=tf.bitcast(kernel.values, tf.qint8),
        bias=tf.bitcast(kernel.offset, tf.qint32), Toutput=tf.qint32,
        input_quant_mode="SCALED", **ends).out
    total = tf.cast(tf.bitcast(total, tf.int32), tf.float32)
    return total * scale * kernel.scale


class Table:
    """A table with rows in int8 and a scale for each row.

    It takes a quarter of the memory of float32.

    Args:
        rows: `[n, width]` float32.
    """

    def __init__(self, rows: tf.Tensor):
        values, scale = rounded(rows, 1)
        self.variables = [tf.Variable(values, trainable=False),
                          tf.Variable(scale, trainable=False)]

    def gather(self, places: tf.Tensor) -> tf.Tensor:
        """Returns the rows at some places, float32 `[m, width]`."""
        values, scale = (tf.gather(v, places) for v in self.variables)
        return tf.cast(values, tf.float32) * scale
