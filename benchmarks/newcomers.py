"""What does a shop know of an item, or of a user, that has just arrived?

MovieLens-100K with frozen MiniLM. A tenth of the items (of those with 20
ratings) and a tenth of the users do not exist for the first model, neither
rows nor labels; another tenth for each seed. It is exported and served by a
process of its own, over gRPC.

New users are asked for first, by nothing but their first likes in time
(`recommend([""], history=...)`); what is to be found is the rest of their
likes, and what is to be beaten the most popular list without those likes.

Then the new items' rows (title, year, genres) arrive, and `tfrecal retrain
--only-grow` serves them untrained. Half of their pairs are judged; the other
half is masked for all and trains the upper bound. Beside the text: `columns`
(encoder "none": year and genres), `ids only`, random order.

Intervals are of bootstraps over users, whose rows of all seeds stay together.
For new items they hold for the items drawn: look at the seeds beside them.

    python benchmarks/newcomers.py [--quick] [--seeds 0 1 2 3 4]
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from helpers.served import server  # noqa: E402

from tfrecal import (  # noqa: E402  (tfrecal selects Keras 2)
    Pool,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
)
from tfrecal.callbacks.learning_rate import FinalCosine  # noqa: E402
from tfrecal.data.interactions import Interactions  # noqa: E402
from tfrecal.export.export_model import export_model  # noqa: E402
from tfrecal.pool.run_folder import RunFolder  # noqa: E402
from tfrecal.retrain.config import RetrainConfig  # noqa: E402
from tfrecal.runs import run  # noqa: E402  (tfrecal selects Keras 2)
from tfrecal.runs.build import restore_trained  # noqa: E402
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.scoring.scorer import PoolScorer  # noqa: E402
from tfrecal.serving.client.client import Recommender  # noqa: E402

import tf_keras  # noqa: E402  isort: skip

K, POSITIVE, LEAST, FOLDS = 10, 4, 20, 10
CLICKS = (0, 1, 2, 5, 10)
SHARES = ("users_with_one", "share_of_places", "share_of_items")
GAIN = 1 / np.log2(np.arange(2, K + 2))
BESIDE = ("random", "ids only", "columns", "text", "with labels")


@dataclass
class Arrivals:
    """Who is new, and the rows of each kind.

    Attributes:
        items, users: ids that the first model does not know.
        old: rows of others, which are all that the shop has.
        later, judged: rows of its users with new items, in halves.
        likes: new user -> what they like of the old items, in time order.
    """

    items: np.ndarray
    users: np.ndarray
    old: pd.DataFrame
    later: pd.DataFrame
    judged: pd.DataFrame
    likes: dict[str, list[str]]

    @classmethod
    def of(cls, data, seed: int) -> "Arrivals":
        rows = data.frame
        number = rows["item_id"].value_counts()
        items = _fold(number.index[number >= LEAST], seed)
        users = _fold(data.users.index, seed)
        new_item = rows["item_id"].isin(items).to_numpy()
        new_user = rows["user_id"].isin(users).to_numpy()
        rng = np.random.default_rng(seed)
        half = rng.random(len(rows)) < 0.5
        # Likes of one second have no order: it is drawn.
        liked = rows[new_user & ~new_item & (rows["label"] >= POSITIVE)]
        liked = liked.iloc[rng.permutation(len(liked))].sort_values(
            "timestamp", kind="stable")
        known = new_item & ~new_user
        return cls(
            items, users, rows[~new_item & ~new_user], rows[known & half],
            rows[known & ~half],
            liked.groupby("user_id")["item_id"].agg(list).to_dict())


def _fold(ids, seed: int) -> np.ndarray:
    """Another tenth of the ids for each seed below ten."""
    drawn = np.random.default_rng(0).permutation(np.sort(ids))
    return drawn[seed % FOLDS::FOLDS]


class Shop:
    """Files, the first model and its export, of one seed."""

    def __init__(self, folder: Path, data, seed: int, epochs: int):
        self.folder, self.data = folder, data
        self.base = folder / "models" / "shop"
        self.config = RunConfig(
            data=str(folder / "log.csv"), users=str(folder / "users.csv"),
            items=str(folder / "items.csv"), encoder="minilm",
            tuning="frozen", oracle="people", rounds=1,
            final_epochs=epochs - 1, seed=seed)
        self.news = Arrivals.of(data, seed)
        self.news.old.to_csv(folder / "log.csv", index=False)
        data.users.drop(index=self.news.users).to_csv(folder / "users.csv")
        self.write_items(data.items.drop(index=self.news.items))
        run.run(self.config, folder / "run", quiet=True)
        built = restore_trained(
            RunFolder.of_run(folder / "run"), "The benchmark")
        self.train = built.split.train.frame
        export_model(built.model, self.base, pool=built.pool, k=K)

    def write_items(self, items) -> None:
        items.to_csv(self.folder / "items.csv")

    def arrive(self, address: str, client, users, seen):
        """The new rows arrive; the first lists of the version with them.

        Returns:
            `(lists, seconds)` from the arrival to the last of these lists.
        """
        RetrainConfig(
            run=str(self.folder / "run"), to=str(self.base), k=K,
            feedback=str(self.folder / "feedback.db"), address=address,
            users=self.config.users, items=self.config.items,
        ).write(self.folder / "loop")
        started = time.perf_counter()
        self.write_items(self.data.items)
        with subprocess.Popen([
                sys.executable, "-m", "tfrecal", "retrain", "--only-grow",
                "--quiet", "-o", str(self.folder / "loop")]) as process:
            while client.recommend(users[:1]).version == 1:
                if process.poll():
                    raise RuntimeError("The new items were not served.")
                time.sleep(0.1)
            lists = client.recommend(users, exclude=seen).item_ids
            seconds = time.perf_counter() - started
        return np.array(lists), seconds

    def fit(self, kind: str):
        """Vectors `(users, items)` of a model beside the served one.

        It covers the new items from the start. Without labels of them (all
        but "with labels") their own rows count as unknown.
        """
        tables = Interactions.from_csv(
            self.config.data, users=self.config.users,
            items=self.config.items)
        rows = [self.train]
        if kind == "with labels":
            rows.append(self.news.later)
        frame = pd.concat(rows)[list(self.train.columns)]
        pool = Pool.from_interactions(
            tables.with_frame(frame.sort_values(
                "timestamp", kind="stable")), initial=1.0)
        config = self.config
        tf_keras.utils.set_random_seed(config.seed)
        none = {"query_columns": [], "candidate_columns": []}
        model = TwoTower.from_interactions(
            tables, dropout=config.dropout, seed=config.seed,
            mean=float(pool.label.mean()),
            encoder=(TextEncoder("minilm", tuning="frozen")
                     if kind == "with labels" else None),
            **(none if kind == "ids only" else {}))
        model.compile(learning_rate=config.learning_rate)
        model.fit(pool.sequence(config.batch_size, config.seed),
                  epochs=config.epochs, verbose=0, callbacks=[
                      FinalCosine(
                          config.learning_rate, config.epochs,
                          config.final_epochs)])
        query, candidate = PoolScorer.of(model, pool).vectors("retrieval")
        users = tables.codes(self.users, self.data.item_ids[:1])[0]
        items = tables.codes(self.users[:1], self.data.item_ids)[1]
        return query[users], candidate[items]

    @property
    def users(self) -> np.ndarray:
        """Ids of the users that the shop knows, in a fixed order."""
        return self.data.user_ids[
            ~np.isin(self.data.user_ids, self.news.users)]


def judge(shop: Shop, vectors) -> pd.DataFrame:
    """NDCG and recall of the judged likes, one row a user who has any.

    Columns: `ndcg`, `recall` among the new items, `recall_of_all` among all
    that the user has no row of.
    """
    users, items = (pd.Index(ids) for ids in (
        shop.users, shop.data.item_ids))
    shape = len(users), len(items)

    def matrix(rows):
        return metrics.pairs(users.get_indexer(rows["user_id"]),
                             items.get_indexer(rows["item_id"]), shape)

    judged = shop.news.judged
    relevant = matrix(judged[judged["label"] >= POSITIVE])
    later = matrix(shop.news.later)
    new = items.isin(shop.news.items)
    few = metrics.ranking(*vectors, relevant, later, k=K, item_mask=new)
    every = metrics.ranking(
        *vectors, relevant, later + matrix(shop.news.old), k=K)
    return pd.DataFrame({
        "user": users[few.users], "ndcg": few.per_user[f"ndcg@{K}"],
        "recall": few.per_user[f"recall@{K}"],
        "recall_of_all": every.per_user[f"recall@{K}"]})


def visits(client, likes: dict) -> pd.DataFrame:
    """Lists for new users after some clicks, beside popular ones."""
    rows = []
    for clicks in CLICKS:
        for user, liked in likes.items():
            history, rest = liked[:clicks], liked[clicks:]
            if not rest:
                continue
            started = time.perf_counter()
            found = client.recommend(
                [""], history=[history], exclude=[history]).item_ids[0]
            seconds = time.perf_counter() - started
            popular = client.recommend([""], exclude=[history]).item_ids[0]
            row = {"user": user, "clicks": clicks, "seconds": seconds}
            for name, items in (("", found), ("popular_", popular)):
                hits = np.isin(items, rest)
                ideal = GAIN[:len(rest)].sum()
                row[f"{name}ndcg"] = hits @ GAIN[:len(hits)] / ideal
                row[f"{name}recall"] = hits.sum() / len(rest)
            rows.append(row)
    return pd.DataFrame(rows)


def once(data, seed: int, epochs: int) -> dict:
    """All measurements of one seed."""
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Path(folder), data, seed, epochs)
        news, users = shop.news, shop.users
        seen = news.old.groupby("user_id")["item_id"].agg(list)
        seen = [seen.get(user, []) for user in users]
        with server(shop.base, "--file_system_poll_wait_seconds=1") as (
                address, _), Recommender(
                    address, "shop", timeout=60, max_batch=128) as client:
            new_users = visits(client, news.likes)
            lists, seconds = shop.arrive(address, client, users, seen)
            served = (client.embed_queries(users).vectors,
                      client.embed_candidates(data.item_ids).vectors)
        new = np.isin(lists, news.items)
        vectors = {"random": (np.zeros((len(users), 1)),
                              np.zeros((len(data.items), 1))),
                   "text": served}
        vectors |= {kind: shop.fit(kind) for kind in BESIDE
                    if kind not in vectors}
        return {"seconds": seconds, "users_with_one": new.any(1).mean(),
                "share_of_places": new.mean(),
                "share_of_items": len(news.items) / len(data.items),
                "visits": new_users.assign(seed=seed),
                "judged": pd.concat(
                    [judge(shop, vectors[kind]).assign(kind=kind, seed=seed)
                     for kind in BESIDE])}


def interval(values, users, draws: int = 2000) -> tuple[float, float, float]:
    """Mean and its 95% bootstrap interval; a user's rows stay together."""
    code, names = pd.factorize(np.asarray(users))
    total, size = np.bincount(code, values), np.bincount(code)
    weight = np.random.default_rng(0).multinomial(
        len(names), np.full(len(names), 1 / len(names)), draws)
    low, high = np.quantile(weight @ total / (weight @ size), (0.025, 0.975))
    return float(np.mean(values)), float(low), float(high)


