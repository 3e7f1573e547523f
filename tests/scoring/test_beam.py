"""Beam jobs give what one process gives, or one error and no output."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from random_model import make_model

from tfrecal import acquisition, datasets
from tfrecal.metrics.top_k import best_items
from tfrecal.pool.pool import LABELLED, Pool
from tfrecal.scoring.beam.vectors import VectorsChanged, write_vectors
from tfrecal.scoring.scorer import PoolScorer

pytest.importorskip("apache_beam")

from tfrecal.scoring.beam import jobs  # noqa: E402
from tfrecal.scoring.beam import lists as places  # noqa: E402

pytestmark = pytest.mark.large  # a minute

ONE = ["--direct_num_workers=1"]
TWO = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]


@pytest.fixture(scope="module")
def data():
    """Enough users for three groups."""
    return datasets.shop(users=500, items=40, topics=4, ratings=3000, seed=0)


@pytest.fixture(scope="module")
def model(data):
    return make_model(data, dropout=0.1)


@pytest.fixture(scope="module")
def pool(data):
    half = np.arange(len(data.frame)) < len(data.frame) // 2
    pool = Pool.cross(data.take(half), exclude=[data.take(~half)])
    pool.ask(*pool.candidates(50), 0, "random")
    return pool


@pytest.fixture(scope="module")
def vectors(model, pool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "v"
    write_vectors(model, pool, folder, passes=3, group=200)
    return folder


def lists(folder):
    """`{user: (items, scores)}`; each user once."""
    table = pd.concat(pq.read_table(path).to_pandas()
                      for path in folder.glob("part-*.parquet"))
    assert table["user_id"].is_unique
    return {row.user_id: (row.item_ids.tolist(), row.scores.tolist())
            for row in table.itertuples()}


def in_process(model, pool, k, known=False):
    query, candidate = PoolScorer(model, pool).vectors("retrieval")
    rows = pool.state == LABELLED
    places, scores = best_items(
        query[1:], candidate[1:], k, None if known else (
            pool.user[rows] - 1, pool.item[rows] - 1))
    return {user: (pool.item_ids[place[place >= 0]].tolist(),
                   score[place >= 0].tolist())
            for user, place, score in zip(pool.user_ids, places, scores)}


def write_users(path, ids, name="user_id"):
    pq.write_table(pa.table({name: pa.array(ids, pa.string())}), path)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("options", [
    ONE, pytest.param(TWO, marks=pytest.mark.large)])
@pytest.mark.parametrize("k, known", [(7, False), (40, False), (3, True)])
def test_lists_of_all_users(vectors, model, pool, tmp_path, k, known,
                            options):
    counts = jobs.recommend(vectors, tmp_path / "out", k, known=known,
                            pool=pool, options=options)
    assert counts == {"users": 500, "unknown": 0}
    assert lists(tmp_path / "out") == in_process(model, pool, k, known)
    assert left(tmp_path) == ["out"]
    assert all(name == "_about.json" or name.startswith("part-")
               for name in left(tmp_path / "out"))
    about = json.loads((tmp_path / "out" / "_about.json").read_text())
    assert about["k"] == k and about["users"] == 500
    assert len(pd.read_parquet(tmp_path / "out")) == 500


@pytest.mark.parametrize("options", [
    ONE, pytest.param(TWO, marks=pytest.mark.large)])
def test_lists_of_some_users(vectors, model, pool, tmp_path, options,
                             monkeypatch):
    monkeypatch.setattr(places, "_BUCKET", 100)
    some = pool.user_ids[[3, 499, 7, 250]].tolist()
    write_users(tmp_path / "a-1.parquet", [*some[:3], some[0]])
    write_users(tmp_path / "a-2.parquet", [some[3], some[1], "stranger"])
    expected = in_process(model, pool, 5)
    options = {"k": 5, "users": str(tmp_path / "a-*.parquet"),
               "options": options}
    with pytest.raises(ValueError, match="1 unknown ids, such as 'stranger'"):
        jobs.recommend(vectors, tmp_path / "out", **options)
    assert left(tmp_path) == ["a-1.parquet", "a-2.parquet"]
    counts = jobs.recommend(vectors, tmp_path / "out", unknown="drop",
                            **options)
    assert counts == {"users": 4, "unknown": 1}
    assert lists(tmp_path / "out") == {user: expected[user] for user in some}


def test_no_user_is_no_list(vectors, tmp_path):
    write_users(tmp_path / "a.parquet", [])
    assert jobs.recommend(vectors, tmp_path / "out", users=str(
        tmp_path / "a.parquet")) == {"users": 0, "unknown": 0}
    assert lists(tmp_path / "out") == {}
    [part] = (tmp_path / "out").glob("part-*")
    assert pq.read_schema(part).names == ["user_id", "item_ids", "scores"]


@pytest.mark.parametrize("ids, name, message", [
    (["u"], "user", "a column `user_id`"), (["u", None], "user_id", "1 rows")])
def test_files_of_users_that_are_none(vectors, tmp_path, ids, name, message):
    write_users(tmp_path / "a.parquet", ids, name)
    with pytest.raises(ValueError, match=message) as caught:
        jobs.recommend(vectors, tmp_path / "out",
                       users=str(tmp_path / "a.parquet"))
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == ["a.parquet"]


def picks(folder):
    [part] = folder.glob("part-*.parquet")
    table = pq.read_table(part).to_pandas()
    return list(table.itertuples(index=False, name=None))


def in_process_picks(model, pool, strategy, n, seed, passes=3):
    user, item, utility = PoolScorer(model, pool).top(
        strategy, n, seed=seed, passes=passes)
    return list(zip(pool.user_ids[user - 1], pool.item_ids[item - 1],
                    utility.tolist()))


# The seed of the passes is that of `write_vectors`: 0.
@pytest.mark.parametrize("strategy", [
    "mean", "variance", "upper_bound", "bald", "margin", "entropy",
    "least_confidence", "highest_predicted", "predictive_variance", "ucb",
    "query_by_committee", "popularity", "random", "power_bald"])
def test_picks_are_those_of_one_process(vectors, model, pool, tmp_path,
                                        strategy):
    counts = jobs.top_pairs(vectors, tmp_path / "out", strategy, 60,
                            pool=pool, options=ONE)
    assert counts == {"pairs": 60}
    expected = in_process_picks(model, pool, strategy, 60, 0)
    assert picks(tmp_path / "out") == expected


@pytest.mark.large
@pytest.mark.parametrize("strategy", ["upper_bound", "bald"])
def test_picks_of_two_workers(vectors, model, pool, tmp_path, strategy):
    jobs.top_pairs(vectors, tmp_path / "out", strategy, 60, options=TWO)
    assert picks(tmp_path / "out") == in_process_picks(
        model, pool, strategy, 60, 0)


def test_softmax_draws_the_same(vectors, model, pool, tmp_path):
    strategy = acquisition.get("ucb", batch="softmax", temperature=0.3)
    jobs.top_pairs(vectors, tmp_path / "out", strategy, 30, options=ONE)
    assert picks(tmp_path / "out") == in_process_picks(
        model, pool, strategy, 30, 0)


def test_a_pool_of_listed_pairs(data, model, tmp_path):
    """More are asked for than there are; many are tied."""
    pool = Pool.from_interactions(data, initial=0.5)
    free = len(pool) - len(pool.labelled_rows())
    write_vectors(model, pool, tmp_path / "v", group=200)
    for strategy, n in (("mean", free + 5), ("popularity", 40)):
        counts = jobs.top_pairs(tmp_path / "v", tmp_path / strategy,
                                strategy, n, seed=4, options=ONE)
        assert counts == {"pairs": min(n, free)}
        assert picks(tmp_path / strategy) == in_process_picks(
            model, pool, strategy, n, 4)


def test_a_pool_without_free_pairs(data, model, tmp_path):
    write_vectors(model, Pool.from_interactions(data, initial=1.0),
                  tmp_path / "v")
    assert jobs.top_pairs(tmp_path / "v", tmp_path / "out", "mean",
                          3) == {"pairs": 0}
    assert picks(tmp_path / "out") == []


class Forgetful(acquisition.Strategy):
    """Changes the vectors in the middle of a job."""

    needs = frozenset({"mean"})
    change = None

    def utilities(self, view):
        Forgetful.change()
        return view.mean.astype(float)


# In one group all is read before the change: only the end can tell.
@pytest.mark.parametrize("how, group", [
    ("written anew", 200), ("written anew", 600), ("lost", 200),
    ("lost", 600), ("a file", 200), ("pool", 200)])
def test_a_pool_that_changes_under_a_job(data, model, tmp_path, how, group,
                                         monkeypatch):
    pool = Pool.cross(data)
    folder = tmp_path / "v"
    write_vectors(model, pool, folder, group=group)

    def change():
        Forgetful.change = staticmethod(lambda: None)
        if how == "lost":
            folder.rename(tmp_path / "elsewhere")
        elif how == "a file":
            for path in folder.glob("pairs-*.parquet"):
                path.unlink()
        else:
            pool.ask(*pool.candidates(1), 0, "random")
        if how == "written anew":
            write_vectors(model, pool, folder, group=group)

    monkeypatch.setattr(Forgetful, "change", staticmethod(change))
    with pytest.raises(VectorsChanged, match="Nothing was written") as caught:
        jobs.top_pairs(folder, tmp_path / "out", Forgetful(), 5,
                       pool=pool if how == "pool" else None, options=ONE)
    assert "\n" not in str(caught.value)
    assert set(left(tmp_path)) <= {"v", "elsewhere"}


def test_a_pool_that_is_another_one(vectors, data, tmp_path):
    with pytest.raises(VectorsChanged, match="the pool changed"):
        jobs.recommend(vectors, tmp_path / "out", pool=Pool.cross(data))
    assert not left(tmp_path)


@pytest.mark.parametrize("strategy, message", [
    ("vopt", "it defines `select`"), ("epig", "it reads `target`"),
    ("rating_variance", "it reads `labelled_label`"),
    (acquisition.get("margin", max_per_user=1), "`max_per_user` is set"),
    (acquisition.get("margin", batch="softrank"), "ranks all pairs")])
def test_strategies_that_look_at_more_than_a_pair(vectors, tmp_path, strategy,
                                                  message):
    with pytest.raises(ValueError, match=message):
        jobs.top_pairs(vectors, tmp_path / "out", strategy, 5)


def test_samples_that_were_not_written(data, model, pool, tmp_path):
    write_vectors(model, pool, tmp_path / "v")
    with pytest.raises(ValueError, match="passes=10"):
        jobs.top_pairs(tmp_path / "v", tmp_path / "out", "bald", 5)


@pytest.mark.parametrize("wrong", [
    {"k": 0}, {"k": 2.5}, {"k": True}, {"unknown": "skip"},
    {"users": "nothing-*.parquet"}])
def test_wrong_options(vectors, tmp_path, wrong):
    with pytest.raises((ValueError, TypeError, OSError), match="|".join(
            ["`k` must be", "`unknown` must be", "No files found"])):
        jobs.recommend(vectors, tmp_path / "out", **wrong)
    with pytest.raises(ValueError, match="`n` must be"):
        jobs.top_pairs(vectors, tmp_path / "out", "mean", 0)
    assert not left(tmp_path)


def test_an_output_that_is_there_stays(vectors, tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(ValueError, match="must be a new folder"):
        jobs.recommend(vectors, tmp_path)
    assert left(tmp_path) == ["kept"]


def test_without_beam_the_cure_is_named():
    code = ("import sys; sys.modules['apache_beam'] = None\n"
            "import tfrecal.scoring.beam.jobs")
    done = subprocess.run([sys.executable, "-c", code], text=True,
                          capture_output=True, env=os.environ)
    assert done.returncode == 1
    assert "pip install 'tfrecal[beam]'" in done.stderr


def test_workers_load_no_tensorflow(vectors, tmp_path):
    code = ("import sys\nfrom tfrecal import beam\n"
            "beam.recommend(*sys.argv[1:3], k=3)\n"
            "beam.top_pairs(sys.argv[1], sys.argv[2] + '2', 'bald', 3)\n"
            "assert 'tensorflow' not in sys.modules")
    subprocess.run([sys.executable, "-c", code, str(vectors),
                    str(tmp_path / "out")], check=True, env=os.environ)
