"""Popularity: items with the most traffic first."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy


class Popularity(Strategy):
    """Pairs whose item has the most traffic.

    A baseline: people can answer for what they know, but such labels teach
    little that is new.
    """

    needs = frozenset({"item_traffic"})

    def utilities(self, view):
        return np.asarray(view.item_traffic, np.float64)[view.item]
