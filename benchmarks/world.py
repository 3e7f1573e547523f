"""What does retraining bring in a world whose tastes drift?

A simulated marketplace (`tfrecal.data.world`: 300 users, 200 items, arrivals,
drift, position bias), 28 days, retrained each week by `tfrecal retrain`
without the gate's veto (`force`), ids and categories, no text encoder. Paired
seeds: all policies meet the same visits and the same luck.

    none        the first model serves to the end
    retrain     retrained on logged clicks and skips
    ips         the same, weighed by inverse propensities of being seen
    explore     a fifth of the places are slots, half of them given to pairs
                that `vopt` asks for (epsilon-greedy), no weights

Reported for the last 14 days: clicks a list, recall of the truly best ten,
expected clicks as a share of the best possible; then the paired differences
from `none` and from `retrain`, with 95% intervals over seeds.

    python benchmarks/world.py [--quick] [--seeds 5]
"""
from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from tfrecal.data.world.clicks import seen  # noqa: E402
from tfrecal.data.world.world import World  # noqa: E402
from tfrecal.export.export_model import export_model  # noqa: E402
from tfrecal.feedback import FeedbackStore  # noqa: E402
from tfrecal.feedback.exploration import Exploration  # noqa: E402
from tfrecal.feedback.oracle import FeedbackOracle  # noqa: E402
from tfrecal.feedback.wanted_pairs import by_user  # noqa: E402
from tfrecal.metrics import t_interval  # noqa: E402
from tfrecal.retrain import job, models  # noqa: E402
from tfrecal.retrain.config import RetrainConfig  # noqa: E402
from tfrecal.retrain.loop import Loop  # noqa: E402
from tfrecal.runs import run  # noqa: E402  (tfrecal selects Keras 2)
from tfrecal.runs.config import RunConfig  # noqa: E402
from tfrecal.scoring.scorer import PoolScorer  # noqa: E402

K, WEEK = 10, 7
POLICIES = {
    "none": None, "retrain": {},
    "ips": {"correction": "snips"},
    "explore": {"questions": 400}}


