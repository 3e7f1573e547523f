"""Exact distances between pairs of vectors, in bounded memory."""
from __future__ import annotations

import numpy as np

_CELLS = 1 << 22  # float64 numbers held at once: 32 MiB


def squared_distances(rows: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Returns the squared distance of each row to a point, `[n]`."""
    difference = rows - point
    return np.einsum("nd,nd->n", difference, difference)


def distance_table(left, right) -> np.ndarray:
    """Returns squared distances of all rows to all rows, `[n, m]`."""
    # Centred, or large norms would cancel digits of small distances.
    centre = right.mean(axis=0)
    left, right = left - centre, right - centre
    table = left @ right.T
    table *= -2
    table += np.einsum("nd,nd->n", left, left)[:, None]
    table += np.einsum("nd,nd->n", right, right)
    return np.maximum(table, 0, out=table)


def nearest_labelled(view) -> np.ndarray:
    """Returns the squared distance to the nearest labelled pair.

    With L(v) the labelled items of user v, it is the least over users v of
    |q_u - q_v|^2 + min over j in L(v) of |c_i - c_j|^2. The inner minimum
    depends on the item alone, so the cost is O(items * labelled + candidates
    * labelled users) and not candidates * labelled. Users and items change
    places where that costs less.

    Args:
        view: a `View` with vectors and at least one labelled pair.

    Returns:
        float64 `[n]`.
    """
    sides = ((view.user, view.labelled_user, view.query_vectors),
             (view.item, view.labelled_item, view.candidate_vectors))

    def work(outer, inner):
        return (len(np.unique(inner[0])) * len(view.labelled_user)
                + len(view) * len(np.unique(outer[1])))
    if work(*sides) <= work(*sides[::-1]):
        return _nearest_by_sides(*sides)
    return _nearest_by_sides(*sides[::-1])


def _nearest_by_sides(outer, inner) -> np.ndarray:
    """Finds them with the outer side as v and the inner side as j."""
    outer_code, outer_labelled, outer_vectors = outer
    inner_code, inner_labelled, inner_vectors = inner
    outer_vectors = np.asarray(outer_vectors, np.float64)
    inner_vectors = np.asarray(inner_vectors, np.float64)
    by_outer = np.argsort(outer_labelled, kind="stable")
    groups, starts = np.unique(outer_labelled[by_outer], return_index=True)
    centres, centre = np.unique(inner_labelled, return_inverse=True)
    centre = centre[by_outer]
    order = np.argsort(inner_code, kind="stable")
    codes, first = np.unique(inner_code[order], return_index=True)
    last = np.append(first[1:], len(order))
    found = np.empty(len(order))
    tile = max(1, _CELLS // len(by_outer))
    for start in range(0, len(codes), tile):
        rows_of_tile = slice(start, start + tile)
        apart = distance_table(inner_vectors[codes[rows_of_tile]],
                               inner_vectors[centres])
        least = np.minimum.reduceat(apart[:, centre], starts, axis=1)
        rows = order[first[rows_of_tile][0]:last[rows_of_tile][-1]]
        here = np.searchsorted(codes[rows_of_tile], inner_code[rows])
        step = max(1, _CELLS // len(groups))
        for at in range(0, len(rows), step):
            some = rows[at:at + step]
            who, place = np.unique(outer_code[some], return_inverse=True)
            between = distance_table(outer_vectors[who], outer_vectors[groups])
            found[some] = (between[place]
                           + least[here[at:at + step]]).min(axis=1)
    return found
