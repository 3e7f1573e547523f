"""Runs layers of transformers on packed tokens, with weights of `base`.

It gives the numbers of `TFBertLayer` with fewer passes over memory. Gradients
are written out where TensorFlow's own would scatter, transpose or keep more
than is needed.
"""

from __future__ import annotations

import math
from typing import Callable, NamedTuple

import tensorflow as tf
from transformers.activations_tf import get_tf_activation

from tfrecal.text.layers import int8
from tfrecal.text.layers.packing import Packing


class Form(NamedTuple):
    """The sizes and options that all layers of a model have in common."""

    hidden: int  # width of the hidden states
    inner: int  # width between the two dense layers
    heads: int
    activation: str
    epsilon: float  # of layer normalisation
    norm_first: bool = False  # before each sublayer, or after its sum
    # Axes of an attention bias [rows, heads, width, width] that are 1.
    shared: tuple[int, ...] = (1, 2)
    extra: tuple[tuple[int, ...], ...] = ()  # shapes of `LayerWeights.extra`


class LayerWeights(NamedTuple):
    """The weights of one layer, as `(kernel, bias)` or `(gamma, beta)`."""

    query: tuple[tf.Tensor, tf.Tensor]
    key: tuple[tf.Tensor, tf.Tensor]
    value: tuple[tf.Tensor, tf.Tensor]
    out: tuple[tf.Tensor, tf.Tensor]
    inner: tuple[tf.Tensor, tf.Tensor]
    outer: tuple[tf.Tensor, tf.Tensor]
    norm: tuple[tf.Tensor, tf.Tensor]  # of the attention sublayer
    last: tuple[tf.Tensor, tf.Tensor]  # of the dense sublayer
    extra: tuple[tf.Tensor, ...] = ()  # further arguments of attention


