"""GradientCache for several replicas: each holds the texts of its own rows.

The encoder stands still between two of its steps, so a text has the same
vector wherever it is encoded, and the sum over replicas of what each one's
rows ask of it is what one process would sum.
"""
from __future__ import annotations

import tensorflow as tf

from tfrecal.gradient_cache import GradientCache


class ReplicaCaches:
    """A `GradientCache` a replica; the encoder's step is one of them all.

    Args:
        tables, optimizer, batches: as of a `GradientCache`.
    """

    def __init__(self, tables, optimizer, batches: int):
        self._tables = tables
        self._optimizer = optimizer
        self._batches = batches
        self._caches: list[GradientCache] = []

    def place(self, strategy) -> None:
        """Makes them, on this process's devices; call it out of scope.

        Their variables are each replica's own, no copies of one another.
        """
        if self._caches:
            return
        for device in strategy.extended.worker_devices:
            with tf.device(device):
                self._caches.append(GradientCache(
                    self._tables, self._optimizer, self._batches))
        for number, table in enumerate(self._tables):
            table.held = _OwnVectors(self, number)

        def steps():
            strategy.run(lambda: self.own.step())

        self._steps = tf.function(steps, autograph=False)

    @property
    def own(self) -> GradientCache:
        """That of the replica in whose context this is called."""
        context = tf.distribute.get_replica_context()
        place = tf.get_static_value(context.replica_id_in_sync_group)
        return self._caches[place % len(self._caches)]

    @property
    def weights(self) -> list[tf.Variable]:
        """The encoder's, as of a `GradientCache`."""
        return self._caches[0].weights

    def watched(self) -> list[tf.Variable]:
        """As of a `GradientCache`."""
        return self.own.watched()

    def take(self, of_vectors, of_weights) -> None:
        """As of a `GradientCache`, without its step: see `end_of_batch`."""
        self.own.add(of_vectors, of_weights)

    def start(self, batches: int) -> None:
        """Begins an epoch of so many batches."""
        for cache in self._caches:
            cache.start(batches)
        self._window = int(self._caches[0].window)

    def end_of_batch(self, number: int, batches: int) -> None:
        """All replicas take a step of the encoder where a window ends.

        Args:
            number: of the batch in its epoch.
            batches: of the epoch.
        """
        if (number + 1) % self._window == 0 or number + 1 == batches:
            self._steps()


class _OwnVectors:
    """What a table asks for held vectors: those of the replica."""

    def __init__(self, caches, number):
        self._caches = caches
        self._number = number

    def gather(self, texts: tf.Tensor) -> tf.Tensor:
        return self._caches.own.held[self._number].gather(texts)
