"""VOpt: pairs whose labels make the target's predictions surest."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.acquisition.base import Strategy
from tfrecal.acquisition.math.pair_greedy import PairGreedy
from tfrecal.acquisition.math.posterior import PairPosterior


class VOpt(Strategy):
    """Greedy V-optimal design for the target, in closed form.

    A label of (u, i) lowers the mean predictive variance over the target by
    (phi^T S_u M_u S_u phi + psi^T S_i M_i S_i psi) / (1 + v), v = phi^T S_u
    phi + psi^T S_i psi: S are the covariances of a Bayesian linear model on
    the vectors that the towers learned (`PairPosterior`), M the second
    moments of the target. Each pick counts as labelled for the next ones, so
    there are no near-duplicates. No candidate x target matrix is made.

    Use it where the audience differs from the pool, with that audience as
    `target`. With the pool as target it does about as well as random.

    Args:
        components: directions of the vectors that the linear model keeps.
        max_per_user, max_per_item, per_cost: see `Strategy`.

    Reference:
        Yu, Bi and Tresp 2006, "Active Learning via Transductive Experimental
        Design", ICML, equation 8; rank-1 downdates by Sherman and Morrison.
    """

    needs = frozenset({"vectors", "target", "user_traffic", "item_traffic"})

    def __init__(self, batch: str = "top", components: int = 8, **options):
        super().__init__(batch=batch, **options)
        _check_options(self, components)
        self.components = components

    def get_config(self):
        return {**super().get_config(), "components": self.components}

    def utilities(self, view):
        """Returns the drop of the target's mean variance, float64 `[n]`.

        It is in units of the noise's variance.
        """
        greedy = view.kept[self] = self.greedy(view)
        return greedy.gains()

    def greedy(self, view) -> PairGreedy:
        """Returns the gains of this view's candidates, before any pick."""
        return PairGreedy(
            PairPosterior(view, self.components), view.user, view.item,
            (view.target_user, view.target_item, view.target_weight),
            lambda served, variance: served / (1 + variance) + _LEAST)

    def select(self, view, n, rng, utilities=None):
        """Does as the base; prior, rateability and cost multiply the gains,
        which are not scaled."""
        if not len(view):
            return self.weigh(view, n, utilities)[1]
        self.check_needs(view)
        # Picks change it, so it serves one round.
        greedy = view.kept.pop(self, None) or self.greedy(view)
        self.weigh(view, n, greedy.gains() if utilities is None
                   else utilities)
        factors = self.factors(view)
        return greedy.select(
            n, np.ones(len(view)) if factors is None else factors,
            self.limits(view, n), rng)

    def explain(self, view, chosen, utilities):
        """Says how much of the target is about user and item, and how many
        labels they have."""
        sides = []
        for codes, target, labelled in (
                (view.user, view.target_user, view.labelled_user),
                (view.item, view.target_item, view.labelled_item)):
            codes = codes[chosen]
            share = np.zeros(len(chosen)) if target is None else np.bincount(
                target, view.target_weight, 1 + max(
                    target.max(), codes.max(initial=0)))[codes]
            known = np.zeros(len(chosen), int) if labelled is None else (
                (codes[:, None] == labelled).sum(axis=1))
            sides.append((share, known))
        (of_user, user), (of_item, item) = sides
        return [f"{100 * a:.2f}% of the target is about its user, who has "
                f"{b} labels, and {100 * c:.2f}% about its item, which has "
                f"{d}" for a, b, c, d in zip(of_user, user, of_item, item)]


# It lets a prior lift a pair that no pair of the target gains from.
_LEAST = 1e-15


def _check_options(strategy, components):
    if strategy.batch != "top":
        raise ValueError(
            f"`batch` of `{strategy.name}` must be top: its picks depend on "
            f"each other. Received: batch={strategy.batch!r}.")
    checks.whole(1, components=components)
