"""What a model must and may offer to callbacks, scoring and export.

Any `tf_keras.Model` will do, such as a plain `tfrs.Model` with towers of your
own: nothing here is a base class. `TwoTower` offers all of it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from tfrecal.pool.features import PoolFeatures
from tfrecal.pool.label_head import LabelHead

BLOCKS = ("rating", "retrieval")
_PROBED = 8  # users and items that are embedded before anything is bought


@runtime_checkable
class Recommends(Protocol):
    """The two functions that every model has.

    A score is the inner product of a query's and a candidate's vector.

    Optional, found by their names:

    `ids`
        `"strings"` (default) or `"codes"` (int32, position + 1): how
        features name users and items.
    `query_features`, `candidate_features`
        Names of what the two functions read: `user_id`, `history` (items
        that the user liked, ragged `[B, None]`) and columns of the users
        table; `item_id` and columns of the items table. By default the ids
        alone.
    `predict_label(score)`
        Returns the labels of scores `[B]`; for labels of 0 and 1, the
        probabilities of 1. Without it there are lists, but no predicted
        labels, and no strategies that read them.
    `label_head()`
        Returns a `LabelHead` that does what `predict_label` does, so that
        workers without TensorFlow can do it too.
    `query_parts(features)`, `candidate_parts(features)`
        Return the parts that vectors are made of, name -> `[B, ...]`; they
        are encoded once a round.
    `combine_parts(side, parts, salt=None)`
        Returns the vectors of the two functions, made from parts (`side` is
        `"query"` or `"candidate"`). With a `salt` (int64 scalar) it returns
        those of one dropout pass; the same salt means the same masks.
        Strategies that sample the model by dropout need these three.
    `linear_parts(side, parts)`
        Returns `(id part, sum of the others, id dropout, dropout)` of the
        rating block, for the closed-form variance under dropout.
    `for_serving(scorer, encoder, precision)`
        Returns the module of an export that reads histories and texts of
        requests; without it an export answers from tables of vectors.
    `fingerprint`
        A digest of weights that no checkpoint holds, such as a frozen
        encoder's.
    """

    def embed_queries(self, features: dict) -> Any:
        """Returns the vectors of users.

        Args:
            features: name -> `[B]`, see `query_features`.

        Returns:
            float32 `[B, d]`; or a dict with `"rating"` (predicts labels) and
            `"retrieval"` (ranks the catalogue), two blocks of vectors.
        """

    def embed_candidates(self, features: dict) -> Any:
        """Returns the vectors of items, of the form of `embed_queries`.

        Args:
            features: name -> `[B]`, see `candidate_features`.
        """


@dataclass(frozen=True)
class Offers:
    """What a model offers beyond `Recommends`, by its attributes.

    Attributes:
        ids, query_features, candidate_features: see `Recommends`.
        labels: whether it predicts labels.
        passes: whether it has parts, and so dropout passes.
    """

    ids: str
    query_features: tuple[str, ...]
    candidate_features: tuple[str, ...]
    labels: bool
    passes: bool

    @classmethod
    def of(cls, model) -> "Offers":
        """Returns what a model offers.

        Raises:
            TypeError: it lacks one of the two functions, or has only some
                of the three for parts.
        """
        missing = [name for name in ("embed_queries", "embed_candidates")
                   if not callable(getattr(model, name, None))]
        if missing:
            raise TypeError(
                "A model must offer `embed_queries(features)` and "
                "`embed_candidates(features)`, which return vectors [B, d] "
                f"(see `tfrecal.model.protocol`). Received: a "
                f"{type(model).__name__} without `{'`, `'.join(missing)}`. "
                "Add them: each calls one of your towers.")
        three = ("query_parts", "candidate_parts", "combine_parts")
        have = [callable(getattr(model, name, None)) for name in three]
        if any(have) and not all(have):
            raise TypeError(
                f"A model offers all of `{'`, `'.join(three)}` or none. "
                f"Received: a {type(model).__name__} without "
                f"`{three[have.index(False)]}`.")
        return cls(
            getattr(model, "ids", "strings"),
            _names(model, "query_features", ("user_id",)),
            _names(model, "candidate_features", ("item_id",)),
            _predicts(model), all(have))

    def sequence_options(self) -> dict:
        """Options of `pool.sequence` that give the model what it reads."""
        if self.ids == "codes":
            return {}
        return {"ids": self.ids, "columns": [
            name for name in (*self.query_features, *self.candidate_features)
            if name not in ("user_id", "item_id")]}

    def features(self, pool, max_history: int = 200) -> PoolFeatures:
        """Returns what the model reads of a pool.

        Args:
            pool: a `Pool`.
            max_history: most items of a history.
        """
        return PoolFeatures(pool, self.ids, self.query_features,
                            self.candidate_features, max_history)


def _names(model, name, default):
    found = getattr(model, name, default)
    if isinstance(found, str) or not all(
            isinstance(each, str) for each in found):
        raise TypeError(f"`{name}` must be a tuple of names. Received: "
                        f"{name}={found!r}.")
    return tuple(found)


def _predicts(model) -> bool:
    """Returns whether labels can be predicted.

    A `TwoTower` needs a rating task.
    """
    if not callable(getattr(model, "predict_label", None)):
        return False
    if callable(getattr(model, "label_head", None)):
        return model.label_head() is not None
    return True


def label_head(model) -> LabelHead | None:
    """Returns the model's `LabelHead`; None where it offers none."""
    offered = getattr(model, "label_head", None)
    return offered() if callable(offered) else None


