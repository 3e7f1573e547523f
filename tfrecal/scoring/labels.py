"""Labels: from scores to predicted labels, and their errors in scores."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tfrecal.acquisition.math import probabilities

_STEP = np.float32(1e-2)  # of a slope, in units of a score


class Labels:
    """Turns scores into predicted labels, by a `LabelHead` or any function.

    Args:
        predict: a function from scores, float32 `[n]`, to labels; it may
            write over the scores.
        loss: `"mse"`, or `"binary_crossentropy"` for labels of 0 and 1.
    """

    def __init__(self, predict: Callable, loss: str):
        self.predict = predict
        self.loss = loss

    def __call__(self, score) -> np.ndarray:
        """Returns labels, float32 `[n]`, written over the scores."""
        found = np.asarray(self.predict(score))
        if found is not score:
            score[...] = found
        return score

    def residual(self, score, label):
        """Returns the errors of scores and their variances, `[n]` each.

        Both are in units of the score. A logistic likelihood counts as a normal
        around its logit (Laplace), and any other function as the line that
        touches it.
        """
        predicted = self(score.copy())
        if self.loss == "binary_crossentropy":
            noise = 1 / np.maximum(predicted * (1 - predicted), 1e-3)
            return (label - predicted) * noise, noise
        sigma = probabilities.fit_sigma(label, predicted)
        offset = getattr(self.predict, "offset", None)
        if offset is not None:  # before it is clipped to the scale
            return ((label - np.float32(offset)) - score,
                    np.full(len(score), sigma ** 2))
        slope = (self(score + _STEP) - self(score - _STEP)) / (2 * _STEP)
        slope = np.maximum(np.abs(slope), 1e-3)
        return (label - predicted) / slope, (sigma / slope) ** 2


def labels_of(model, scale) -> Labels:
    """Returns the `Labels` of a model.

    Args:
        model: any model that offers `predict_label`.
        scale: (lowest, highest) label of the pool; where it is (0, 1), the
            predicted label is the probability of 1.

    Raises:
        ValueError: the model predicts no labels.
    """
    from tfrecal.model.protocol import Offers, label_head
    if not Offers.of(model).labels:
        raise ValueError(
            "Predicted labels need a model that offers `predict_label` (a "
            "`TwoTower` needs a `Rating` task). Received: a "
            f"{type(model).__name__} without. Choose a strategy that reads "
            "vectors or counts only, or let the model predict.")
    head = label_head(model)
    if head is not None:
        return Labels(head, head.loss)
    binary = tuple(map(float, scale)) == (0.0, 1.0)
    return Labels(model.predict_label,
                  "binary_crossentropy" if binary else "mse")
