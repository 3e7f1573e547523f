"""How users of a simulated world click: the position-based model."""
from __future__ import annotations

import numpy as np

from tfrecal.hashes import hashed

VISIT, LOOK, LIKE = 101, 102, 103  # streams of random bits
_LOW = 2 ** 32 - 1


class Clicks:
    """Draws clicks: a user looks at the rank, and likes the item.

    Both depend on random numbers of the visit and of the rank or the item
    only. So two policies on the same visit meet the same numbers (common
    random numbers), and differences between them are their own.

    Args:
        position_bias: a rank is looked at with probability
            `rank ** -position_bias`.
        seed: draws the random numbers.

    Reference:
        Chuklin, Markov and de Rijke 2015, "Click Models for Web Search",
        the position-based model.
    """

    def __init__(self, position_bias: float, seed: int):
        self.position_bias = position_bias
        self.seed = seed

    def examination(self, k: int) -> np.ndarray:
        """Returns probabilities of looks at ranks 1 to `k`, float64 `[k]`."""
        return np.arange(1.0, k + 1) ** -self.position_bias

    def draw(self, user, item, time, attraction) -> np.ndarray:
        """Draws clicks on lists.

        Args:
            user: number of the user, int `[...]`.
            item: numbers of the items shown, int `[..., k]`.
            time: time of the visit in seconds, `[...]`; milliseconds count.
            attraction: probability that the user likes the item, `[..., k]`.

        Returns:
            bool `[..., k]`.
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
    """Returns what a log may count as looked at: all down to the last click.

    A company sees clicks, not looks. Items above a click were most probably
    seen and not liked; nothing is known about the rest of a list.

    Args:
        clicks: bool `[..., k]`, the best rank first.

    Returns:
        bool `[..., k]`.

    Reference:
        Joachims et al. 2005, "Accurately Interpreting Clickthrough Data as
        Implicit Feedback", strategy 1 ("Click > Skip Above").
    """
    backwards = np.flip(np.asarray(clicks, bool), -1)
    return np.flip(np.logical_or.accumulate(backwards, axis=-1), -1)
