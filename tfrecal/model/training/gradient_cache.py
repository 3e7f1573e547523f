"""When an encoder takes a step in `fit`, and on several replicas.

The gradient itself is that of `text.gradient_cache`.
"""
from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.text.gradient_cache import GradientCache


class EncoderSteps(tf_keras.callbacks.Callback):
    """Begins and ends the windows of a `GradientCache` with the epochs.

    Args:
        source: what `fit` trains on. Its length may grow and is asked in
            each epoch: Keras' `params["steps"]` is that of the first epoch of
            this `fit`.
    """

    def __init__(self, source):
        super().__init__()
        self.source = source

    def on_epoch_begin(self, epoch, logs=None):
        sequence = isinstance(self.source, tf_keras.utils.Sequence)
        self.model.gradient_cache.start(
            len(self.source) if sequence else self.params.get("steps"))

    def on_epoch_end(self, epoch, logs=None):
        self.model.gradient_cache.end()


def check(batches: int, encoders, adversarial: float) -> None:
    """Raises ValueError where `encoder_every` is not possible.

    Args:
        batches: batches for one step of the encoder.
        encoders: the model's `TextEncoder`s.
        adversarial: see `TwoTower.compile`.
    """
    checks.whole(1, encoder_every=batches)
    if batches == 1:
        return
    dropout = max((encoder.dropout for encoder in encoders), default=0.0)
    if dropout:
        raise ValueError(
            "`encoder_every` above 1 needs encoders without dropout: held "
            "vectors must be those that the gradient is taken of. Received: "
            f"encoder_every={batches}, dropout={dropout}.")
    if adversarial:
        raise ValueError(
            "`encoder_every` above 1 holds the vectors that `adversarial` "
            f"would move. Received: encoder_every={batches}, adversarial="
            f"{adversarial}. Choose one of them.")


class ReplicaCaches:
    """A `GradientCache` for each replica, with a common encoder step.

    Args:
        tables, optimizer, batches: see `GradientCache`.
    """

    def __init__(self, tables, optimizer, batches: int):
        self._tables = tables
        self._optimizer = optimizer
        self._batches = batches
        self._caches: list[GradientCache] = []

    def place(self, strategy) -> None:
        """Makes the caches on this process's devices.

        Call it outside of the strategy's scope: each replica has its own
        variables, which are no copies of one another.
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
        """The cache of the replica in whose context this is called."""
        context = tf.distribute.get_replica_context()
        place = tf.get_static_value(context.replica_id_in_sync_group)
        return self._caches[place % len(self._caches)]

    @property
    def weights(self) -> list[tf.Variable]:
        """The weights of the encoder."""
        return self._caches[0].weights

    def watched(self) -> list[tf.Variable]:
        """Returns the variables to watch; see `GradientCache`."""
        return self.own.watched()

    def take(self, of_vectors, of_weights) -> None:
        """Takes in gradients without a step; `end_of_batch` takes it."""
        self.own.add(of_vectors, of_weights)

    def start(self, batches: int) -> None:
        """Begins an epoch of `batches` batches."""
        for cache in self._caches:
            cache.start(batches)
        self._window = int(self._caches[0].window)

    def end_of_batch(self, number: int, batches: int) -> None:
        """Takes a step of the encoder on all replicas if a window ends.

        Args:
            number: number of the batch in its epoch, from 0.
            batches: number of batches of the epoch.
        """
        if (number + 1) % self._window == 0 or number + 1 == batches:
            self._steps()


class _OwnVectors:
    """Gives a table the held vectors of the replica that asks."""

    def __init__(self, caches, number):
        self._caches = caches
        self._number = number

    def gather(self, texts: tf.Tensor) -> tf.Tensor:
        return self._caches.own.held[self._number].gather(texts)
