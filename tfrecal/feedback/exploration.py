"""Exploration: some places of a list show pairs whose label is wanted."""
from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from tfrecal import checks
from tfrecal.data.columns import clean_id
from tfrecal.feedback.log.throttled_log import Notices
from tfrecal.feedback.wanted_pairs import Wanted
from tfrecal.serving.client.connection import ServingUnavailable

# Bounds of the panels of integration, in standard deviations of each
# Gaussian: on a panel, eight points of Gauss follow every distribution
# function.
_BOUNDS = np.array([-9, -7, -5.5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5.5, 7, 9])
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)

METHODS = ("epsilon_greedy", "thompson")
_MOST = 10  # wanted items among which a slot draws
_SMALLEST_SD = 1e-6
_SMALLEST_CHANCE = 1e-12


class Explored(NamedTuple):
    """A list as it is to be shown.

    Attributes:
        item_ids: as many as before, each once.
        scores: float32; NaN where exploration put an item.
        propensities: float64, the probability with which each item got to
            its rank.
        strategies: names of the strategies that wanted the pairs; "" for
            the model's own items.
    """

    item_ids: list[str]
    scores: np.ndarray
    propensities: np.ndarray
    strategies: list[str]


class Exploration:
    """Gives slots of lists to items that acquisition wants a user to see.

    A list of n items has `share * n` slots, rounded down. It is cut into as
    many equal stretches, and the last place of each is a slot. The first
    place is never one, because it is looked at most and a poor item costs
    most there. The slots are not all at the end either, because hardly
    anybody looks there and hardly a label would come back. Lists of fewer
    than `1 / share` items stay as they are.

    Wanted items that the model's list holds or the request excludes are left
    out. The others are dealt to the slots in turn by utility, ten to a slot
    at most, and each slot draws from its own items alone. So no item can
    appear twice, slots are independent, and propensities are exact. With
    "epsilon_greedy" a slot shows each of its m wanted items with probability
    epsilon / m, else the model's item. With "thompson" it draws from a
    Gaussian for each of them and for the model's item (mean `rating`,
    standard deviation `uncertainty`) and shows the item with the greatest
    draw. The model is asked for these scores in a second request; where they
    do not come, the list stays as it is.

    Use it where labels can come from traffic; not in search results, where
    items that do not answer the text are out of place: `Recommender` leaves
    them alone.

    Args:
        wanted: called for a mapping of user ids to lists of (item id,
            strategy, utility), now and every `seconds` by a thread.
            `by_user` makes one of a store's open questions.
        share: share of places that are slots, in (0, 0.5].
        method: "epsilon_greedy" or "thompson".
        epsilon: probability that a slot with wanted items shows one, in
            (0, 1]. Below 1 the model's item is seen there too; otherwise
            nothing could be said about it. "thompson" does not use it.
        seconds: time between two calls of `wanted`.
        seed: fixes all draws, together with a request id.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> explore = Exploration(lambda: by_user(store.questions()))
        >>> shop = Recommender("localhost:8500", log=log, explore=explore)
    """

    def __init__(self, wanted: Callable[[], Mapping], share: float = 0.2,
                 method: str = "epsilon_greedy", epsilon: float = 0.5,
                 seconds: float = 60.0, seed: int = 0):
        checks.lies_in("(0, 0.5]", share=share)
        checks.lies_in("(0, 1]", epsilon=epsilon)
        checks.one_of("method", method, METHODS)
        checks.positive(seconds=seconds)
        self.wanted = Wanted(wanted, seconds)
        self.share, self.method, self.epsilon = share, method, epsilon
        self.seed = seed
        self._notices = Notices(__name__)

    def explore(self, request_ids: Sequence[str], users: Sequence[str],
                item_ids: Sequence[list[str]], scores: Sequence[np.ndarray],
                exclude: Sequence[Sequence[str]] | None = None,
                score: Callable | None = None,
                history: Sequence[Sequence[str]] | None = None
                ) -> list[Explored]:
        """Returns lists as they are to be shown.

        Args:
            request_ids: an id for each list.
            users: a user id for each list.
            item_ids: the items of each of the model's lists.
            scores: the scores of these items.
            exclude: for each list, ids that must not be shown.
            score: `(users, items)` -> `Scores`, for "thompson"; with
                `history` it is called by that name, a list for each pair.
            history: for each list, the history that was asked with.

        Returns:
            An `Explored` for each list.
        """
        if exclude is None:
            exclude = [()] * len(users)
        hands = [self._hands(*row) for row in zip(users, item_ids, exclude)]
        beliefs = None
        if self.method == "thompson":
            askers = [(user, ()) for user in users] if history is None else [
                (user, tuple(row)) for user, row in zip(users, history)]
            beliefs = self._beliefs(askers, item_ids, hands, score,
                                    history is not None)
            if beliefs is None:
                hands = [{} for _ in hands]
            else:
                beliefs = [beliefs.get(asker) for asker in askers]
        return [self._draw(*row) for row in zip(
            request_ids, item_ids, scores, hands,
            beliefs or [None] * len(hands))]

    def _hands(self, user: str, items: list[str], exclude
               ) -> dict[int, list[tuple[str, str]]]:
        """Returns place -> the wanted items among which it draws."""
        count = int(self.share * len(items) + 1e-9)
        if not count:
            return {}
        free, taken = [], {*items, *(clean_id(item, "item_id")
                                     for item in exclude)}
        for pair in self.wanted.of(user):
            if pair[0] not in taken:
                taken.add(pair[0])
                free.append(pair)
                if len(free) == count * _MOST:
                    break
        return {(slot + 1) * len(items) // count - 1: free[slot::count]
                for slot in range(min(count, len(free)))}

    def _beliefs(self, askers, item_ids, hands, score, by_history: bool):
        """Returns asker -> item -> (mean, sd) of all that may be drawn.

        None says that the model gave no scores.

        Args:
            askers: user and history of each list.
            item_ids, hands: of each list.
            score: see `explore`.
            by_history: whether it is asked with histories.
        """
        pairs = list(dict.fromkeys(
            (asker, item)
            for asker, items, slots in zip(askers, item_ids, hands)
            for place, hand in slots.items()
            for item in (items[place], *(found for found, _ in hand))))
        if not pairs:
            return {}
        users, items = zip(*((user, item) for (user, _), item in pairs))
        given = {"history": [row for (_, row), _ in pairs]} if by_history \
            else {}
        try:
            found = score(users, items, **given)
        except (ServingUnavailable, ValueError) as error:
            self._notices.say("score", (
                "Scores must be had for `method` thompson. Received: "
                f"{error!r} Lists are shown without exploration."))
            return None
        mean = np.asarray(found.rating, float)
        sd = np.asarray(found.uncertainty, float)
        # Nothing is known of these pairs: their rating is a mean.
        sd = np.where(np.array(found.source, str) == "none", 0, sd) \
            if len(found.source) else sd
        if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
            self._notices.say("score", (
                "Ratings and uncertainties must be finite for `method` "
                "thompson. Received: others. Lists are shown without "
                "exploration; serve a model with dropout."))
            return None
        told = {}
        for (asker, item), *belief in zip(
                pairs, mean, np.maximum(sd, _SMALLEST_SD)):
            told.setdefault(asker, {})[item] = belief
        return told

    def _draw(self, request_id, items, scores, hands, beliefs):
        items, strategies = list(items), [""] * len(items)
        scores = np.array(scores, np.float32)
        propensities = np.ones(len(items))
        if hands:
            rng = self._generator(request_id)
            for place, hand in hands.items():
                arms = [(items[place], ""), *hand]
                if beliefs is None:
                    chances = np.full(len(arms), self.epsilon / len(hand))
                    chances[0] = 1 - self.epsilon
                    arm = 0
                    if rng.random() < self.epsilon:
                        arm = 1 + int(rng.integers(len(hand)))
                else:
                    mean, sd = np.transpose(
                        [beliefs[item] for item, _ in arms])
                    chances = chance_to_be_greatest(mean, sd)
                    arm = int(rng.normal(mean, sd).argmax())
                items[place], strategies[place] = arms[arm]
                propensities[place] = min(1, max(
                    chances[arm], _SMALLEST_CHANCE))
                if arm:
                    scores[place] = np.nan
        return Explored(items, scores, propensities, strategies)

    def _generator(self, request_id: str) -> np.random.Generator:
        text = f"{self.seed} {request_id}".encode("utf-8", "surrogatepass")
        return np.random.default_rng(int.from_bytes(
            hashlib.blake2b(text, digest_size=16).digest(), "big"))