def show_items(judged: pd.DataFrame) -> dict:
    """Prints how good lists of new items are; the differences of text."""
    table = judged.set_index(["kind", "seed", "user"])
    print(f"\n{'new items':14}{'NDCG@10':>10}{'recall@10':>11}"
          f"{'recall@10 of all':>18}   text minus it, NDCG@10")
    text, found = table.loc["text"], {}
    for kind in BESIDE:
        means = table.loc[kind].mean()
        gap = text["ndcg"] - table.loc[kind]["ndcg"]
        found[kind] = interval(gap, gap.index.get_level_values("user"))
        print(f"{kind:14}{means['ndcg']:10.4f}{means['recall']:11.4f}"
              f"{means['recall_of_all']:18.4f}"
              + ("" if kind == "text" else "   {:+.4f} [{:+.4f}, {:+.4f}]"
                 .format(*found[kind])))
    return found


def show_users(found: pd.DataFrame) -> dict:
    """Prints what clicks of new users bring."""
    print(f"\n{'new users':10}{'users':>7}{'NDCG@10':>10}{'popular':>9}"
          f"{'recall':>9}{'popular':>9}{'p50 ms':>8}   NDCG@10 minus popular")
    result = {}
    for clicks, rows in found.groupby("clicks"):
        means = rows.mean(numeric_only=True)
        gap = interval(rows["ndcg"] - rows["popular_ndcg"], rows["user"])
        p50 = 1000 * rows["seconds"].median()
        print(f"{clicks:3} clicks{len(rows):8}{means['ndcg']:10.4f}"
              f"{means['popular_ndcg']:9.4f}{means['recall']:9.4f}"
              f"{means['popular_recall']:9.4f}{p50:8.2f}"
              "   {:+.4f} [{:+.4f}, {:+.4f}]".format(*gap))
        result[str(clicks)] = {
            "ndcg": round(means["ndcg"], 4),
            "difference": round(gap[0], 4),
            "interval": [round(gap[1], 4), round(gap[2], 4)],
            "p50_ms": round(p50, 2)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="one seed, three epochs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    arguments = parser.parse_args()
    seeds, epochs = ((arguments.seeds[:1], 3) if arguments.quick
                     else (arguments.seeds, 10))
    data = datasets.load("ml-100k")
    found = []
    for seed in seeds:
        found.append(once(data, seed, epochs))
        print(f"seed {seed}: " + ", ".join(
            f"{name} {found[-1][name]:.4f}" for name in SHARES), flush=True)

    def mean(name):
        return float(np.mean([one[name] for one in found]))

    print(f"MovieLens-100K, seeds {seeds}: {mean('seconds'):.1f} s from the "
          f"table to the first lists; {mean('users_with_one'):.1%} of the "
          f"users have a new item among ten, {mean('share_of_places'):.1%} "
          f"of all places ({mean('share_of_items'):.1%} of the items are "
          "new)")
    judged = pd.concat([one["judged"] for one in found])
    ndcg = judged.groupby("kind")["ndcg"].mean()
    gaps = show_items(judged)
    users = show_users(pd.concat([one["visits"] for one in found]))
    print(json.dumps({
        "new_items": {
            "seconds_to_served": round(mean("seconds"), 2),
            **{name: round(mean(name), 4)
               for name in SHARES},
            **{f"ndcg_{kind.replace(' ', '_')}": round(ndcg[kind], 4)
               for kind in BESIDE},
            "difference": round(gaps["ids only"][0], 4),
            "interval": [round(v, 4) for v in gaps["ids only"][1:]]},
        "new_users": users}))


if __name__ == "__main__":
    main()
