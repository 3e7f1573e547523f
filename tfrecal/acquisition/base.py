"""Strategy: turns what labels would teach into the picks of a round."""
from __future__ import annotations

import inspect
import re

import numpy as np

from tfrecal import checks
from tfrecal.acquisition import picking
from tfrecal.acquisition.quota import Quota
from tfrecal.acquisition.view import View
from tfrecal.checks import check_weights

_FIELDS = {"vectors": ("query_vectors", "candidate_vectors"),
           "target": ("target_user", "target_item", "target_weight")}


class Strategy:
    """Turns utilities of pairs into the picks of a round.

    A subclass writes `utilities`, and names in `needs` the optional fields
    of `View` that it reads.

    With a prior, the utilities of the n candidates whose factor is not zero
    are min-max-scaled to [1 / n, 1] (all 1 where all are equal) and
    multiplied by the factors. So a factor of zero forbids a pair, equal
    factors leave the order as it is, and a factor more than n times as large
    as the others puts any pair first.

    Args:
        batch: how the picks of a round are made. `"top"` takes the highest
            utilities. The others draw without replacement, so that the
            picks are not near-duplicates: `"power"` with chances
            proportional to `u ** (1 / temperature)` (where a utility is
            negative, all are shifted to a minimum of zero), `"softmax"` to
            `exp(u / temperature)`, `"softrank"` to
            `rank ** (-1 / temperature)`.
        temperature: of these draws, > 0; towards zero they become `"top"`.
        max_per_user, max_per_item: most picks of one user or one item in a
            round; there are fewer picks than asked for where nothing else
            is left.
        per_cost: divides the utilities, scaled in the same way, by the
            view's `cost`.
        rateable: multiplies the utilities, scaled in the same way, by the
            view's `rateability`: the chance that an answer comes.
        quotas: `Quota`s that the picks of each round keep.

    Reference:
        Kirsch et al. 2021, "Stochastic Batch Acquisition", arXiv 2106.12059,
        sections 3 and 4: the inverse of its beta is the temperature.
    """

    name = "strategy"
    needs: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = re.sub(
                r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, batch: str = "top", temperature: float = 1.0,
                 max_per_user: int | None = None,
                 max_per_item: int | None = None, per_cost: bool = False,
                 rateable: bool = False, quotas: list[Quota] | None = None):
        checks.one_of("batch", batch, picking.MODES)
        checks.positive(
            temperature=temperature,
            cure="Use batch=\"top\" for picks without chance.")
        checks.finite(temperature=temperature)
        checks.at_least(1, cure="None is no cap.", **checks.given(
            max_per_user=max_per_user, max_per_item=max_per_item))
        self.batch = batch
        self.temperature = temperature
        self.max_per_user = max_per_user
        self.max_per_item = max_per_item
        self.per_cost = per_cost
        self.rateable = rateable
        if rateable:
            self.needs = self.needs | {"rateability"}
        self.quotas = None if quotas is None else [
            quota if isinstance(quota, Quota) else Quota(**quota)
            for quota in quotas]

    def utilities(self, view: View) -> np.ndarray:
        """Returns how much a label of each candidate would teach.

        Args:
            view: the candidates, `n` of them.

        Returns:
            float64 `[n]`, higher is better.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must define `utilities(view)`.")

    def select(self, view: View, n: int, rng: np.random.Generator,
               utilities: np.ndarray | None = None) -> np.ndarray:
        """Chooses the pairs to be asked.

        Args:
            view: the candidates.
            n: how many to choose, >= 1.
            rng: breaks ties and draws picks.
            utilities: what `self.utilities(view)` returned, to save the
                second computation.

        Returns:
            Indices into the view, int64, distinct, best first; fewer than
            `n` where the candidates, the caps or the prior leave no more.

        Raises:
            ValueError: a needed field is missing, a utility is not finite,
                or `n`, the prior or the costs are out of range.
            TypeError: `n` is not a whole number.
        """
        values, allowed = self.weigh(view, n, utilities)
        if not len(allowed):
            return allowed
        keys = picking.keys(values, self.batch, self.temperature, rng)
        order = allowed[picking.order(keys, rng)]
        return self.cap(view, order, n)

    def explain(self, view: View, chosen: np.ndarray,
                utilities: np.ndarray) -> list[str]:
        """Says why each chosen pair is asked, in words for a report.

        A subclass says what its utility is made of.

        Args:
            view: the candidates.
            chosen: some of the indices that `select` returned, `[k]`.
            utilities: what `utilities(view)` returned, `[n]`.

        Returns:
            `k` clauses without the names of user and item, such as "its
            utility 0.31 is in the top 2% of 48,000 candidates".
        """
        order = np.sort(utilities)
        higher = len(order) - np.searchsorted(
            order, utilities[chosen], side="right")
        return [f"its {self.name} utility {utilities[i]:.3g} is in the top "
                f"{max(100 * place / len(order), 0.1):.1f}% of "
                f"{len(order):,} candidates"
                for i, place in zip(chosen, higher + 1)]

    def weigh(self, view: View, n: int, utilities=None):
        """Checks the view and applies prior, rateability and cost.

        Args:
            view, n, utilities: see `select`.

        Returns:
            `(values float64 [m], allowed int64 [m])`: the utilities and the
            indices of the candidates whose prior is not zero.

        Raises:
            ValueError, TypeError: see `select`.
        """
        if not isinstance(n, (int, np.integer)):
            raise TypeError(
                "The number of pairs to choose must be an int. Received: "
                f"n={n!r}.")
        if n <= 0:
            raise ValueError(
                "The number of pairs to choose must be at least 1. Received: "
                f"n={n}.")
        size = len(view)
        allowed = np.arange(size)
        if not size:
            return np.zeros(0), allowed
        self.check_needs(view)
        factors = self.factors(view)
        values = np.asarray(
            self.utilities(view) if utilities is None else utilities,
            np.float64)
        if values.shape != (size,) or not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ValueError(
                f"Utilities of `{self.name}` must be finite, one for each of "
                f"{size} candidates. Received: shape={values.shape}, {bad} "
                "that are NaN or infinite. Look at the predictions: a model "
                "that diverged gives NaN.")
        if factors is None:
            return values, allowed
        if view.prior is not None:
            allowed = np.flatnonzero(np.asarray(view.prior) > 0)
        return picking.scaled(values[allowed]) * factors[allowed], allowed

    def factors(self, view: View) -> np.ndarray | None:
        """Returns what multiplies the scaled utilities; None for nothing.

        Returns:
            Prior times rateability divided by cost, float64 `[n]`; those
            that do not count are left out.
        """
        factors = [self._checked_factor(view, name) for name, used in (
            ("prior", view.prior is not None),
            ("rateability", self.rateable), ("cost", self.per_cost)) if used]
        if self.per_cost:
            factors[-1] = 1 / factors[-1]
        return np.prod(factors, axis=0) if factors else None

    def cap(self, view: View, order: np.ndarray, n: int) -> np.ndarray:
        """Returns the first `n` of `order` that keep caps and quotas."""
        return picking.capped(order, n, self.limits(view, n))

    def caps(self, view: View) -> list:
        """Returns `(codes [n], most)` for `max_per_user` and `max_per_item`."""
        return [(codes, most) for codes, most in (
            (view.user, self.max_per_user), (view.item, self.max_per_item))
            if most is not None]

    def limits(self, view: View, n: int) -> picking.Limits:
        """Returns caps and quotas for `n` picks, with nothing taken yet."""
        caps, reserved = self.caps(view), []
        for quota in self.quotas or ():
            codes = quota.codes(view.item)
            if quota.at_most:
                caps.append((codes, quota.most(n)))
            if quota.at_least:
                places = quota.least(n)
                reserved.append((codes, places, n - places.sum()))
        return picking.Limits(caps, reserved)

    def check_needs(self, view: View) -> None:
        """Raises ValueError where the view lacks a field of `needs`."""
        for need in sorted(self.needs):
            for field in _FIELDS.get(need, (need,)):
                if getattr(view, field) is None:
                    raise ValueError(
                        f"`{self.name}` reads `{field}` of the view. "
                        f"Received: {field}=None. Make the view with "
                        "`PoolScorer.view(user, item, needs=strategy.needs)`"
                        f", or pass `{field}` to `View`.")

    def _checked_factor(self, view: View, field: str) -> np.ndarray:
        found = getattr(view, field)
        if found is None:
            option = {"cost": "per_cost", "rateability": "rateable"}[field]
            raise ValueError(
                f"`{self.name}` with {option}=True reads `{field}` of the "
                f"view. Received: {field}=None. Pass the {field} of the "
                f"candidates, or leave `{option}` out.")
        return check_weights(found, len(view), field,
                             positive=field == "cost")

    def get_config(self) -> dict:
        """Returns the constructor arguments; they can be written as JSON."""
        return {"batch": self.batch, "temperature": self.temperature,
                "max_per_user": self.max_per_user,
                "max_per_item": self.max_per_item, "per_cost": self.per_cost,
                "rateable": self.rateable,
                "quotas": None if self.quotas is None else [
                    quota.get_config() for quota in self.quotas]}

    def __repr__(self) -> str:
        defaults = {}
        for kind in reversed(type(self).__mro__):
            made = vars(kind).get("__init__")
            if inspect.isfunction(made):
                defaults.update(inspect.signature(made).parameters)
        config = self.get_config()
        given = [name for name in sorted(config) if name not in defaults
                 or config[name] != defaults[name].default]
        # A strategy within a strategy is short as an attribute.
        shown = (vars(self).get(name, config[name]) for name in given)
        return f"{type(self).__name__}(" + ", ".join(
            f"{name}={value!r}" for name, value in zip(given, shown)) + ")"

    def observe(self, logs: dict, labelled: dict[str, int]) -> dict:
        """Notes how training went, before the next pairs are chosen.

        Only strategies that adjust themselves need it.

        Args:
            logs: logs of the epoch, with metrics of held-out rows.
            labelled: pairs labelled so far, by the name of the strategy that
                chose them.

        Returns:
            Numbers for the logs.
        """
        return {}

    def state(self) -> dict:
        """Returns what a resumed run needs; it can be written as JSON."""
        return {}

    def restore(self, state: dict) -> None:
        """Continues from what `state` returned."""

    @classmethod
    def from_config(cls, config: dict) -> "Strategy":
        """Returns the strategy whose `get_config` gave `config`."""
        return cls(**config)
