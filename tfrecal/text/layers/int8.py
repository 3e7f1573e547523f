"""Products with int8 kernels, by an operation that stock servers have.

`QuantizedMatMulWithBias` is part of TensorFlow itself and run by oneDNN on
x86 (`AVX512_VNNI` and alike make it fast). It multiplies unsigned activations
by signed kernels; scales of each token and of each column are put on here.
"""
from __future__ import annotations

from typing import NamedTuple, Sequence

import tensorflow as tf

# Processors without VNNI add two products of u8 and s8 in 16 bits: with
# kernels of seven bits 2 * 255 * 64 still fits. Activations, whose largest
# values lie far out, need their eight bits more.
_MOST = 64
_HALF, _ZERO = 127, 128


class Kernel(NamedTuple):
    """A kernel `[into, out]` in int8, with a scale for each column."""

    values: tf.Tensor  # [into, out] int8
    scale: tf.Tensor  # [out] float32; values * scale is the kernel
    offset: tf.Tensor  # [out] int32, for the zero of activations

    @classmethod
    def spec(cls, shape: Sequence[int]) -> Kernel:
        """The `TensorSpec`s of a kernel of this shape."""
        return cls(tf.TensorSpec(shape, tf.int8), tf.TensorSpec(shape[1:]),
                   tf.TensorSpec(shape[1:], tf.int32))


def quantise(kernel: tf.Tensor) -> Kernel:
    """Float32 `[into, out]` to int8, each column by its largest value."""
    values, scale = rounded(kernel, 0, _MOST)
    total = tf.reduce_sum(tf.cast(values, tf.int32), 0)
    return Kernel(values, tf.reshape(scale, [-1]), -_ZERO * total)


def rounded(values: tf.Tensor, axis: int, most: int = 127
            ) -> tuple[tf.Tensor, tf.Tensor]:
    """Float32 `[n, m]` to int8, and their scales along an axis, kept."""
    scale = tf.reduce_max(tf.abs(values), axis, keepdims=True) / most
    scale = tf.where(scale > 0, scale, 1.0)
    return tf.cast(tf.round(values / scale), tf.int8), scale


def product(values: tf.Tensor, kernel: Kernel) -> tf.Tensor:
    """`values @ kernel`, of activations rounded token by token.

    The kernel must be a constant of the graph: oneDNN brings it into its own
    order at the first call and keeps it.

    Args:
        values: `[tokens, into]` float32.
        kernel: of `quantise`.

    Returns:
        `[tokens, out]` float32.
    """
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
    """Rows in int8, a scale for each: a quarter of the memory.

    Args:
        rows: `[n, width]` float32.
    """

    def __init__(self, rows: tf.Tensor):
        values, scale = rounded(rows, 1)
        self.variables = [tf.Variable(values, trainable=False),
                          tf.Variable(scale, trainable=False)]

    def gather(self, places: tf.Tensor) -> tf.Tensor:
        """Float32 `[m, width]`."""
        values, scale = (tf.gather(v, places) for v in self.variables)
        return tf.cast(values, tf.float32) * scale
