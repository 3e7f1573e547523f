"""LabelHead: from a score to a predicted label, in TensorFlow and NumPy."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

LOSSES = ("mse", "binary_crossentropy")


@dataclass(frozen=True)
class LabelHead:
    """What a trained model makes of an inner product of rating vectors.

    Its fields are JSON-able.

    Args:
        loss: `"mse"`: the label is the score plus `offset`, clipped to the
            scale; `"binary_crossentropy"`: the probability of 1 is the
            sigmoid of it.
        scale: (lowest, highest) label.
        offset: is added to each score.
    """

    loss: str
    scale: tuple[float, float]
    offset: float

    def __call__(self, score):
        """Labels of scores; a NumPy array is written over.

        Args:
            score: float32 `[...]`, of NumPy or TensorFlow.
        """
        if isinstance(score, np.ndarray):
            score += np.float32(self.offset)
        else:
            score = score + self.offset
        return label_of(score, self.loss, self.scale)


def label_of(raw, loss: str, scale):
    """Label (or probability of 1) of a score with its offset.

    Args:
        raw: float32 `[...]`; a NumPy array is written over.
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