def chance_to_be_greatest(mean, sd) -> np.ndarray:
    """Returns P(draw i is the greatest of independent Gaussian draws).

    This is the integral of density i times the other distribution functions.
    It is taken by Gauss-Legendre on panels that follow the scale of every
    Gaussian; the error is below 1e-9 also where scales differ by orders of
    magnitude.

    Args:
        mean: `[m]`.
        sd: `[m]`, positive.

    Returns:
        float64 `[m]`; the sum is 1.

    Reference:
        Thompson sampling: Russo et al. 2018, arXiv 1707.02038. This is its
        probability of an action.
    """
    mean, sd = np.asarray(mean, float), np.asarray(sd, float)
    bounds = np.unique(mean + sd * _BOUNDS[:, np.newaxis])
    half = np.diff(bounds)[:, np.newaxis] / 2
    x = (bounds[:-1, np.newaxis] + half + half * _POINTS).reshape(-1, 1)
    weight = (half * _WEIGHTS).reshape(-1, 1)
    z = (x - mean) / sd
    below = ndtr(z)
    # Products over the others are taken from both sides, because a division
    # could be 0/0.
    before = np.cumprod(below, axis=1)
    after = np.cumprod(below[:, ::-1], axis=1)[:, ::-1]
    others = np.ones_like(below)
    others[:, 1:] *= before[:, :-1]
    others[:, :-1] *= after[:, 1:]
    density = np.exp(-z * z / 2) / (sd * np.sqrt(2 * np.pi))
    return (weight * density * others).sum(axis=0)
