"""MovieLens data sets, from GroupLens's archives or from a RecBole wheel."""
from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from tfrecal.data.interactions import Interactions
from tfrecal.data.templates import unescape

# "Godfather, The" of MovieLens is "The Godfather" of TMDB.
_ARTICLE_LAST = re.compile(
    r"(.*), (the|a|an|le|la|les|l'|il|das|der|die|el)", re.IGNORECASE)

# The order of the flags in u.item; the first one is "unknown", left out.
GENRES = (
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime",
    "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical",
    "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")
OCCUPATIONS = (
    "other", "educator", "artist", "clerical", "college student",
    "customer service", "healthcare", "executive", "farmer", "homemaker",
    "K-12 student", "lawyer", "programmer", "retired", "sales", "scientist",
    "self-employed", "engineer", "craftsman", "unemployed", "writer")
_RECBOLE = "recbole/dataset_example/ml-100k/ml-100k."
_RATING = ["user_id", "item_id", "label", "timestamp"]
# "Toy Story (1995)", "Land Before Time III (1995) (V)".
_TITLE_YEAR = re.compile(r"(.*?)\s*\((\d{4})(?:-\d{0,4})?\)\s*(?:\(T?V\))?\s*")


def title_and_year(title: str) -> tuple[str, str | None]:
    """Returns "Toy Story", "1995" for "Toy Story (1995)".

    The year is None if there is none.
    """
    title = " ".join(title.split())
    match = _TITLE_YEAR.fullmatch(title)
    return (match[1], match[2]) if match else (title, None)


def _read(archive: zipfile.ZipFile, member: str, sep: str, names=None,
          encoding: str = "utf-8") -> pd.DataFrame:
    """Reads a table of strings; none of these files has quotes."""
    text = archive.read(member).decode(encoding).replace("\r\n", "\n")
    if len(sep) > 1:  # pandas reads "::" only with its slow engine
        text, sep = text.replace(sep, "\x1f"), "\x1f"
    return pd.read_csv(
        io.StringIO(text), sep=sep, names=names, dtype=str, quoting=3,
        header=0 if names is None else None, keep_default_na=False)


def _items(ids, titles, years, genres) -> pd.DataFrame:
    """Returns the items table; lists of genres are joined."""
    return pd.DataFrame({
        "item_id": list(ids), "title": titles, "year": years,
        "genres": ["|".join(sorted(g)) for g in genres]})


def _titled(table: pd.DataFrame, genres) -> pd.DataFrame:
    titles, years = zip(*map(title_and_year, table["title"]))
    return _items(table["item_id"], titles, years, genres)


def _from_grouplens(archive: zipfile.ZipFile):
    ratings = _read(archive, "ml-100k/u.data", "\t", _RATING)
    users = _read(archive, "ml-100k/u.user", "|",
                  ["user_id", "age", "gender", "occupation", "zip"])
    flags = [f"flag_{name}" for name in GENRES]
    items = _read(archive, "ml-100k/u.item", "|", [
        "item_id", "title", "date", "video_date", "url", "unknown", *flags],
        "latin-1")
    genres = [[name for name, flag in zip(GENRES, row) if flag == "1"]
              for row in items[flags].itertuples(index=False)]
    return ratings, users, _titled(items, genres)


def _from_recbole(archive: zipfile.ZipFile):
    ratings, users, items = (
        _read(archive, _RECBOLE + part, "\t").rename(
            columns=lambda name: name.split(":")[0])
        for part in ("inter", "user", "item"))
    ratings = ratings.rename(columns={"rating": "label"})
    # RecBole takes the last bracket for the year, whatever it holds: "V" of
    # a video, and its own "unkonwn" for the one item without a title.
    bracket = items["release_year"].str.fullmatch(r"\d{4}|V|TV")
    title = items["movie_title"].where(
        ~bracket, items["movie_title"] + " (" + items["release_year"] + ")")
    items = items.assign(title=title.replace("unkonwn", "unknown"))
    genres = [[word for word in row.split() if word in GENRES]
              for row in items["class"]]
    return ratings, users, _titled(items, genres)


def ml_100k(path: Path, **options) -> Interactions:
    """Returns MovieLens-100K; both sources give the same tables.

    Args:
        path: GroupLens's ml-100k.zip or the RecBole wheel.
        **options: options of `Interactions.from_frame`.
    """
    with zipfile.ZipFile(path) as archive:
        grouplens = "ml-100k/u.data" in archive.namelist()
        read = _from_grouplens if grouplens else _from_recbole
        ratings, users, items = read(archive)
    users = users.assign(age=users["age"].astype("int64"))
    return _interactions(
        "ml-100k", ratings, users[["user_id", "age", "gender", "occupation"]],
        items, (1, 5), options)


def _interactions(name, ratings, users, items, scale, options):
    """Sorts rows by time and ids: the order of a file does not matter."""
    order = pd.DataFrame({c: pd.to_numeric(ratings[c])
                          for c in ("timestamp", "user_id", "item_id")})
    order = order.sort_values(list(order), kind="stable").index
    ratings = ratings.loc[order, _RATING].reset_index(drop=True)
    for column, kind in (("label", "float32"), ("timestamp", "int64")):
        ratings[column] = pd.to_numeric(ratings[column]).astype(kind)
    return Interactions.from_frame(
        ratings, users=users, items=items, scale=scale,
        **{"name": name, **options})


