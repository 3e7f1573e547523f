"""A user's program, for `mypy`; it is read, not run.

Lines that end in `type: ignore` are wrong, and the checker must refuse them:
`warn_unused_ignores` complains where it does not.
"""
from __future__ import annotations

from pathlib import Path

import numpy as np

import tfrecal
from tfrecal import (
    AcquireLabels,
    CallableOracle,
    ColumnPrior,
    Embargo,
    EvaluateRetrieval,
    FileQueueOracle,
    Interactions,
    Journal,
    Pool,
    PoolScorer,
    ReplayOracle,
    SavePool,
    StopAtBudget,
    StopAtPlateau,
    Target,
    Template,
    TextEncoder,
    TwoTower,
    datasets,
    metrics,
    splits,
)
from tfrecal.acquisition import Strategy, View, VOpt
from tfrecal.export import export_model, read_manifest
from tfrecal.oracles import Answers, Oracle, Questions
from tfrecal.serving.client import Recommender


class Newest(Strategy):
    """A strategy of one's own."""

    needs = frozenset({"mean"})

    def utilities(self, view: View) -> np.ndarray:
        return np.asarray(view.item, np.float64)


class Shopkeeper(Oracle):
    """An oracle of one's own."""

    def reply(self, questions: Questions) -> Answers:
        label = np.full(len(questions), 5.0)
        return Answers(questions.ticket, label, np.zeros(len(label), bool),
                       np.ones(len(label)))


class Wrong(Strategy):
    needs = ["mean"]  # type: ignore[assignment]

    def utilities(self, view: View) -> str:  # type: ignore[override]
        return "high"


class Deaf(Oracle):
    def reply(self) -> Answers:  # type: ignore[override]
        return Answers.empty()


def train(folder: Path) -> Path:
    data: Interactions = datasets.load("shop", users=50)
    split = splits.random(data, seed=0)
    train_ids: np.ndarray = split.train.user_ids
    pool = Pool.from_interactions(split.train, initial=0.05, seed=0)
    encoder = TextEncoder("minilm", tuning="top_n", top_n=1)
    model = TwoTower.from_interactions(
        data, encoder=encoder, template=Template("{title}"),
        dropout=0.1)
    model.compile(learning_rate=5e-3, encoder_every=20)
    acquire = AcquireLabels(
        pool, VOpt(), ReplayOracle(split.train), budget=1500.0,
        target=Target.segment(data, users="age < 30"),
        prior=[ColumnPrior(data.items, "price"), Embargo(["i1"])],
        journal=Journal(folder / "journal.jsonl"))
    AcquireLabels(pool, Newest(max_per_user=2), Shopkeeper())
    AcquireLabels(pool, "vopt", CallableOracle(lambda users, items: [1.0]))
    AcquireLabels(pool, "vopt", FileQueueOracle(folder, data.users))
    model.fit(pool.sequence(batch_size=256), epochs=10, callbacks=[
        EvaluateRetrieval(pool, split.test, seen=split.validation), acquire,
        StopAtBudget(acquire, final_epochs=2), StopAtPlateau("val_ndcg@10"),
        SavePool(pool, folder, acquire)])
    labels: dict[str, int] = pool.counts
    print(labels["labelled"], pool.spent / 2, pool.label.mean(), train_ids,
          tfrecal.__version__, acquire.round + 1)
    values = PoolScorer(model, pool).predict(pool.user, pool.item)
    print(metrics.rmse(pool.label, values))
    return export_model(model, folder, pool=pool, k=20, index="exact")


def ask(version: Path) -> list[str]:
    print(read_manifest(version)["stack"])
    with Recommender("localhost:8500", timeout=2.0) as client:
        found = client.recommend(["u1"], exclude=[["i1"]], k=5)
        lists: list[list[str]] = found.item_ids
        print(client.score(np.array(["u1"]), ["i1"]).score + 1)
    return lists[0]


def mistakes(pool: Pool, data: Interactions, oracle: Oracle) -> None:
    tfrecal.TwoTowers  # type: ignore[attr-defined]
    tfrecal.datasets.lod  # type: ignore[attr-defined]
    pool.labels  # type: ignore[attr-defined]
    Pool.from_interactions(data, initial="all")  # type: ignore[arg-type]
    Pool.from_interactions(data, seed=None)  # type: ignore[arg-type]
    TwoTower.from_interactions(data, dropout="high")  # type: ignore[arg-type]
    AcquireLabels(pool, "vopt", oracle, budgets=9)  # type: ignore[call-arg]
    AcquireLabels(pool, "vopt")  # type: ignore[call-arg]
    Newest(max_per_user="2")  # type: ignore[arg-type]
    export_model(None, "models")  # type: ignore[call-arg]
    data.take([1]).normalise(3)  # type: ignore[arg-type]
    Recommender(8500)  # type: ignore[arg-type]
    oracle.ask("pairs")  # type: ignore[arg-type]
