"""QueryTower and CandidateTower: features in, two vector blocks out.

A tower is a plain sum of linear parts (id, columns, text, history). The
`rating` block predicts labels, the `retrieval` block ranks the catalogue;
one vector serves neither task well (benchmarks/RESULTS.md). Biases are two
extra dimensions of the rating block, so that a prediction is an inner
product.
"""
from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.model import catalogue
from tfrecal.model.categories import MultiHot
from tfrecal.model.exact_sums import in_order
from tfrecal.model.parts import (
    HistoryPart,
    SearchPart,
    TextPart,
    TextVectors,
    join,
)
from tfrecal.text.precision import check_policy


class Tower(tf_keras.layers.Layer):
    """The base of `QueryTower` and `CandidateTower`.

    Args:
        ids: the known ids, strings, in the order of their codes. A config
            holds their number only, see `catalogue`.
        categories: a `MultiHot`, or None.
        category_rows: the features of every id, `[ids + 1, width]`.
        encoder: a `TextEncoder`, or None for a tower without text.
        texts: a text for each id, or None if texts come with the features.
        embedding_dim: width d of each block.
        id_dropout: share of rows whose rating block trains without their
            id, so that the other parts learn to carry unknown ids.
        retrieval_id_dropout: the same for the retrieval block. A little
            brings cold items into lists among warm ones; more makes the
            warm ones worse (benchmarks/RESULTS.md).
        dropout: share of vector elements dropped in training and in
            MC-dropout passes.
        category_scale, text_scale: factors of the features; text vectors
            are centred and scaled to mean norm 1 first.
        rating_l2, retrieval_l2, bias_l2: factors of the mean over the batch
            of the squared norm of every part.
        shrinkage: the L2 of a row is multiplied by 1 + shrinkage / labels
            of its user (or item). Without it, an id with one label would
            be regularised as little as one with a hundred.
        seed: draws the initial weights and dropout.
    """

    def __init__(self, ids, *, categories: MultiHot | None = None,
                 category_rows=None, encoder=None, texts=None,
                 embedding_dim: int = 128, id_dropout: float = 0.0,
                 retrieval_id_dropout: float = 0.0, dropout: float = 0.0,
                 category_scale: float = 0.2,
                 text_scale: float = 0.1, rating_l2: float = 0.1,
                 retrieval_l2: float = 0.015, bias_l2: float = 0.1,
                 shrinkage: float = 40.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        check_policy(self)
        checks.lies_in("[0, 1)", id_dropout=id_dropout, dropout=dropout,
                       retrieval_id_dropout=retrieval_id_dropout)
        checks.at_least(
            0, category_scale=category_scale, text_scale=text_scale,
            rating_l2=rating_l2, retrieval_l2=retrieval_l2, bias_l2=bias_l2,
            shrinkage=shrinkage)
        self.categories = categories
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.id_dropout = id_dropout
        self.retrieval_id_dropout = retrieval_id_dropout
        self.dropout = dropout
        self.category_scale = category_scale
        self.text_scale = text_scale
        self.rating_l2 = rating_l2
        self.retrieval_l2 = retrieval_l2
        self.bias_l2 = bias_l2
        self.shrinkage = shrinkage
        self.seed = seed
        self.ids = self.texts = self.table = self._rows = None
        if isinstance(ids, int):  # from a config; see `load_assets`
            self.num_ids = ids
        else:
            self._take_catalogue(ids, texts, category_rows)
        self._make_weights()

    def _take_catalogue(self, ids, texts, category_rows) -> None:
        """Sets the ids, and texts and columns of each."""
        # No Keras layers: they would be saved with the tower once more.
        self.ids = [str(i) for i in ids]
        self.num_ids = len(self.ids)
        self._lookup = catalogue.lookup(self.ids)
        self.texts = None if texts is None else list(texts)
        if self.texts is not None and len(self.texts) != len(self.ids):
            raise ValueError(
                "A tower needs one text an id. Received: "
                f"{len(self.texts)} texts and {len(self.ids)} ids.")
        if self.categories is not None:
            self._rows = tf.constant(category_rows, tf.float32)
        if self.encoder is not None and self.texts is not None:
            self.table = self.encoder.table(self.texts)

    def save_assets(self, folder) -> None:
        """Writes the catalogue among the assets of a `.keras` file."""
        catalogue.write(folder, self._catalogue())

    def _catalogue(self) -> dict:
        self._check_catalogue()
        return {"ids": {"id": self.ids, "text": self.texts},
                "rows": {"features": None if self._rows is None
                         else self._rows.numpy()}}

    def load_assets(self, folder) -> None:
        """Reads the catalogue of a `.keras` file.

        Older files have it in their config.
        """
        found = catalogue.read(folder, "ids")
        if found is not None:
            self._take_catalogue(
                found["id"], found.get("text"),
                catalogue.read(folder, "rows").get("features"))

    def _check_catalogue(self) -> None:
        if self.ids is None:
            raise ValueError(
                "A tower needs its ids, which no config holds. Received: one "
                "made by `from_config` alone. Load the `.keras` file, or "
                "make it by `from_table`.")

    def _make_weights(self):
        rows, width = self.num_ids + 1, 2 * self.embedding_dim
        self._made = 0
        self.id_table = self._weight("id_table", [rows, width])
        self.bias_table = self._weight("bias_table", [rows], 0.0)
        # Every replica (`tf.distribute`) writes the same into them.
        same = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.warm = self.add_weight(
            "warm", [rows], initializer="zeros", trainable=False,
            aggregation=same)
        self.step = self.add_weight(
            "step", [], dtype=tf.int64, initializer="zeros", trainable=False,
            aggregation=same)
        if self.categories is not None:
            self.category_kernel = self._weight(
                "category_kernel", [self.categories.width, width])
        if self.encoder is not None:
            self.text_kernel = self._weight(
                "text_kernel", [self.encoder.dim, width], 0.005)
            sample = None if self.table is None else self.table.initial[1:]
            centre, norm = _centre_and_norm(sample, self.encoder.dim)
            self.text_centre = self.add_weight(
                "text_centre", [self.encoder.dim], trainable=False,
                initializer=tf_keras.initializers.Constant(centre))
            self.text_norm = self.add_weight(
                "text_norm", [], trainable=False,
                initializer=tf_keras.initializers.Constant(norm))

    def _weight(self, name, shape, stddev=0.05):
        self._made += 1
        start = tf_keras.initializers.RandomNormal(
            stddev=stddev, seed=1000 * self.seed + self._made)
        return self.add_weight(
            name, shape, initializer=start if stddev else "zeros")

    def codes(self, ids) -> tf.Tensor:
        """Returns int32 codes of strings `[B]`; codes pass through."""
        ids = tf.convert_to_tensor(ids)
        if ids.dtype == tf.string:
            self._check_catalogue()
            ids = catalogue.codes_in(self._lookup, ids)
        return tf.cast(ids, tf.int32)

    def parts(self, features: dict, training: bool = False,
              text=None) -> dict:
        """Returns the linear parts, before dropout.

        Args:
            features: see `call`.
            training: whether ids become warm.
            text: what `text_vectors` returned, if it was called before.

        Returns:
            A dict from names to float32 `[B, 2d]` (rating block, then
            retrieval block), and `bias` `[B]`. A part whose feature is
            missing is left out.
        """
        features = self._with_codes(features)
        found = self.stored_parts(features, training, text)
        for name, part in self.request_parts().items():
            if part.feature in features:
                found[name] = part(features, training)
        return found

    def request_parts(self, vectors: TextVectors | None = None) -> dict:
        """Returns the parts whose features come with a request, by name.

        An export holds these same objects, so that a part that is added
        here is served too. Their `feature` names what they read.

        Args:
            vectors: a `TextVectors` that reads texts in place of the tower's
                own encoder, as in an export.
        """
        return {}

    def stored_parts(self, features: dict, training: bool = False,
                     text=None) -> dict:
        """Returns the parts of an id; an export holds them by code.

        Arguments and result are as for `parts`; the bias is among them.
        """
        codes = self._codes_of(features)
        known = tf.cast(codes > 0, tf.float32)
        if training:
            self.make_warm(codes)
        else:
            known = tf.gather(self.warm, codes)
        found = {
            "bias": known * tf.gather(self.bias_table, codes),
            "id": known[:, tf.newaxis] * tf.gather(self.id_table, codes)}
        hot = self._category_features(features, codes)
        if hot is not None:
            found["category"] = self.category_scale * tf.matmul(
                hot, self.category_kernel)
        if text is None:
            text = self.text_vectors(features, training)
        if text is not None:
            found["text"] = self.text_part().of_vectors(text)
        return found

    def text_part(self, vectors: TextVectors | None = None) -> TextPart:
        """Returns the part of an id's text; see `request_parts`."""
        return TextPart(self.text_kernel, vectors or self.vectors_of_texts())

    def vectors_of_texts(self, encoder=None) -> TextVectors | None:
        """Returns the `TextVectors` of the tower's encoder or another one."""
        if self.encoder is None:
            return None
        return TextVectors(encoder or self.encoder, self.text_centre,
                           self.text_norm, self.text_scale)

    def _with_codes(self, features: dict) -> dict:
        """Returns the features with ids as codes."""
        found = dict(features)
        if self.id_name in found:
            found[self.id_name] = self.codes(found[self.id_name])
        return found

    def make_warm(self, codes) -> None:
        """Marks the ids of codes as trained from now on."""
        self.warm.scatter_update(tf.IndexedSlices(
            tf.cast(codes > 0, tf.float32), codes))

    def _codes_of(self, features):
        if self.id_name in features:
            return self.codes(features[self.id_name])
        first = next(iter(features.values()))
        rows = first.nrows() if isinstance(
            first, tf.RaggedTensor) else tf.shape(first)[0]
        return tf.zeros([rows], tf.int32)

    def _category_features(self, features, codes):
        if self.categories is None:
            return None
        self._check_catalogue()
        hot = tf.gather(self._rows, codes)
        if any(name in features for name in self.categories.columns):
            hot = tf.maximum(hot, self.categories(features))
        return hot

    def text_vectors(self, features: dict, training: bool = False):
        """Returns standardised text vectors, float32 `[B, dim]`.

        They are zero for unknown ids without a text in the features. A row
        of the table whose text is empty has the vector of the empty text.
        The result is None for a tower without texts.
        """
        if self.encoder is None:
            return None
        vector, codes = None, self._codes_of(features)
        if self.table is not None:
            vector = self.table(codes, training=training)
            there = codes > 0
        if self.text_name in features:
            texts = features[self.text_name]
            given = self.encoder(texts, training=training)
            here = tf.strings.length(texts) > 0
            vector = given if vector is None else tf.where(
                here[:, tf.newaxis], given, vector)
            there = here if self.table is None else here | there
        if vector is None:
            return None
        return tf.where(there[:, tf.newaxis], self.standardise(vector), 0.0)

    def texts_of_catalogue(self, batch_size: int = 2048) -> np.ndarray:
        """Returns the standardised text vectors of all codes.

        Returns:
            float32 `[ids + 1, dim]`; zeros for code 0.
        """
        codes = np.arange(self.num_ids + 1, dtype=np.int32)
        return np.concatenate([
            self.text_vectors({self.id_name: tf.constant(some)}).numpy()
            for some in np.array_split(
                codes, 1 + len(codes) // batch_size)])

    def standardise(self, vectors):
        """Returns vectors, centred and scaled to mean norm `text_scale`."""
        return self.vectors_of_texts().standardise(vectors)

    def combine(self, parts: dict, training: bool, salt=0,
                place=None) -> dict:
        """Sums parts into blocks, with dropout when `training`.

        Args:
            parts: as `parts` returns them.
            training: whether ids and elements are dropped.
            salt: distinguishes the masks of different passes.
            place: int32 `[B]`, the positions of these rows in a larger
                batch: they get the masks that they have there.

        Returns:
            A dict with `rating` `[B, d + 2]` and `retrieval` `[B, d]`.
        """
        # Each block has masks of its own: a graph that asks for one of them
        # draws none for the other.
        blocks = []
        # One split of each part: a gradient of three terms is not summed in
        # order.
        split = {name: tf.split(part, 2, axis=1)
                 for name, part in parts.items() if name != "bias"}
        rates = self.id_dropout, self.retrieval_id_dropout
        for number, rate in enumerate(rates):
            seed = tf.stack([tf.constant(2 * self.seed + number, tf.int64),
                             tf.cast(salt, tf.int64)])
            halves = {name: both[number] for name, both in split.items()}
            total = halves.pop("id")
            if training and rate:
                rows = _rows_of_batch(total, place)
                keep = tf.random.stateless_uniform([rows, 1], seed) >= rate
                total = tf.where(_at_places(keep, place), total, 0.0)
            total = in_order(total, *halves.values())
            if training and self.dropout:
                total = self._drop(total, seed + 2, place)
            blocks.append(total)
        return join(blocks, parts["bias"], self.id_name == "user_id")

    def _drop(self, total, seed, place):
        if place is None:
            return tf.nn.experimental.stateless_dropout(
                total, self.dropout, seed)
        scale = tf.nn.experimental.stateless_dropout(
            tf.ones([_rows_of_batch(total, place), self.embedding_dim]),
            self.dropout, seed)
        return total * _at_places(scale, place)

    def retrieval_of(self, codes, training: bool = False) -> tf.Tensor:
        """Returns retrieval blocks of ids beside the rows of a batch.

        They are no examples of their ids: these do not become warm, and
        there is neither dropout nor L2.

        Args:
            codes: int32 `[n]`.
            training: whether gradients reach the encoder.

        Returns:
            float32 `[n, d]`.
        """
        distinct, place = tf.unique(codes)
        features = {self.id_name: distinct}
        parts = self.stored_parts(
            features, text=self.text_vectors(features, training))
        return tf.gather(self.combine(parts, False)["retrieval"], place)

    def call(self, features: dict, training: bool = False) -> dict:
        """Returns the vector blocks of a batch.

        Args:
            features: `user_id` or `item_id` (codes or strings `[B]`), and
                optionally `user_labels` or `item_labels` (`[B]`, for
                `shrinkage`), `user_text` or `item_text`, columns by name,
                `history`, `search_text`, `place` (see `combine`).
            training: drops ids and elements, marks ids as warm, adds L2.

        Returns:
            A dict with `rating` float32 `[B, d + 2]`, `retrieval` float32
            `[B, d]`, and, for a tower with texts, `text` as `text_vectors`
            returns it.
        """
        text = self.text_vectors(features, training)
        parts = self.parts(features, training, text)
        if training:
            self.add_loss(self._penalty(parts, features))
            self.step.assign_add(1)
        blocks = self.combine(
            parts, training, self.step, features.get("place"))
        return blocks if text is None else {**blocks, "text": text}

    def _penalty(self, parts, features):
        d = self.embedding_dim
        factors = tf.constant([self.rating_l2] * d + [self.retrieval_l2] * d)
        labels = features.get(self.count_name)
        scarce = (1.0 if labels is None else
                  1 + self.shrinkage / tf.maximum(labels, 1.0))
        return in_order(
            self.bias_l2 * tf.reduce_mean(scarce * parts["bias"] ** 2),
            *(tf.reduce_mean(scarce * tf.linalg.matvec(part ** 2, factors))
              for name, part in parts.items() if name != "bias"))

    def get_config(self):
        serialise = tf_keras.saving.serialize_keras_object
        names = ("embedding_dim", "id_dropout", "retrieval_id_dropout",
                 "dropout", "category_scale",
                 "text_scale", "rating_l2", "retrieval_l2", "bias_l2",
                 "shrinkage", "seed")
        return {**super().get_config(), "ids": self.num_ids,
                **{name: getattr(self, name) for name in names},
                "categories": self.categories and serialise(self.categories),
                "encoder": self.encoder and serialise(self.encoder)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("categories", "encoder"):
            if isinstance(config[name], dict):
                config[name] = tf_keras.saving.deserialize_keras_object(
                    config[name])
        return cls(**config)

    @classmethod
    def from_table(cls, table: pd.DataFrame, *, columns=None, template=None,
                   encoder=None, **options) -> "Tower":
        """Returns a tower over a users or items table.

        Args:
            table: the table, with the ids as index.
            columns: categorical and numeric columns; None chooses them
                (`MultiHot.adapt`), an empty list uses none.
            template: a `Template` for the text of a row; it needs
                `encoder`.
            encoder: a `TextEncoder`.
            **options: further arguments of the constructor.
        """
        categories = MultiHot.adapt(table, columns)
        if not categories.columns:
            categories = None
        return cls(
            table.index.astype(str), categories=categories,
            category_rows=categories and categories.table(table),
            encoder=encoder,
            texts=template(table) if template and encoder else None,
            **options)


def _rows_of_batch(part, place):
    return tf.shape(part)[0] if place is None else tf.reduce_max(place) + 1


def _at_places(rows, place):
    return rows if place is None else tf.gather(rows, place)


def _centre_and_norm(sample, dim):
    """Returns the mean vector and the mean distance from it.

    Without a sample they are 0 and 1.
    """
    if sample is None or not len(sample):
        return np.zeros(dim, np.float32), np.float32(1)
    centre = sample.mean(axis=0)
    norm = np.linalg.norm(sample - centre, axis=1).mean()
    if norm < 1e-4 * np.linalg.norm(centre):  # one text, or all the same
        norm = np.linalg.norm(centre)
    return centre, np.float32(max(norm, 1e-6))


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class CandidateTower(Tower):
    """Embeds catalogue items: id, categorical columns, text.

    An id that was never trained counts as unknown: its vector comes from its
    columns and its text.

    Args:
        ids: item ids.
        **options: see `Tower`.

    Example:
        CandidateTower.from_table(
            data.items, encoder=encoder, template=Template("{title}"))
    """

    id_name, text_name = "item_id", "item_text"
    count_name = "item_labels"
    inputs_read = frozenset({"item_id", "item_text", "item_labels", "place"})

    def __init__(self, ids, *, id_dropout: float = 0.2,
                 retrieval_id_dropout: float = 0.05, **options):
        super().__init__(ids, id_dropout=id_dropout,
                         retrieval_id_dropout=retrieval_id_dropout,
                         **options)


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class QueryTower(Tower):
    """Embeds users: id, profile columns, profile text, history, search text.

    Args:
        ids: user ids.
        item_ids: the items that a history may hold.
        **options: see `Tower`.
    """

    id_name, text_name = "user_id", "user_text"
    count_name = "user_labels"
    history_blocks = 2  # which the mean of a history gives
    inputs_read = frozenset({
        "user_id", "user_labels", "user_text", "history", "history_row",
        "history_skip", "search_text", "place"})

    def __init__(self, ids, *, item_ids=(), **options):
        self.item_ids = None
        if isinstance(item_ids, int):
            self.num_items = item_ids
        else:
            self._take_items(item_ids)
        super().__init__(ids, **options)

    def _take_items(self, item_ids):
        self.item_ids = [str(i) for i in item_ids]
        self.num_items = len(self.item_ids)
        self._items = catalogue.lookup(self.item_ids)

    def _catalogue(self):
        return {**super()._catalogue(), "items": {"id": self.item_ids}}

    def load_assets(self, folder):
        super().load_assets(folder)
        found = catalogue.read(folder, "items")
        if found is not None:
            self._take_items(found["id"])

    def _make_weights(self):
        super()._make_weights()
        d = self.embedding_dim
        self.history_table = self._weight(
            "history_table", [self.num_items + 1, self.history_blocks * d])
        if self.encoder is not None:
            self.search_kernel = self._weight(
                "search_kernel", [self.encoder.dim, 2 * d], 0.005)

    def request_parts(self, vectors=None) -> dict:
        return {"history": HistoryPart(self.history_table),
                "search": SearchPart(
                    self.search_kernel if self.encoder else None,
                    vectors or self.vectors_of_texts())}

    def _with_codes(self, features):
        found = super()._with_codes(features)
        history = found.get("history")
        if history is not None and history.dtype == tf.string:
            if not isinstance(history, tf.RaggedTensor):
                history = tf.RaggedTensor.from_tensor(history, padding="")
            found["history"] = tf.ragged.map_flat_values(
                lambda ids: catalogue.codes_in(self._items, ids), history)
        return found

    def search(self, vectors) -> tf.Tensor:
        """Returns both blocks `[B, 2d]` of text vectors `[B, dim]`."""
        return tf.matmul(vectors, self.search_kernel)

    def get_config(self):
        return {**super().get_config(), "item_ids": self.num_items}