class Company:
    """A world and what is served in it under one policy."""

    def __init__(self, folder: Path, seed: int, policy: str):
        self.folder, self.seed, self.policy = folder, seed, policy
        self.world = World(seed=seed)
        self.base = folder / "models" / "shop"
        self.world.log(days=14).frame.to_csv(folder / "log.csv", index=False)
        self.write_tables()
        run.run(RunConfig(
            data=str(folder / "log.csv"), users=str(folder / "users.csv"),
            items=str(folder / "items.csv"), encoder="none", oracle="people",
            rounds=1, final_epochs=9, batch_size=128, dropout=0.1,
            seed=seed), folder / "run", quiet=True)
        self.origin = models.Origin(folder / "run")
        pool = self.origin.pool
        export_model(self.origin.model, self.base, pool=pool, k=K)
        self.store = FeedbackStore(folder / "feedback.db")
        self.serve(self.origin.model, pool)
        self.explore = None
        if policy == "explore":
            self.explore = Exploration(
                lambda: by_user(FeedbackOracle(self.store).waiting()),
                seed=seed, seconds=1e6)

    def write_tables(self):
        self.world.users.to_csv(self.folder / "users.csv")
        self.world.items.to_csv(self.folder / "items.csv")

    def serve(self, model, pool):
        query, items = PoolScorer.of(model, pool).vectors("retrieval")
        scores = query @ items[1:].T
        # As the server does for whom nothing is known of.
        scores[~query.any(axis=1)] = np.log(pool.item_traffic[1:] + 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
        self.users = pool.user_vocabulary
        self.lists = pool.item_ids[best]
        self.scores = np.take_along_axis(scores, best, axis=1)

    def day(self) -> dict:
        visits = self.world.visits()
        users, time = (visits[name].to_numpy() for name in (
            "user_id", "time"))
        rows = self.users.codes(users)
        lists, propensity = self.lists[rows], np.ones((len(users), K))
        strategy = np.full(lists.shape, "", object)
        request = [f"{self.world.day}-{n}" for n in range(len(users))]
        if self.explore is not None:
            found = self.explore.explore(
                request, users, lists.tolist(), self.scores[rows])
            lists = np.array([one.item_ids for one in found], object)
            propensity = np.array([one.propensities for one in found])
            strategy = np.array([one.strategies for one in found], object)
        clicks = self.world.respond(users, lists, time)
        shown = pd.DataFrame({
            "request_id": np.repeat(request, K),
            "rank": np.tile(np.arange(1, K + 1), len(users)),
            "time": np.repeat(time, K), "user_id": np.repeat(users, K),
            "item_id": lists.ravel(), "propensity": propensity.ravel(),
            "strategy": strategy.ravel()})
        told = seen(clicks).ravel()
        self.store.add_shown(shown)
        self.store.add_responses(shown[told].assign(
            event_id=lambda f: f["request_id"] + "-" + f["item_id"],
            kind=np.where(clicks.ravel()[told], "click", "skip")))
        best = self.world.expected_clicks(users, self.world.best(users, K))
        expected = self.world.expected_clicks(users, lists)
        found = {"day": self.world.day, "clicks": clicks.sum(1).mean(),
                 "recall": self.world.recall(users, lists).mean(),
                 "of_best": expected.mean() / best.mean()}
        self.world.next_day()
        return found

    def retrain(self, options: dict) -> None:
        self.write_tables()
        job.retrain(self.folder / "loop", RetrainConfig(
            run=str(self.folder / "run"), to=str(self.base),
            feedback=str(self.folder / "feedback.db"), force=True,
            users=str(self.folder / "users.csv"), batch_size=256,
            items=str(self.folder / "items.csv"), k=K, seed=self.seed,
            **options), now=self.world.now, quiet=True)
        loop = Loop(self.folder / "loop")
        model, _, pool = loop.load(self.origin, loop.served()[1])
        self.serve(model, pool)
        if self.explore is not None:
            self.explore.wanted.refresh()


def live(seed: int, policy: str, days: int) -> pd.DataFrame:
    """The curve of one policy in one world."""
    options = POLICIES[policy]
    with tempfile.TemporaryDirectory() as folder:
        company = Company(Path(folder), seed, policy)
        curve = []
        for day in range(days):
            if day and day % WEEK == 0 and options is not None:
                company.retrain(options)
            curve.append(company.day())
    return pd.DataFrame(curve).assign(seed=seed, policy=policy)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true",
                        help="two seeds, 16 days")
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    seeds, days = (2, 16) if arguments.quick else (arguments.seeds, 28)
    curves = pd.concat([live(seed, policy, days) for seed in range(seeds)
                        for policy in POLICIES], ignore_index=True)
    late = curves[curves["day"] >= days // 2].groupby(
        ["policy", "seed"])[["clicks", "recall", "of_best"]].mean()
    found = {}
    print(f"{'days ' + str(days // 2) + ' to ' + str(days - 1):10}"
          + "".join(f"{name:>28}" for name in late))
    for policy in POLICIES:
        parts = {name: t_interval(late.loc[policy][name]) for name in late}
        found[policy] = {name: {"mean": round(mean, 4), "low": round(low, 4),
                                "high": round(high, 4)}
                         for name, (mean, low, high) in parts.items()}
        print(f"{policy:10}" + "".join(
            f"{mean:12.4f} [{low:.4f}, {high:.4f}]"
            for mean, low, high in parts.values()))
    for base in ("none", "retrain"):
        print(f"minus {base}, paired by seed")
        for policy in POLICIES:
            if policy in ("none", base):
                continue
            parts = [t_interval(late.loc[policy][name] - late.loc[base][name])
                     for name in late]
            found[policy][f"minus_{base}"] = {
                name: [round(value, 4) for value in part]
                for name, part in zip(late, parts)}
            print(f"  {policy:10}" + "  ".join(
                f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
                for mean, low, high in parts))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
