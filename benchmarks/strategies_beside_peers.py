"""Our picks and times beside scikit-activeml's, on the same embeddings.

Random users and items, and a random subset of their pairs as candidates;
both sides see the same vectors, labels and probabilities. `identical` says
whether our picks are the peer's. Where a method leaves ties open (coverage
counts are whole numbers), each of our picks must be one of the peer's best
at that step, given the picks before it. It is null where no two
implementations can agree, for chance is part of the method:

- BADGE draws each pick (k-means++). Only the first, the largest gradient,
  is certain, and it is compared. The peer also counts the origin as a
  centre; the authors' code does not, and neither do we.
- TypiClust depends on how k-means starts.

The peer's BADGE takes gradients of a softmax layer; it is given two-class
probabilities whose gradients are ours up to one factor. BALD is the first
step of the peer's `batch_bald`, which its `GreedyBALD` calls; BatchBALD is
compared for as many picks as both compute exactly.

    pip install -e .[bench]
    python benchmarks/strategies_beside_peers.py [--quick]
"""
from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings

import numpy as np

from tfrecal.acquisition import BALD, CoreSet, View
from tfrecal.acquisition.badge import BADGE
from tfrecal.acquisition.batch_bald import BatchBALD
from tfrecal.acquisition.prob_cover import ProbCover
from tfrecal.acquisition.typi_clust import TypiClust

try:
    from skactiveml import pool as peer
    from skactiveml.base import SkactivemlClassifier
except ImportError as error:
    raise SystemExit("This benchmark needs scikit-activeml: `pip install "
                     "scikit-activeml==1.0.1`.") from error

DIM, PASSES, CLASSES, LABELLED, EXACT = 32, 10, 5, 200, 5


def make_view(count: int, seed: int = 0) -> View:
    """Random pairs of 300 users and 400 items, 200 of them labelled."""
    rng = np.random.default_rng(seed)
    pairs = rng.choice(300 * 400, count + LABELLED, replace=False)
    user, item = pairs // 400 + 1, pairs % 400 + 1
    passes = rng.dirichlet(np.full(CLASSES, 3.0), (PASSES, count))
    return View(
        user[:count], item[:count], labelled_user=user[count:],
        labelled_item=item[count:], labelled_label=np.ones(LABELLED),
        query_vectors=rng.normal(size=(301, DIM)),
        candidate_vectors=rng.normal(size=(401, DIM)),
        sample_probabilities=passes, probabilities=passes.mean(axis=0),
        levels=np.arange(1.0, CLASSES + 1))


def table(view: View):
    """All pairs and their labels as the peer takes them, labelled last."""
    points = np.concatenate([
        np.concatenate([view.query_vectors[user],
                        view.candidate_vectors[item]], axis=1)
        for user, item in ((view.user, view.item),
                           (view.labelled_user, view.labelled_item))])
    label = np.full(len(points), np.nan)
    label[len(view):] = 1
    return points, label


class Given(SkactivemlClassifier):
    """Gives stored probabilities; a row of X is its own number."""

    def __init__(self, chances=None, points=None):
        super().__init__(classes=[0, 1])
        self.chances = chances
        self.points = points

    def fit(self, X, y, sample_weight=None):
        return self

    def predict_proba(self, X, embeddings):
        rows = X[:, 0].astype(int)
        return self.chances[rows], self.points[rows]


def seconds(work, repeats: int) -> float:
    """Median time of a call."""
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def is_best(query, points, label, picks) -> bool:
    """Whether each pick is one of the peer's best, given those before it."""
    label = label.copy()
    for pick in picks:
        _, values = query(points, label, 1, return_utilities=True)
        if values[0, pick] < np.nanmax(values[0]) * (1 - 1e-9):
            return False
        label[pick] = 1
    return True


def rows_of(view: View, picks: int, repeats: int):
    """`(name, identical, our seconds, the peer's seconds)` by strategy."""
    points, label = table(view)
    unlabelled = np.arange(len(view))

    def ours(strategy, n=picks):
        return strategy.select(view, n, np.random.default_rng(0))

    def query(strategy):
        return lambda x, y, n, **options: strategy.query(
            x, y, batch_size=n, **options)

    radius = ProbCover().radius(view)
    for name, own, theirs, certain in (
            ("CoreSet", CoreSet(), peer.CoreSet(random_state=0), True),
            ("ProbCover", ProbCover(delta=radius),
             peer.ProbCover(deltas=[radius], random_state=0), True),
            ("TypiClust", TypiClust(),
             peer.TypiClust(k=20, random_state=0), False)):
        ask = query(theirs)
        # The peer keeps its distances from call to call: `update` renews.
        options = {"update": True} if name == "ProbCover" else {}
        yield (name,
               is_best(ask, points, label, ours(own)) if certain else None,
               seconds(lambda: ours(own), repeats),
               seconds(lambda: ask(points, label, picks, **options), repeats))

    badge = BADGE()
    # The peer's gradients are [p1 - 1, p2] x, of length sqrt(2) (1 - max p).
    error = badge.errors(view)
    wrong = error / error.max() / 2
    model = Given(np.stack([1 - wrong, wrong], axis=1), points)

    def their_badge(n):
        return peer.Badge("embeddings", random_state=0).query(
            unlabelled[:, None].astype(float), np.full(len(view), np.nan),
            clf=model, fit_clf=False, batch_size=n)
    if their_badge(1)[0] != ours(badge)[0]:
        raise SystemExit("The first pick of BADGE must be the peer's.")
    yield ("BADGE", None, seconds(lambda: ours(badge), repeats),
           seconds(lambda: their_badge(picks), repeats))

    def their_bald(n, configurations=None):
        # It writes into what it is given.
        return peer.batch_bald(view.sample_probabilities.copy(), n,
                               configurations, random_state=0)
    found = their_bald(1)[0]
    yield ("BALD", np.argsort(-found)[:picks].tolist()
           == ours(BALD()).tolist(), seconds(lambda: ours(BALD()), repeats),
           seconds(lambda: their_bald(1), repeats))
    limit = CLASSES ** (EXACT - 1)
    joint = BatchBALD(candidates=len(view), configurations=limit)
    found = np.nanargmax(their_bald(EXACT, limit), axis=1)
    yield ("BatchBALD", found.tolist() == ours(joint, EXACT).tolist(),
           seconds(lambda: ours(joint, EXACT), repeats),
           seconds(lambda: their_bald(EXACT, limit), repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true",
                        help="1,000 candidates, 50 picks, one repeat")
    options = parser.parse_args()
    count, picks, repeats = (1000, 50, 1) if options.quick else (5000, 200, 3)
    print(f"{count:,} candidates, {picks} picks ({EXACT} of BatchBALD), "
          f"{2 * DIM} dimensions, medians of {repeats}")
    print(f"{'strategy':12}{'identical':>10}{'ours s':>10}{'theirs s':>10}"
          f"{'ratio':>8}")
    # With one radius given the peer measures no purity, and says so.
    warnings.filterwarnings("ignore", message="The maximum purity was -1")
    line = {}
    for name, identical, own, theirs in rows_of(
            make_view(count), picks, repeats):
        line[name] = {"identical": identical,
                      "time_ratio": round(theirs / own, 2)}
        word = {True: "yes", False: "no", None: "chance"}[identical]
        print(f"{name:12}{word:>10}{own:10.4f}{theirs:10.4f}"
              f"{theirs / own:8.1f}", flush=True)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
