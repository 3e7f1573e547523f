"""Lays out a batch of texts without padding, one token after the other.

A batch is one `[tokens, hidden]` matrix. All operations on single tokens run
on that matrix. Only attention sees rows, padded to the longest row of their
length bucket, so one long text does not make the others more expensive.
"""

from __future__ import annotations

from typing import NamedTuple, Sequence

import tensorflow as tf


class Packing(NamedTuple):
    """Where each token of a batch lies; made for a batch, used by all layers.

    Rows are sorted by length, so each bucket is one slice. In a bucket of `r`
    rows padded to `w`, attention works on `[r, heads, w, d]`. The d elements
    of one head of one token are a slot. The slots of one bucket follow those
    of the one before.
    """

    token_index: tf.Tensor  # [tokens] int32, in the store the rows came from
    position: tf.Tensor  # [tokens] int32, in the token's own row
    row: tf.Tensor  # [tokens] int32, the token's row, rows by length
    first: tf.Tensor  # [rows] int32, each row's first token (rows by length)
    length: tf.Tensor  # [rows] int32, tokens of each row (rows by length)
    inverse: tf.Tensor  # [rows] int32, where each row as given went
    token_head: tf.Tensor  # [slots] int32, token * heads + head of a slot
    slot: tf.Tensor  # [tokens * heads] int32, slot of a head of a token
    real: tf.Tensor  # [slots, 1] float32, 0 where a slot is padding
    sizes: tf.Tensor  # [buckets] int32, slots of each bucket
    shapes: list[tf.Tensor]  # per bucket (rows, heads, width)
    biases: list[tf.Tensor]  # per bucket [rows, 1, 1, width], added to scores

    @classmethod
    def spec(cls, buckets: int, shared: Sequence[int] = (1, 2)) -> Packing:
        """Returns the `TensorSpec`s of packings with so many buckets.

        Args:
            buckets: number of buckets.
            shared: the axes of the biases whose length is 1.
        """
        axes = [1 if axis in shared else None for axis in range(4)]
        ints = tf.TensorSpec([None], tf.int32)
        return cls(**{name: ints for name in cls._fields})._replace(
            real=tf.TensorSpec([None, 1]),
            sizes=tf.TensorSpec([buckets], tf.int32),
            shapes=[tf.TensorSpec([3], tf.int32)] * buckets,
            biases=[tf.TensorSpec(axes)] * buckets,
        )


def bucket_bounds(longest: int) -> tuple[int, ...]:
    """Returns the buckets' longest lengths, in steps of 4, then of a quarter.
    """
    bounds = [8]
    while bounds[-1] < longest:
        bounds.append(bounds[-1] + max(4, 2 ** (bounds[-1].bit_length() - 3)))
    return tuple(bounds)


def pack(
    starts: tf.Tensor, lengths: tf.Tensor, bounds: Sequence[int], heads: int
) -> Packing:
    """Lays out rows of tokens without padding.

    Args:
        starts: `[rows]` integers, the place of each row's first token in the
            array of tokens.
        lengths: `[rows]` integers, the number of tokens of each row, from 0
            to the last bound.
        bounds: the buckets' longest lengths, ascending, also as a tensor.
        heads: number of attention heads.

    Returns:
        The `Packing` of the rows.
    """
    lengths = tf.cast(lengths, tf.int32)
    order = tf.argsort(lengths, stable=True)
    lengths = tf.gather(lengths, order)
    ends = tf.cumsum(lengths)
    first = ends - lengths
    row, position = _rows_and_places(ends, first)
    starts = tf.gather(tf.cast(starts, tf.int32), order)

    # Rows are sorted, so a bucket is a slice; its width is its last length.
    limits = tf.convert_to_tensor(bounds, tf.int32)
    buckets = limits.shape[0]
    last = tf.searchsorted(lengths, limits, "right")
    rows = last - tf.concat([[0], last[:-1]], 0)
    width = tf.gather(tf.concat([[0], lengths], 0), last)
    width = tf.where(rows > 0, width, 0)
    row_width = tf.gather(width, tf.searchsorted(limits, lengths))

    slot_ends = tf.cumsum(heads * row_width)
    slot_first = slot_ends - heads * row_width
    head = tf.range(heads)
    slot = (tf.gather(slot_first, row) + position)[:, tf.newaxis]
    slot += tf.gather(row_width, row)[:, tf.newaxis] * head

    slot_row, place = _rows_and_places(slot_ends, slot_first)
    slot_width = tf.gather(row_width, slot_row)
    slot_head = place // slot_width
    place -= slot_head * slot_width
    real = place < tf.gather(lengths, slot_row)
    token = tf.where(real, tf.gather(first, slot_row) + place, 0)

    return Packing(
        token_index=tf.gather(starts, row) + position,
        position=position,
        row=row,
        first=first,
        length=lengths,
        inverse=tf.math.invert_permutation(order),
        token_head=token * heads + slot_head,
        slot=tf.reshape(slot, [-1]),
        real=tf.cast(real, tf.float32)[:, tf.newaxis],
        sizes=rows * heads * width,
        shapes=[
            tf.stack([rows[n], heads, width[n]]) for n in range(buckets)
        ],
        biases=_biases(lengths, rows, width, buckets),
    )


def _rows_and_places(ends, first):
    """Returns the row of each element of joined rows, and its place in it."""
    total = tf.concat([[0], ends], 0)[-1]
    elements = tf.range(total)
    row = tf.searchsorted(ends, elements, "right")
    return row, elements - tf.gather(first, row)


def _biases(lengths, rows, width, count):
    """Returns 0 for tokens and -1e9 for padding, bucket by bucket."""
    of_buckets = tf.split(lengths, rows, num=count)
    return [
        tf.where(
            tf.range(width[n]) < some[:, tf.newaxis, tf.newaxis, tf.newaxis],
            0.0,
            -1e9,
        )
        for n, some in enumerate(of_buckets)
    ]


def pool(hidden: tf.Tensor, packing: Packing, pooling: str) -> tf.Tensor:
    """Makes one vector for each row, in the order given to `pack`.

    Args:
        hidden: `[tokens, hidden]`.
        packing: the layout of the tokens.
        pooling: `"mean"` of all tokens, `"cls"` for the first token, or
            `"last"`.

    Returns:
        `[rows, hidden]` float32; zeros for an empty row.
    """
    if pooling == "mean":
        rows = tf.shape(packing.length)[0]
        pooled = tf.math.unsorted_segment_sum(hidden, packing.row, rows)
        count = tf.cast(tf.maximum(packing.length, 1), hidden.dtype)
        pooled /= count[:, tf.newaxis]
    else:
        zero = tf.zeros([1, hidden.shape[-1]], hidden.dtype)
        place = packing.first
        if pooling == "last":
            place += packing.length - 1
        place = tf.where(packing.length > 0, place, tf.shape(hidden)[0])
        pooled = tf.gather(tf.concat([hidden, zero], 0), place)
    return tf.gather(pooled, packing.inverse)
