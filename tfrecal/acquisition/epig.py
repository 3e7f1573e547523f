"""EPIG: what a label tells about the target's labels."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.math.posterior import PairPosterior, groups


class EPIG(Strategy):
    """Expected predictive information gain, for a linear Gaussian model.

    It is the mean over the target of the mutual information of two labels:
    the candidate's and the target pair's. This is -log(1 - r^2) / 2, where r
    is their correlation, with the noise of labels (`PairPosterior`). Pairs
    that share neither user nor item have r = 0.

    `batch="power"` is the default: the top n would be near-duplicates.
    `VOpt` is similar, with variance in place of information, and its picks
    depend on each other.

    Args:
        most: how many target pairs of one user or item are looked at; of
            more, so many are taken, evenly spaced, to stand for all.

    Reference:
        Bickford Smith et al. 2023, "Prediction-Oriented Bayesian Active
        Learning", arXiv 2304.08151, equation 5; the Gaussian case is in
        appendix.
    """

    needs = frozenset({"vectors", "target", "user_traffic", "item_traffic"})

    def __init__(self, batch: str = "power", most: int = 64, **options):
        super().__init__(batch=batch, **options)
        checks.whole(1, most=most)
        self.most = most

    def get_config(self):
        return {**super().get_config(), "most": self.most}

    def utilities(self, view):
        """Returns nats about a target label, float64 `[n]`."""
        if not len(view):
            return np.zeros(0)
        posterior = PairPosterior(view)
        noisy = 1 + posterior.variance(view.user, view.item)
        target = view.target_user, view.target_item
        served = 1 + posterior.variance(*target)
        found = np.zeros(len(view))
        for side, codes in enumerate((view.user, view.item)):
            other = (view.item, view.user)[side]
            rows_of = dict(groups(target[side]))
            features = posterior.features[side]
            for code, rows in groups(codes):
                if code not in rows_of:
                    continue
                there, weight = self._thin_out(
                    rows_of[code], view.target_weight)
                found[rows] += _information(
                    features[other[rows]], features[target[1 - side][there]],
                    posterior.covariance[side][code], noisy[rows],
                    served[there], weight)
        return found

    def _thin_out(self, rows, weight):
        """Returns at most `most` rows, and their weights with the old sum."""
        if len(rows) <= self.most:
            return rows, weight[rows]
        kept = rows[np.linspace(0, len(rows) - 1, self.most).astype(int)]
        total = weight[kept].sum()
        if not total:
            return kept, weight[kept]
        return kept, weight[kept] * (weight[rows].sum() / total)


def _information(phi, served_phi, covariance, noisy, served, weight,
                 tile: int = 1 << 16) -> np.ndarray:
    """Returns the weighted sums of mutual informations, float64 `[rows]`."""
    found = np.empty(len(phi))
    pull = covariance @ served_phi.T
    for start in range(0, len(phi), tile):
        rows = slice(start, start + tile)
        r2 = (phi[rows] @ pull) ** 2 / (noisy[rows, None] * served)
        found[rows] = -np.log1p(-np.minimum(r2, 1 - 1e-12)) @ weight / 2
    return found
