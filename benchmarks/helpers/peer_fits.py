"""Fits of the peers' libraries; `quality_peers.py` measures them.

Runs in an interpreter that has them, so it imports neither tfrecal nor
TensorFlow: `python helpers/peer_fits.py FOLDER [--seed 0] [--quick]` reads
`split.npz` and writes scores of users and items, or vectors whose products
they are.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from scipy import sparse

# A wider search on validation (MovieLens-100K, seed 0) ended in these; each
# grid is searched anew on each split. The first option set is the quick one.
RATING_GRIDS = {
    "biases only": [{"damping": d} for d in (2.0, 5.0, 10.0)],
    "Cornac MF": [
        {"k": k, "lambda_reg": reg, "max_iter": n, "learning_rate": 0.005}
        for k in (200, 50) for reg in (0.06, 0.08, 0.1)
        for n in (75, 100, 150)],
    "Surprise SVD": [
        {"n_factors": 200, "reg_all": reg, "n_epochs": n, "lr_all": 0.005}
        for reg in (0.1, 0.08) for n in (100, 60)],
    "Surprise SVD++": [{"n_factors": 50, "reg_all": 0.1, "n_epochs": 40,
                        "lr_all": 0.007}],
    "LensKit BiasedMF": [
        {"embedding_size": k, "regularization": reg, "epochs": 10}
        for k in (30, 60, 10) for reg in (0.15, 0.12, 0.2)]}
RANKING_GRIDS = {
    "popularity": [{"positives": only} for only in (False, True)],
    "implicit ALS": [
        {"factors": k, "regularization": reg, "alpha": alpha, "positives": only}
        for only in (True, False) for k in (48, 32, 128)
        for reg, alpha in ((30.0, 4.0), (20.0, 2.0), (10.0, 1.0), (1.0, 5.0),
                           (10.0, 20.0))],
    "LensKit ImplicitMF": [
        {"embedding_size": k, "regularization": reg, "weight": 2.0,
         "positives": only}
        for only in (True, False) for k in (32, 16) for reg in (20.0, 10.0)],
    "Cornac BPR": [
        {"k": k, "learning_rate": 0.02, "lambda_reg": reg, "max_iter": n,
         "positives": True}
        for k in (32, 64) for reg in (0.02, 0.01, 0.05)
        for n in (400, 200, 100)],
    "Cornac EASE": [{"lamb": lamb, "positives": only} for only in (False, True)
                    for lamb in (5000, 3000, 8000, 1000)]}
ORDERED_GRIDS = {
    "RecTools SASRec": [
        {"n_factors": 64, "epochs": 30, "positives": only}
        for only in (True, False)]}
SLOW = ("Surprise SVD++",)  # 45 s a fit and never the best: not in --quick


def fit_all(folder: Path, seed: int, quick: bool, only=()) -> None:
    """Fits every option set; writes `fit_*.npy`, `.npz` and `fits.json`.

    Args:
        folder: holds `split.npz`.
        seed: of the peers' own randomness.
        quick: one option set a peer, no slow peers.
        only: names of peers; by default all that need no order of rows.
    """
    data = np.load(folder / "split.npz")
    alike = data["train_label"].min() >= data["positive"]
    fits = []
    for kind, grids in (("rating", RATING_GRIDS), ("ranking", RANKING_GRIDS),
                        ("ranking", ORDERED_GRIDS if only else {})):
        for name, grid in grids.items():
            if only and name not in only:
                continue
            for options in grid[:name not in SLOW] if quick else grid:
                if alike and not options.get("positives", True):
                    continue  # the same rows as the positives
                start = time.perf_counter()
                try:
                    scores = FITS[name](data, seed, **options)
                except ImportError as error:
                    print(f"{name}: left out, {error}", file=sys.stderr)
                    break
                seconds = time.perf_counter() - start
                file = f"fit_{len(fits)}.npy"
                if isinstance(scores, tuple):
                    file = f"fit_{len(fits)}.npz"
                    np.savez(folder / file, users=scores[0], items=scores[1])
                else:
                    np.save(folder / file, np.asarray(scores, np.float32))
                fits.append({"name": name, "kind": kind, "file": file,
                             "seconds": seconds, "options": options})
                print(f"{name} {options}: {seconds:.1f} s", file=sys.stderr)
    (folder / "fits.json").write_text(json.dumps(fits))


def _rows(data, positives: bool) -> np.ndarray:
    """Mask of the training rows: all, or the positives."""
    return data["train_label"] >= (data["positive"] if positives else -np.inf)


def _matrix(data, positives: bool) -> sparse.csr_matrix:
    """Training pairs as ones."""
    keep = _rows(data, positives)
    pair = data["train_user"][keep], data["train_item"][keep]
    ones = np.ones(keep.sum(), np.float32)
    return sparse.csr_matrix((ones, pair), shape=tuple(data["shape"]))


def biases(data, seed, damping):
    """Global mean, item and user offsets shrunk by `damping` rows."""
    user, item, label = (data[f"train_{c}"] for c in ("user", "item", "label"))
    rest = label - label.mean()
    offsets = []
    for code, size in zip((item, user), data["shape"][::-1]):
        total = np.bincount(code, rest, size)
        offsets.append(total / (np.bincount(code, minlength=size) + damping))
        rest = rest - offsets[-1][code]
    return label.mean() + offsets[1][:, None] + offsets[0]


def popularity(data, seed, positives):
    """The same score for everybody."""
    count = np.asarray(_matrix(data, positives).sum(0))
    return np.tile(count, (data["shape"][0], 1))


def _cornac_data(data, positives=False):
    from cornac.data import Dataset

    users, items = map(int, data["shape"])
    keep = _rows(data, positives)
    return Dataset(users, items, {u: u for u in range(users)},
                   {i: i for i in range(items)},
                   (data["train_user"][keep].astype(np.int64),
                    data["train_item"][keep].astype(np.int64),
                    data["train_label"][keep].astype(np.float64)))


def cornac_mf(data, seed, **options):
    from cornac.models import MF

    model = MF(seed=seed, num_threads=1, **options).fit(_cornac_data(data))
    return (model.global_mean + model.u_biases[:, None] + model.i_biases
            + model.u_factors @ model.i_factors.T)


def cornac_bpr(data, seed, positives, **options):
    from cornac.models import BPR

    model = BPR(seed=seed, num_threads=1, **options).fit(
        _cornac_data(data, positives))
    return (np.hstack([model.u_factors, np.ones((len(model.u_factors), 1))]),
            np.hstack([model.i_factors, model.i_biases[:, np.newaxis]]))


def cornac_ease(data, seed, positives, lamb):
    from cornac.models import EASE

    model = EASE(lamb=lamb, posB=False, verbose=False, seed=seed)
    model.fit(_cornac_data(data, positives))
    return np.stack([np.ravel(model.score(user))
                     for user in range(data["shape"][0])])


def _surprise(data, algorithm):
    """A fitted Surprise model and its row of each of our rows, or -1."""
    import pandas as pd
    from surprise import Dataset, Reader

    frame = pd.DataFrame({c: data[f"train_{c}"]
                          for c in ("user", "item", "label")})
    trainset = Dataset.load_from_df(
        frame, Reader(rating_scale=tuple(map(float, data["scale"])))
    ).build_full_trainset()
    algorithm.fit(trainset)
    rows = []
    for code, size, inner in (
            (frame.user, data["shape"][0], trainset.to_inner_uid),
            (frame.item, data["shape"][1], trainset.to_inner_iid)):
        place = np.full(size, -1)
        known = np.unique(code)
        place[known] = [inner(raw) for raw in known]
        rows.append(place)
    return trainset, algorithm, *rows


def _spread(values, rows):
    """Values of inner rows put at our rows; zero where unknown."""
    spread = np.asarray(values)[rows]
    spread[rows < 0] = 0
    return spread


def surprise_svd(data, seed, **options):
    from surprise import SVD

    trainset, model, users, items = _surprise(
        data, SVD(random_state=seed, **options))
    return (trainset.global_mean + _spread(model.bu, users)[:, None]
            + _spread(model.bi, items)
            + _spread(model.pu, users) @ _spread(model.qi, items).T)


def surprise_svdpp(data, seed, **options):
    from surprise import SVDpp

    trainset, model, users, items = _surprise(
        data, SVDpp(random_state=seed, **options))
    rated = _matrix(data, False)
    weight = 1 / np.sqrt(np.maximum(rated.sum(1), 1))
    implied = np.asarray(weight) * (rated @ _spread(model.yj, items))
    return (trainset.global_mean + _spread(model.bu, users)[:, None]
            + _spread(model.bi, items)
            + (_spread(model.pu, users) + implied)
            @ _spread(model.qi, items).T)


def _lenskit(data, seed, scorer, positives):
    import pandas as pd
    from lenskit.data import ItemList, from_interactions_df
    from lenskit.training import TrainingOptions

    keep = _rows(data, positives)
    scorer.train(from_interactions_df(pd.DataFrame({
        "user_id": data["train_user"][keep],
        "item_id": data["train_item"][keep],
        "rating": data["train_label"][keep]})), TrainingOptions(rng=seed))
    users, items = data["shape"]
    catalogue = ItemList(item_ids=np.arange(items))
    return np.stack([np.nan_to_num(scorer(user, catalogue).scores(), nan=(
        -1e9)) for user in range(users)])


def lenskit_biased_mf(data, seed, **options):
    from lenskit.als import BiasedMFScorer

    scores = _lenskit(data, seed, BiasedMFScorer(**options), False)
    return np.where(scores < -1e8, data["train_label"].mean(), scores)


def lenskit_implicit_mf(data, seed, positives, **options):
    from lenskit.als import ImplicitMFScorer

    return _lenskit(data, seed, ImplicitMFScorer(**options), positives)


def implicit_als(data, seed, positives, **options):
    from implicit.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(random_state=seed, num_threads=1,
                                    **options)
    model.fit(_matrix(data, positives), show_progress=False)
    return model.user_factors, model.item_factors


def rectools_sasrec(data, seed, positives, **options):
    """Scores of the 100 best of each user; the rows are in order of time."""
    import pandas as pd
    from pytorch_lightning import seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    seed_everything(seed)
    keep = _rows(data, positives)
    dataset = Dataset.construct(pd.DataFrame({
        Columns.User: data["train_user"][keep],
        Columns.Item: data["train_item"][keep], Columns.Weight: 1.0,
        Columns.Datetime: pd.to_datetime(np.arange(keep.sum()), unit="s")}))
    longest = np.bincount(data["train_user"][keep]).max()
    model = SASRecModel(
        session_max_len=int(min(100, longest)), loss="softmax",
        deterministic=True, **options)
    model.fit(dataset)
    users, items = data["shape"]
    found = model.recommend(
        np.unique(data["train_user"][keep]), dataset,
        min(100, int(items)), filter_viewed=True,
        on_unsupported_targets="ignore")
    scores = np.full((users, items), -1e9, np.float32)
    scores[found[Columns.User], found[Columns.Item]] = found[Columns.Score]
    return scores


FITS = {
    "biases only": biases, "popularity": popularity, "Cornac MF": cornac_mf,
    "Cornac BPR": cornac_bpr, "Cornac EASE": cornac_ease,
    "Surprise SVD": surprise_svd, "Surprise SVD++": surprise_svdpp,
    "LensKit BiasedMF": lenskit_biased_mf,
    "LensKit ImplicitMF": lenskit_implicit_mf,
    "implicit ALS": implicit_als, "RecTools SASRec": rectools_sasrec}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    fit_all(options.folder, options.seed, options.quick, options.only)


if __name__ == "__main__":
    main()
