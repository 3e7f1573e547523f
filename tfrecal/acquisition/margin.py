"""Margin: the two likeliest classes are close (breaking ties)."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class Margin(Strategy):
    """One minus the gap between the two likeliest classes.

    Reference:
        Scheffer, Decomain and Wrobel 2001, "Active Hidden Markov Models for
        Information Extraction", section 4.
    """

    needs = frozenset({"probabilities"})

    def utilities(self, view):
        probabilities = np.asarray(view.probabilities, np.float64)
        if probabilities.shape[-1] < 2:
            raise ValueError(
                "`margin` compares the two likeliest classes. Received: "
                f"probabilities of shape {probabilities.shape}. Give each "
                "label that the scale allows a class, or choose another "
                "strategy.")
        top = np.partition(probabilities, -2, axis=-1)
        return 1 - (top[:, -1] - top[:, -2])
