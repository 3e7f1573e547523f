"""Towers of a user's own: what plain TFRS code looks like."""
from __future__ import annotations

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrecal.model.protocol import blocks_of


class PlainTowers(tfrs.Model):
    """A lookup and an embedding a tower, as in TFRS's quick start.

    Args:
        user_ids, item_ids: the vocabularies.
        mean: of the labels.
        width: of the vectors.
        deep: whether the item tower has a layer on top.
    """

    def __init__(self, user_ids, item_ids, mean: float = 3.0,
                 width: int = 8, deep: bool = True, seed: int = 0):
        super().__init__()
        self.user_model = _tower(user_ids, width, seed, False)
        self.item_model = _tower(item_ids, width, seed + 1, deep)
        self.task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.MeanSquaredError())
        self.mean = mean

    def embed_queries(self, features):
        return self.user_model(features["user_id"])

    def embed_candidates(self, features):
        return self.item_model(features["item_id"])

    def predict_label(self, score):
        return self.mean + score

    def compute_loss(self, features, training=False):
        score = tf.reduce_sum(self.embed_queries(features)
                              * self.embed_candidates(features), axis=1)
        return self.task(labels=features["label"],
                         predictions=self.predict_label(score))


def _tower(ids, width, seed, deep):
    layers = [
        tf_keras.layers.StringLookup(vocabulary=list(ids)),
        tf_keras.layers.Embedding(
            len(ids) + 1, width,
            tf_keras.initializers.RandomNormal(stddev=0.3, seed=seed))]
    if deep:
        layers.append(tf_keras.layers.Dense(
            width, kernel_initializer=tf_keras.initializers.GlorotUniform(
                seed)))
    return tf_keras.Sequential(layers)


def make_towers(data, seed: int, mean: float) -> PlainTowers:
    """Compiled towers, as `compare(make_model=)` takes them."""
    model = PlainTowers(data.user_ids, data.item_ids, mean, seed=seed)
    model.compile(tf_keras.optimizers.Adam(5e-3))
    return model


class Twin(tfrs.Model):
    """The weights of a `TwoTower` behind classes and ids of its own.

    Offers every optional part of the protocol that scoring can ask for.
    """

    def __init__(self, model):
        super().__init__()
        self.inner = model

    ids = "codes"
    query_features = ("history", "user_id")
    candidate_features = ("item_id",)

    def embed_queries(self, features):
        return blocks_of(self.inner.query_tower(features), "embed_queries")

    def embed_candidates(self, features):
        return blocks_of(
            self.inner.candidate_tower(features), "embed_candidates")

    def query_parts(self, features):
        return self.inner.query_tower.parts(features)

    def candidate_parts(self, features):
        return self.inner.candidate_tower.parts(features)

    def combine_parts(self, side, parts, salt=None):
        tower = getattr(self.inner, f"{side}_tower")
        if salt is None:
            return tower.combine(parts, False)
        return tower.combine(parts, True, salt)

    def predict_label(self, score):
        return self.inner.predict_label(score)

    def train_step(self, inputs):
        return self.inner.train_step(inputs)

    @property
    def optimizer(self):
        return self.inner.optimizer

    @optimizer.setter
    def optimizer(self, optimizer):
        """Keras sets it in `compile`; the inner model has its own."""