def blocks_of(found, name: str) -> dict:
    """Returns what an embedding function returned, as two blocks.

    Args:
        found: a tensor `[B, d]`, or a dict.
        name: name of the function, for the error.

    Raises:
        ValueError: the dict lacks a block.
    """
    if not isinstance(found, dict):
        return dict.fromkeys(BLOCKS, found)
    missing = [block for block in BLOCKS if block not in found]
    if missing:
        raise ValueError(
            f"`{name}` must return vectors [B, d], or a dict with 'rating' "
            f"and 'retrieval'. Received: a dict with {sorted(found)}.")
    return {block: found[block] for block in BLOCKS}


def check(model, pool) -> Offers:
    """Checks a model before anything is bought or exported.

    It embeds a few of the pool's users and items.

    Args:
        model: any model.
        pool: the `Pool` whose users and items are embedded.

    Returns:
        What the model offers.

    Raises:
        TypeError: it lacks a function.
        ValueError: the functions fail on the pool's ids, or return another
            rank, number of rows or width than they must, numbers that are
            not finite, different vectors in a second call, or the same for
            all ids.
    """
    offers = Offers.of(model)
    features = offers.features(pool)
    found = {}
    for side, function, ids in (
            ("query", model.embed_queries, pool.user_ids),
            ("candidate", model.embed_candidates, pool.item_ids)):
        codes = np.arange(1, min(len(ids), _PROBED) + 1, dtype=np.int32)
        found[side] = _checked_blocks(
            function, features(side, codes), len(codes),
            offers.ids == "strings")
    for block in BLOCKS:
        widths = [found[side][block].shape[1] for side in found]
        if widths[0] != widths[1]:
            raise ValueError(
                "Queries and candidates must have vectors of one width. "
                f"Received: `embed_queries` with {widths[0]}, "
                f"`embed_candidates` with {widths[1]}"
                + ("" if block == "rating" else f" (block {block!r})") + ".")
    if offers.labels:
        _check_labels(model)
    return offers


def _checked_blocks(function, features, rows,
                    by_lookup) -> dict[str, np.ndarray]:
    """Returns the blocks of a few rows, checked."""
    name = function.__name__
    given = {key: tf.convert_to_tensor(value) if not isinstance(
        value, tf.RaggedTensor) else value for key, value in features.items()}
    try:
        twice = [blocks_of(function(given), name) for _ in range(2)]
        twice = [{block: np.asarray(value) for block, value in one.items()}
                 for one in twice]
    except ValueError as error:
        if "must return vectors" in str(error):
            raise
        raise _failure(name, given, error) from error
    except Exception as error:  # of layers, lookups, operations
        raise _failure(name, given, error) from error
    for block, vectors in twice[0].items():
        where = f"`{name}`" if vectors is twice[0]["rating"] else (
            f"`{name}` ({block!r})")
        if vectors.ndim != 2 or len(vectors) != rows or (
                not vectors.shape[1]) or vectors.dtype.kind != "f":
            raise ValueError(
                f"{where} must return float vectors [B, d], a row for each "
                f"of B={rows}. Received: shape={vectors.shape}, "
                f"dtype={vectors.dtype}.")
        if not np.isfinite(vectors).all():
            raise ValueError(
                f"{where} must return finite vectors. Received: "
                f"{int((~np.isfinite(vectors)).any(axis=1).sum())} of {rows} "
                "rows with NaN or infinite numbers. A model that diverged "
                "gives them: train it anew with a lower learning rate.")
        if not np.array_equal(vectors, twice[1][block]):
            raise ValueError(
                f"{where} must return the same vectors each time. Received: "
                "others in a second call with the same features. Turn "
                "dropout and noise off in it: they belong to training.")
        if by_lookup and rows > 1 and vectors.any() and (
                vectors == vectors[0]).all():
            raise ValueError(
                f"{where} must tell ids apart. Received: one vector for the "
                f"first {rows} ids, such as {_first_id(given)!r}. Has your "
                "lookup another vocabulary, or ids of another type? Those "
                "of the pool are strings.")
    return twice[0]


def _failure(name, given, error):
    what = ", ".join(f"{key}: {value.dtype.name} {list(value.shape)}"
                     for key, value in given.items())
    said = str(error).strip().split("\n")[0][:300]
    return ValueError(
        f"`{name}` must embed the pool's features ({what}). Received: "
        f"{type(error).__name__}: {said}. Declare what it reads in "
        "`query_features` and `candidate_features`; ids are strings, or "
        "codes with `ids = \"codes\"`.")


def _first_id(given):
    value = next(iter(given.values()))
    if isinstance(value, tf.RaggedTensor):
        return value[0].numpy()
    first = value[0].numpy()
    return first.decode() if isinstance(first, bytes) else first


def _check_labels(model) -> None:
    score = np.linspace(-1, 1, 5, dtype=np.float32)
    try:
        label = np.asarray(model.predict_label(score.copy()))
    except Exception as error:
        raise ValueError(
            "`predict_label` must turn scores [B] into labels [B]. Received: "
            f"{type(error).__name__}: "
            f"{str(error).strip().splitlines()[0][:300]}.") from error
    if label.shape != score.shape or not np.isfinite(label).all():
        raise ValueError(
            "`predict_label` must turn scores [B] into finite labels [B]. "
            f"Received: shape={label.shape} for 5 scores from -1 to 1.")
