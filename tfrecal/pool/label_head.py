"""LabelHead: from a score to a predicted label, in TensorFlow and NumPy."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

LOSSES = ("mse", "binary_crossentropy")


@dataclass(frozen=True)
class LabelHead:
    """Turns an inner product of rating vectors into a predicted label.

    Its fields can be written as JSON.

    Args:
        loss: with `"mse"` the label is the score plus `offset`, clipped to
            the scale; with `"binary_crossentropy"` the probability of 1 is
            the sigmoid of this sum.
        scale: (lowest, highest) label.
        offset: number added to each score.
    """

    loss: str
    scale: tuple[float, float]
    offset: float

    def __call__(self, score):
        """Returns labels of scores; a NumPy array is overwritten.

        Args:
            score: float32 `[...]`, of NumPy or TensorFlow.
        """
        if isinstance(score, np.ndarray):
            score += np.float32(self.offset)
        else:
            score = score + self.offset
        return label_of(score, self.loss, self.scale)


def label_of(raw, loss: str, scale):
    """Returns labels (or probabilities of 1) of scores plus offset.

    Args:
        raw: score plus offset, float32 `[...]`; a NumPy array is
            overwritten.
        loss, scale: see `LabelHead`.
    """
    if isinstance(raw, np.ndarray):
        if loss == "binary_crossentropy":
            return expit(raw, out=raw)
        return np.clip(raw, *scale, out=raw)
    import tensorflow as tf  # workers of Beam have none
    if loss == "binary_crossentropy":
        return tf.sigmoid(raw)
    return tf.clip_by_value(raw, *scale)
