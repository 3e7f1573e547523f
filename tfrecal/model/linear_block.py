"""LinearBlock: a closed-form item-item regression in the retrieval vectors.

Graded interactions X (users x items) are regressed on themselves with a zero
diagonal, as EASE does (Steck 2019, arXiv 1905.03375, eq. 8), with the dropout
penalty of EDLAE (Steck 2020, eq. 12) and, added to the Gram matrix, the kernel
of the items' texts (CEASE, L3AE: arXiv 2508.13500). The cosines of the texts
join its predictions, for what nobody has clicked yet. The sum is cut to low
rank, so that a prediction is an inner product: a query is the sum of rows
over the items of a history, a candidate is a vector. So a fresh click moves a
list at once, for users whom training never saw too, and a new item has its
vector from its text.
"""
from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.linalg
import scipy.sparse

from tfrecal import checks
from tfrecal.model import block_solvers

_RIDGE = 10.0    # of vectors from texts
_FLOOR = 0.05    # grade of the lowest label of a scale
_FEW = 0.25      # quantile of the norms of graded items that new ones get
LEAST_NORM = 1e-9  # of text vectors: below it they are nearly zero
LARGEST = 1e6    # option: a larger one leaves the range of float32


class Unsolvable(ValueError):
    """Options whose regression float32 cannot solve."""


@dataclass(frozen=True)
class BlockOptions:
    """What decides a block; `scoring.block_choice` finds it by validation.

    Ridges and the kernel are in units of the data (see `l2`), so that one
    default serves dense ratings and sparse clicks.

    Args:
        beta: scale of its scores beside those of the trained block, after
            both have the same spread; 0 takes the block out.
        l2: ridge, in units of the mean sum of an item's squared grades.
        dropout: p of EDLAE: p / (1 - p) of an item's squared grades is its
            further ridge.
        text: weight of the kernel of the items' texts, in these units.
        cosine: spread of the cosines of texts that are added to the
            regression's predictions, beside the spread of these.
        rank: width of the vectors.
        decay: weight of an item of a history beside the next younger one.
        popular: weight of what most users like, for users who are known by
            a history only, see `scoring.unknown_users`.
        new_items: norm of an item that is known by its text only, beside
            that of an item of few labels. The larger, the more places of a
            list go to new items; 0 keeps them out.
    """

    beta: float = 0.7
    l2: float = 5.0
    dropout: float = 0.5
    text: float = 1.0
    cosine: float = 0.25
    rank: int = 128
    decay: float = 1.0
    popular: float = 0.25
    new_items: float = 1.0

    def __post_init__(self):
        checks.lies_in(f"[0, {LARGEST:g}]", beta=self.beta, text=self.text,
                       cosine=self.cosine, popular=self.popular,
                       new_items=self.new_items)
        checks.lies_in(f"(0, {LARGEST:g}]", l2=self.l2)
        checks.whole(1, rank=self.rank)
        checks.lies_in("[0, 1)", dropout=self.dropout)
        checks.lies_in("(0, 1]", decay=self.decay)


def check_options(options, owner: str) -> None:
    """Raises TypeError for what is neither `BlockOptions` nor None.

    Args:
        options: the `linear_block` of a model.
        owner: the name of the model's class.
    """
    if options is not None and not isinstance(options, BlockOptions):
        raise TypeError(
            "`linear_block` of a model must be a `BlockOptions` or None. "
            f"Received: a {type(options).__name__} of a {owner}. Give "
            "something else another name.")