def prepare_weights(
    weights: LayerWeights,
    form: Form,
    precision: str = "float32",
    plain: bool = False,
):
    """Prepares the weights of a layer for the function of `make_layer`.

    Query, key and value are joined. Factors that would be applied to
    activations are multiplied into the kernels, which are far smaller.
    Kernels are cast to the precision of their products.

    Args:
        weights: the layer's weights.
        form: the form of the layers.
        precision, plain: see `make_layer`.
    """
    scale = (form.hidden // form.heads) ** -0.5
    factor = 1.0 if plain else _gelu_factor(form)
    query, key, value, out, inner, outer, norm, last, extra = weights
    kernels = [
        tf.concat([query[0] * scale, key[0], value[0]], 1),
        out[0],
        inner[0] * factor,
        outer[0] * factor,
    ]
    if precision == "bfloat16":
        kernels = [tf.cast(kernel, tf.bfloat16) for kernel in kernels]
    if precision == "int8":
        kernels = [int8.quantise(kernel) for kernel in kernels]
    mixed = tf.concat([query[1] * scale, key[1], value[1]], 0)
    return kernels + [
        mixed, out[1], inner[1] * factor, outer[1], *norm, *last, *extra]


def _gelu_factor(form) -> float:
    """Returns the factor of gelu(x) = u (1 + erf(u)) / sqrt(2).

    Here u = x / sqrt(2).
    """
    return math.sqrt(0.5) if form.activation == "gelu" else 1.0


def make_layer(
    form: Form,
    buckets: int,
    dropout: float = 0.0,
    precision: str = "float32",
    attention: Callable | None = None,
    plain: bool = False,
) -> Callable:
    """Makes a graph of one transformer layer, which all layers share.

    Layers differ in their weights only, and weights are arguments. So the
    graph is traced once and called for each layer, which takes a fraction of
    the time to build.

    Args:
        form: the form of the layers.
        buckets: number of length buckets of the packings.
        dropout: rate of attention weights and of sublayers' outputs.
        precision: precision of the factors of products with weights:
            `"float32"`, `"bfloat16"`, or `"int8"`, which has no gradients.
        attention: function in place of `packed_attention`, or None; it takes
            `LayerWeights.extra` as well.
        plain: whether it is used without gradients: TensorFlow then runs
            product, bias and GELU in one operation. With bfloat16, biases
            and values between the dense layers are then rounded too.

    Returns:
        A function of hidden states `[tokens, hidden]`, a `Packing`, what
        `prepare_weights` returned, and a seed `[2]` int32 for dropout.
    """
    heads, epsilon = form.heads, form.epsilon
    attention = attention or packed_attention
    product = {"float32": tf.matmul, "bfloat16": _bfloat16_product,
               "int8": int8.product}[precision]
    between = {"gelu": _u_erf, "gelu_new": _gelu_new}.get(
        form.activation) or get_tf_activation(form.activation)

    if plain:
        product = _as_kernel
        between = tf.nn.gelu if form.activation == "gelu" else between

    def dense(values, kernel, bias):
        wide = product(values, kernel)
        return tf.nn.bias_add(wide, tf.cast(bias, wide.dtype))

    def drop(values, seed, place):
        if not dropout:
            return values
        return tf.nn.experimental.stateless_dropout(
            values, dropout, seed + [0, place]
        )

    # Without a signature, eager calls would trace for every number of tokens.
    @tf.function(
        autograph=False,
        input_signature=_signature(form, buckets, precision),
    )
    def layer(hidden, packing, weights, seed):
        (kernel, out, inner, outer, bias, out_bias, inner_bias, outer_bias,
         gamma, beta, last_gamma, last_beta, *extra) = weights

        def attend(hidden):
            context = attention(
                tf.cast(dense(hidden, kernel, bias), tf.float32), packing,
                heads, dropout, seed, *extra
            )
            context = dense(context, out, out_bias)
            return drop(tf.cast(context, tf.float32), seed, 1)

        def widen(hidden):
            wide = between(dense(hidden, inner, inner_bias))
            wide = dense(wide, outer, outer_bias)
            return drop(tf.cast(wide, tf.float32), seed, 2)

        if form.norm_first:
            hidden += attend(layer_norm(hidden, gamma, beta, epsilon))
            return hidden + widen(
                layer_norm(hidden, last_gamma, last_beta, epsilon)
            )
        hidden = layer_norm(hidden + attend(hidden), gamma, beta, epsilon)
        return layer_norm(
            hidden + widen(hidden), last_gamma, last_beta, epsilon
        )

    return layer


def _signature(form, buckets, precision):
    width, wide = form.hidden, form.inner
    kernels = [[width, 3 * width], [width, width], [width, wide],
               [wide, width]]
    others = [[3 * width], [width], [wide], [width]] + [[width]] * 4
    others += form.extra
    one = int8.Kernel.spec if precision == "int8" else (
        lambda shape: tf.TensorSpec(shape, precision))
    return [
        tf.TensorSpec([None, width]),
        Packing.spec(buckets, form.shared),
        [one(shape) for shape in kernels]
        + [tf.TensorSpec(shape) for shape in others],
        tf.TensorSpec([2], tf.int32),
    ]


def _as_kernel(values, kernel):
    """Computes `values @ kernel` in the precision of the kernel."""
    return tf.matmul(tf.cast(values, kernel.dtype), kernel)


@tf.custom_gradient
def _bfloat16_product(values, kernel):
    """Computes `values @ kernel` with bfloat16 factors, rounded to bfloat16."""
    left = tf.cast(values, tf.bfloat16)

    def gradient(upstream):
        upstream = tf.cast(upstream, tf.bfloat16)
        of_left = tf.matmul(upstream, kernel, transpose_b=True)
        of_kernel = tf.matmul(left, upstream, transpose_a=True)
        return tf.cast(of_left, tf.float32), of_kernel

    return tf.cast(tf.matmul(left, kernel), tf.float32), gradient


@tf.custom_gradient
def _u_erf(values):
    """Computes `u (1 + erf(u))`."""
    one_and_erf = tf.math.erf(values) + 1.0

    def gradient(upstream):
        slope = tf.exp(math.log(2 / math.sqrt(math.pi)) - values * values)
        return upstream * (one_and_erf + values * slope)

    return values * one_and_erf, gradient


@tf.custom_gradient
def _gelu_new(values):
    """Computes `u (1 + tanh(c (u + a u^3))) / 2`, for GPT-2 and ALBERT.

    TensorFlow's own gradient would be a sum of three terms, whose order is
    not fixed (see `model.exact_sums`).
    """
    cubic, factor = 0.044715, math.sqrt(2 / math.pi)
    square = values * values
    bend = tf.tanh(factor * values * (1.0 + cubic * square))

    def gradient(upstream):
        slope = factor * (1.0 + 3 * cubic * square)
        inner = values * (1.0 - bend * bend) * slope
        return upstream * 0.5 * (1.0 + bend + inner)

    return 0.5 * values * (1.0 + bend), gradient


def layer_norm(
    values: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """Applies layer normalisation to the last axis of `[tokens, hidden]`."""

    @tf.custom_gradient
    def normalised(values, gamma, beta):
        centred = values - tf.reduce_mean(values, 1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), 1, keepdims=True)
        inverse = tf.math.rsqrt(variance + epsilon)
        normal = centred * inverse

        def gradient(upstream):
            # Sums along rows and columns are matrix products, which are
            # faster than reductions.
            width = values.shape[-1]
            column = gamma[:, tf.newaxis] / width
            ones = tf.ones([1, tf.shape(values)[0]])
            along = upstream * normal
            inner = upstream * gamma - tf.matmul(upstream, column)
            inner -= normal * tf.matmul(along, column)
            return (
                inner * inverse,
                tf.reshape(tf.matmul(ones, along), [width]),
                tf.reshape(tf.matmul(ones, upstream), [width]),
            )

        return normal * gamma + beta, gradient

    return normalised(values, gamma, beta)


def packed_attention(
    mixed: tf.Tensor,
    packing: Packing,
    heads: int,
    dropout: float = 0.0,
    seed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Computes multi-head self-attention within each row.

    Args:
        mixed: `[tokens, 3 * hidden]`: query (already divided by the root of
            the head's width), key and value, joined.
        packing: the layout of the tokens.
        heads: number of heads.
        dropout: dropout rate of attention weights.
        seed: `[2]` int32 for dropout.

    Returns:
        `[tokens, hidden]` contexts.
    """
    hidden = mixed.shape[-1] // 3
    width = hidden // heads
    slots = tf.shape(packing.token_head)[0]
    # A row of `mixed` has 3 x heads pieces. `piece` and `slot` hold their
    # places and the way back.
    piece = packing.token_head + packing.token_head // heads * (2 * heads)
    piece = tf.concat([piece + part * heads for part in range(3)], 0)
    slot = tf.reshape(packing.slot, [-1, 1, heads])
    slot = tf.concat([slot + part * slots for part in range(3)], 1)
    count = len(packing.shapes)
    shapes = [tf.concat([shape, [width]], 0) for shape in packing.shapes]

    def split(pieces, parts):
        pieces = tf.split(pieces, tf.tile(packing.sizes, [parts]))
        pieces = [
            tf.reshape(piece, shapes[n % count])
            for n, piece in enumerate(pieces)
        ]
        return [pieces[n::count] for n in range(count)]

    def join(pieces):
        return tf.concat([tf.reshape(p, [-1, width]) for p in pieces], 0)

    @tf.custom_gradient
    def attend(mixed):
        pieces = tf.gather(tf.reshape(mixed, [-1, width]), piece)
        buckets, contexts = [], []
        for n, (query, key, value) in enumerate(split(pieces, 3)):
            scores = tf.matmul(query, key, transpose_b=True)
            weights = tf.nn.softmax(scores + packing.biases[n])
            kept = None
            if dropout:
                kept = tf.nn.experimental.stateless_dropout(
                    tf.ones_like(weights), dropout, seed + [n + 1, 0]
                )
            context = tf.matmul(_times(weights, kept), value)
            buckets.append((query, key, value, weights, kept, context))
            contexts.append(context)

        def gradient(upstream):
            pieces = tf.reshape(upstream, [-1, width])
            pieces = tf.gather(pieces, packing.token_head) * packing.real
            of_query, of_key, of_value = [], [], []
            for bucket, (up,) in zip(buckets, split(pieces, 1)):
                query, key, value, weights, kept, context = bucket
                of_value.append(
                    tf.matmul(_times(weights, kept), up, transpose_a=True)
                )
                of_weights = tf.matmul(up, value, transpose_b=True)
                # This is sum(weights * their gradient), from the context.
                mean = tf.reduce_sum(up * context, -1, keepdims=True)
                of_scores = weights * (_times(of_weights, kept) - mean)
                of_query.append(tf.matmul(of_scores, key))
                of_key.append(tf.matmul(of_scores, query, transpose_a=True))
            pieces = tf.gather(join(of_query + of_key + of_value), slot)
            return tf.reshape(pieces, [-1, 3 * hidden])

        pieces = tf.gather(join(contexts), packing.slot)
        return tf.reshape(pieces, [-1, hidden]), gradient

    return attend(mixed)


def _times(values, factor):
    return values if factor is None else values * factor


def drop_weights(
    weights: tf.Tensor, rate: float, seed: tf.Tensor, bucket: int
) -> tf.Tensor:
    """Applies dropout to the attention weights of a bucket."""
    if not rate:
        return weights
    return tf.nn.experimental.stateless_dropout(
        weights, rate, seed + [bucket + 1, 0]
    )
