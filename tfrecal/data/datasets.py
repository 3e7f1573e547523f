"""Data sets by name, as `Interactions`."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tfrecal import checks
from tfrecal.data.assets import ASSETS, fetch
from tfrecal.data.interactions import Interactions
from tfrecal.data.sets import book_crossing, movielens
from tfrecal.data.sets.shop import shop


@dataclass(frozen=True)
class DataSet:
    """A data set, and how it is read.

    Args:
        name: what `load` knows it by.
        description, size: what it holds.
        read: a function from the files of the assets to `Interactions`.
        assets: names of what is fetched for it.
    """

    name: str
    description: str
    size: str
    read: Callable[..., Interactions]
    assets: tuple[str, ...] = ()

    @property
    def licence(self) -> str:
        return "; ".join(
            ASSETS[name].licence for name in self.assets) or "free"


_FILMS = "of films by title, year and genres"
_VIEWERS = "users with age, gender and occupation"
_CLICKS = ("All events of Book-Crossing, rated or not, as clicks on books by "
           "title, author, year and publisher; users with age and country; "
           "10-core{}; it knows no times, so the order of rows is random")
_SETS = {one.name: one for one in (
    DataSet(
        "ml-100k", f"MovieLens: ratings 1..5 {_FILMS}; {_VIEWERS}",
        "100,000 ratings, 943 users, 1,682 items",
        movielens.ml_100k, ("ml-100k",)),
    DataSet(
        "ml-100k-plots",
        "MovieLens: the films of ml-100k that TMDB 5000 knows, by title, "
        "year, genres, tagline, overview and keywords: long texts",
        "58,774 ratings, 943 users, 478 items",
        movielens.ml_100k_plots, ("ml-100k", "tmdb-5000")),
    DataSet(
        "ml-100k-sparse",
        "MovieLens: ml-100k cut at random to 5 to 10 ratings a user",
        "7,162 ratings, 943 users, 1,682 items",
        movielens.ml_100k_sparse, ("ml-100k",)),
    DataSet(
        "ml-1m", f"MovieLens: ratings 1..5 {_FILMS}; {_VIEWERS}",
        "1,000,209 ratings, 6,040 users, 3,883 items",
        movielens.ml_1m, ("ml-1m",)),
    DataSet(
        "ml-latest-small",
        f"MovieLens: ratings 0.5..5 {_FILMS}; nothing about users",
        "100,836 ratings, 610 users, 9,742 items",
        movielens.ml_latest_small, ("ml-latest-small",)),
    DataSet(
        "book-crossing",
        "Explicit ratings 1..10 of books by title, author, year and "
        "publisher; users with age and country; 20-core of all rows",
        "57,316 ratings, 2,559 users, 4,273 items",
        book_crossing.book_crossing, ("book-crossing",)),
    DataSet(
        "book-crossing-clicks", _CLICKS.format(""),
        "365,894 clicks, 6,605 users, 13,228 items",
        book_crossing.book_crossing_clicks, ("book-crossing",)),
    DataSet(
        "book-crossing-clicks-8",
        _CLICKS.format(", then at most 8 a user and at least 2 a book"),
        "50,111 clicks, 6,605 users, 8,923 items",
        book_crossing.book_crossing_clicks_8, ("book-crossing",)),
    DataSet(
        "shop",
        "Made up: ratings 1..5 of a shop with texts, whose true ratings are "
        "known (`truth`)",
        "6,000 ratings, 200 users, 120 items, or as asked", shop))}


def names() -> list[DataSet]:
    """Returns the data sets that `load` knows."""
    return list(_SETS.values())


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
    checks.one_of("name", name, _SETS, cure="Load files of your own "
                  "with `Interactions.from_csv`.")
    known = _SETS[name]
    return known.read(*map(fetch, known.assets), **options)
