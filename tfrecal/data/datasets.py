"""Data sets by name, as `Interactions`."""
from __future__ import annotations

from dataclasses import dataclass

from tfrecal import checks
from tfrecal.data.assets import ASSETS, fetch
from tfrecal.data.interactions import Interactions
from tfrecal.data.sets.shop import shop


@dataclass(frozen=True)
class DataSet:
    """Facts about a data set: name, description, size and licence."""

    name: str
    description: str
    size: str
    licence: str


_DESCRIPTIONS = {
    "ml-100k": (
        "MovieLens: ratings 1..5 of films by title, year and genres; users "
        "with age, gender and occupation",
        "100,000 ratings, 943 users, 1,682 items"),
    "ml-100k-plots": (
        "MovieLens: the films of ml-100k that TMDB 5000 knows, by title, "
        "year, genres, tagline, overview and keywords: long texts",
        "58,774 ratings, 943 users, 478 items"),
    "ml-1m": (
        "MovieLens: ratings 1..5 of films by title, year and genres; users "
        "with age, gender and occupation",
        "1,000,209 ratings, 6,040 users, 3,883 items"),
    "ml-latest-small": (
        "MovieLens: ratings 0.5..5 of films by title, year and genres; "
        "nothing about users",
        "100,836 ratings, 610 users, 9,742 items"),
    "book-crossing": (
        "Explicit ratings 1..10 of books by title, author, year and "
        "publisher; users with age and country; 20-core of all rows",
        "57,316 ratings, 2,559 users, 4,273 items"),
    "shop": (
        "Made up: ratings 1..5 of a shop with texts, whose true ratings are "
        "known (`truth`)",
        "6,000 ratings, 200 users, 120 items, or as asked")}
# The assets that a data set is made of, if not the one of its name.
_MADE_OF = {"ml-100k-plots": ("ml-100k", "tmdb-5000")}


def names() -> list[DataSet]:
    """Returns the data sets that `load` knows."""
    return [
        DataSet(name, description, size,
                _licence(name))
        for name, (description, size) in _DESCRIPTIONS.items()]


def _licence(name: str) -> str:
    return "; ".join(
        ASSETS[asset].licence if asset in ASSETS else "free"
        for asset in _MADE_OF.get(name, (name,)))


def load(name: str, **options) -> Interactions:
    """Returns a data set by name; it is fetched first if necessary.

    Args:
        name: name of one of `names()`.
        **options: arguments of `tfrecal.data.sets.shop.shop` for "shop",
            else of `Interactions.from_frame`, such as `binarise=4`.

    Raises:
        ValueError: there is no such name.
        tfrecal.data.downloads.DownloadError: it could not be fetched.

    Example:
        >>> interactions = load("shop", users=50, ratings=900)
        >>> len(interactions)
        900
    """
    checks.one_of("name", name, _DESCRIPTIONS, cure="Load files of your own "
                  "with `Interactions.from_csv`.")
    if name == "shop":
        return shop(**options)
    if name == "book-crossing":
        from tfrecal.data.sets.book_crossing import book_crossing

        return book_crossing(fetch(name), **options)
    if name == "ml-100k-plots":
        from tfrecal.data.sets.movielens import ml_100k_plots

        return ml_100k_plots(*map(fetch, _MADE_OF[name]), **options)
    from tfrecal.data.sets import movielens

    reader = getattr(movielens, name.replace("-", "_"))
    return reader(fetch(name), **options)