def of_norm_1(vectors) -> np.ndarray:
    """Returns vectors `[n, dim]` of norm 1, where they are not zero."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norm, LEAST_NORM)


def all_alike(texts) -> bool:
    """Says whether text vectors `[items + 1, dim]` tell no items apart."""
    return np.allclose(texts[1:], texts[1:2], atol=1e-6)


@dataclass(frozen=True)
class Solved:
    """A solved block.

    Attributes:
        rows: what an item of a history adds to a query, float32
            `[items + 1, rank]`; row 0, of unknown items, is zero.
        vectors: candidates, float32 `[items + 1, rank]`.
        graded: which items have a grade, bool `[items + 1]`.
        options: the `BlockOptions`.
    """

    rows: np.ndarray
    vectors: np.ndarray
    graded: np.ndarray
    options: BlockOptions

    def queries(self, indptr, items, grades) -> np.ndarray:
        """Returns queries of histories, float32 `[n, rank]`.

        Args:
            indptr: int64 `[n + 1]`: history n is
                `items[indptr[n]:indptr[n + 1]]`, oldest first.
            items: codes, int32.
            grades: float32, of each item.
        """
        number = np.diff(indptr)
        age = np.repeat(indptr[1:], number) - 1 - np.arange(len(items))
        weight = np.asarray(grades, np.float32) * np.float32(
            self.options.decay) ** age.astype(np.float32)
        history = scipy.sparse.csr_matrix(
            (weight, items, indptr), shape=(len(number), len(self.rows)))
        return np.asarray(history @ self.rows, np.float32)


def grades(label, scale) -> np.ndarray:
    """Returns grades from 0 to 1 of labels, float32 `[n]`.

    The lowest rating of a scale says a little: people rate what they chose.
    Of labels of 0 and 1, 0 says nothing. Where all labels are equal, each
    says what a click does.

    Args:
        label: `[n]`.
        scale: (lowest, highest) label.
    """
    low, high = scale
    if not high > low:  # all that they tell is who chose what
        return np.ones(len(label), np.float32)
    grade = (np.asarray(label, np.float32) - low) / np.float32(high - low)
    if (low, high) == (0, 1):
        return grade
    return np.maximum(grade, np.float32(_FLOOR))


def solve(history: scipy.sparse.csr_matrix, options: BlockOptions,
          texts: np.ndarray | None = None, seed: int = 0) -> Solved:
    """Solves the regression, and adds what the texts say.

    Args:
        history: grades, `[users + 1, items + 1]` by code.
        options: what decides it.
        texts: centred vectors of the items' texts of norm 1, float32
            `[items + 1, dim]`, or None.
        seed: of random probes where the catalogue is large.

    Returns:
        The `Solved` block. Without a grade above 0 it is zero.

    Raises:
        Unsolvable: the ridge is too small beside the kernel and the grades.
    """
    return with_texts(regress(history, options, texts, seed), history,
                      options, texts)


def regress(history, options, texts=None, seed: int = 0) -> Solved:
    """Solves the regression alone; see `solve`."""
    grade = history[:, 1:].astype(np.float32, copy=False)
    size = grade.shape[1]
    own = np.asarray(grade.multiply(grade).sum(axis=0)).ravel()
    rank = min(options.rank, max(1, size - 1))
    if not own.any() or size < 2:
        return Solved(*np.zeros((2, size + 1, rank), np.float32),
                      np.zeros(size + 1, bool), options)
    unit = float(own[own > 0].mean())
    ridge = (options.l2 * unit + options.dropout / (1 - options.dropout)
             * own).astype(np.float32)
    features = None
    if texts is not None and options.text:
        features = texts[1:] * np.float32(np.sqrt(options.text * unit))
    try:
        found = block_solvers.low_rank(grade, ridge, features, rank, seed)
        if not all(np.isfinite(one).all() for one in found):
            raise np.linalg.LinAlgError("its solution is not finite")
    except np.linalg.LinAlgError as error:
        raise Unsolvable(
            "The linear block's regression must be solvable in float32. "
            f"Received: l2={options.l2:g}, dropout={options.dropout:g}, "
            f"text={options.text:g} ({error}). Give a larger `l2` or "
            "`dropout`, or a smaller `text`.") from error
    return Solved(*(np.vstack([np.zeros((1, rank), np.float32), one])
                    for one in found), np.append(False, own > 0), options)


def with_texts(solved: Solved, history, options, texts=None) -> Solved:
    """Adds the cosines of texts to a regression, and new items' vectors.

    Args:
        solved: what `regress` returned.
        history, options, texts: as of `solve`.
    """
    rows, vectors, graded = solved.rows, solved.vectors, solved.graded
    if texts is None or not graded.any():
        return replace(solved, options=options)
    if options.cosine:
        rows, vectors = _with_cosines(
            rows, vectors, history.astype(np.float32, copy=False),
            texts, graded, options.cosine)
    if not graded[1:].all():
        kernel = text_kernel(texts[1:], vectors[1:], graded[1:],
                             options.new_items)
        new = ~graded
        new[0] = False
        vectors = vectors.copy()
        vectors[new] = texts[new] @ kernel
    return Solved(rows, vectors, graded, options)


def _with_cosines(rows, vectors, history, texts, graded, weight):
    """Adds weighed cosines to predictions, and cuts the sum to their rank.

    With the rows A and vectors V of the regression and the texts F, the sum
    is X (A V' + w F F'); what is kept are its leading right singular vectors.

    Returns:
        `(rows, vectors)`, float32 `[items + 1, rank]`.
    """
    known, rank = graded[:, np.newaxis], rows.shape[1]
    both = np.hstack([rows, texts])
    inner = (both.T @ block_solvers.gram_product(history)(both)).astype(
        np.float64)
    right = np.where(known, np.hstack([vectors, texts]), 0)
    ours, theirs = (spread(inner[some, some], right[:, some]) for some in (
        slice(rank), slice(rank, None)))
    if not ours > 0 or not theirs > 0:
        return rows, vectors
    scale = np.ones(len(inner))
    scale[rank:] = np.sqrt(weight * ours / theirs)
    right *= scale.astype(np.float32)
    # right = base @ half.T with orthonormal columns of the base.
    value, vector = scipy.linalg.eigh((right.T @ right).astype(np.float64))
    some = value > 1e-6 * value[-1]
    root = np.sqrt(value[some])
    base, half = vector[:, some] / root, vector[:, some] * root
    half *= scale[:, np.newaxis]
    top = scipy.linalg.eigh(half.T @ inner @ half)[1][:, ::-1][:, :rank]
    missing = ((0, 0), (0, rank - top.shape[1]))
    return tuple(np.pad(one @ (other @ top).astype(np.float32), missing)
                 for one, other in ((both, half), (right, base)))


def spread(inner, vectors) -> float:
    """Returns the root of the variance over items of users' scores.

    Args:
        inner: outer products of the queries with themselves, `[rank, rank]`:
            their sum over users, or their mean, gives that of the variances.
        vectors: `[items, rank]`.
    """
    away = (vectors - vectors.mean(axis=0)).astype(np.float64)
    return float(np.sqrt(max(0.0, np.sum(away.T @ away * inner) / len(away))))


def text_kernel(texts, vectors, graded, scale: float = 1.0) -> np.ndarray:
    """Returns a ridge regression from texts to candidates, `[dim, rank]`.

    Its vectors have the norm of items with few grades: that of a ridge
    regression is too small for a list.

    Args:
        texts: float32 `[n, dim]`.
        vectors: candidates, float32 `[n, rank]`.
        graded: items that teach, bool `[n]`.
        scale: `BlockOptions.new_items`.
    """
    some = texts[graded]
    gram = (some.T @ some).astype(np.float64)
    gram[np.diag_indices(len(gram))] += _RIDGE * max(
        np.trace(gram) / max(len(some), 1), 1e-9)
    kernel = scipy.linalg.solve(
        gram, some.T @ vectors[graded], assume_a="pos")
    norm, wanted = (np.linalg.norm(one, axis=1) for one in (
        some @ kernel, vectors[graded]))
    scale *= np.quantile(wanted, _FEW) / max(np.median(norm), 1e-9)
    return (kernel * scale).astype(np.float32)
