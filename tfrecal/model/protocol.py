"""What a model must and may offer to callbacks, scoring and export.

Any `tf_keras.Model` will do, such as a plain `tfrs.Model` with towers of your
own: nothing here is a base class. `TwoTower` offers all of it.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tfrecal.pool.features import PoolFeatures
from tfrecal.pool.label_head import LabelHead

BLOCKS = ("rating", "retrieval")
EMBED = {"query": "embed_queries", "candidate": "embed_candidates"}


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
        alone. A column comes as texts ("" where missing), int64, or float32
        (NaN where missing, 0 and 1 for booleans).
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
    `rating_penalty(side)`, `take_rating(side, vectors, bias)`
        Return the `ridge.Penalty` of the id parts of one side, and take
        others, `[ids + 1, d]` and `[ids + 1]`: with `linear_parts` and a part
        `bias`, `SolveRatings` can solve them in closed form.
    `for_serving(scorer, encoder, precision)`
        Returns the module of an export that reads histories and texts of
        requests; without it an export answers from tables of vectors.
    `linear_block`
        A `linear_block.BlockOptions`: a closed-form block, solved from the
        pool's labels, stands beside the retrieval vectors in lists and
        exports. It may be set on any model.
    `item_texts()`
        Returns vectors of the items' texts by code, of mean norm 1, float32
        `[items + 1, dim]`, or None: what a linear block knows of new items.
    `fingerprint`
        A digest of weights that no checkpoint holds, such as a frozen
        encoder's.
    """

    def embed_queries(self, features: dict) -> Any:
        """Returns the vectors of users as they are served: without dropout.

        A function that is trained through too may take `training=False` and
        hand it to its layers; Keras does not do so by itself.

        Args:
            features: name -> `[B]`, see `query_features`.

        Returns:
            floats `[B, d]`, scored as float32; or a dict with `"rating"`
            (predicts labels) and `"retrieval"` (ranks the catalogue), two
            blocks of vectors.
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
    if not (isinstance(found, (tuple, list)) and found and all(
            isinstance(each, str) for each in found)):
        raise TypeError(f"`{name}` must be a tuple of names, at least one. "
                        f"Received: {name}={found!r}.")
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
