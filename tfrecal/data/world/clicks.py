"""How users of a simulated world click: the position-based model."""
from __future__ import annotations

import numpy as np

from tfrecal.hashes import hashed

VISIT, LOOK, LIKE = 101, 102, 103  # streams of random bits
_LOW = 2 ** 32 - 1


class Clicks:
    """A click is a look at the rank and a liking of the item.

    Both are decided by luck that depends on the visit and on the rank or the
    item only. Two policies on the same visit therefore meet the same luck
    (common random numbers), and what differs between them is their doing.

    Args:
        position_bias: a rank is looked at with probability
            `rank ** -position_bias`.
        seed: of the luck.

    Reference:
        Chuklin, Markov and de Rijke 2015, "Click Models for Web Search",
        the position-based model.
    """

    def __init__(self, position_bias: float, seed: int):
        self.position_bias = position_bias
        self.seed = seed

    def examination(self, k: int) -> np.ndarray:
        """Probability of a look at ranks 1 to `k`, float64 `[k]`."""
        return np.arange(1.0, k + 1) ** -self.position_bias

    def draw(self, user, item, time, attraction) -> np.ndarray:
        """Clicks on lists, bool `[..., k]`.

        Args:
            user: number of the user, int `[...]`.
            item: numbers of the items shown, int `[..., k]`.
            time: of the visit, seconds `[...]`; it counts to the
                millisecond.
            attraction: probability of a liking, `[..., k]`.
        """
        moment = np.rint(1000 * np.asarray(time)).astype(np.int64) & _LOW
        visit = hashed(np.asarray(user)[..., None], moment[..., None],
                       self.seed, VISIT) & np.uint64(_LOW)
        rank = np.arange(item.shape[-1])
        looks = self._luck(visit, rank, LOOK) < self.examination(len(rank))
        return looks & (self._luck(visit, item, LIKE) < attraction)

    def _luck(self, visit, index, stream: int) -> np.ndarray:
        bits = hashed(visit, index, self.seed, stream) >> np.uint64(11)
        return bits * 2.0 ** -53


def seen(clicks) -> np.ndarray:
    """What a log may take for looked at: all down to the last click.

    A company sees clicks, not looks. What stands above a click was most
    probably passed over, about the rest of a list nothing is known.

    Args:
        clicks: bool `[..., k]`, the best rank first.

    Reference:
        Joachims et al. 2005, "Accurately Interpreting Clickthrough Data as
        Implicit Feedback", strategy 1 ("Click > Skip Above").
    """
    backwards = np.flip(np.asarray(clicks, bool), -1)
    return np.flip(np.logical_or.accumulate(backwards, axis=-1), -1)
