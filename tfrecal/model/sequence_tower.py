"""SequenceQueryTower: a query tower that reads histories in their order."""
from __future__ import annotations

import functools

import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.model.histories import mean_rows
from tfrecal.model.towers import QueryTower
from tfrecal.text.layers.packing import pack
from tfrecal.text.layers.transformer import (
    Form,
    LayerWeights,
    layer_norm,
    make_layer,
    prepare_weights,
)

_EPSILON = 1e-6
_layer = functools.lru_cache(make_layer)  # traced once


class SequenceReader(tf.Module):
    """A causal transformer over the last items of a history.

    Args:
        items: a function of codes `[n]` and `training`, which returns the
            vectors that stand for items, float32 `[n, d]`.
        positions: vectors of the places 0, 1, ... from the oldest item that
            is read, float32 `[window, d]`.
        layers: `LayerWeights` of each layer.
        norm: scale and offset of the last normalisation, `[d]` each.
        heads: number of attention heads.
        dropout: rate in training.
        seed: a function without arguments that returns the seed of a step's
            dropout, int32 `[2]`.
    """

    def __init__(self, items, positions, layers, norm, heads: int,
                 dropout: float, seed):
        super().__init__()
        self.items = items
        self.positions = positions
        self.layers = layers
        self.norm = norm
        self.dropout = dropout
        self.seed = seed
        window, width = positions.shape
        self._form = Form(width, 4 * width, heads, "gelu", _EPSILON,
                          norm_first=True, shared=(0, 1))
        # Short histories do not pay for long ones.
        self._bounds = tuple(sorted({-(-window // 4), window}))

    def __call__(self, features: dict, training: bool = False) -> tf.Tensor:
        """Returns one vector for each row, float32 `[B, d]`.

        It is zero where no item comes before the row.

        Args:
            features: `window`, `window_row` and `window_place` as of
                `pool.Windows`; or `history`, codes `[B, None]`, ragged or
                padded with 0, all of which come before the row.
            training: whether there is dropout.
        """
        if "window" in features:
            row, place = features["window_row"], features["window_place"]
            pieces = features["window"]
        elif "history_row" in features:
            raise ValueError(
                "A tower that reads histories in their order needs batches "
                "with windows. Received: a batch of a `PoolSequence` "
                "without. Call `fit` or `evaluate` with the sequence, or "
                "make it by `pool.sequence(window="
                f"{self._bounds[-1]})`.")
        else:
            pieces = _known_items(features["history"])
            row = place = None
        length = tf.cast(pieces.row_lengths(), tf.int32)
        kept = tf.minimum(length, self._bounds[-1])
        packing = pack(tf.cast(pieces.row_starts(), tf.int32) + length - kept,
                       kept, self._bounds, self._form.heads)
        packing = packing._replace(
            biases=[_causal(shape[2]) for shape in packing.shapes])
        hidden = self._read(
            tf.gather(pieces.flat_values, packing.token_index), packing,
            training)
        if row is None:
            row, place = tf.range(tf.shape(length)[0]), kept
        token = tf.gather(packing.first, tf.gather(
            packing.inverse, row)) + place - 1
        there = place > 0
        # An empty batch of tokens has no row 0 to gather.
        hidden = tf.concat([hidden, tf.zeros([1, hidden.shape[1]])], axis=0)
        return tf.gather(hidden, tf.where(
            there, token, tf.shape(hidden)[0] - 1))

    def _read(self, codes, packing, training):
        rate = self.dropout if training else 0.0
        seed = self.seed() if rate else tf.zeros([2], tf.int32)
        hidden = self.items(codes, training) * self._form.hidden ** 0.5
        hidden += tf.gather(self.positions, packing.position)
        if rate:
            hidden = tf.nn.experimental.stateless_dropout(hidden, rate, seed)
        layer = _layer(self._form, len(self._bounds), rate)
        for number, weights in enumerate(self.layers):
            # The layer takes further seeds: + bucket, and + 1 and 2.
            hidden = layer(hidden, packing, prepare_weights(
                weights, self._form), seed + [32 * (number + 1), 0])
        return layer_norm(hidden, *self.norm, _EPSILON)


def _known_items(items) -> tf.RaggedTensor:
    """Returns codes as a ragged tensor without zeros."""
    if not isinstance(items, tf.RaggedTensor):
        items = tf.RaggedTensor.from_tensor(items)
    return tf.ragged.boolean_mask(items, items > 0)


def _causal(width):
    """Returns `[1, 1, width, width]`: 0 up to an item's own place."""
    place = tf.range(width)
    later = place > place[:, tf.newaxis]
    return tf.where(later, -1e9, 0.0)[tf.newaxis, tf.newaxis]


class SequencePart(tf.Module):
    """A history: a mean of rows that predicts labels, a sequence that ranks.

    Args:
        table: float32 `[items + 1, d]` by code; row 0 is not read.
        reader: a `SequenceReader`.
    """

    feature = "history"

    def __init__(self, table, reader: SequenceReader):
        super().__init__()
        self.table = table
        self.reader = reader

    def __call__(self, features: dict, training: bool = False) -> tf.Tensor:
        """Returns both blocks `[B, 2d]`.

        Args:
            features: as `mean_rows` and the `SequenceReader` read them.
            training: see there.
        """
        return tf.concat([mean_rows(self.table, features),
                          self.reader(features, training)], axis=1)

    def read_items(self, vectors) -> None:
        """Reads items from a table from now on, as an export does.

        Args:
            vectors: retrieval blocks of candidates, `[items + 1, d]`.
        """
        self.vectors = tf.Variable(vectors, trainable=False)
        self.reader.items = lambda codes, training: tf.gather(
            self.vectors, codes)


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class SequenceQueryTower(QueryTower):
    """A `QueryTower` that ranks by the order of a history.

    Its rating block is that of a `QueryTower`. In the retrieval block, a
    causal transformer over the last items of the history stands in place of
    the mean of their rows and of the user's id. Use it where what a user does
    next depends on what they did last, and rows have their times: without
    them it learns the order of a file, and ranks far worse than a mean. A
    learning rate of 2e-3 suits it better than the towers' 5e-3. Train it with
    `Retrieval(negatives=256)`: rows that train together are of few users,
    whose items are no sample of the catalogue.

    Args:
        ids, item_ids: see `QueryTower`.
        window: most items of a history that are read, the youngest.
        layers: number of transformer layers.
        heads: number of attention heads; it divides `embedding_dim`.
        sequence_dropout: dropout of the transformer in training.
        **options: see `Tower`.

    Example:
        model = TwoTower.from_interactions(
            train, encoder=encoder, query="sequence")

    Reference:
        Kang and McAuley 2018, Self-Attentive Sequential Recommendation
        (arXiv 1808.09781), with layers that normalise first, and the loss of
        Tikhonovich et al. 2025, eSASRec (arXiv 2508.06450).
    """

    inputs_read = QueryTower.inputs_read.union(
        {"window", "window_row", "window_place"})
    history_blocks = 1

    def __init__(self, ids, *, window: int = 64, layers: int = 2,
                 heads: int = 2, sequence_dropout: float = 0.2, **options):
        checks.whole(1, window=window, layers=layers, heads=heads)
        checks.lies_in("[0, 1)", sequence_dropout=sequence_dropout)
        width = options.get("embedding_dim", 128)
        if width % heads:
            raise ValueError(
                "`heads` must divide `embedding_dim`. Received: heads="
                f"{heads}, embedding_dim={width}.")
        self.window = window
        self.layers = layers
        self.heads = heads
        self.sequence_dropout = sequence_dropout
        super().__init__(ids, **options)

    def _make_weights(self):
        super()._make_weights()
        d = self.embedding_dim
        self.positions = self._weight("positions", [self.window, d])
        self.layer_weights = []
        for number in range(self.layers):
            self.layer_weights.append(LayerWeights(*(
                self._pair(f"layer_{number}/{name}", shape)
                for name, shape in (
                    ("query", [d, d]), ("key", [d, d]), ("value", [d, d]),
                    ("out", [d, d]), ("inner", [d, 4 * d]),
                    ("outer", [4 * d, d]), ("norm", [d]), ("last", [d])))))
        self.last_norm = self._pair("last_norm", [d])

    def _pair(self, name, shape):
        """Returns a kernel and a bias, or a scale and an offset."""
        if len(shape) == 1:
            kernel = self.add_weight(f"{name}/scale", shape,
                                     initializer="ones")
        else:
            kernel = self._weight(f"{name}/kernel", shape,
                                  (2 / sum(shape)) ** 0.5)
        return kernel, self._weight(f"{name}/bias", shape[-1:], 0.0)

    def sequence_weights(self) -> list[tf.Variable]:
        """Returns the weights of the transformer."""
        return tf.nest.flatten(
            [self.positions, self.layer_weights, self.last_norm])

    def read_items_by(self, tower) -> None:
        """Reads the items of histories by their own vectors.

        So an item says the same in a history and in a list, a new item is
        read by its text, and there are half as many weights to learn.

        Args:
            tower: the `CandidateTower` of the model, which calls this.
        """
        if tower.embedding_dim != self.embedding_dim:
            raise ValueError(
                "Towers must have one `embedding_dim`. Received: "
                f"{self.embedding_dim} of queries, {tower.embedding_dim} of "
                "candidates.")
        # No attribute: Keras would save that tower as a part of this one.
        self._items_of = tower.retrieval_of

    def _items_of(self, codes, training=False):
        raise ValueError(
            "A `SequenceQueryTower` reads the items of histories by a "
            "candidate tower. Received: a tower without one. Put both into "
            "a `TwoTower`, or call `read_items_by(candidate_tower)`.")

    def stored_parts(self, features, training=False, text=None):
        """Lists do not depend on the id, so that a fresh item moves them."""
        found = super().stored_parts(features, training, text)
        return {**found, "id": self._only_rating(found["id"])}

    def _only_rating(self, part):
        return part * tf.repeat([1.0, 0.0], self.embedding_dim)

    def _penalty(self, parts, features):
        # The transformer ends with a normalisation, which sets its norm.
        if "history" in parts:
            parts = {**parts, "history": self._only_rating(parts["history"])}
        return super()._penalty(parts, features)

    def request_parts(self, vectors=None) -> dict:
        reader = SequenceReader(
            self._items_of, self.positions, self.layer_weights,
            self.last_norm, self.heads, self.sequence_dropout,
            lambda: tf.stack([1000 * self.seed,
                              4 * tf.cast(self.step, tf.int32)]))
        return {**super().request_parts(vectors),
                "history": SequencePart(self.history_table, reader)}

    def get_config(self):
        names = ("window", "layers", "heads", "sequence_dropout")
        return {**super().get_config(),
                **{name: getattr(self, name) for name in names}}
