"""`TextEncoder.encode_ids` as one graph, for many texts without gradients."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal import packing, transformer

# Building the graph takes about a second; it saves a tenth of the time.
_WORTH_TOKENS = 2**15
# Rows come by length, so that few buckets do.
_BUCKETS = 4


class EncodingGraph:
    """Encodes batch after batch with weights that are made ready once.

    Step by step, an encoder joins, scales and casts the weights of its layers
    again for each batch, and runs some sixty small operations for the layout
    of its tokens. Of one encoder there is one, and its graph is built when
    enough was encoded to pay for it.

    Args:
        encoder: a `TextEncoder`.
    """

    def __init__(self, encoder):
        self.encoder = encoder
        self._seen = 0
        self._graph = None

    def step(self, tokens: int):
        """What encodes the next so many tokens.

        Args:
            tokens: of all batches to come.

        Returns:
            A function of `ids`, `starts` and `lengths`, see
            `TextEncoder.encode_ids`, with the weights that the encoder has
            now.
        """
        self._seen += tokens
        if self._seen < _WORTH_TOKENS:
            return self.encoder.encode_ids
        weights = self.encoder.ready_weights()
        if self._graph is None:
            self._graph = self._build(weights)
        return lambda ids, starts, lengths: self._graph(
            ids, starts, lengths, _bounds(lengths), weights)

    def _build(self, weights):
        encoder = self.encoder
        kind, base = encoder._architecture, encoder.base
        step = transformer.make_layer(
            kind.form, _BUCKETS, 0.0, encoder.precision, kind.attention,
            plain=True)
        ints = tf.TensorSpec([None], tf.int32)
        specs = [[tf.TensorSpec(w.shape, w.dtype) for w in layer]
                 for layer in weights]

        @tf.function(autograph=False, input_signature=[
            ints, ints, ints, tf.TensorSpec([_BUCKETS], tf.int32), specs])
        def encode(ids, starts, lengths, bounds, weights):
            layout = kind.arrange(base, packing.pack(
                starts, lengths, bounds, kind.form.heads))
            words = tf.gather(kind.words(base), tf.gather(
                ids, layout.token_index))
            hidden = kind.embed(base, words, layout)
            seed = tf.zeros([2], tf.int32)
            for layer in weights:
                hidden = step(hidden, layout, layer, seed)
            hidden = kind.finish(base, hidden)
            return packing.pool(hidden, layout, encoder.pooling)

        return encode


def _bounds(lengths) -> np.ndarray:
    """Ascending lengths between which lie as many tokens, `[_BUCKETS]`."""
    lengths = np.sort(lengths)
    total = np.cumsum(lengths)
    shares = np.arange(1, _BUCKETS + 1) / _BUCKETS * total[-1]
    bounds = lengths[np.minimum(
        np.searchsorted(total, shares), len(lengths) - 1)]
    # The last is the longest row; those that were equal go up by one.
    steps = np.arange(_BUCKETS)
    return (np.maximum.accumulate(bounds - steps) + steps).astype(np.int32)
