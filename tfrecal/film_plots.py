"""MovieLens-100K's films with their plots, keywords and taglines."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd

from tfrecal.interactions import Interactions
from tfrecal.movielens import ml_100k
from tfrecal.texts import unescape

# "Godfather, The" of MovieLens is "The Godfather" of TMDB.
_ARTICLE_LAST = re.compile(
    r"(.*), (the|a|an|le|la|les|l'|il|das|der|die|el)", re.IGNORECASE)


def ml_100k_plots(path: Path, folder: Path, **options) -> Interactions:
    """The ratings of MovieLens-100K whose films TMDB 5000 knows.

    A film is found by its title, in English or as it was first named, and by
    a year that differs by one at most.

    Args:
        path: GroupLens's ml-100k.zip or the RecBole wheel.
        folder: holds movies.csv, the table of films of TMDB 5000.
        **options: for `Interactions.from_frame`.
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
    """For each item the row of its film, missing where there is none."""
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
    """Letters and digits of a title; alternative names in brackets go."""
    title = re.sub(r"\(.*?\)", "", title).strip()
    title = _ARTICLE_LAST.sub(r"\2 \1", title)
    return "".join(filter(str.isalnum, title.casefold()))


def _names(text: str) -> str | None:
    """'[{"id": 1, "name": "space war"}, ...]' as "space war, ..."."""
    names = [entry["name"] for entry in json.loads(text)]
    return unescape(", ".join(names))
