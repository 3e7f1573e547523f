"""Influence: a label would change the loss on the target much."""
from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.expected_gradient_length import expected_residual


class Influence(Strategy):
    """Expected influence of a label on the loss of the target.

    These are approximations: only query and candidate vectors move; the
    Hessian is its diagonal over the labelled pairs, damped by one average
    labelled pair for each user and item; the target has no labels, so all its
    residuals are taken to be 1 and of one sign. A gradient with respect to a
    user's vector meets only target pairs of this user, one with respect to an
    item's vector only those of this item. With target means g_u = sum of w c_j
    over the target pairs (u, j), g_i likewise, and the diagonals h, the
    utility is E|residual| * |c_i . g_u / h_u + q_u . g_i / h_i|. No table of
    candidates x target pairs is made.

    A user whose target items point in opposite directions has a mean near
    zero and is overlooked; `VOpt` keeps the second moments instead, and
    its picks depend on each other.

    Reference:
        Koh and Liang 2017, "Understanding Black-box Predictions via
        Influence Functions", arXiv 1703.04730, equation 2; with expected
        labels as in Liu et al. 2021, "Influence Selection for Active
        Learning", arXiv 2108.09331.
    """

    needs = frozenset({"mean", "probabilities", "levels", "vectors",
                       "target"})

    def utilities(self, view):
        query = np.asarray(view.query_vectors, np.float64)
        candidate = np.asarray(view.candidate_vectors, np.float64)
        shape = len(query), len(candidate)
        target = csr_array((np.asarray(view.target_weight, np.float64),
                            (view.target_user, view.target_item)), shape)
        known = _labelled_matrix(view, shape)
        of_user = _over_hessian(target @ candidate, known, candidate)
        of_item = _over_hessian(target.T @ query, known.T, query)
        change = np.einsum("nd,nd->n", candidate[view.item],
                           of_user[view.user])
        change += np.einsum("nd,nd->n", query[view.user], of_item[view.item])
        return expected_residual(view) * np.abs(change)


def _labelled_matrix(view, shape) -> csr_array:
    """Returns the labelled pairs as ones in a sparse matrix."""
    if view.labelled_user is None:
        return csr_array(shape)
    return csr_array((np.ones(len(view.labelled_user)),
                      (view.labelled_user, view.labelled_item)), shape)


def _over_hessian(gradient, known, table):
    """Returns gradients divided by the damped diagonal of the Hessian.

    Args:
        gradient: of each user (item) by code, `[users + 1, d]`.
        known: labelled pairs, `[users + 1, items + 1]`.
        table: vectors of the other side, `[items + 1, d]`.
    """
    squares = table ** 2
    diagonal = known @ squares + squares[1:].mean(axis=0)
    # A dimension that is zero everywhere has a gradient of zero too.
    return gradient / np.where(diagonal > 0, diagonal, 1)
