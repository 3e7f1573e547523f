"""Rateability: can this user answer about this item?"""
from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds
from scipy.special import expit

from tfrecal import checks
from tfrecal.data.pairs import Pairs
from tfrecal.pool.pool import DECLINED, LABELLED

_HELD_OUT = 0.2
_NEGATIVES = 5  # non-pairs a held-out pair
_PRIOR_ANSWERS = 5.0
_BLOCK = 1 << 18


class Rateability:
    """Probability that a user can answer about an item; reads no label.

    The product of two estimates. Whether the two have met comes from the
    natural traffic: a truncated SVD of the user x item matrix of four fifths
    of its pairs, beside the logs of user activity and of item popularity,
    made a probability by a logistic regression (Platt scaling) of the other
    fifth against sampled non-pairs. Whether an answer comes is, once there
    are answers, the rate of answered questions of the user times that of the
    item over the overall rate, each a Beta posterior mean: an answer rate of
    nobody in particular counts as five answers.

    In a pool whose every pair is traffic the numbers only rank.

    Args:
        pool: a `Pool`; the pairs it began with are the traffic.
        rank: of the SVD; less where the matrix is smaller.
        seed: of the SVD's start, the held-out pairs and the non-pairs.

    Reference:
        Cremonesi, Koren and Turrin 2010, "Performance of Recommender
        Algorithms on Top-N Recommendation Tasks" (PureSVD), section 3.2;
        Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """

    def __init__(self, pool, rank: int = 32, seed: int = 0):
        checks.at_least(1, rank=rank)
        self.pool = pool
        self.rank = rank
        self.seed = seed
        # Of a lazy pool, pairs that were only asked are no traffic.
        rows = np.flatnonzero(pool.ticket < 0) if pool.lazy else slice(None)
        user, item = pool.user[rows], pool.item[rows]
        self._shape = pool.user_vocabulary.size, pool.item_vocabulary.size
        rng = np.random.default_rng([seed, 17])
        held_out = rng.random(len(user)) < _HELD_OUT
        self._factorise(user[~held_out], item[~held_out], rng)
        self._calibrate(user, item, held_out, rng)

    def _factorise(self, user, item, rng):
        # Code 0 is nobody.
        matrix = csr_array(
            (np.ones(len(user)), (user - 1, item - 1)),
            shape=(self._shape[0] - 1, self._shape[1] - 1))
        rank = min(self.rank, min(matrix.shape) - 1)
        self._user = np.zeros((self._shape[0], max(rank, 1)))
        self._item = np.zeros((self._shape[1], max(rank, 1)))
        if rank >= 1 and len(user):
            start = rng.normal(size=min(matrix.shape))
            left, values, right = svds(matrix, rank, v0=start)
            self._user[1:], self._item[1:] = left * values, right.T
        self._active = np.log1p(np.bincount(user, minlength=self._shape[0]))
        self._popular = np.log1p(np.bincount(item, minlength=self._shape[1]))

    def _features(self, user, item):
        score = np.einsum("nd,nd->n", self._user[user], self._item[item])
        return np.stack([np.ones(len(user)), score, self._active[user],
                         self._popular[item]], axis=1)

    def _calibrate(self, user, item, held_out, rng):
        width = self._shape[1]
        keys = np.unique(user.astype(np.int64) * width + item)
        size = _NEGATIVES * max(int(held_out.sum()), 200)
        other = np.stack([rng.integers(1, high, size)
                          for high in self._shape]).astype(np.int64)
        other = other[:, ~np.isin(other[0] * width + other[1], keys)]
        pairs = (self._shape[0] - 1) * (width - 1)
        features = np.concatenate([
            self._features(user[held_out], item[held_out]),
            self._features(*other)])
        met = np.arange(len(features)) < held_out.sum()
        # Each sampled pair stands for as many as were not sampled.
        weight = np.where(
            met, len(user) / max(held_out.sum(), 1),
            (pairs - len(keys)) / max(other.shape[1], 1))
        self._weights = fit_logistic(features, met, weight)

    def met(self, user, item) -> np.ndarray:
        """Probability that a pair is in the traffic, `[n]`."""
        found = np.empty(len(user))
        for start in range(0, len(user), _BLOCK):
            part = slice(start, start + _BLOCK)
            found[part] = expit(
                self._features(user[part], item[part]) @ self._weights)
        return found

    def responds(self, user, item) -> np.ndarray:
        """Estimated rate of answers to such questions; 1 before any."""
        pool = self.pool
        asked = (pool.ticket >= 0) & (
            (pool.state == LABELLED) | (pool.state == DECLINED))
        if not asked.any():
            return np.ones(len(user))
        answered = pool.state[asked] == LABELLED
        overall = (answered.sum() + 1) / (len(answered) + 2)
        rates = []
        for codes, size in zip((pool.user[asked], pool.item[asked]),
                               self._shape):
            yes = np.bincount(codes, answered, minlength=size)
            number = np.bincount(codes, minlength=size)
            rates.append((yes + _PRIOR_ANSWERS * overall)
                         / (number + _PRIOR_ANSWERS))
        return np.minimum(rates[0][user] * rates[1][item] / overall, 1)

    def predict(self, pairs: Pairs) -> np.ndarray:
        """Rateability of pairs of the pool's tables, in [0, 1].

        Args:
            pairs: such as `pool.pairs(user, item)`.

        Returns:
            float64 `[n]`.
        """
        return (self.met(pairs.user, pairs.item)
                * self.responds(pairs.user, pairs.item))


def fit_logistic(features, label, weight) -> np.ndarray:
    """Weights of a weighted logistic regression with a small ridge."""
    scale = features.std(axis=0)
    scale[scale < 1e-9] = 1  # that of the intercept
    inputs, weight = features / scale, weight / weight.sum()

    def loss(beta):
        logit = inputs @ beta
        value = weight @ (np.logaddexp(0, logit) - label * logit)
        slope = inputs.T @ (weight * (expit(logit) - label))
        return (value + 1e-6 * beta @ beta / 2, slope + 1e-6 * beta)
    return minimize(loss, np.zeros(inputs.shape[1]), jac=True,
                    method="L-BFGS-B").x / scale
