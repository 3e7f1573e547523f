"""A synthetic shop: texts, tastes and ratings whose truth is known."""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from tfrecal.data.interactions import Interactions

TOPICS: dict[str, list[str]] = {
    "garden": ["garden", "seed", "rose", "spade", "compost", "fern",
               "herb", "soil", "orchard", "bloom"],
    "kitchen": ["kitchen", "pan", "knife", "bread", "oven", "spice",
                "kettle", "recipe", "dough", "ladle"],
    "music": ["music", "guitar", "drum", "violin", "chord", "tune",
              "melody", "amplifier", "rhythm", "score"],
    "outdoor": ["outdoor", "tent", "trail", "compass", "boots", "summit",
                "rope", "lantern", "river", "camp"],
    "reading": ["reading", "novel", "shelf", "poem", "chapter", "lamp",
                "atlas", "library", "letter", "diary"],
    "workshop": ["workshop", "drill", "saw", "timber", "hinge", "bolt",
                 "bench", "chisel", "glue", "plane"],
    "painting": ["painting", "canvas", "brush", "pigment", "easel", "ink",
                 "sketch", "palette", "varnish", "crayon"],
    "sewing": ["sewing", "needle", "thread", "wool", "button", "linen",
               "pattern", "scissors", "quilt", "velvet"],
}
_QUALITIES = ["small", "sturdy", "bright", "quiet", "classic", "light",
              "handmade", "travel", "first", "large"]
_COUNTRIES = ["chile", "finland", "ghana", "india", "japan", "portugal"]
_SEGMENTS = ["new", "regular", "gift"]
_FILLERS = ["for", "with", "and", "the", "a", "everyone", "who", "likes"]
WORDS: list[str] = sorted({
    *(word for words in TOPICS.values() for word in words), *_QUALITIES,
    *_COUNTRIES, *_SEGMENTS, *_FILLERS})
_START, _DAY = 1_700_000_000, 86_400
_NOISE = 0.5


def shop(users: int = 200, items: int = 120, topics: int = 6,
         ratings: int = 6000, seed: int = 0) -> Interactions:
    """Makes a shop in memory, the same for the same arguments.

    A rating is mean + user bias + item bias + taste x topics + noise,
    rounded and clipped to 1..5. Only its texts tell what an item is about, so
    a model that reads them can rate items without labels. Use it
    in tests and examples; it is too clean to compare methods on.

    Args:
        users, items: numbers of users and items, >= 1.
        topics: number of topics, of `TOPICS`, at least 2.
        ratings: number of distinct pairs that are rated; popular items and
            busy users have more ratings.
        seed: draws everything random.

    Returns:
        `Interactions` whose `truth` holds the expected rating, before noise
        and rounding, of every user (rows) and item (columns), float32.

    Raises:
        ValueError: a number is out of range.
    """
    for name, value, low, high in (
            ("users", users, 1, None), ("items", items, 1, None),
            ("topics", topics, 2, len(TOPICS)),
            ("ratings", ratings, 1, users * items)):
        if value < low or (high is not None and value > high):
            raise ValueError(
                f"`{name}` must be at least {low}"
                f"{'' if high is None else f' and at most {high}'}. "
                f"Received: {name}={value}.")
    rng = np.random.default_rng(seed)
    names = list(TOPICS)[:topics]
    mixture = rng.dirichlet(np.full(topics, 0.25), items)
    taste = rng.normal(0, 1, (users, topics))
    affinity = taste @ (mixture - mixture.mean(0)).T
    truth = np.clip(
        3.4 + rng.normal(0, 0.35, users)[:, None]
        + rng.normal(0, 0.35, items) + affinity, 1, 5).astype(np.float32)
    user_table = _users(users, rng)
    item_table = _items(mixture, names, rng)
    user, item = _pairs(users, items, ratings, rng)
    label = np.clip(np.rint(
        truth[user, item] + rng.normal(0, _NOISE, ratings)), 1, 5)
    frame = pd.DataFrame({
        "user_id": user_table.index.to_numpy(object)[user],
        "item_id": item_table.index.to_numpy(object)[item],
        "label": label.astype(np.float32),
        "timestamp": np.sort(
            _START + rng.integers(0, 365 * _DAY, ratings))})
    data = Interactions.from_frame(
        frame, user_table, item_table, scale=(1, 5), name="shop")
    return replace(data, truth=pd.DataFrame(
        truth, index=user_table.index, columns=item_table.index))


def _users(number: int, rng) -> pd.DataFrame:
    return pd.DataFrame(
        {"age": rng.integers(18, 80, number),
         "segment": rng.choice(_SEGMENTS, number, p=[0.2, 0.6, 0.2]),
         "country": rng.choice(_COUNTRIES, number)},
        index=_ids("u", number, "user_id"))


def _items(mixture: np.ndarray, names: list[str], rng) -> pd.DataFrame:
    rows = []
    for shares in mixture:
        words = [rng.choice(TOPICS[names[topic]]) for topic in
                 rng.choice(len(names), 8, p=shares)]
        quality = rng.choice(_QUALITIES)
        rows.append((
            f"{quality} {words[0]} {words[1]}",
            f"{words[2]} and {words[3]} with {words[4]}, for everyone who "
            f"likes {words[5]}, {words[6]} and {words[7]}",
            names[int(shares.argmax())],
            float(np.round(np.exp(rng.normal(3, 0.6)), 2))))
    return pd.DataFrame(
        rows, columns=["title", "description", "category", "price"],
        index=_ids("i", len(rows), "item_id"))


def _ids(letter: str, number: int, name: str) -> pd.Index:
    width = len(str(number))
    return pd.Index([f"{letter}{n:0{width}d}" for n in range(1, number + 1)],
                    name=name)


def _pairs(users: int, items: int, number: int, rng):
    """Draws distinct pairs, by the activity of users and items.

    Gumbel noise is added to the logarithms of chances; the largest sums are
    draws without replacement, with these chances.
    """
    busy = rng.gumbel(0, 0.5, users)
    popular = -0.6 * np.log(rng.permutation(items) + 3.0)
    keys = busy[:, None] + popular + rng.gumbel(0, 1, (users, items))
    chosen = np.argpartition(-keys.ravel(), number - 1)[:number]
    chosen = rng.permutation(np.sort(chosen))
    return np.divmod(chosen, items)
