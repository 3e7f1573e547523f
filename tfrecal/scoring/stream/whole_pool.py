"""`PoolScorer.top`: a strategy or a score over every pair of a pool."""
from __future__ import annotations

import numpy as np

from tfrecal import acquisition
from tfrecal.acquisition import Strategy
from tfrecal.pool import priors
from tfrecal.pool.pool import UNLABELLED
from tfrecal.scoring.stream.best_pairs import top_pairs
from tfrecal.scoring.stream.pair_tiles import CrossPairs, ListedPairs, Tile
from tfrecal.scoring.stream.tile_scores import MOMENTS, DropoutVariance, Moments

SCORES = (*MOMENTS, "closed_form_variance")
# Users x items of a tile. A view holds more numbers for a pair than a score.
SCORE_SHAPE, VIEW_SHAPE = (200, 1000), (100, 1000)


def top(scorer, strategy, n: int, *, users, items, calibration, target,
        prior, cost, passes, uncertainty, seed):
    """Returns the best pairs; `PoolScorer.top` names the arguments."""
    if not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError("The number of pairs to choose must be a whole "
                         f"number of at least 1. Received: n={n!r}.")
    pool = scorer.pool
    users = _codes("users", users, len(pool.user_ids))
    items = _codes("items", items, len(pool.item_ids))
    options = {"seed": seed, "prior": None if prior is None else (
        lambda user, item: priors.factors_of(prior, pool.pairs(user, item)))}
    if isinstance(strategy, str) and strategy in SCORES:
        shape = SCORE_SHAPE
        score = _named_score(scorer, strategy, passes, uncertainty, seed)
    else:
        shape, strategy = VIEW_SHAPE, acquisition.get(strategy)
        check_pair_by_pair(strategy)
        if strategy.per_cost and cost is None:
            raise ValueError(
                f"`{strategy.name}` with per_cost=True needs `cost`. "
                "Received: cost=None. Pass `oracle.expected_cost`, or leave "
                "`per_cost` out.")
        options.update(
            mode=strategy.batch, temperature=strategy.temperature,
            max_per_user=strategy.max_per_user,
            max_per_item=strategy.max_per_item,
            cost=_cost_by_code(cost, pool) if strategy.per_cost else None)
        score = Pointwise(strategy, scorer.tile_views(
            strategy.needs, calibration, target, passes, uncertainty, seed))
    return top_pairs(
        _free_pairs(pool, users, items, shape), score, n, **options)


def _free_pairs(pool, users, items, shape):
    """Returns the pairs of these users and items that may be asked."""
    if not pool.lazy:
        user, item = pool.candidates()
        keep = np.isin(user, users) & np.isin(item, items)
        return ListedPairs(user[keep], item[keep], shape[0] * shape[1])
    rows = np.flatnonzero(pool.state != UNLABELLED)
    taken = [np.concatenate([codes[rows], others]) for codes, others in
             zip((pool.user, pool.item), pool.excluded_pairs())]
    return CrossPairs(users, items, *taken, shape)


def _named_score(scorer, kind, passes, uncertainty, seed):
    if kind == "closed_form_variance":
        scorer.check_dropout()
        if not hasattr(scorer.model, "linear_parts"):
            raise ValueError(
                "\"closed_form_variance\" needs a model that offers "
                "`linear_parts`. Received: a "
                f"{type(scorer.model).__name__} without. Choose "
                "\"variance\".")
        return DropoutVariance(*(
            scorer.model.linear_parts(side, scorer.parts(side))
            for side in ("query", "candidate")))
    samples = [] if kind == "mean" else scorer.samples(
        passes, uncertainty, seed)
    return Moments(kind, scorer.products(), samples, scorer.labels())


def _cost_by_code(cost, pool):
    """Turns a function of ids into one of codes."""
    def cost_by_code(user, item):
        pairs = pool.pairs(user, item)
        return cost(pairs.user_id, pairs.item_id)
    return cost_by_code


def _codes(name, codes, size):
    """Returns codes without duplicates, rising; all codes for None."""
    if codes is None:
        return np.arange(1, size + 1, dtype=np.int32)
    codes = np.unique(codes)
    if len(codes) and not 1 <= codes[0] <= codes[-1] <= size:
        raise ValueError(f"`{name}` must hold codes from 1 to {size}. "
                         f"Received: {codes[0]} to {codes[-1]}.")
    return codes.astype(np.int32)


def check_pair_by_pair(strategy) -> None:
    """Raises ValueError where a strategy cannot be streamed."""
    for method in ("select", "cap", "weigh"):
        if getattr(type(strategy), method) is not getattr(Strategy, method):
            raise ValueError(
                f"`{strategy.name}` looks at a batch as a whole, so it must "
                "see its candidates at once. Received: a stream of all "
                "pairs. Score a part of them (`candidates=200_000`), or "
                "choose a strategy that scores pair by pair.")


class Pointwise:
    """Utilities of tiles by a strategy that scores pair by pair.

    Args:
        strategy: a `Strategy`.
        views: a function from a `Tile` to its `View`.

    Raises:
        ValueError: in the first tile, the utility of a pair changes when
            there are fewer candidates.
    """

    def __init__(self, strategy, views):
        self.strategy = strategy
        self.views = views
        self._checked = False

    def __call__(self, tile) -> np.ndarray:
        """Returns the utilities of a `Tile`, float64 `[pairs]`."""
        view = self.views(tile)
        self.strategy.check_needs(view)
        values = np.asarray(self.strategy.utilities(view), np.float64)
        if not self._checked:
            self._checked = True
            self._check_alone(tile, values)
        return values

    def _check_alone(self, tile, values):
        some = np.arange(0, len(tile), max(1, len(tile) // 32))
        alone = self.strategy.utilities(self.views(
            Tile(*tile.pairs(some))))
        # Products of other shapes round in another way.
        if not np.allclose(alone, values[some], rtol=1e-3,
                           atol=1e-3 * np.ptp(values) + 1e-6):
            raise ValueError(
                f"A streamed strategy must score pair by pair. Received: "
                f"`{self.strategy.name}`, whose utilities depend on the "
                "other candidates. Score a part of the pairs "
                "(`candidates=200_000`).")
