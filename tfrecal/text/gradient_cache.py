"""The encoder's gradient over many batches, each text encoded once (GradCache).

The same rows of a catalogue come in every batch, and the encoder is by far the
most expensive component of a step. So the vectors of texts are held while the
towers take several steps, and the gradients of these vectors are summed. Then
the encoder takes one step with the sum, text by text in chunks of bounded
memory. This is the exact gradient of those batches, because the encoder did
not change meanwhile.

Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup" (arXiv 2101.06983), sec. 3.2: their representation gradients
(eq. 5) are summed here over the steps of the towers.
"""
from __future__ import annotations

import tensorflow as tf


class HeldVectors:
    """Vectors of a table's texts, and the sum of the loss's gradients.

    It is no layer: its variables are no weights of a model and in no
    checkpoint. Between two steps of the encoder it can be thrown away.

    Args:
        table: a `TextTable` of an encoder that is trained.

    Attributes:
        vectors: variable `[texts + 1, dim]`; a text's row counts while its
            `held` is true.
    """

    def __init__(self, table):
        shape = [table.num_texts + 1, table.encoder.dim]
        self._encode = table.encode_texts
        self._chunks = table.chunks
        self.vectors = tf.Variable(tf.zeros(shape), trainable=False)
        self._sums = tf.Variable(tf.zeros(shape), trainable=False)
        self._held = tf.Variable(tf.zeros(shape[:1], tf.bool),
                                 trainable=False)

    def gather(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns vectors of distinct texts `[n]`; encodes missing ones."""
        missing = tf.boolean_mask(texts, ~tf.gather(self._held, texts))

        def fill(rows):
            self.vectors.scatter_nd_update(
                rows[:, tf.newaxis],
                tf.stop_gradient(self._encode(rows, True)))

        _for_each_chunk(self._chunks(missing), fill)
        self._held.scatter_nd_update(
            missing[:, tf.newaxis], tf.ones_like(missing, tf.bool))
        return tf.gather(self.vectors, texts)

    def add(self, gradient: tf.IndexedSlices | None) -> None:
        """Adds the gradient of a batch's loss by the vectors."""
        if gradient is not None:
            self._sums.scatter_add(tf.IndexedSlices(
                tf.convert_to_tensor(gradient.values), gradient.indices))

    def back(self, weights, sums) -> None:
        """Adds the gradient of the encoder's weights to `sums`."""
        rows = tf.cast(tf.where(self._held)[:, 0], tf.int32)

        def chunk(rows):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(weights)
                vectors = self._encode(rows, True)
            found = tape.gradient(
                vectors, weights, tf.gather(self._sums, rows))
            _add(sums, found)

        _for_each_chunk(self._chunks(rows), chunk)

    def forget(self) -> None:
        """Drops all vectors and sums."""
        self._sums.assign(tf.zeros_like(self._sums))
        self._held.assign(tf.zeros_like(self._held))


class GradientCache:
    """Takes a step of an encoder after several batches.

    Args:
        tables: the `TextTable`s of the towers; their encoders must have no
            dropout, because a text is encoded twice and must give the same
            vector.
        optimizer: the optimizer of the encoder.
        batches: most batches for one step of the encoder: an epoch is
            divided into windows of similar length and ends with the last.
    """

    def __init__(self, tables, optimizer, batches: int):
        self.batches = batches
        self._optimizer = optimizer
        self.held = []
        weights = {}
        for table in tables:
            table.held = HeldVectors(table)
            self.held.append(table.held)
            weights.update({weight.ref(): weight for weight
                            in table.encoder.trainable_weights})
        self.weights = list(weights.values())
        self._sums = [tf.Variable(tf.zeros_like(weight), trainable=False)
                      for weight in self.weights]
        self.window = tf.Variable(batches, trainable=False)
        self._count = tf.Variable(0, trainable=False)
        self._left = tf.Variable(tf.int32.max, trainable=False)

    def watched(self) -> list[tf.Variable]:
        """Returns the variables to watch, beside the weights."""
        return [held.vectors for held in self.held]

    def take(self, of_vectors, of_weights) -> None:
        """Takes in a batch's gradients; at the end of a window, steps.

        Args:
            of_vectors: a `tf.IndexedSlices` or None for each of `watched`.
            of_weights: a gradient or None for each of `weights`, from texts
                that are in no table.
        """
        self.add(of_vectors, of_weights)
        self._left.assign_sub(1)
        tf.cond((self._count >= self.window) | (self._left <= 0), self.step,
                lambda: None)

    def add(self, of_vectors, of_weights) -> None:
        """Takes in a batch's gradients, without the step."""
        for held, gradient in zip(self.held, of_vectors):
            held.add(gradient)
        _add(self._sums, of_weights)
        self._count.assign_add(1)

    def step(self) -> None:
        """Takes a step of the encoder with what was taken in."""
        for held in self.held:
            held.back(self.weights, self._sums)
        batches = tf.cast(self._count, tf.float32)
        self._optimizer.apply_gradients(
            (total / batches, weight)
            for total, weight in zip(self._sums, self.weights))
        self.forget()

    def forget(self) -> None:
        """Drops all sums."""
        for held in self.held:
            held.forget()
        for total in self._sums:
            total.assign(tf.zeros_like(total))
        self._count.assign(0)

    def start(self, batches: int | None) -> None:
        """Begins an epoch.

        Args:
            batches: number of its batches; None if unknown.
        """
        self.forget()
        window = self.batches
        if batches:
            window = -(-batches // -(-batches // window))
        self.window.assign(window)
        self._left.assign(batches or tf.int32.max)

    def end(self) -> None:
        """Ends an epoch, with a step for a last, shorter window."""
        self._left.assign(tf.int32.max)
        if self._count > 0:  # how many batches there are was not known
            self._last_step()

    @tf.function(autograph=False)
    def _last_step(self) -> None:
        self.step()


def _for_each_chunk(chunks, do) -> None:
    """Calls `do` with the rows of each chunk, one after the other."""
    rows, ends = chunks

    def body(number, start):
        do(rows[start:ends[number]])
        return number + 1, ends[number]

    tf.while_loop(lambda number, start: number < tf.size(ends), body,
                  (tf.constant(0), tf.constant(0)), parallel_iterations=1)


def _add(sums, gradients) -> None:
    for total, gradient in zip(sums, gradients):
        if isinstance(gradient, tf.IndexedSlices):
            # Each row once: the order of several additions is not fixed.
            rows, place = tf.unique(gradient.indices)
            total.scatter_add(tf.IndexedSlices(tf.math.unsorted_segment_sum(
                gradient.values, place, tf.size(rows)), rows))
        elif gradient is not None:
            total.assign_add(gradient)
