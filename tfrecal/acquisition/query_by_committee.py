"""QueryByCommittee: dropout passes vote for different classes."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.entropy import entropy
from tfrecal.acquisition.view import View


class QueryByCommittee(Strategy):
    """Vote entropy: each MC-dropout pass votes for its likeliest class.

    The other classic measure, the mean divergence from the consensus
    (McCallum and Nigam 1998), is the mutual information that `BALD`
    computes: use that one where the probabilities are trusted, since votes
    forget how sure a pass is and tie often.

    Reference:
        Dagan and Engelson 1995, "Committee-Based Sampling for Training
        Probabilistic Classifiers", vote entropy, without the constant that
        scales it to at most 1.
    """

    needs = frozenset({"sample_probabilities"})

    def utilities(self, view):
        return entropy(_votes(view) / max(len(view.sample_probabilities), 1))

    def explain(self, view, chosen, utilities):
        passes = len(view.sample_probabilities)
        most = _votes(view)[chosen].max(axis=1)
        return [f"{passes - top} of {passes} dropout passes vote against the "
                "likeliest class" for top in most]


def _votes(view: View) -> np.ndarray:
    """Returns how many passes vote for each class, int `[n, classes]`."""
    passes = view.sample_probabilities
    votes = np.zeros(passes.shape[1:], np.int64)
    row = np.arange(len(view))
    for one in passes:
        votes[row, one.argmax(axis=-1)] += 1
    return votes
