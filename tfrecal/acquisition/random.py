"""Random: pairs at random, the baseline that is hard to beat."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class Random(Strategy):
    """Pairs at random; with a prior, proportionally to the prior.

    Use it as the baseline, and wherever the pool looks like the audience.
    """

    def __init__(self, batch: str = "power", **options):
        super().__init__(batch=batch, **options)

    def utilities(self, view):
        return np.ones(len(view))
