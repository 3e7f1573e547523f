"""How the learning rate falls: at the end of a run, and in each epoch."""
from __future__ import annotations

import numpy as np
import tf_keras


def cosine(highest: float, place: float) -> float:
    """Returns the rate at a place from 0 to 1.

    It falls from `highest` at 0 along a cosine to 5% of it at 1.
    """
    return float(highest * (
        0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * np.clip(place, 0, 1)))))


class FinalCosine(tf_keras.callbacks.LearningRateScheduler):
    """Keeps the full rate while labels come, then lowers it to 5%.

    The decay starts after the last round, so that late labels are learned
    at the same rate as early ones.

    Args:
        learning_rate: the full rate.
        epochs: number of epochs of `fit`.
        final_epochs: number of last epochs over which the rate falls.
        acquire: an `AcquireLabels`, whose rounds may end earlier; or None.
    """

    def __init__(self, learning_rate: float, epochs: int, final_epochs: int,
                 acquire=None):
        super().__init__(self.rate)
        self.learning_rate = learning_rate
        self.epochs = epochs
        self.final_epochs = max(final_epochs, 1)
        self.acquire = acquire

    def rate(self, epoch: int) -> float:
        """Returns the learning rate of an epoch, counted from 0."""
        stop, last = self.epochs, self.final_epochs
        if self.acquire is not None and self.acquire.exhausted:
            stop = min(stop, self.acquire.last_labels + 1 + last)
        return cosine(self.learning_rate, (epoch - (stop - last) + 1) / last)


class RoundCosine(tf_keras.callbacks.Callback):
    """Lowers the learning rate along a cosine to 5% in each epoch.

    Args:
        learning_rate: the rate at the start of an epoch.
    """

    def __init__(self, learning_rate: float):
        super().__init__()
        self.learning_rate = learning_rate

    def on_train_batch_begin(self, batch, logs=None):
        self.model.optimizer.learning_rate.assign(cosine(
            self.learning_rate, batch / max(self.params["steps"] - 1, 1)))
