"""solve_ratings: exact rating vectors of ids, after training by steps."""
from __future__ import annotations

import numpy as np

from tfrecal import checks
from tfrecal.model import ridge
from tfrecal.model.protocol import EMBED, label_head
from tfrecal.scoring.scorer import PoolScorer


def can_solve(model) -> bool:
    """Says whether `solve_ratings` can work on a model."""
    return callable(getattr(model, "take_rating", None)) and (
        label_head(model) is not None)


def solve_ratings(model, pool, *, sweeps: int = 1, row_weights=None,
                  share=None) -> None:
    """Solves rating vectors and biases of all trained ids in closed form.

    What texts, columns and histories say stays as it was trained; the ids
    are fitted to what is left, users and items in turn. That minimises the
    loss of training, over all labels at once and without dropout.

    Args:
        model: a model that offers `linear_parts`, `rating_penalty` and
            `take_rating`, see `model.protocol`.
        pool: the `Pool` that it was trained on.
        sweeps: how often both sides are solved.
        row_weights: weights of the pool's first rows, see `PoolSequence`.
        share: a function from a function that solves, and returns arrays,
            to these arrays: how several workers come to the same ones.

    Raises:
        TypeError: the model does not offer it.
        ValueError: an option is out of range.

    Example:
        model.fit(pool.sequence(1024), epochs=10)
        solve_ratings(model, pool, sweeps=3)
    """
    checks.whole(1, sweeps=sweeps)
    if not can_solve(model):
        raise TypeError(
            "Rating vectors can be solved for a model that predicts labels "
            "and offers `linear_parts`, `rating_penalty` and `take_rating` "
            f"(see `tfrecal.model.protocol`). Received: a "
            f"{type(model).__name__} that does not.")
    rows = pool.labelled_rows()
    if not len(rows):
        return

    def solve():
        return _solved(model, pool, rows, sweeps, row_weights)

    found = solve() if share is None else share(solve)
    for side, vectors, bias in zip(EMBED, found[::2], found[1::2]):
        model.take_rating(side, vectors, bias)


def _solved(model, pool, rows, sweeps, row_weights) -> list[np.ndarray]:
    """Returns vectors and biases of users, then of items."""
    weight = np.ones(len(pool))
    if row_weights is not None:
        weight[:len(row_weights)] = row_weights
    weight = weight[rows] / max(weight[rows].mean(), 1e-9)
    head = label_head(model)
    scorer = PoolScorer.of(model, pool)
    codes = {"query": pool.user[rows], "candidate": pool.item[rows]}
    found, rest, trained = {}, {}, {}
    for side in EMBED:
        parts = scorer.parts(side)
        own, rest[side] = model.linear_parts(side, parts)[:2]
        found[side] = own, parts["bias"].numpy()
        trained[side] = own.any(axis=1)
    unit = (head.scale[1] - head.scale[0]) / 4
    for _ in range(sweeps):
        for side, other in (("query", "candidate"), ("candidate", "query")):
            mine, theirs = codes[side], codes[other]
            vectors, bias = found[other]
            vectors = vectors + rest[other]
            # What is not to be solved: the offset, the other side's bias
            # and this side's parts.
            fixed = head.offset + bias[theirs] + np.einsum(
                "nd,nd->n", rest[side][mine], vectors[theirs])
            score = fixed + found[side][1][mine] + np.einsum(
                "nd,nd->n", found[side][0][mine], vectors[theirs])
            share, target = ridge.working_labels(
                score, pool.label[rows], head.loss, unit)
            solved = ridge.solve(
                mine, theirs, target - fixed, share * weight, vectors,
                model.rating_penalty(side), len(rest[side]))
            # An id that training never saw stays unknown.
            found[side] = [np.where(trained[side][:, np.newaxis], solved[0],
                                    0), np.where(trained[side], solved[1], 0)]
    return [*found["query"], *found["candidate"]]
