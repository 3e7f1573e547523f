"""Anchored ensemble of last layers: samples without dropout.

Each head is a draw from the posterior of a Bayesian linear model: one
owner's vector, with the vectors of the other side held fixed.
"""
from __future__ import annotations

import numpy as np

_CELLS = 1 << 22  # float64 numbers held at once: 32 MiB


def anchored_heads(features, owner, other, residual, noise, prior,
                   owners: int, heads: int, rng) -> np.ndarray:
    """Returns what each head adds to the trained vector of each owner.

    A head minimises, for each owner, sum (r + e - phi d)^2 / noise
    + sum (d - a)^2 / prior: ridge regression from the trained vector (d = 0)
    and not from zero, anchored at a draw a from the prior, with labels
    perturbed by e ~ N(0, noise). Unlike the paper, which leaves the labels
    as they are, this makes the heads draws from the exact posterior of the
    linear model. An owner without labels keeps the prior.

    Args:
        features: phi of the other side by code, `[codes + 1, D]`.
        owner, other: codes of the labelled pairs, `[m]`.
        residual: labels minus what the trained vectors predict, `[m]`.
        noise: variance of a label, > 0, a number or `[m]`.
        prior: variances of the elements of d, >= 0, `[D]`.
        owners: number of owners + 1.
        heads: number of heads.
        rng: a `numpy.random.Generator`.

    Returns:
        float32 `[heads, owners, D]`.

    Reference:
        Pearce et al. 2020, "Uncertainty in Neural Networks: Approximately
        Bayesian Ensembling", arXiv 1810.05546, equation 9.
    """
    width = np.shape(features)[1]
    scale = np.sqrt(np.asarray(prior, np.float64))
    # In units of the prior, so that a variance of zero is no division.
    anchor = rng.standard_normal((owners, heads, width), np.float32)
    found = anchor.copy()
    precision = 1 / np.broadcast_to(
        np.asarray(noise, np.float64), np.shape(owner))
    order = np.argsort(owner, kind="stable")
    number = np.bincount(owner, minlength=owners)
    first = np.cumsum(number) - number
    for group in _groups_of_owners(number, width, heads):
        most = number[group].max()
        place = first[group, None] + np.arange(most)
        there = np.arange(most) < number[group, None]
        row = order[np.minimum(place, len(order) - 1)]
        row_weight = np.where(there, precision[row], 0)
        phi = np.asarray(features, np.float64)[other[row]] * scale
        label = residual[row, None] + rng.standard_normal(
            (*row.shape, heads)) / np.sqrt(precision[row])[..., None]
        left = phi.transpose(0, 2, 1) * row_weight[:, None]
        right = left @ label + anchor[group].transpose(0, 2, 1)
        solved = np.linalg.solve(left @ phi + np.eye(width), right)
        found[group] = solved.transpose(0, 2, 1)
    return (found * scale.astype(np.float32)).transpose(1, 0, 2)


def _groups_of_owners(number, width: int, heads: int):
    """Yields owners with labels, in groups of similar numbers of labels.

    A group needs at most `_CELLS` cells, or holds a single owner.
    """
    busy = np.flatnonzero(number)
    busy = busy[np.argsort(number[busy], kind="stable")]
    cells = (number[busy] + width) * (width + heads)
    start = 0
    while start < len(busy):
        stop = start + 1
        while stop < len(busy) and (
                cells[stop] * (stop + 1 - start) <= _CELLS):
            stop += 1
        yield busy[start:stop]
        start = stop


def head_vectors(query, candidate, user, item, residual, noise, heads: int,
                 seed: int):
    """Returns the rating vectors of each head.

    Users are re-estimated with items fixed and items with users fixed, each
    from half of the residual, so that a head does not correct an error
    twice. Both sides vary with their whole posterior variance, so that the
    variance of a prediction is the sum of both (and of their product): the
    mean-field posterior of matrix factorisation, as in `VOpt`.

    The prior variance of an element is its variance over the trained
    vectors of the side.

    Args:
        query, candidate: rating vectors by code, `[users + 1, d]` and
            `[items + 1, d]`; those of a `TwoTower` end in (bias, 1) and
            (1, bias).
        user, item: codes of the labelled pairs, `[m]`.
        residual: labels minus predictions, before clipping, `[m]`.
        noise: variance of a label, a number or `[m]`.
        heads: number of heads.
        seed: of anchors and label noise.

    Returns:
        `heads` pairs `(query, candidate)`, float32.
    """
    rng = np.random.default_rng([seed, 21])
    sides = ((query, candidate, user, item), (candidate, query, item, user))
    varied = []
    for own, others, owner, other in sides:
        prior = own[1:].var(axis=0, dtype=np.float64)
        # A constant element is not learned: it is the 1 that meets the other
        # side's bias.
        columns = np.flatnonzero(prior > 0)
        added = anchored_heads(
            others[:, columns], owner, other, residual / 2, noise,
            prior[columns], len(own), heads, rng)
        vectors = np.repeat(own[None], heads, axis=0)
        vectors[:, :, columns] += added
        varied.append(vectors)
    return list(zip(*varied))
