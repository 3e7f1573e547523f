"""SolveRatings: exact rating vectors at the end of each epoch."""
from __future__ import annotations

import tf_keras

from tfrecal.scoring.ratings import solve_ratings


class SolveRatings(tf_keras.callbacks.Callback):
    """Solves rating vectors and biases of ids in closed form each epoch.

    It comes before the callbacks that judge and buy. See
    `scoring.ratings.solve_ratings`.

    Args:
        pool: the `Pool` that `fit` trains on.
        sweeps: how often both sides are solved at the end of an epoch.
        row_weights: weights of the pool's first rows, see `PoolSequence`.
        share: see `solve_ratings`.

    Raises:
        TypeError: the model offers no rating vectors to be solved.
    """

    def __init__(self, pool, sweeps: int = 1, row_weights=None, share=None):
        super().__init__()
        self.pool = pool
        self.sweeps = sweeps
        self.row_weights = row_weights
        self.share = share

    def on_epoch_end(self, epoch, logs=None):
        solve_ratings(self.model, self.pool, sweeps=self.sweeps,
                      row_weights=self.row_weights, share=self.share)
