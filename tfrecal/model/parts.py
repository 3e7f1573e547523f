"""Parts of a vector whose features come with a request.

A tower trains with them and an export answers with them: one forward pass.
"""
from __future__ import annotations

import tensorflow as tf

from tfrecal.model.histories import mean_rows


class TextVectors(tf.Module):
    """Turns texts into standardised vectors: centred, of a fixed mean norm.

    Args:
        encoder: a function from texts (or token ids) to vectors `[B, dim]`.
        centre: the vector that is subtracted, `[dim]`.
        norm: mean norm of vectors around the centre.
        scale: mean norm of standardised vectors.
    """

    def __init__(self, encoder, centre, norm, scale: float):
        super().__init__()
        self.encoder = encoder
        self.centre = centre
        self.norm = norm
        self.scale = scale

    def __call__(self, texts, **options) -> tf.Tensor:
        """Returns the vectors of texts `[B]`, float32 `[B, dim]`."""
        return self.standardise(self.encoder(texts, **options))

    def standardise(self, vectors) -> tf.Tensor:
        """Returns vectors `[B, dim]`, centred and scaled, float32."""
        return (vectors - self.centre) * (self.scale / self.norm)


class HistoryPart(tf.Module):
    """The mean of a table's rows over the items of a history.

    Args:
        table: float32 `[items + 1, 2d]` by code; row 0 is not read.
    """

    feature = "history"

    def __init__(self, table):
        super().__init__()
        self.table = table

    def __call__(self, features: dict, training: bool = False) -> tf.Tensor:
        """Returns both blocks `[B, 2d]`; `mean_rows` names the features."""
        return mean_rows(self.table, features)


class SearchPart(tf.Module):
    """A search text, by a kernel of its own.

    Args:
        kernel: float32 `[dim, 2d]`.
        vectors: a `TextVectors`, or None for a tower without texts.
    """

    feature = "search_text"

    def __init__(self, kernel, vectors: TextVectors | None):
        super().__init__()
        self.kernel = kernel
        self.vectors = vectors

    def __call__(self, features: dict, training: bool = False) -> tf.Tensor:
        """Returns both blocks `[B, 2d]` of the feature `search_text`."""
        if self.vectors is None:
            raise ValueError(
                "`search_text` needs a model that reads texts. Received: "
                "a query tower without one. Give an `encoder` to "
                "`TwoTower.from_interactions`.")
        options = {"training": True} if training else {}
        return tf.matmul(
            self.vectors(features["search_text"], **options), self.kernel)


class TextPart(tf.Module):
    """The text of an item (or user), by the kernel of its tower.

    Args:
        kernel: float32 `[dim, 2d]`.
        vectors: a `TextVectors`.
    """

    def __init__(self, kernel, vectors: TextVectors):
        super().__init__()
        self.kernel = kernel
        self.vectors = vectors

    def of_vectors(self, vectors) -> tf.Tensor:
        """Returns both blocks `[B, 2d]` of standardised vectors `[B, dim]`."""
        return tf.matmul(vectors, self.kernel)

    def __call__(self, texts) -> tf.Tensor:
        """Returns both blocks `[B, 2d]` of texts `[B]`."""
        return self.of_vectors(self.vectors(texts))


def join(total, bias, query: bool) -> dict:
    """Returns the blocks of a summed vector, with the bias in `rating`.

    In an inner product the bias meets a 1 of the other side.

    Args:
        total: float32 `[B, 2d]`, or the two blocks `([B, d], [B, d])`.
        bias: float32 `[B]`.
        query: True for a query, False for a candidate.

    Returns:
        A dict with `rating` `[B, d + 2]` and `retrieval` `[B, d]`.
    """
    if isinstance(total, tf.Tensor):
        total = tf.split(total, 2, axis=1)
    rating, retrieval = total
    bias = bias[:, tf.newaxis]
    one = tf.ones_like(bias)
    ends = [bias, one] if query else [one, bias]
    return {"rating": tf.concat([rating, *ends], axis=1),
            "retrieval": retrieval}
