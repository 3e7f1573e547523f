"""StopBelowCost: the next labels cost more than they are worth."""
from __future__ import annotations

import warnings

import numpy as np
from scipy.stats import theilslopes

from tfrecal import checks
from tfrecal.callbacks.stop_buying import StopBuying
from tfrecal.metrics.direction import check_monitor, lower_is_better

_ROUNDS = 6  # last rounds of the learning curve, which give its slope


class StopBelowCost(StopBuying):
    """Buys nothing more once a round is expected to gain less than it costs.

    Over the last rounds, the metric is taken to be a straight line in the
    logarithm of the number of labels, as a short piece of a power law is.
    Its slope is the median of the slopes between any two of these rounds,
    which one odd round does not change. From the fourth round on, the gain of
    a further round times `value` is compared with its cost at the mean cost
    of an answer so far. The callback writes both as `expected_gain` and
    `expected_cost` into `logs`.

    Args:
        acquire: the `AcquireLabels` callback; it comes before this one.
        value: what one unit of the metric is worth, in the oracle's unit:
            with value=50_000, 0.01 of NDCG may cost 500.
        monitor: name of a metric in `logs`; not of the test part.
        patience: rounds in a row below cost that end buying.
        mode: `"max"`, `"min"` or `"auto"`, see `StopAtPlateau`.
        final_epochs, verbose: see `StopBuying`.

    Reference:
        Figueroa et al. 2012, "Predicting sample size required for
        classification performance" (inverse power law); Theil 1950 and Sen
        1968 for the slope.
    """

    def __init__(self, acquire, value: float, monitor: str = "val_ndcg@10",
                 patience: int = 2, mode: str = "auto",
                 final_epochs: int = 1, verbose: int = 1):
        super().__init__(acquire, final_epochs, verbose)
        checks.positive(value=value, patience=patience)
        self.value = value
        check_monitor(monitor)
        self.monitor = monitor
        self.patience = patience
        self.mode = mode
        self._sign = -1.0 if lower_is_better(monitor, mode) else 1.0

    def on_train_begin(self, logs=None):
        self._curve: list[tuple[float, float]] = []
        self._below = 0

    def on_epoch_begin(self, epoch, logs=None):
        # The model that this epoch evaluates was trained on these labels.
        self._labelled = self.acquire.pool.counts["labelled"]

    def reason(self, epoch, logs):
        if self.monitor not in logs:
            warnings.warn(
                f"`StopBelowCost` watches `{self.monitor}`, which is not "
                f"there. Available: {', '.join(sorted(logs))}.",
                stacklevel=2)
            return ""
        if not np.isfinite(logs[self.monitor]):
            return ""
        new = not self._curve or self._labelled > self._curve[-1][0]
        point = self._labelled, self._sign * logs[self.monitor]
        self._curve = [*self._curve[:None if new else -1], point][-_ROUNDS:]
        pool, per_round = self.acquire.pool, self.acquire.per_round
        answers = int((pool.state > 1)[pool.ticket >= 0].sum())
        if not new or len(self._curve) < 4 or not answers:
            return ""
        gain = expected_gain(*zip(*self._curve), per_round)
        cost = per_round * pool.spent / answers
        logs.update(expected_gain=gain, expected_cost=cost)
        self._below = self._below + 1 if gain * self.value < cost else 0
        if self._below < self.patience:
            return ""
        return (f"{per_round} more labels cost {cost:g} and are expected to "
                f"move `{self.monitor}` by {gain:.2g}, which is worth "
                f"{gain * self.value:.3g}")


def expected_gain(labelled, metric, per_round: int) -> float:
    """Returns by how much the metric rises with a further round.

    Args:
        labelled: numbers of labels after each round, rising, > 0.
        metric: the metric at each of them, higher is better.
        per_round: number of labels of the further round.
    """
    slope = theilslopes(metric, np.log(labelled)).slope
    return float(slope * np.log1p(per_round / labelled[-1]))