def ml_1m(path: Path, **options) -> Interactions:
    """Returns MovieLens-1M.

    Args:
        path: GroupLens's ml-1m.zip.
        **options: options of `Interactions.from_frame`.
    """
    with zipfile.ZipFile(path) as archive:
        ratings = _read(archive, "ml-1m/ratings.dat", "::", _RATING)
        users = _read(archive, "ml-1m/users.dat", "::", [
            "user_id", "gender", "age", "occupation", "zip"])
        items = _read(archive, "ml-1m/movies.dat", "::",
                      ["item_id", "title", "genres"], "latin-1")
    users = users.assign(
        age=users["age"].astype("int64"),
        occupation=[OCCUPATIONS[int(n)] for n in users["occupation"]])
    return _interactions(
        "ml-1m", ratings, users[["user_id", "age", "gender", "occupation"]],
        _titled(items, items["genres"].str.split("|")), (1, 5), options)


def ml_latest_small(path: Path, **options) -> Interactions:
    """Returns the latest small MovieLens, which has no facts about users.

    Args:
        path: GroupLens's ml-latest-small.zip.
        **options: options of `Interactions.from_frame`.
    """
    with zipfile.ZipFile(path) as archive:
        ratings, items = (
            pd.read_csv(io.BytesIO(archive.read(f"ml-latest-small/{name}")),
                        dtype=str, keep_default_na=False)
            for name in ("ratings.csv", "movies.csv"))
    ratings = ratings.rename(columns={
        "userId": "user_id", "movieId": "item_id", "rating": "label"})
    items = items.rename(columns={"movieId": "item_id"})
    genres = [[] if row == "(no genres listed)" else row.split("|")
              for row in items["genres"]]
    return _interactions("ml-latest-small", ratings, None,
                         _titled(items, genres), (0.5, 5), options)


def ml_100k_plots(path: Path, folder: Path, **options) -> Interactions:
    """Returns the ratings of MovieLens-100K whose films TMDB 5000 knows.

    A film is found by its English or original title and a year that differs
    by one at most.

    Args:
        path: GroupLens's ml-100k.zip or the RecBole wheel.
        folder: holds movies.csv, the table of films of TMDB 5000.
        **options: options of `Interactions.from_frame`.
    """
    whole = ml_100k(path)
    items = whole.items.reset_index()
    films = pd.read_csv(folder / "movies.csv", keep_default_na=False)
    row = _row_of_film(items, films)
    items, films = items[row.notna()], films.loc[row.dropna().astype(int)]
    items = items.assign(**{
        "tagline": films["tagline"].map(unescape).to_numpy(),
        "overview": films["overview"].map(unescape).to_numpy(),
        "keywords": films["keywords"].map(_names).to_numpy()})
    ratings = whole.frame[whole.frame["item_id"].isin(items["item_id"])]
    return Interactions.from_frame(
        ratings.reset_index(drop=True), users=whole.users.reset_index(),
        items=items, scale=(1, 5), **{"name": "ml-100k-plots", **options})


def _row_of_film(items: pd.DataFrame, films: pd.DataFrame) -> pd.Series:
    """Returns the row of each item's film; missing where there is none."""
    released = pd.to_datetime(films["release_date"], errors="coerce").dt.year
    known = pd.concat([
        pd.DataFrame({"key": films[name].map(_key), "released": released,
                      "row": films.index})
        for name in ("title", "original_title")])
    asked = pd.DataFrame({
        "item": items.index, "key": items["title"].map(_key),
        "year": pd.to_numeric(items["year"], errors="coerce")})
    found = asked[asked["key"] != ""].merge(known, on="key")
    found["apart"] = (found["released"] - found["year"]).abs()
    found = found[found["apart"] <= 1].sort_values(["apart", "row"])
    return found.groupby("item")["row"].first().reindex(items.index)


def _key(title: str) -> str:
    """Returns letters and digits of a title, without names in brackets."""
    title = re.sub(r"\(.*?\)", "", title).strip()
    title = _ARTICLE_LAST.sub(r"\2 \1", title)
    return "".join(filter(str.isalnum, title.casefold()))


def _names(text: str) -> str | None:
    """Returns "space war, ..." for '[{"id": 1, "name": "space war"}, ...]'."""
    names = [entry["name"] for entry in json.loads(text)]
    return unescape(", ".join(names))


def ml_100k_sparse(path: Path, fewest: int = 5, most: int = 10,
                   seed: int = 0, **options) -> Interactions:
    """Returns MovieLens-100K cut to a few ratings of each user.

    How many, and which, is drawn at random; times stay. Films that lose
    their ratings stay in the table of items.

    Args:
        path: GroupLens's ml-100k.zip or the RecBole wheel.
        fewest, most: bounds of the number of ratings of a user.
        seed: draws numbers and rows.
        **options: options of `Interactions.from_frame`.
    """
    whole = ml_100k(path)
    rng = np.random.default_rng(seed)
    number = rng.integers(fewest, most + 1, len(whole.users) + 1)
    order = rng.permutation(len(whole))
    user = whole.user_code[order]
    place = pd.Series(user).groupby(user).cumcount().to_numpy()
    rows = np.sort(order[place < number[user]])
    return Interactions.from_frame(
        whole.frame.iloc[rows].reset_index(drop=True),
        users=whole.users.reset_index(), items=whole.items.reset_index(),
        scale=(1, 5), **{"name": "ml-100k-sparse", **options})
