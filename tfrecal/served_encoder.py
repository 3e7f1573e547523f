"""ServedEncoder: a trained text encoder in the form that is exported."""

from __future__ import annotations

import tensorflow as tf

from tfrecal import packing, transformer


class ServedEncoder(tf.Module):
    """Strings or ids in, vectors out; made by `TextEncoder.for_serving`.

    As `TextEncoder`, but fastest for single texts: what would be done to the
    weights in each call is done once, and attention pads the texts of a
    batch all alike, which takes a tenth of the operations.

    Args:
        base, architecture: the model, and what kind it is.
        tokenizer: of the encoder.
        parts: the weights of each distinct layer, as they are used.
        pooling, max_length, precision: see `TextEncoder`.
    """

    def __init__(self, base, architecture, tokenizer, parts, *,
                 pooling: str, max_length: int, precision: str):
        super().__init__()
        form = architecture.form
        self.pooling = pooling
        self.max_length = max_length
        self._heads = form.heads
        self._tokenizer = tokenizer
        # What the functions below use of `base`, to be exported with them.
        self._kept = [*architecture.below(base), *architecture.above(base),
                      *architecture.constant(base)]
        self._weights = [
            [tf.Variable(weight, trainable=False) for weight
             in transformer.layer_weights(each, form, precision)]
            for each in parts]
        order = architecture.order(base)
        # In a closure: neither the whole of `base` nor a graph of its own
        # must be exported beside.
        step = transformer.make_layer(
            form, 1, 0.0, precision, architecture.attention)

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

    @property
    def spec(self) -> tf.TensorSpec:
        """What it is called with: texts, or padded ids of a client."""
        if self._tokenizer.in_graph:
            return tf.TensorSpec([None], tf.string, "text")
        return tf.TensorSpec([None, None], tf.int32, "token_ids")

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Strings `[n]`, or ids `[n, length]` int32, to float32 `[n, dim]`.

        Ids are for tokenizers that run on the client; each -1 among them,
        wherever it stands, is padding.
        """
        if not self._tokenizer.in_graph:
            return self._of_padded(texts)
        distinct, place = tf.unique(texts)
        tokens = self._tokenizer.tokenize(distinct, self.max_length)
        vectors = self._of_rows(
            tokens.flat_values, tokens.row_starts(), tokens.row_lengths())
        return tf.gather(vectors, place)

    def _of_padded(self, ids):
        tokens = tf.ragged.boolean_mask(ids, ids >= 0)
        return self._of_rows(
            tokens.flat_values, tokens.row_starts(),
            tf.minimum(tokens.row_lengths(), self.max_length))

    def _of_rows(self, ids, starts, lengths):
        layout = packing.pack(
            starts, lengths, (self.max_length,), self._heads)
        hidden = self._encode(tf.gather(ids, layout.token_index), layout)
        return packing.pool(hidden, layout, self.pooling)
