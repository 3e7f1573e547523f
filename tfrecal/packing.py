"""Transformer layers without padding: the tokens of a batch side by side.

A batch of texts is one `[tokens, hidden]` matrix. All that a transformer does
token by token (dense layers, layer norms) runs on that matrix; only attention
sees rows, padded to the longest of a few length buckets, so that one long text
costs what it costs and no more.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import tensorflow as tf


class Packing(NamedTuple):
    """Where each token of a batch lies; made once a batch, used by all layers.

    Rows are put in order of length, so that each bucket is one slice.
    """

    token_index: tf.Tensor  # [tokens] int32, in the store the rows came from
    position: tf.Tensor  # [tokens] int32, in the token's own row
    row: tf.Tensor  # [tokens] int32, the token's row, rows by length
    first: tf.Tensor  # [rows] int32, each row's first token (rows by length)
    length: tf.Tensor  # [rows] int32, tokens of each row (rows by length)
    inverse: tf.Tensor  # [rows] int32, where each row as given went
    pad_index: tf.Tensor  # [slots] int32, token of each padded slot
    unpad_index: tf.Tensor  # [tokens] int32, padded slot of each token
    real: tf.Tensor  # [slots, 1] float32, 0 where a slot is padding
    sizes: tf.Tensor  # [buckets] int32, slots of each bucket
    shapes: list[tf.Tensor]  # per bucket (rows, width)
    biases: list[tf.Tensor]  # per bucket [rows, 1, 1, width], added to scores


def bucket_bounds(longest: int, shortest: int = 8) -> tuple[int, ...]:
    """Powers of two from `shortest` up to the first that holds `longest`."""
    bounds = [shortest]
    while bounds[-1] < longest:
        bounds.append(bounds[-1] * 2)
    return tuple(bounds)


def pack(
    starts: tf.Tensor, lengths: tf.Tensor, bounds: Sequence[int]
) -> Packing:
    """Lays out rows of tokens without padding.

    Args:
        starts: `[rows]` integers, first token of each row in its store.
        lengths: `[rows]` integers, tokens of each row; 0 is allowed, more
            than the last bound is not.
        bounds: upper lengths of the buckets, ascending.

    Returns:
        The `Packing` of the rows.
    """
    lengths = tf.cast(lengths, tf.int32)
    order = tf.argsort(lengths, stable=True)
    inverse = tf.math.invert_permutation(order)
    lengths = tf.gather(lengths, order)
    starts = tf.gather(tf.cast(starts, tf.int32), order)
    ends = tf.cumsum(lengths)
    first = ends - lengths
    row, position = _rows_and_positions(lengths, ends, first)
    token_index = tf.gather(starts, row) + position

    # Rows are sorted, so a bucket is a slice and its width its last length.
    last = tf.searchsorted(lengths, tf.constant(bounds, tf.int32), "right")
    rows = last - tf.concat([[0], last[:-1]], 0)
    width = tf.gather(tf.concat([[0], lengths], 0), last)
    width = tf.where(rows > 0, width, 0)
    row_width = tf.gather(
        width, tf.searchsorted(tf.constant(bounds, tf.int32), lengths)
    )
    pad_ends = tf.cumsum(row_width)
    pad_first = pad_ends - row_width
    unpad_index = tf.gather(pad_first, row) + position
    pad_row, pad_position = _rows_and_positions(row_width, pad_ends, pad_first)
    real = pad_position < tf.gather(lengths, pad_row)
    pad_index = tf.where(real, tf.gather(first, pad_row) + pad_position, 0)

    count = len(bounds)
    shapes = tf.unstack(tf.stack([rows, width], 1), count)
    sizes = rows * width
    bias = tf.split(tf.where(real, 0.0, -1e9), sizes, num=count)
    ones = tf.ones([count], tf.int32)
    bias_shapes = tf.unstack(tf.stack([rows, ones, ones, width], 1), count)
    return Packing(
        token_index=token_index,
        position=position,
        row=row,
        first=first,
        length=lengths,
        inverse=inverse,
        pad_index=pad_index,
        unpad_index=unpad_index,
        real=tf.cast(real, tf.float32)[:, tf.newaxis],
        sizes=sizes,
        shapes=shapes,
        biases=[tf.reshape(b, s) for b, s in zip(bias, bias_shapes)],
    )


def _rows_and_positions(lengths, ends, first):
    """Row and place in the row of each of `sum(lengths)` slots."""
    total = tf.reduce_sum(lengths)
    slots = tf.range(total)
    row = tf.searchsorted(ends, slots, "right")
    return row, slots - tf.gather(first, row)


def pad(values: tf.Tensor, packing: Packing) -> tf.Tensor:
    """`[tokens, d]` to `[slots, d]`; what padding holds is undefined."""

    # No token goes to two real slots, so the gradient is a gather too and not
    # the slow scatter that TensorFlow would make of it.
    @tf.custom_gradient
    def padded(values):
        def gradient(upstream):
            return tf.gather(upstream, packing.unpad_index)

        return tf.gather(values, packing.pad_index), gradient

    return padded(values)


def unpad(values: tf.Tensor, packing: Packing) -> tf.Tensor:
    """`[slots, d]` to `[tokens, d]`; undoes `pad`."""

    @tf.custom_gradient
    def unpadded(values):
        def gradient(upstream):
            return tf.gather(upstream, packing.pad_index) * packing.real

        return tf.gather(values, packing.unpad_index), gradient

    return unpadded(values)


def attention(
    query_key_value: tf.Tensor,
    packing: Packing,
    heads: int,
    dropout: float = 0.0,
) -> tf.Tensor:
    """Multi-head self-attention of each row to itself.

    Args:
        query_key_value: `[tokens, 3 * hidden]`, the three projections side by
            side, the query already divided by the root of the head's width.
        packing: the layout of the tokens.
        heads: number of heads.
        dropout: rate of attention weights to drop.

    Returns:
        `[tokens, hidden]` contexts.
    """
    hidden = query_key_value.shape[-1] // 3
    slots = tf.split(
        pad(query_key_value, packing), packing.sizes, num=len(packing.shapes)
    )
    contexts = []
    for part, shape, bias in zip(slots, packing.shapes, packing.biases):
        part = tf.reshape(
            part, tf.concat([shape, [3, heads, hidden // heads]], 0)
        )
        query, key, value = tf.unstack(tf.transpose(part, [2, 0, 3, 1, 4]), 3)
        scores = tf.matmul(query, key, transpose_b=True) + bias
        weights = tf.nn.softmax(scores)
        if dropout:
            weights = tf.nn.dropout(weights, dropout)
        context = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        contexts.append(tf.reshape(context, [-1, hidden]))
    return unpad(tf.concat(contexts, 0), packing)


def embed(embeddings, ids: tf.Tensor, packing: Packing) -> tf.Tensor:
    """Token ids `[tokens]` to `[tokens, hidden]` by a `TFBertEmbeddings`."""
    place = embeddings.position_embeddings + embeddings.token_type_embeddings[0]
    hidden = tf.gather(embeddings.weight, ids)
    hidden += tf.gather(place, packing.position)
    return layer_norm(embeddings.LayerNorm, hidden)


def transform(
    layer,
    hidden: tf.Tensor,
    packing: Packing,
    heads: int,
    dropout: float = 0.0,
) -> tf.Tensor:
    """`[tokens, hidden]` through one `TFBertLayer`."""
    own, out = layer.attention.self_attention, layer.attention.dense_output
    scale = (hidden.shape[-1] // heads) ** -0.5
    parts = (own.query, own.key, own.value)
    kernels = [part.kernel for part in parts]
    biases = [part.bias for part in parts]
    kernel = tf.concat([kernels[0] * scale] + kernels[1:], 1)
    bias = tf.concat([biases[0] * scale] + biases[1:], 0)
    mixed = tf.nn.bias_add(tf.matmul(hidden, kernel), bias)
    context = attention(mixed, packing, heads, dropout)
    hidden = layer_norm(
        out.LayerNorm, hidden + _drop(_dense(out.dense, context), dropout)
    )
    inner = _dense(layer.intermediate.dense, hidden)
    inner = layer.intermediate.intermediate_act_fn(inner)
    outer = _drop(_dense(layer.bert_output.dense, inner), dropout)
    return layer_norm(layer.bert_output.LayerNorm, hidden + outer)


def _dense(layer, values):
    return tf.nn.bias_add(tf.matmul(values, layer.kernel), layer.bias)


def _drop(values, rate):
    return tf.nn.dropout(values, rate) if rate else values


def layer_norm(layer, values: tf.Tensor) -> tf.Tensor:
    """What a Keras `LayerNormalization` of the last axis does, in fewer ops."""
    epsilon = layer.epsilon

    @tf.custom_gradient
    def normalised(values, gamma, beta):
        centred = values - tf.reduce_mean(values, 1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), 1, keepdims=True)
        inverse = tf.math.rsqrt(variance + epsilon)
        normal = centred * inverse

        def gradient(upstream):
            inner = upstream * gamma
            along = tf.reduce_mean(inner * normal, 1, keepdims=True)
            inner -= tf.reduce_mean(inner, 1, keepdims=True) + normal * along
            return (
                inner * inverse,
                tf.reduce_sum(upstream * normal, 0),
                tf.reduce_sum(upstream, 0),
            )

        return normal * gamma + beta, gradient

    return normalised(values, layer.gamma.value(), layer.beta.value())


def pool(hidden: tf.Tensor, packing: Packing, pooling: str) -> tf.Tensor:
    """One vector a row, rows as given to `pack`; zeros for an empty row.

    Args:
        hidden: `[tokens, hidden]`.
        packing: the layout of the tokens.
        pooling: `"mean"` of all tokens, or `"cls"`, the first token.

    Returns:
        `[rows, hidden]` float32.
    """
    if pooling == "mean":
        rows = tf.shape(packing.length)[0]
        total = tf.math.unsorted_segment_sum(hidden, packing.row, rows)
        count = tf.maximum(packing.length, 1)
        pooled = total / tf.cast(count, hidden.dtype)[:, tf.newaxis]
        return tf.gather(pooled, packing.inverse)
    some = packing.length > 0
    hidden = tf.concat([hidden, tf.zeros([1, hidden.shape[-1]])], 0)
    last = tf.shape(hidden)[0] - 1
    pooled = tf.gather(hidden, tf.where(some, packing.first, last))
    return tf.gather(pooled, packing.inverse)
