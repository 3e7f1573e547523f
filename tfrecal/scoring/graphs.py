"""ModelGraphs: a model's functions as graphs, traced once."""
from __future__ import annotations

import weakref

import tensorflow as tf

from tfrecal.model.probe import explained
from tfrecal.model.protocol import EMBED, Offers, blocks_of

_LIVE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


class ModelGraphs:
    """Computes a model's parts from features, and its vectors from parts.

    All who score with a model share one object: `of` returns the same one
    as long as somebody holds it.

    Args:
        model: any model that offers `model.protocol.Recommends`.
    """

    def __init__(self, model):
        self.model = model
        self.offers = Offers.of(model)
        self._parts: dict = {}
        self._dropped: dict = {}

    @classmethod
    def of(cls, model) -> "ModelGraphs":
        """Returns the graphs of a model; makes them if nobody holds any."""
        found = _LIVE.get(id(model))
        if found is None:
            found = _LIVE[id(model)] = cls(model)
        return found

    def parts(self, side: str, features: dict, specs: dict) -> dict:
        """Returns the parts of some ids, name -> `[B, ...]`.

        Args:
            side: `"query"` or `"candidate"`.
            features: see `PoolFeatures`.
            specs: their `tf.TypeSpec`s, for any number of rows.
        """
        key = side, *specs.items()  # pools may have other columns
        if key not in self._parts:
            # A user's own model may hold Python control flow; it is converted.
            self._parts[key] = tf.function(
                self._parts_function(side), input_signature=[specs],
                autograph=not self.offers.passes)
        if self.offers.passes:
            return self._parts[key](features)
        with explained(EMBED[side], features):
            return self._parts[key](features)

    def _parts_function(self, side):
        model = self.model
        if self.offers.passes:
            return (model.query_parts if side == "query"
                    else model.candidate_parts)
        name = EMBED[side]

        def blocks(features):
            found = blocks_of(getattr(model, name)(features), name)
            return {block: tf.cast(vectors, tf.float32)
                    for block, vectors in found.items()}
        return blocks

    def vectors(self, side: str, block: str, parts: dict,
                salt: int | None = None) -> tf.Tensor:
        """Returns the vectors `[n, d]` that parts make up.

        Args:
            side: `"query"` or `"candidate"`.
            block: `"rating"` or `"retrieval"`.
            parts: of that side, as `parts` returns them.
            salt: names the masks of a dropout pass; None for no dropout.
        """
        if not self.offers.passes:
            return parts[block]
        if salt is None:
            return self.model.combine_parts(side, parts)[block]
        if (side, block) not in self._dropped:
            # In a graph ten passes of small steps take less time, and no masks
            # of the other block are drawn.
            self._dropped[side, block] = tf.function(
                lambda parts, salt: self.model.combine_parts(
                    side, parts, salt)[block], autograph=False)
        return self._dropped[side, block](parts, tf.constant(salt, tf.int64))


def unknown_row(parts: dict) -> dict:
    """Returns parts with a row of zeros in front, for code 0."""
    return {name: tf.pad(part, [[1, 0]] + [[0, 0]] * (part.shape.rank - 1))
            for name, part in parts.items()}
