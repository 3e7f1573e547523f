"""ExpectedGradientLength: a label would change the last layer much."""
from __future__ import annotations

import numpy as np

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.view import View


class ExpectedGradientLength(Strategy):
    """Expected norm of the last layer's gradient.

    The loss (q . c - label)^2 has the gradient 2 (q . c - label) [c, q] with
    respect to the query vector q and the candidate vector c, so its expected
    norm is twice the expected absolute residual times sqrt(|q|^2 + |c|^2).
    No array of classes x dimensions is made.

    It prefers long vectors (busy users and popular items) and noise that no
    label removes.

    Reference:
        Settles and Craven 2008, "An Analysis of Active Learning Strategies
        for Sequence Labeling Tasks", section 3.3.
    """

    needs = frozenset({"mean", "probabilities", "levels", "vectors"})

    def utilities(self, view):
        squares = [np.einsum("nd,nd->n", table, table, dtype=np.float64)
                   for table in (view.query_vectors, view.candidate_vectors)]
        length = np.sqrt(squares[0][view.user] + squares[1][view.item])
        return 2 * expected_residual(view) * length

    def explain(self, view, chosen, utilities):
        residual = expected_residual(view)
        return [f"its label is expected to miss the prediction by "
                f"{residual[i]:.2g}, which would move the vectors of its "
                f"user and item by {utilities[i]:.2g} (length of the "
                "gradient)" for i in chosen]


def expected_residual(view: View) -> np.ndarray:
    """Returns the expected |label - predicted label|, `[n]`."""
    mean = np.asarray(view.mean, np.float64)
    found = np.zeros(len(view))
    for level, share in zip(view.levels, np.transpose(view.probabilities)):
        found += share * np.abs(mean - level)
    return found
