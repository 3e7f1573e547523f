"""Metrics of lists over the full catalogue.

Vectors come in, encoded once; no model is called here. `ranking` multiplies
query vectors with candidate vectors, `ranking_from_scores` takes any scores;
both rank the whole catalogue (no sampled negatives: they change the order of
models, Krichene and Rendle, KDD 2020) and share one definition of each
number. With `L` the list of a user, `R` the user's relevant items and `rel_j`
1 where the item at rank j (from 1) is relevant:

- recall@k: hits in the first k / |R|. The divisor is not cut to k, so a user
  with more than k relevant items cannot reach 1.
- ndcg@k: sum of rel_j / log2(j + 1) over the first k ranks, divided by the
  same sum of an ideal list, which has min(k, |R|) hits at its top (Järvelin
  and Kekäläinen, TOIS 2002, with binary gains and the discount of Burges et
  al., ICML 2005; LensKit's default discount differs at ranks 2 and up).
- mrr@k: 1 / rank of the first hit, 0 if there is none in the first k.
- map@k: mean over users of (sum of rel_j * precision@j over the first k
  ranks) / min(k, |R|).
- hit_rate@k: share of users with a hit in the first k.
- coverage@k: share of the ranked catalogue that is in somebody's first k
  (Ge et al., RecSys 2010).
- popularity_bias@k: average recommendation popularity (ARP, Abdollahpouri et
  al., FLAIRS 2019) with popularity as a percentile of the ranked catalogue,
  so that 0.5 is what random lists have and data sets compare.
- novelty@k: mean self-information -log2 p(i) of the items in the lists, with
  p(i) the share of all traffic that is item i's (expected free discovery,
  Vargas and Castells, RecSys 2011); one is added to each item's count.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse, stats

from tfrecal import checks
from tfrecal.metrics.pointwise import auc, log_loss, mae, mid_ranks, rmse
from tfrecal.metrics.top_k import top_k

__all__ = ["RankingResult", "auc", "item_slices", "log_loss", "mae", "pairs",
           "ranking", "ranking_from_scores", "rmse", "slices", "t_interval"]
_CELLS = 1 << 24  # scores held at once, 64 MiB: wide catalogues, short tiles


@dataclass(frozen=True)
class RankingResult:
    """The lists of the users that were evaluated, and what they are worth.

    Attributes:
        users: rows that were evaluated, `[n]`: users with at least one
            relevant item that is ranked and not seen.
        items: the lists, `[n, max(k)]`, best first; -1 where a user has no
            candidate left.
        per_user: metric name -> `[n]` float64.
        k: the cut-offs.
        catalogue: number of candidates that were ranked.
    """

    users: np.ndarray
    items: np.ndarray
    per_user: dict[str, np.ndarray]
    k: tuple[int, ...]
    catalogue: int

    def mean(self, rows: np.ndarray | None = None) -> dict[str, float]:
        """Returns averages over the users, or over those where `rows` is true.

        Args:
            rows: bool `[n]`, an entry for each of `users`; None for all.

        Returns:
            Metric name -> mean, with `coverage@k`; NaN over no users.
        """
        rows = np.ones(len(self.users), bool) if rows is None else rows
        some = bool(np.any(rows))
        means = {name: float(values[rows].mean()) if some else float("nan")
                 for name, values in self.per_user.items()}
        for k in self.k:
            shown = np.unique(self.items[rows, :k])
            means[f"coverage@{k}"] = float(
                np.sum(shown >= 0) / self.catalogue) if some else float("nan")
        return means


def pairs(users, items, shape: tuple[int, int]) -> sparse.csr_array:
    """Returns a boolean matrix that is true at (users[j], items[j]).

    Args:
        users, items: positions from 0, `[m]`.
        shape: `(U, N)`.
    """
    data = np.ones(len(users), bool)
    return _boolean(sparse.coo_array((data, (users, items)), shape=shape))


def ranking(query_vectors, candidate_vectors, relevant, seen=None, *,
            k: int | Sequence[int] = (10,), popularity=None, item_mask=None,
            seed: int = 0, tile: int = 1024) -> RankingResult:
    """Ranks the catalogue for each query by inner product.

    Args:
        query_vectors, candidate_vectors: float32 `[U, d]` and `[N, d]`.
        relevant: sparse bool `[U, N]`, what should be found.
        seen: sparse bool `[U, N]`, what is never listed and never counted,
            even if relevant.
        k: cut-off or cut-offs.
        popularity: counts of the traffic, `[N]`, for `popularity_bias@k` and
            `novelty@k`.
        item_mask: bool `[N]`; only these are ranked, and only relevant items
            among them count.
        seed: orders equal scores at random, for each user anew.
        tile: users scored at once; fewer if the catalogue is wide.

    Returns:
        The lists and numbers (`RankingResult`).

    Raises:
        ValueError: shapes do not fit, or vectors are not finite.
    """
    queries = np.ascontiguousarray(query_vectors, np.float32)
    candidates = np.ascontiguousarray(candidate_vectors, np.float32)
    if queries.ndim != 2 or candidates.ndim != 2 or (
            queries.shape[1] != candidates.shape[1]):
        raise ValueError(
            "`query_vectors` and `candidate_vectors` must be [U, d] and [N, d]"
            f" with one d. Received: query_vectors.shape={queries.shape}, "
            f"candidate_vectors.shape={candidates.shape}.")
    for name, vectors in (("query_vectors", queries),
                          ("candidate_vectors", candidates)):
        bad = ~np.isfinite(vectors).all(axis=1)
        if bad.any():
            raise ValueError(
                f"`{name}` must be finite. Received: NaN or infinity in "
                f"{bad.sum()} of {len(bad)} rows, the first is row "
                f"{bad.argmax()}. Has training diverged? Lower the learning "
                "rate or look at the input features.")
    if (len(queries), len(candidates)) != relevant.shape:
        raise ValueError(
            "`relevant` must have one row a query and one column a candidate."
            f" Received: relevant.shape={relevant.shape}, "
            f"{len(queries)} queries, {len(candidates)} candidates.")
    return ranking_from_scores(
        lambda rows: queries[rows] @ candidates.T, relevant, seen, k=k,
        popularity=popularity, item_mask=item_mask, seed=seed, tile=tile)


def ranking_from_scores(scores: Callable | np.ndarray, relevant, seen=None, *,
                        k: int | Sequence[int] = (10,), popularity=None,
                        item_mask=None, seed: int = 0,
                        tile: int = 1024) -> RankingResult:
    """Ranks the catalogue by any scores.

    Args:
        scores: an array `[U, N]`, or a function of row positions `[b]` that
            returns a new array `[b, N]`. Higher is better; -inf is never
            listed.
        relevant, seen, k, popularity, item_mask, seed, tile: see `ranking`.

    Returns:
        The lists and numbers (`RankingResult`).

    Raises:
        ValueError: shapes do not fit, or scores are NaN.
    """
    relevant = _boolean(relevant)
    shape = relevant.shape
    cuts = _cuts(k)
    mask = np.ones(shape[1], bool) if item_mask is None else np.asarray(
        item_mask)
    if mask.shape != shape[1:] or mask.dtype != bool or not mask.any():
        raise ValueError(
            f"`item_mask` must be [{shape[1]}] bool with a true entry. "
            f"Received: shape={mask.shape}, dtype={mask.dtype}, "
            f"{np.count_nonzero(mask)} true.")
    relevant = _keep_columns(relevant, mask)
    if seen is not None:
        seen = _boolean(seen)
        if seen.shape != shape:
            raise ValueError(
                "`seen` and `relevant` must have one shape. Received: "
                f"seen.shape={seen.shape}, relevant.shape={shape}.")
        relevant = _boolean(relevant > relevant.multiply(seen))
    users = np.flatnonzero(np.diff(relevant.indptr))
    items = np.full((len(users), max(cuts)), -1, np.int32)
    step = int(max(1, min(tile, _CELLS // shape[1])))
    for start in range(0, len(users), step):
        rows = users[start:start + step]
        got = scores(rows) if callable(scores) else (
            np.asarray(scores)[rows])
        if not np.issubdtype(got.dtype, np.floating):
            got = got.astype(np.float32)
        if got.shape != (len(rows), shape[1]) or np.isnan(got).any():
            raise ValueError(
                f"`scores` must be [{len(rows)}, {shape[1]}] without NaN. "
                f"Received: shape={got.shape}, {np.isnan(got).sum()} NaN.")
        if not mask.all():
            got[:, ~mask] = -np.inf
        if seen is not None:
            got[seen[rows].nonzero()] = -np.inf
        items[start:start + step] = top_k(got, max(cuts), rows, seed)
    per_user = _accuracy_values(relevant, users, items, cuts)
    if popularity is not None:
        per_user |= _popularity_values(items, mask, popularity, cuts)
    return RankingResult(users, items, per_user, cuts, int(mask.sum()))


def slices(result: RankingResult, groups: dict[str, np.ndarray]
           ) -> dict[str, dict[str, float]]:
    """Returns means over groups of users, such as warm and cold.

    Args:
        result: what `ranking` returned.
        groups: name -> bool `[U]` over all users given to `ranking`.

    Returns:
        Name -> means, and `users`, the number of users that they are over.
    """
    found = {}
    for name, group in groups.items():
        rows = np.asarray(group, bool)[result.users]
        found[name] = result.mean(rows) | {"users": int(rows.sum())}
    return found


def item_slices(query_vectors, candidate_vectors, relevant, seen=None, *,
                groups: dict[str, np.ndarray], among: str = "all",
                **options) -> dict[str, dict[str, float]]:
    """Returns means for groups of items, such as warm and cold.

    Args:
        query_vectors, candidate_vectors, relevant, seen: see `ranking`.
        groups: name -> bool `[N]`; only relevant items of a group count.
        among: "all" ranks the whole catalogue, "themselves" each group by
            itself.
        **options: further arguments of `ranking`.

    Returns:
        Name -> means, and `users`, the number of users that they are over.
    """
    checks.one_of("among", among, ("all", "themselves"))
    found = {}
    for name, group in groups.items():
        group = np.asarray(group, bool)
        result = ranking(
            query_vectors, candidate_vectors,
            _keep_columns(_boolean(relevant), group), seen,
            item_mask=group if among == "themselves" else None, **options)
        found[name] = result.mean() | {"users": len(result.users)}
    return found


def _cuts(k) -> tuple[int, ...]:
    cuts = (k,) if np.isscalar(k) else tuple(k)
    if not cuts or any(int(c) != c or c < 1 for c in cuts):
        raise ValueError("`k` must be a positive integer, or several. "
                         f"Received: k={k!r}.")
    return tuple(sorted({int(c) for c in cuts}))


def _boolean(matrix) -> sparse.csr_array:
    """Returns a copy in CSR form that stores true entries only, each once."""
    matrix = sparse.csr_array(matrix).astype(bool)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _keep_columns(matrix, mask) -> sparse.csr_array:
    """Returns the boolean matrix with the columns outside `mask` empty."""
    if mask.shape != matrix.shape[1:]:
        raise ValueError("A group of items must have one entry a candidate. "
                         f"Received: shape={mask.shape} for "
                         f"{matrix.shape[1]} candidates.")
    kept = matrix.copy()
    kept.data = mask[kept.indices]
    kept.eliminate_zeros()
    return kept


def _accuracy_values(relevant, users, items, cuts
                     ) -> dict[str, np.ndarray]:
    """Returns the accuracy of the lists for each user and cut-off."""
    size = np.diff(relevant.indptr)[users]
    hit = np.zeros(items.shape)
    if len(users):
        found = relevant[users[:, None], np.maximum(items, 0)].toarray()
        hit = (found & (items >= 0)).astype(np.float64)
    rank = np.arange(1, items.shape[1] + 1)
    gain = 1 / np.log2(rank + 1)
    ideal = np.cumsum(gain)
    precision = np.cumsum(hit, axis=1) / rank
    first = np.where(np.cumsum(hit, axis=1) == 1, hit, 0) / rank
    values = {}
    for k in cuts:
        possible = np.minimum(size, k)
        values |= {
            f"recall@{k}": hit[:, :k].sum(1) / size,
            f"ndcg@{k}": hit[:, :k] @ gain[:k] / ideal[possible - 1],
            f"mrr@{k}": first[:, :k].sum(1),
            f"map@{k}": (hit * precision)[:, :k].sum(1) / possible,
            f"hit_rate@{k}": hit[:, :k].max(1, initial=0)}
    return values


def _popularity_values(items, mask, popularity, cuts
                       ) -> dict[str, np.ndarray]:
    """Returns how popular the lists are, for each user and cut-off."""
    count = np.asarray(popularity, np.float64)
    if count.shape != mask.shape or not (count >= 0).all():
        raise ValueError(
            f"`popularity` must be [{len(mask)}] counts of 0 or more. "
            f"Received: shape={count.shape}, smallest={np.min(count)}.")
    percentile = np.zeros(len(count))
    percentile[mask] = (mid_ranks(count[mask]) - 0.5) / mask.sum()
    surprise = -np.log2((count + 1) / (count + 1).sum())
    values = {}
    for k in cuts:
        listed = items[:, :k] >= 0
        length = np.maximum(listed.sum(1), 1)
        for name, worth in (("popularity_bias", percentile),
                            ("novelty", surprise)):
            total = np.where(listed, worth[items[:, :k]], 0).sum(1)
            values[f"{name}@{k}"] = total / length
    return values


def t_interval(differences) -> tuple[float, float, float]:
    """Returns the mean of paired differences and its 95% t interval.

    Args:
        differences: `[n]`, one for each seed, user or row; the interval of a
            single one is infinite.

    Returns:
        `(mean, low, high)`.
    """
    values = np.asarray(differences, float)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, -np.inf, np.inf
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half
