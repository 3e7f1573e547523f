"""ServedEncoder: a trained text encoder in the form that is exported."""

from __future__ import annotations

import tensorflow as tf

from tfrecal import checks
from tfrecal.text.head import Head
from tfrecal.text.layers import int8, packing, transformer

PRECISIONS = ("float32", "bfloat16", "int8")
# Bytes of weights that may become constants: a graph holds 2 GB at most.
_MOST_CONSTANT = 1 << 30


class ServedEncoder(tf.Module):
    """Makes vectors of strings or ids; `TextEncoder.for_serving` makes it.

    It computes what `TextEncoder` computes, but is fastest for single texts.
    What would be done to the weights in each call is done once. Attention
    pads all texts of a batch to one length, which takes a tenth of the
    operations. Weights are constants, which TensorFlow brings into the order
    of its products once; weights of 1 GB and more stay variables.

    Args:
        base, architecture: the model and its kind.
        tokenizer: the encoder's tokenizer.
        layers: the `LayerWeights` of each distinct layer.
        pooling, max_length: see `TextEncoder`.
        head: what follows pooling.
        precision: precision of products with weights, see `TextEncoder`; or
            `"int8"`: kernels in 7 bits, activations and word embeddings in 8.
            `"int8"` runs on x86 with oneDNN, which TensorFlow Serving uses by
            default.

    Raises:
        ValueError: the precision is unknown, or `"int8"` and the weights take
            1 GB or more.
    """

    def __init__(self, base, architecture, tokenizer, layers, *,
                 pooling: str, head: Head, max_length: int, precision: str):
        super().__init__()
        checks.one_of("precision", precision, PRECISIONS)
        form = architecture.form
        self.pooling = pooling
        self._head = head
        self.max_length = max_length
        self._heads = form.heads
        self._tokenizer = tokenizer
        words = architecture.words(base)
        table = int8.Table(words) if precision == "int8" else None
        # The variables of `base` that are used below, kept as an attribute so
        # that they are exported.
        used = [*architecture.below(base), *architecture.above(base),
                *architecture.constant(base)]
        variables = [v for each in used for v in getattr(
            each, "variables", [each]) if table is None or v is not words]
        self._kept = variables + (table.variables if table else [])
        weights = self._fixed([
            transformer.prepare_weights(each, form, precision)
            for each in layers], precision)
        order = architecture.order(base)
        # `step` and `encode` are closures, so that neither the whole of `base`
        # nor a second graph is exported.
        step = transformer.make_layer(
            form, 1, 0.0, precision, architecture.attention)

        def encode(ids, layout):
            layout = architecture.arrange(base, layout)
            rows = table.gather(ids) if table else tf.gather(words, ids)
            hidden = architecture.embed(base, rows, layout)
            for number in order:
                own = tf.nest.map_structure(
                    tf.convert_to_tensor, weights[number])
                hidden = step(hidden, layout, own, tf.zeros([2], tf.int32))
            return architecture.finish(base, hidden)

        self._encode = encode

    def _fixed(self, weights, precision):
        """Makes weights constants, or variables if a graph cannot hold them."""
        flat = tf.nest.flatten(weights)
        self.bytes = sum(int(tf.size(w)) * w.dtype.size
                         for w in flat + self._kept)
        if sum(int(tf.size(w)) * w.dtype.size for w in flat) < _MOST_CONSTANT:
            # These are copies, also for layers that are trained further,
            # because a value that was read from a variable is a new tensor.
            return tf.nest.map_structure(tf.identity, weights)
        if precision == "int8":
            raise ValueError(
                "Weights of layers in int8 must take less than 1 GB. "
                "Received: an encoder with more. Choose \"bfloat16\".")
        self._weights = tf.nest.map_structure(
            lambda w: tf.Variable(w, trainable=False), weights)
        return self._weights

    @property
    def spec(self) -> tf.TensorSpec:
        """The spec of its input: texts, or padded ids of a client."""
        if self._tokenizer.in_graph:
            return tf.TensorSpec([None], tf.string, "text")
        return tf.TensorSpec([None, None], tf.int32, "token_ids")

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Turns strings `[n]`, or int32 ids `[n, length]`, into vectors.

        Ids come from tokenizers that run on the client; each -1 among them,
        wherever it stands, is padding.

        Returns:
            float32 `[n, dim]`.
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
        return self._head(packing.pool(hidden, layout, self.pooling))
