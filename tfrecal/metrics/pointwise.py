"""How good single predictions are: errors, AUC, likelihood."""
from __future__ import annotations

import numpy as np


def rmse(label, prediction) -> float:
    """Returns the root mean squared error.

    Args:
        label, prediction: `[n]`.
    """
    label, prediction = _checked_pair(label, prediction)
    return float(np.sqrt(np.mean((label - prediction) ** 2)))


def mae(label, prediction) -> float:
    """Returns the mean absolute error.

    Args:
        label, prediction: `[n]`.
    """
    label, prediction = _checked_pair(label, prediction)
    return float(np.mean(np.abs(label - prediction)))


def auc(label, score) -> float:
    """Returns the chance that a positive scores above a negative.

    Ties count a half. It is the Mann-Whitney statistic over all pairs, from
    mid-ranks.

    Args:
        label: 0 and 1, `[n]`; both must be there.
        score: `[n]`.

    Raises:
        ValueError: there is only one class, or values are not finite.
    """
    label, score = _checked_pair(label, score, binary=True)
    ranks, positives = mid_ranks(score), label.sum()
    negatives = len(label) - positives
    if not positives or not negatives:
        raise ValueError(
            "`label` must hold both 0 and 1 for an AUC. Received: "
            f"{positives:.0f} positives, {negatives:.0f} negatives.")
    above = ranks[label == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def weighted_auc(label, score, weight) -> float:
    """Returns `auc` where a pair of rows counts by the product of weights.

    Args:
        label: 0 and 1, `[n]`.
        score: `[n]`.
        weight: weights above 0, `[n]`.

    Returns:
        The area, or NaN where there is only one class.
    """
    label, score = _checked_pair(label, score, binary=True)
    level = np.unique(score, return_inverse=True)[1]
    good, bad = (np.bincount(level, np.asarray(weight) * (label == kind),
                             minlength=1) for kind in (1, 0))
    both = good.sum() * bad.sum()
    below = np.cumsum(bad) - bad / 2  # ties count a half
    return float((good * below).sum() / both) if both else float("nan")


def log_loss(label, probability) -> float:
    """Returns the mean negative log-likelihood of 0/1 labels, in nats.

    Probabilities are kept 1e-7 (about float32's step below 1) off 0 and 1.

    Args:
        label: 0 and 1, `[n]`.
        probability: probability of 1, `[n]`.

    Raises:
        ValueError: a value is out of range.
    """
    label, probability = _checked_pair(label, probability, binary=True)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError(
            "`probability` must lie in [0, 1]. Received: from "
            f"{probability.min()} to {probability.max()}.")
    p = np.clip(probability, 1e-7, 1 - 1e-7)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p)))


def mid_ranks(values) -> np.ndarray:
    """Returns ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True,
                                   return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _checked_pair(label, prediction, binary: bool = False):
    """Returns both as finite float64 of one length, at least 1."""
    label, prediction = (np.asarray(x, np.float64).reshape(-1)
                         for x in (label, prediction))
    if len(label) != len(prediction) or not len(label):
        raise ValueError(
            "Labels and predictions must be of one length and not empty. "
            f"Received: {len(label)} labels, {len(prediction)} predictions.")
    if not np.isfinite(label).all() or not np.isfinite(prediction).all():
        raise ValueError(
            "Labels and predictions must be finite. Received: "
            f"{np.sum(~np.isfinite(label))} bad labels, "
            f"{np.sum(~np.isfinite(prediction))} bad predictions.")
    if binary and not np.isin(label, (0, 1)).all():
        raise ValueError("`label` must be 0 or 1; binarise ratings first. "
                         f"Received: {label[~np.isin(label, (0, 1))][0]}.")
    return label, prediction
