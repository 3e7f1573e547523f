"""The users and items of a simulated world, and their hidden tastes.

Every draw comes from a generator of its own, keyed by seed, purpose and day,
so that no call changes what another call returns.
"""
from __future__ import annotations

import numpy as np
import pandas as pd

from tfrecal.data.sets.shop import TOPICS

HIDDEN = 4            # dimensions of taste that no text tells
_BASE = -3.0          # logit of a click on an average item that is seen
_TOPIC, _OWN, _QUALITY = 1.3, 1.0, 0.7  # sd of the logit's terms
_FASHION = 0.2        # share of the variance of tastes that all users share
_STATED = 2.0         # how well users know what they like; 0 is not at all
_OFF_TOPIC = 0.2      # share of an item's words that tell nothing
_TAIL = 1.0           # sd of log activity
_PAST = 10 ** 6       # keys must not be negative, days may be
_COUNTRIES = ["chile", "finland", "ghana", "india", "japan", "portugal"]
USERS, ITEMS, FASHION, DRIFT, VISITS, LISTS = range(6)  # purposes


def keyed(seed: int, purpose: int, day: int = 0) -> np.random.Generator:
    """Returns a generator for one purpose on one day."""
    return np.random.default_rng([seed, purpose, day + _PAST])


class Users:
    """Users who like topics, change their minds and join over time.

    Tastes are a stationary Ornstein-Uhlenbeck process. Such a process looks
    the same backwards, so the past is drawn from the present with the same
    step.

    Args:
        topics: number of topics.
        drift: rate per day; see `World`.
        activity: mean visits of a user per day.
        seed: draws everything random.

    Attributes:
        state: normal [1 + users, topics + HIDDEN]; the first row is the
            fashion that all users share. Never changed in place.
        activity: expected visits of each user per day.
        table: what is known of the users, by user id.
    """

    def __init__(self, topics: int, drift: float, activity: float, seed: int):
        self.drift, self.seed = drift, seed
        self._mean, self._topics = activity, list(TOPICS)[:topics]
        self.state = keyed(seed, FASHION).normal(size=(1, topics + HIDDEN))
        self.activity = np.empty(0)
        self.table = pd.DataFrame()

    def arrive(self, number: int, day: int) -> None:
        """Lets some users join; their texts are what they like that day."""
        rng = keyed(self.seed, USERS, day)
        state = rng.normal(size=(number, self.state.shape[1]))
        self.state = np.concatenate([self.state, state])
        self.activity = np.concatenate([self.activity, self._mean * np.exp(
            rng.normal(-_TAIL ** 2 / 2, _TAIL, number))])
        # Gumbel noise and the two largest: two draws without replacement
        # from the softmax of the tastes.
        topics = self._topics
        said = _STATED * tastes(self.state)[
            len(self.table):, :len(topics)] + rng.gumbel(
                size=(number, len(topics)))
        first, second = np.argsort(-said, axis=1)[:, :2].T
        rows = pd.DataFrame({
            "about": [f"likes {topics[a]} and {topics[b]}"
                      for a, b in zip(first, second)],
            "country": rng.choice(_COUNTRIES, number)},
            index=_ids("u", len(self.table), number))
        self.table = pd.concat([self.table, rows]).rename_axis("user_id")

    def change(self, day: int) -> None:
        """Lets tastes drift by one day, to `day`."""
        self.state = self.step(self.state, day)

    def step(self, state: np.ndarray, day: int) -> np.ndarray:
        """Returns the state a day later or, for the past, a day earlier."""
        noise = keyed(self.seed, DRIFT, day).normal(size=state.shape)
        return (np.exp(-self.drift) * state
                + np.sqrt(-np.expm1(-2 * self.drift)) * noise)


def tastes(state: np.ndarray) -> np.ndarray:
    """Returns tastes of users, `[users, topics + HIDDEN]`, of variance 1."""
    return (np.sqrt(1 - _FASHION) * state[1:]
            + np.sqrt(_FASHION) * state[:1])


class Items:
    """Items of some topics and a quality that no text tells.

    Args:
        topics: number of topics.
        seed: draws everything random.

    Attributes:
        traits: float [items, topics + HIDDEN].
        bias: logit of a click of a user without tastes, float [items].
        table: `title` and `description` by item id.
    """

    def __init__(self, topics: int, seed: int):
        self.seed = seed
        self._words = np.array([TOPICS[n] for n in list(TOPICS)[:topics]])
        self.traits = np.empty((0, topics + HIDDEN))
        self.bias = np.empty(0)
        self.table = pd.DataFrame()

    def arrive(self, number: int, day: int) -> None:
        """Adds new items."""
        rng = keyed(self.seed, ITEMS, day)
        topics = len(self._words)
        mixture = rng.dirichlet(np.full(topics, 0.25), number)
        # Its mean squared length is 1, by the variance of a Dirichlet draw.
        about = (mixture - 1 / topics) / np.sqrt(
            (1 - 1 / topics) / (topics / 4 + 1))
        own = rng.normal(0, HIDDEN ** -0.5, (number, HIDDEN))
        self.traits = np.concatenate([self.traits, np.concatenate(
            [_TOPIC * about, _OWN * own], axis=1)])
        self.bias = np.concatenate(
            [self.bias, rng.normal(_BASE, _QUALITY, number)])
        rows = self._texts(mixture, rng)
        rows.index = _ids("i", len(self.table), number)
        self.table = pd.concat([self.table, rows]).rename_axis("item_id")

    def _texts(self, mixture: np.ndarray, rng) -> pd.DataFrame:
        topics, words = self._words.shape
        shares = (1 - _OFF_TOPIC) * mixture + _OFF_TOPIC / topics
        chance = rng.random((len(mixture), 8, 1))
        topic = (chance > shares.cumsum(1)[:, None, :-1]).sum(2)
        drawn = self._words[topic, rng.integers(0, words, topic.shape)]
        return pd.DataFrame({
            "title": [f"{a} {b}" for a, b in drawn[:, :2]],
            "description": [
                f"{a} and {b} with {c}, for everyone who likes {d}, {e} and "
                f"{f}" for a, b, c, d, e, f in drawn[:, 2:]]})


def _ids(letter: str, start: int, number: int) -> list[str]:
    return [f"{letter}{n:06d}" for n in range(start + 1, start + number + 1)]
