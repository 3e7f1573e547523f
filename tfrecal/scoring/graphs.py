"""ModelGraphs: a model's functions as graphs, traced once."""
from __future__ import annotations

import weakref

import tensorflow as tf

from tfrecal.model.protocol import BLOCKS, Offers, blocks_of

_LIVE: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


class ModelGraphs:
    """Parts of vectors, and vectors of parts, by a model.

    Whoever scores with a model shares them: `of` returns the same graphs
    as long as somebody holds them.

    Args:
        model: what offers `model.protocol.Recommends`.
    """

    def __init__(self, model):
        self.model = model
        self.offers = Offers.of(model)
        self._parts: dict = {}
        self._dropped: dict = {}

    @classmethod
    def of(cls, model) -> "ModelGraphs":
        """Those of a model, made if nobody holds any."""
        found = _LIVE.get(id(model))
        if found is None:
            found = _LIVE[id(model)] = cls(model)
        return found

    def parts(self, side: str, features: dict, specs: dict) -> dict:
        """Parts of a batch, name -> `[B, ...]`.

        Args:
            side: `"query"` or `"candidate"`.
            features: see `PoolFeatures`.
            specs: their `tf.TypeSpec`s, for any number of rows.
        """
        if side not in self._parts:
            # Python control flow of a model of the user's is converted.
            self._parts[side] = tf.function(
                self._function(side), input_signature=[specs],
                autograph=not self.offers.passes)
        return self._parts[side](features)

    def _function(self, side):
        model = self.model
        if self.offers.passes:
            return (model.query_parts if side == "query"
                    else model.candidate_parts)
        name = "embed_queries" if side == "query" else "embed_candidates"

        def blocks(features):
            return blocks_of(getattr(model, name)(features), name)
        return blocks

    def vectors(self, side: str, block: str, parts: dict,
                salt: int | None = None) -> tf.Tensor:
        """Vectors `[n, d]` of parts.

        Args:
            side, parts: as above.
            block: `"rating"` or `"retrieval"`.
            salt: names the masks of a dropout pass; None for no dropout.
        """
        if not self.offers.passes:
            return parts[block]
        if salt is None:
            return self.model.combine_parts(side, parts)[block]
        if (side, block) not in self._dropped:
            # A graph: the small steps of ten passes take longer one by one,
            # and it draws no masks of the other block.
            self._dropped[side, block] = tf.function(
                lambda parts, salt: self.model.combine_parts(
                    side, parts, salt)[block], autograph=False)
        return self._dropped[side, block](parts, tf.constant(salt, tf.int64))


def unknown_row(parts: dict) -> dict:
    """Parts with a row of zeros in front, for code 0."""
    return {name: tf.pad(part, [[1, 0]] + [[0, 0]] * (part.shape.rank - 1))
            for name, part in parts.items()}


__all__ = ["BLOCKS", "ModelGraphs", "unknown_row"]
