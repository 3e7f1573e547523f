"""ServedEncoder: a trained text encoder in the form that is exported."""

from __future__ import annotations

import tensorflow as tf

from tfrecal import packing, transformer


class ServedEncoder(tf.Module):
    """Strings in, vectors out; made by `TextEncoder.for_serving`.

    As `TextEncoder`, but fastest for single texts: what would be done to the
    weights in each call is done once, and attention pads the texts of a
    batch all alike, which takes a tenth of the operations.

    Args:
        base, architecture: the model, and what kind it is.
        tokenizer: of the encoder.
        pooling, max_length, precision: see `TextEncoder`.
    """

    def __init__(self, base, architecture, tokenizer, *, pooling: str,
                 max_length: int, precision: str):
        super().__init__()
        form = architecture.form
        self.pooling = pooling
        self.max_length = max_length
        self._heads = form.heads
        self._tokenizer = tokenizer
        # What the functions below use of `base`, to be exported with them.
        self._kept = [*architecture.below(base), *architecture.above(base),
                      *architecture.constant(base)]
        layers = architecture.layers(base)
        distinct = list({id(layer): layer for layer in layers}.values())
        self._weights = [
            [tf.Variable(weight, trainable=False) for weight
             in transformer.layer_weights(
                 architecture.parts(layer), form, precision)]
            for layer in distinct]
        order = [distinct.index(layer) for layer in layers]
        # In a closure: neither the whole of `base` nor a graph of its own
        # must be exported beside.
        step = transformer.make_layer(form, 1, 0.0, precision)

        def encode(ids, layout):
            layout = architecture.arrange(base, layout)
            hidden = architecture.embed(base, ids, layout)
            for number in order:
                hidden = step(
                    hidden, layout,
                    [weight.value() for weight in self._weights[number]],
                    tf.zeros([2], tf.int32))
            return architecture.finish(base, hidden)

        self._encode = encode

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Strings `[n]` to float32 `[n, dim]`."""
        distinct, place = tf.unique(texts)
        tokens = self._tokenizer.tokenize(distinct, self.max_length)
        layout = packing.pack(
            tokens.row_starts(), tokens.row_lengths(), (self.max_length,),
            self._heads)
        hidden = self._encode(
            tf.gather(tokens.flat_values, layout.token_index), layout)
        return tf.gather(
            packing.pool(hidden, layout, self.pooling), place)
