"""TextTable: a catalogue of texts in the form that trains fastest."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from tfrecal.text import encode_many, state_cache
from tfrecal.text.options import check_texts


@tf_keras.saving.register_keras_serializable(package="tfrecal")
class TextTable(tf_keras.layers.Layer):
    """Makes vectors of rows of a table of texts; see `TextEncoder.table`.

    What training cannot change is computed once, when the table is made: all
    of a frozen encoder, the layers below the lowest trained one for `top_n`,
    the token ids for the other tunings. A batch then runs only the trained
    layers on its distinct texts. The table has no weights of its own and adds
    nothing to a checkpoint: it is made again from its texts.

    The weights of layers that are not trained must not change afterwards.
    With `top_n` the hidden states take 4 x hidden bytes a token. They are
    kept on disk for the next time (`state_cache`); up to 1 GiB is read into
    memory, and more is mapped from disk.

    Args:
        encoder: a `TextEncoder`.
        texts: the texts of rows 1, 2, ...; row 0 stands for an unknown text,
            whose vector is zero.

    Example:
        table = TextEncoder("minilm", tuning="top_n").table(titles)
        vectors = table(tf.constant([1, 1, 7]))
    """

    def __init__(self, encoder, texts: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.texts = check_texts(texts)
        distinct = list(dict.fromkeys(self.texts))
        self.num_texts = len(distinct)
        # `gradient_cache` puts vectors here while a model trains with it.
        self.held = None
        number = {text: n + 1 for n, text in enumerate(distinct)}
        rows = np.array([0] + [number[t] for t in self.texts], np.int32)
        vectors = np.concatenate(
            [
                np.zeros([1, encoder.dim], np.float32),
                encoder.encode(distinct, progress=True),
            ]
        )
        # Vectors of rows 0..n, `[n + 1, dim]`, under the weights of the time
        # when the table was made.
        self.initial = vectors[rows]
        # These are tensors, not variables: a graph captures them without a
        # copy, an export saves them, and a checkpoint does not.
        if encoder.tuning == "frozen":
            self._vectors = tf.constant(self.initial)
            return
        self._text_of_row = tf.constant(rows)
        states = (state_cache.states_of(encoder, distinct)
                  if encoder.layers_below else None)
        self._stored = states is not None
        if states is None:
            ids, lengths = encode_many.tokenize(encoder, distinct)
            starts = np.cumsum(lengths) - lengths
            self._kept = tf.constant(ids)
        else:
            values, starts, lengths = states
            on_disk = isinstance(values, np.memmap)
            # A function, because Keras would track what is not a tensor.
            self._kept = (_gathered(values) if on_disk
                          else tf.constant(values))
        self._lengths = tf.constant([0, *lengths], tf.int32)
        self._starts = tf.constant([0, *starts], tf.int32)

    def call(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors of rows `[B]`, float32 `[B, dim]`."""
        if self.encoder.tuning == "frozen":
            return tf.gather(self._vectors, rows)
        texts, place = tf.unique(tf.gather(self._text_of_row, rows))
        if training and self.held is not None:
            vectors = self.held.gather(texts)
        else:
            vectors = self.encode_texts(texts, training)
        return tf.gather(vectors, place)

    def encode_texts(self, texts: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns vectors of distinct texts `[n]`, float32 `[n, dim]`."""
        encode = (
            self.encoder.encode_states
            if self._stored
            else self.encoder.encode_ids
        )
        return encode(
            self._kept,
            tf.gather(self._starts, texts),
            tf.gather(self._lengths, texts),
            training,
        )

    def chunks(self, texts: tf.Tensor, tokens: int = encode_many.STEP_TOKENS):
        """Cuts numbers of texts into chunks of at most so many tokens.

        A text that is longer is a chunk of its own.

        Returns:
            The numbers, short texts first, and where each chunk ends.
        """
        lengths = tf.gather(self._lengths, texts)
        order = tf.argsort(lengths, stable=True)
        texts = tf.gather(texts, order)
        ends = tf.cumsum(tf.gather(lengths, order))
        chunk = tf.maximum(ends - 1, 0) // tokens
        _, _, sizes = tf.unique_with_counts(chunk)
        return texts, tf.cumsum(sizes)

    def get_config(self):
        serialise = tf_keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "encoder": serialise(self.encoder),
            "texts": self.texts,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["encoder"] = tf_keras.saving.deserialize_keras_object(
            config["encoder"]
        )
        return cls(**config)


def _gathered(values: np.ndarray):
    """Returns a function that reads rows of what is mapped from disk."""

    def gather(rows):
        found = tf.numpy_function(
            lambda rows: np.asarray(values[rows]), [rows], tf.float32,
            stateful=False)
        found.set_shape([None, values.shape[1]])
        return found

    return gather
