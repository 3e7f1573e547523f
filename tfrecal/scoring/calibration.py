"""Calibration: from predicted labels to class probabilities, in NumPy."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfrecal.acquisition.math import probabilities


@dataclass(frozen=True)
class Calibration:
    """A function from predicted labels to class probabilities.

    Its fields can be written as JSON.

    Args:
        levels: the label of each class, rising.
        sigma: standard deviation for `probabilities.ordinal`; None for 0/1
            labels.
        temperature: for `probabilities.binary`.
    """

    levels: list[float]
    sigma: float | None = None
    temperature: float = 1.0

    @classmethod
    def fit(cls, label, predicted, loss: str, scale) -> "Calibration":
        """Returns the calibration that fits labelled pairs best.

        Args:
            label, predicted: labels and predicted labels, `[m]` each.
            loss, scale: see `tasks.Rating`.

        Raises:
            ValueError: no labelled pair.
        """
        if loss == "binary_crossentropy":
            return cls([0.0, 1.0], temperature=probabilities.fit_temperature(
                label, _logit(predicted)))
        sigma = probabilities.fit_sigma(label, predicted)
        return cls(_levels(label, *scale).tolist(), sigma)

    def __call__(self, predicted) -> np.ndarray:
        """Returns float64 `[..., classes]` for predicted labels `[...]`."""
        if self.sigma is None:
            return probabilities.binary(_logit(predicted), self.temperature)
        return probabilities.ordinal(
            predicted, self.sigma, np.array(self.levels))


def _levels(label, low, high, most=20):
    """Returns the labels of the scale, in the smallest step seen."""
    gaps = np.diff(np.unique(label))
    step = min(gaps.min(initial=1.0), 1.0)
    number = int(round((high - low) / step)) + 1
    return np.linspace(low, high, number if 2 <= number <= most else 5)


def _logit(probability):
    clipped = np.clip(probability, 1e-6, 1 - 1e-6)
    return np.log(clipped) - np.log1p(-clipped)
