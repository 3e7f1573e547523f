"""World: a simulated marketplace whose truth is known."""
from __future__ import annotations

import numpy as np
import pandas as pd

from tfrecal.data.interactions import Interactions
from tfrecal.data.sets.shop import TOPICS
from tfrecal.data.world import inhabitants
from tfrecal.data.world.clicks import Clicks, seen
from tfrecal.data.world.inhabitants import Items, Users, tastes

DAY = 86_400.0
_START = 1_700_006_400.0  # midnight before day 0
_SHOWN = 10               # length of the lists in the log


class World:
    """Users who visit, look at lists and click, day by day.

    Use it for tests and examples of the feedback loop, and to compare
    policies. It assumes:

    - A click needs two independent things (the position-based model): the
      user looks at the rank, with probability `rank ** -position_bias`, and
      the item attracts, with probability sigmoid(quality + taste x traits).
      Corrections for position by rank are right here by construction; users
      who stop at the first good item would break them.
    - Pairs differ about one half by topics, which texts tell, one third by
      tastes, which no text tells, and else by quality. A fifth of the
      variance of tastes is a fashion common to all. Texts hold words off
      topic, what users say of themselves is noisy and gets old, and their
      country tells nothing.
    - Tastes drift whatever is shown: no user is influenced by a list, tires
      of an item or leaves. An item can be clicked again.
    - A few users make most visits. New users visit on their first day.

    No call changes what another call returns. In two worlds with the same
    arguments, a visit looks at the same ranks and likes the same items, so
    policies can be compared in pairs.

    Args:
        users, items: how many there are on day 0.
        topics: number of topics, of `tfrecal.data.sets.shop.TOPICS`.
        seed: draws everything random.
        drift: rate per day; tastes of days `d` apart correlate by
            `exp(-drift * d)`. 0 for none.
        arrivals_users, arrivals_items: new users and items per day; may be
            fractions.
        position_bias: see `Clicks`; with 0 all ranks are looked at.
        activity: mean visits of a user per day.

    Attributes:
        day: the present day, from 0.
        now: first second of the day, since 1970.
        users, items: tables of today's users and items, by id.

    Raises:
        ValueError: a number is out of range.

    Example:
        world = World(seed=1)
        data = world.log(days=14)
        for user_id, time in world.visits().itertuples(index=False):
            shown = world.items.index[:10]
            clicked = world.respond(user_id, shown, time)
        world.next_day()
    """

    def __init__(self, users: int = 300, items: int = 200, topics: int = 8,
                 seed: int = 0, drift: float = 0.02,
                 arrivals_users: float = 3.0, arrivals_items: float = 2.0,
                 position_bias: float = 1.0, activity: float = 0.5):
        for name, value, low, high in (
                ("users", users, 1, np.inf), ("items", items, 1, np.inf),
                ("topics", topics, 2, len(TOPICS)), ("seed", seed, 0, np.inf),
                ("drift", drift, 0, np.inf),
                ("arrivals_users", arrivals_users, 0, np.inf),
                ("arrivals_items", arrivals_items, 0, np.inf),
                ("position_bias", position_bias, 0, np.inf),
                ("activity", activity, 0, np.inf)):
            if not low <= value <= high or value == np.inf:
                raise ValueError(
                    f"`{name}` must be a finite number of at least {low}"
                    f"{f' and at most {high}' if high < np.inf else ''}. "
                    f"Received: {name}={value}.")
        self.seed, self.day = seed, 0
        self._first = users, items
        self._arrivals = arrivals_users, arrivals_items
        self._clicks = Clicks(position_bias, seed)
        self._users = Users(topics, drift, activity, seed)
        self._users.arrive(users, 0)
        self._items = Items(topics, seed)
        self._items.arrive(items, 0)
        self._state = self._users.state
        self._taste = tastes(self._state)

    def __repr__(self) -> str:
        return (f"World(day {self.day}: {len(self.users):,} users, "
                f"{len(self.items):,} items, seed={self.seed})")

    @property
    def now(self) -> float:
        return _START + self.day * DAY

    @property
    def users(self) -> pd.DataFrame:
        return self._users.table

    @property
    def items(self) -> pd.DataFrame:
        return self._items.table

    def next_day(self) -> None:
        """Goes to the next day: tastes drift, users and items arrive."""
        before, self.day = self._sizes(self.day), self.day + 1
        self._users.change(self.day)
        new = np.subtract(self._sizes(self.day), before)
        for group, number in zip((self._users, self._items), new):
            if number:
                group.arrive(number, self.day)
        self._taste = tastes(self._users.state)

    def visits(self) -> pd.DataFrame:
        """Returns the day's visits, `user_id` and `time`, by time."""
        user, time = self._visits(self.day)
        return pd.DataFrame({"user_id": self.users.index[user],
                             "time": time})

    def respond(self, user_id, item_ids, time) -> np.ndarray:
        """Returns the clicks on a list that is shown, or on many lists.

        Args:
            user_id: one id, or `[n]`.
            item_ids: `[k]`, or `[n, k]`; rank 1 first.
            time: time of the visit in the present day; one, or `[n]`.

        Returns:
            bool `[k]` or `[n, k]`; the same for the same visit and list.

        Raises:
            ValueError: an id is unknown, or a time is of another day.
        """
        user, item = self._user(user_id), self._item(item_ids)
        time = np.asarray(time, np.float64)
        inside = (time >= self.now) & (time < self.now + DAY)
        if not inside.all():
            raise ValueError(
                f"`time` must lie in day {self.day}, from {self.now:.0f} to "
                f"{self.now + DAY:.0f}. Received: time={time[~inside][:1]}. "
                "Use the times of `visits()`.")
        return self._clicks.draw(
            user, item, time,
            self._attraction(self._taste, user[..., None], item))

    def attraction(self, user_ids, item_ids) -> np.ndarray:
        """Returns the probability of a click on a seen item, float64.

        Args:
            user_ids, item_ids: pairs, `[n]` each, or shapes that broadcast,
                such as `users[:, None]` and `[n, k]`.
        """
        return self._attraction(self._taste, self._user(user_ids),
                                self._item(item_ids))

    def examination(self, k: int) -> np.ndarray:
        """Returns probabilities of looks at ranks 1 to `k`, float64 `[k]`."""
        return self._clicks.examination(k)

    def expected_clicks(self, user_ids, item_ids) -> np.ndarray:
        """Returns the expected clicks on lists, by a closed form.

        Args:
            user_ids: `[n]`, or one id.
            item_ids: lists `[n, k]`, or one list `[k]`.

        Returns:
            float64 `[n]`, or a scalar.
        """
        user = np.asarray(user_ids, object)[..., None]
        chance = self.attraction(user, item_ids)
        return chance @ self.examination(chance.shape[-1])

    def best(self, user_ids, k: int) -> np.ndarray:
        """Returns ids of the `k` items that truly attract most, `[n, k]`."""
        logit = (self._taste[self._user(user_ids)] @ self._items.traits.T
                 + self._items.bias)
        order = np.argsort(-logit, axis=-1, kind="stable")[..., :k]
        return self.items.index.to_numpy(object)[order]

    def recall(self, user_ids, item_ids) -> np.ndarray:
        """Returns the share of the truly best `k` in lists, float64 `[n]`.

        Args:
            user_ids: `[n]`.
            item_ids: lists `[n, k]`.
        """
        shown = self._item(item_ids)
        best = self._item(self.best(user_ids, shown.shape[-1]))
        return (best[..., :, None] == shown[..., None, :]).any(-1).mean(-1)

    def log(self, days: int = 14) -> Interactions:
        """Returns the log of the days before day 0, for a first model.

        Lists were drawn at random in proportion to clicks so far plus one,
        so popular items were shown more. The log holds what `clicks.seen`
        counts as looked at; a list without a click leaves nothing.

        Args:
            days: number of days.

        Returns:
            `Interactions` of distinct pairs over the tables of day 0: label
            1 if ever clicked, else 0, with the time of the last look.

        Raises:
            ValueError: nothing was clicked.
        """
        state, past = self._state, []
        for day in range(-1, -days - 1, -1):
            state = self._users.step(
                state[:self._sizes(day)[0] + 1], day)
            past.append((day, state))
        total, frames = np.zeros(self._first[1]), []
        for day, state in reversed(past):
            user, time = self._visits(day)
            item = self._popular(total[:self._sizes(day)[1]], len(user), day)
            clicks = self._clicks.draw(user, item, time, self._attraction(
                tastes(state), user[:, None], item))
            total += np.bincount(item[clicks], minlength=len(total))
            row, rank = np.nonzero(seen(clicks))
            frames.append(pd.DataFrame({
                "user_id": self.users.index[user[row]],
                "item_id": self.items.index[item[row, rank]],
                "label": clicks[row, rank].astype(np.float32),
                "timestamp": time[row].astype(np.int64)}))
        frame = pd.concat(frames or [pd.DataFrame()], ignore_index=True)
        if not len(frame):
            raise ValueError("A log needs a click. Received: none in "
                             f"days={days} of {self!r}. Take more days or "
                             "users.")
        frame = frame.groupby(["user_id", "item_id"], as_index=False).max()
        users, items = self._first
        return Interactions.from_frame(
            frame.sort_values(["timestamp", "user_id", "item_id"]),
            self.users.iloc[:users], self.items.iloc[:items], scale=(0, 1),
            name="world")

    def _sizes(self, day: int) -> tuple[int, int]:
        """Returns the numbers of users and items on a day."""
        users, items = (
            max(1, first + int(np.floor(daily * day)))
            for first, daily in zip(self._first, self._arrivals))
        return users, items

    def _visits(self, day: int) -> tuple[np.ndarray, np.ndarray]:
        rng = inhabitants.keyed(self.seed, inhabitants.VISITS, day)
        there = self._sizes(day)[0]
        times = rng.poisson(self._users.activity[:there])
        if day > 0:
            new = slice(self._sizes(day - 1)[0], None)
            times[new] = np.maximum(times[new], 1)
        user = np.repeat(np.arange(there), times)
        second = np.floor(rng.random(len(user)) * DAY * 1000) / 1000
        order = np.argsort(second, kind="stable")
        return user[order], _START + day * DAY + second[order]

    def _popular(self, clicks, visits: int, day: int) -> np.ndarray:
        rng = inhabitants.keyed(self.seed, inhabitants.LISTS, day)
        key = np.log1p(clicks) + rng.gumbel(size=(visits, len(clicks)))
        return np.argsort(-key, axis=1)[:, :_SHOWN]

    def _attraction(self, taste, user, item) -> np.ndarray:
        logit = np.einsum("...d,...d->...", taste[user],
                          self._items.traits[item])
        return 1 / (1 + np.exp(-logit - self._items.bias[item]))

    def _user(self, ids) -> np.ndarray:
        return _positions(self.users, ids)

    def _item(self, ids) -> np.ndarray:
        return _positions(self.items, ids)


def _positions(table: pd.DataFrame, ids) -> np.ndarray:
    ids = np.asarray(ids, object)
    if ids.size and not isinstance(ids.flat[0], str):
        raise ValueError(
            f"Each {table.index.name} must be a string, and lists equally "
            f"long. Received: {ids.flat[0]!r}. Show lists of one length.")
    found = table.index.get_indexer(ids.ravel()).reshape(ids.shape)
    if (found < 0).any():
        raise ValueError(
            f"Every {table.index.name} must be in the world today. Received: "
            f"{ids[found < 0][0]!r}. It knows {len(table):,} of them, from "
            f"{table.index[0]!r} to {table.index[-1]!r}.")
    return found
