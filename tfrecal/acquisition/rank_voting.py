"""RankVoting: several strategies vote by their order."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.combiner import Combiner, ranks


class RankVoting(Combiner):
    """Borda count: the candidates that a pair beats, over all strategies.

    The size of utilities does not count, so strategies of any scale can
    vote; where a strategy finds two equal, each gets half a point. It
    reads the utilities of strategies, also of those whose picks depend on
    each other; `Mixture` takes their picks.

    Reference:
        Elahi, Ricci and Rubens 2014, "Active Learning Strategies for Rating
        Elicitation in Collaborative Filtering: A System-Wide Perspective",
        ACM TIST 5(1), article 13: its "voting".
    """

    def utilities(self, view):
        return np.sum([ranks(values) for values in self.arm_utilities(view)],
                      axis=0)
