"""From predicted labels and logits to calibrated class probabilities.

A model trained on squared errors or with a ranking loss has no probabilities
of its own; entropy, margins and mutual information need them.
"""
from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, ndtr

from tfrecal import checks

_MIN_SIGMA = 0.05


def fit_sigma(label: np.ndarray, prediction: np.ndarray) -> float:
    """Returns the standard deviation of labels around predictions.

    It is the root mean square of the residuals, the maximum-likelihood value
    under normal errors, but at least 0.05: a model that has memorised the
    rows must still be unsure.

    Args:
        label, prediction: `[m]`; rows where one is NaN are left out.

    Returns:
        The standard deviation, in the unit of the labels.

    Raises:
        ValueError: no row is left.
    """
    label, prediction = _usable_pairs(label, prediction)
    return float(max(_MIN_SIGMA, np.sqrt(np.mean((label - prediction) ** 2))))


def ordinal(mean: np.ndarray, sigma: float,
            levels: np.ndarray) -> np.ndarray:
    """Returns the probability of each level, for a normal distribution.

    Its mean is the prediction. The line is cut midway between neighbouring
    levels (the latent variable of an ordered probit); the outer levels take
    the tails.

    Args:
        mean: predicted labels, any shape `[...]`.
        sigma: standard deviation > 0.
        levels: the labels that exist, rising, `[classes]`.

    Returns:
        float64 `[..., classes]`, each row sums to 1.
    """
    levels = np.asarray(levels, np.float64)
    checks.positive(sigma=sigma, cure="`fit_sigma` finds it.")
    if levels.ndim != 1 or not len(levels) or (np.diff(levels) <= 0).any():
        raise ValueError(
            "`levels` must be distinct labels in rising order. Received: "
            f"levels={levels}. `np.unique(label)` gives them.")
    cuts = (levels[1:] + levels[:-1]) / 2
    mean = np.asarray(mean, np.float64)[..., None]
    below = ndtr((cuts - mean) / sigma)
    ends = below.shape[:-1] + (1,)
    return np.diff(np.concatenate(
        [np.zeros(ends), below, np.ones(ends)], axis=-1), axis=-1)


def fit_temperature(label: np.ndarray, logit: np.ndarray) -> float:
    """Returns the temperature under which the logits are calibrated.

    It is the number that minimises log-loss (temperature scaling, Guo et al.
    2017, arXiv 1706.04599), between 0.01 and 100.

    Args:
        label: 0, 1 or a probability between them, `[m]`.
        logit: `[m]`.

    Returns:
        The temperature; 1 keeps the logits.
    """
    label, logit = _usable_pairs(label, logit)
    if label.min() < 0 or label.max() > 1:
        raise ValueError(
            "Binary labels must lie between 0 and 1. Received: "
            f"{label.min():g} to {label.max():g}. Use `ordinal` for ratings.")

    def loss(log_temperature):
        scaled = logit * np.exp(-log_temperature)
        return np.mean(np.logaddexp(0, scaled) - label * scaled)
    bound = np.log(100.0)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x))


def binary(logit: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Returns the probabilities of the classes 0 and 1.

    Args:
        logit: any shape `[...]`.
        temperature: > 0, see `fit_temperature`.

    Returns:
        float64 `[..., 2]`.
    """
    checks.positive(temperature=temperature,
                    cure="`fit_temperature` finds it.")
    scaled = np.asarray(logit, np.float64) / temperature
    return np.stack([expit(-scaled), expit(scaled)], axis=-1)


def _usable_pairs(label, prediction):
    label = np.asarray(label, np.float64).ravel()
    prediction = np.asarray(prediction, np.float64).ravel()
    if label.shape != prediction.shape:
        raise ValueError(
            "Labels and predictions must have one length. Received: "
            f"{len(label)} labels, {len(prediction)} predictions.")
    good = np.isfinite(label) & np.isfinite(prediction)
    if not good.any():
        raise ValueError(
            "Calibration needs at least one labelled pair with a finite "
            f"prediction. Received: {len(label)} rows, none usable. Start "
            "the pool with some labels, or pass `calibration`.")
    return label[good], prediction[good]
