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
_NEGATIVES = 5  # non-pairs for each held-out pair
_PRIOR_ANSWERS = 5.0
_TILE = 1 << 18  # pairs at a time


class Rateability:
    """Probability that a user can answer about an item; reads no label.

    It is the product of two estimates. The first, whether user and item have
    met, comes from the natural traffic. A truncated SVD of the user x item
    matrix is made from four fifths of its pairs. A logistic regression
    (Platt scaling) on this score, on the log of user activity and on the log
    of item popularity tells the other fifth from sampled non-pairs. The
    second, whether an answer comes, is 1 before there are answers. Then it is
    the answer rate of the user times that of the item over the overall rate.
    Rates are Beta posterior means, where the overall rate counts as five
    answers.

    In a pool where every pair is traffic the numbers only rank.

    Args:
        pool: a `Pool`; its first pairs are the traffic.
        rank: rank of the SVD, >= 1; less where the matrix is smaller.
        seed: draws the start of the SVD, held-out pairs and non-pairs.

    Raises:
        ValueError: `rank` is below 1.

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
        # Pairs of a lazy pool that were only asked are no traffic.
        rows = np.flatnonzero(pool.ticket < 0) if pool.lazy else slice(None)
        user, item = pool.user[rows], pool.item[rows]
        self._shape = pool.user_vocabulary.size, pool.item_vocabulary.size
        rng = np.random.default_rng([seed, 17])
        held_out = rng.random(len(user)) < _HELD_OUT
        self._factorise(user[~held_out], item[~held_out], rng)
        self._calibrate(user, item, held_out, rng)

    def _factorise(self, user, item, rng):
        # Code 0 is unknown and has no row here.
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
        # Each sampled pair stands for all that were not sampled.
        weight = np.where(
            met, len(user) / max(held_out.sum(), 1),
            (pairs - len(keys)) / max(other.shape[1], 1))
        self._coefficients = fit_logistic(features, met, weight)

    def met(self, user, item) -> np.ndarray:
        """Returns the probability that a pair is in the traffic, `[n]`.

        Args:
            user, item: codes, `[n]`.
        """
        found = np.empty(len(user))
        for start in range(0, len(user), _TILE):
            rows = slice(start, start + _TILE)
            found[rows] = expit(
                self._features(user[rows], item[rows]) @ self._coefficients)
        return found

    def responds(self, user, item) -> np.ndarray:
        """Returns the estimated rate of answers, `[n]`; 1 before any.

        Args:
            user, item: codes, `[n]`.
        """
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
        """Returns the rateability of pairs, in [0, 1].

        Args:
            pairs: pairs over the pool's tables, such as
                `pool.pairs(user, item)`.

        Returns:
            float64 `[n]`.
        """
        return (self.met(pairs.user, pairs.item)
                * self.responds(pairs.user, pairs.item))


def fit_logistic(features, label, weight) -> np.ndarray:
    """Returns the coefficients of a logistic regression with a small ridge.

    Args:
        features: float64 `[n, D]`, the first of them 1.
        label: 0 or 1, `[n]`.
        weight: weight of each row, > 0, `[n]`.
    """
    scale = features.std(axis=0)
    scale[scale < 1e-9] = 1  # the constant's
    inputs, weight = features / scale, weight / weight.sum()

    def loss(beta):
        logit = inputs @ beta
        value = weight @ (np.logaddexp(0, logit) - label * logit)
        slope = inputs.T @ (weight * (expit(logit) - label))
        return (value + 1e-6 * beta @ beta / 2, slope + 1e-6 * beta)
    return minimize(loss, np.zeros(inputs.shape[1]), jac=True,
                    method="L-BFGS-B").x / scale
