"""ServedBlock: the linear block of a model in an export."""
from __future__ import annotations

import tensorflow as tf

from tfrecal.model.linear_block import (
    LEAST_NORM,
    all_alike,
    of_norm_1,
    text_kernel,
)
from tfrecal.scoring.block import PlacedBlock


class ServedBlock(tf.Module):
    """Computes the linear block of histories and texts of requests.

    Args:
        block: the block of the model's scorer.
        texts: text vectors of the items, float32 `[items + 1, dim]`, or None.
    """

    def __init__(self, block: PlacedBlock, texts=None):
        super().__init__()
        solved = block.solved
        self._rows = tf.Variable(solved.rows, trainable=False)
        self._stored = tf.Variable(block.queries, trainable=False)
        self._like, self._decay = block.like, solved.options.decay
        self._norm = block.norm
        self._kernel = None
        if texts is not None and solved.graded.any():
            # As `item_texts` gives them, so that an item without labels has
            # one vector by its id and by its text.
            texts = of_norm_1(texts)
            if not all_alike(texts):
                self._kernel = tf.Variable(text_kernel(
                    texts, block.candidates, solved.graded,
                    solved.options.new_items), trainable=False)
        self.rank = solved.rows.shape[1]

    def queries(self, codes, likes, there) -> tf.Tensor:
        """Returns queries of users, float32 `[B, rank]`.

        Args:
            codes: codes of users, int32 `[B]`.
            likes: codes of the items of the request's history, oldest
                first, int32 `[B, None]` padded with 0. An item that is
                there twice counts twice.
            there: bool `[B]`, where the request has a history, which counts
                in place of what the pool knows of the user.
        """
        known = tf.cast(likes > 0, tf.float32)
        age = tf.cumsum(known, axis=1, exclusive=True, reverse=True)
        weight = known * self._like * tf.pow(self._decay, age)
        given = tf.einsum("bh,bhk->bk", weight,
                          tf.gather(self._rows, likes))
        return tf.where(there[:, tf.newaxis], given,
                        tf.gather(self._stored, codes))

    def evidence(self, queries) -> tf.Tensor:
        """Returns what `PlacedBlock.evidence` does, as a tensor."""
        norm = tf.norm(queries, axis=1, keepdims=True)
        return tf.where(norm > 0, norm / self._norm, 1.0)

    def of_texts(self, vectors) -> tf.Tensor:
        """Returns candidates of text vectors `[B, dim]`: `[B, rank]`."""
        if self._kernel is None:
            return tf.zeros([tf.shape(vectors)[0], self.rank])
        norm = tf.norm(vectors, axis=1, keepdims=True)
        return tf.matmul(vectors / tf.maximum(norm, LEAST_NORM), self._kernel)
