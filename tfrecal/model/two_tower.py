"""TwoTower: towers and tasks in one TensorFlow-Recommenders model."""
from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.data.templates import default_template
from tfrecal.model import inputs as doors
from tfrecal.model.exact_sums import in_order
from tfrecal.model.linear_block import BlockOptions, check_options, of_norm_1
from tfrecal.model.ridge import Penalty
from tfrecal.model.sequence_tower import SequenceQueryTower
from tfrecal.model.served import ServedTwoTower, served_likeness
from tfrecal.model.tasks import (
    NEGATIVES,
    Rating,
    Retrieval,
    Search,
    default_tasks,
)
from tfrecal.model.towers import CandidateTower, QueryTower
from tfrecal.model.training import replicas
from tfrecal.model.training.step import TrainingStep
from tfrecal.pool.label_head import LabelHead

#: What reads a history -> the tower that does.
QUERIES = {"mean": QueryTower, "sequence": SequenceQueryTower}


@tf_keras.saving.register_keras_serializable(package="tfrecal")
class TwoTower(TrainingStep):
    """Embeds queries and candidates; its tasks train it.

    Args:
        query_tower, candidate_tower: layers that turn features into
            `{"rating": [B, d + 2], "retrieval": [B, d]}`.
        tasks: a list of `tasks.Task` layers, at most one of each kind.
        linear_block: what decides the closed-form block beside the trained
            retrieval block, see `model.linear_block`; None for none.

    Raises:
        ValueError: there is no task, or two have one name.
        TypeError: `linear_block` is something else.

    Example:
        model = TwoTower.from_interactions(train, encoder=encoder)
        model.compile(learning_rate=5e-3)
        model.fit(pool.sequence(), epochs=10)
    """

    def __init__(self, query_tower: QueryTower,
                 candidate_tower: CandidateTower, tasks,
                 linear_block: BlockOptions | None = None, **kwargs):
        super().__init__(**kwargs)
        check_options(linear_block, type(self).__name__)
        self.linear_block = linear_block
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        if hasattr(query_tower, "read_items_by"):
            query_tower.read_items_by(candidate_tower)
        self.tasks = list(tasks)
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError("`tasks` must hold at least one task, each "
                             f"under its own name. Received: {names}.")
        self._means = [tf_keras.metrics.Mean(f"{n}_loss") for n in names]
        self._rows = tf_keras.metrics.Sum("rows")
        self._total = tf_keras.metrics.Mean("loss")
        self._measured = False
        # Towers make their weights in their constructor. Keras would call an
        # unbuilt model once, and `call` needs a rating task.
        self.built = True

    @classmethod
    def from_interactions(cls, interactions, *, encoder=None, template=None,
                          query_columns=None, candidate_columns=None,
                          embedding_dim: int = 128, dropout: float = 0.0,
                          shrinkage: float = 40.0,
                          rating_l2: float = 0.1,
                          retrieval_l2: float = 0.015,
                          text_scale: float = 0.1,
                          tasks=None, mean: float | None = None,
                          query: str = "mean",
                          linear_block: BlockOptions | None = BlockOptions(),
                          seed: int = 0) -> "TwoTower":
        """Returns a model with the measured defaults, for a data set.

        Args:
            interactions: `Interactions` with the tables and the label scale;
                no label is read.
            encoder: a `TextEncoder`, or None for a model without text.
            template: a `Template` for item texts; by default the fields of
                the items table.
            query_columns, candidate_columns: categorical columns; None
                chooses them.
            embedding_dim: width of each vector block.
            dropout: share of vector elements dropped; MC dropout needs it
                above 0.
            rating_l2: of the rating vectors and of the biases, see `Tower`;
                `choose_rating_l2` finds it.
            shrinkage, retrieval_l2, text_scale: how ids and vectors are
                held, and how much texts say, see `Tower`.
            tasks: a list of tasks; by default rating and retrieval, with an
                encoder search, and where rows were shown in lists in_list.
            mean: mean of the known labels, where the rating task starts.
            query: what stands for a history: `"mean"` of its items
                (`QueryTower`), or `"sequence"`, which reads them in their
                order (`SequenceQueryTower`).
            linear_block: see `TwoTower`; it reads the labels of the pool
                when it is scored, and `choose_linear_block` finds its
                options.
            seed: draws initial weights and dropout.
        """
        checks.one_of("query", query, QUERIES)
        if encoder is not None and template is None:
            template = default_template(interactions.items)
        shared = {"encoder": encoder, "embedding_dim": embedding_dim,
                  "dropout": dropout, "shrinkage": shrinkage,
                  "rating_l2": rating_l2, "bias_l2": rating_l2,
                  "retrieval_l2": retrieval_l2, "text_scale": text_scale,
                  "seed": seed}
        candidate = CandidateTower.from_table(
            interactions.items, columns=candidate_columns, template=template,
            **shared)
        tower = QUERIES[query].from_table(
            interactions.users, columns=query_columns,
            item_ids=interactions.item_ids, **{**shared, "seed": seed + 1})
        if encoder is not None:
            tower.text_centre.assign(candidate.text_centre)
            tower.text_norm.assign(candidate.text_norm)
        return cls(tower, candidate, tasks or default_tasks(
            interactions.scale, mean, search=encoder is not None,
            negatives=NEGATIVES[query],
            lists=interactions.list_code is not None), linear_block)

    def task(self, kind):
        """Returns the first task of a class, or None."""
        return next((t for t in self.tasks if isinstance(t, kind)), None)

    def embed_queries(self, features: dict, training: bool = False) -> dict:
        """Returns vector blocks of users, histories or texts.

        Args:
            features, training: see `Tower.call`.
        """
        return self.query_tower(features, training=training)

    def embed_candidates(self, features: dict,
                         training: bool = False) -> dict:
        """Returns vector blocks of items.

        Args:
            features, training: see `Tower.call`.
        """
        return self.candidate_tower(features, training=training)

    def call(self, features: dict, training: bool = False) -> tf.Tensor:
        """Returns the predicted label of each pair, float32 `[B]`."""
        query = self.embed_queries(features, training)["rating"]
        candidate = self.embed_candidates(features, training)["rating"]
        return self.predict_label(tf.reduce_sum(query * candidate, axis=1))

    def predict_label(self, score):
        """Returns labels of inner products of rating blocks.

        Args:
            score: float32 `[B]`.

        Raises:
            ValueError: the model has no rating task.
        """
        self.check_predicts_labels("Predicting labels")
        return self.task(Rating).predict(score)

    def check_predicts_labels(self, what: str) -> None:
        """Raises ValueError where the model has no rating task.

        Args:
            what: what needs one, for the error.
        """
        if self.task(Rating) is None:
            raise ValueError(f"{what} needs a `Rating` task. "
                             f"Received: tasks={self.task_names}.")

    # The rest is optional in `model.protocol.Recommends`.
    ids = "codes"
    query_features = ("user_id", "history")
    candidate_features = ("item_id",)

    def item_texts(self) -> np.ndarray | None:
        """Returns what the encoder says of the items' texts, as it is now.

        Returns:
            Centred vectors of norm 1, float32 `[items + 1, dim]`; zeros for
            code 0. None for a model without texts.
        """
        if self.candidate_tower.table is None:
            return None
        return of_norm_1(self.candidate_tower.texts_of_catalogue())

    def query_parts(self, features: dict) -> dict:
        """Returns the linear parts of queries; see `Tower.parts`."""
        return self.query_tower.parts(features)

    def candidate_parts(self, features: dict) -> dict:
        """Returns the linear parts of candidates; see `Tower.parts`."""
        return self.candidate_tower.parts(features)

    def combine_parts(self, side: str, parts: dict, salt=None) -> dict:
        """Returns the vector blocks of parts; see `Tower.combine`.

        Args:
            side: `"query"` or `"candidate"`.
            parts: the parts of that side.
            salt: names the masks of a dropout pass; None for no dropout.
        """
        tower = self._tower(side)
        if salt is None:
            return tower.combine(parts, False)
        return tower.combine(parts, True, salt)

    def linear_parts(self, side: str, parts: dict):
        """Returns rating blocks of the id and of the other parts, and rates.

        Args:
            side: `"query"` or `"candidate"`.
            parts: the parts of that side.

        Returns:
            `(id part [n, d], sum of the others [n, d], id_dropout,
            dropout)`.
        """
        tower = self._tower(side)
        d = tower.embedding_dim
        own = parts["id"][:, :d].numpy()
        rest = sum((part[:, :d].numpy() for name, part in parts.items()
                    if name not in ("id", "bias")), np.zeros_like(own))
        return own, rest, tower.id_dropout, tower.dropout

    def rating_penalty(self, side: str) -> Penalty:
        """Returns what holds the ids' rating vectors of one side.

        Args:
            side: `"query"` or `"candidate"`.
        """
        tower = self._tower(side)
        return Penalty(tower.rating_l2, tower.bias_l2, tower.shrinkage)

    def take_rating(self, side: str, vectors, bias) -> None:
        """Takes other rating vectors and biases of the trained ids.

        Args:
            side: `"query"` or `"candidate"`.
            vectors: float32 `[ids + 1, d]`, the part of the id.
            bias: float32 `[ids + 1]`.
        """
        tower = self._tower(side)
        known = tower.warm.numpy() > 0
        table, biases = tower.id_table.numpy(), tower.bias_table.numpy()
        table[known, :tower.embedding_dim] = vectors[known]
        biases[known] = bias[known]
        tower.id_table.assign(table)
        tower.bias_table.assign(biases)

    @property
    def dropout_rates(self) -> tuple[float, ...]:
        """The shares of elements and ids that dropout drops, by tower."""
        return tuple(rate for tower in (self.query_tower,
                                        self.candidate_tower)
                     for rate in (tower.dropout, tower.id_dropout))

    def label_head(self) -> LabelHead | None:
        """Returns what `predict_label` does; None without a rating task."""
        task = self.task(Rating)
        return None if task is None else task.head()

    def for_serving(self, scorer, encoder=None,
                    precision: str | None = None) -> ServedTwoTower:
        """Returns what an export holds of the towers; see `ServedTwoTower`."""
        return ServedTwoTower(self, scorer, encoder, precision)

    def served_likeness(self, encoder, precision: str | None) -> dict:
        """Returns how near a served encoder's vectors are to the model's.

        Args:
            encoder, precision: see `ServedTwoTower`.
        """
        return served_likeness(self, encoder, precision)

    def _tower(self, side: str):
        return self.query_tower if side == "query" else self.candidate_tower

    @property
    def task_names(self) -> list[str]:
        """Names of the tasks."""
        return [task.name for task in self.tasks]

    def compute_loss(self, inputs: dict, training: bool = False):
        """Returns the weighted sum of the tasks' losses over a batch.

        Args:
            inputs: a batch, see `PoolSequence`.
            training: see `Tower.call`.
        """
        losses = self._losses_of(inputs, training, self._measured)
        rows = replicas.all_rows(inputs)
        for mean, loss in zip(self._means, losses):
            mean.update_state(loss, rows)
        self._rows.update_state(replicas.own_rows(inputs))
        return self._weighted(losses)

    def _weighted(self, losses):
        return in_order(*(task.weight * loss
                          for task, loss in zip(self.tasks, losses)))

    def _losses_of(self, inputs, training, measured=False):
        """Returns the losses of the tasks, and updates metrics if asked to."""
        batch = self._with_codes(inputs)
        queries, candidates = (
            embed({k: v for k, v in batch.items()
                   if k in doors.read_by(tower)}, training)
            for embed, tower in (
                (self.embed_queries, self.query_tower),
                (self.embed_candidates, self.candidate_tower)))
        if measured:
            self._measure(batch, queries["rating"], candidates["rating"])
        pairs = [(self._searches(candidates) if isinstance(task, Search)
                  else queries[task.block], candidates[task.block])
                 for task in self.tasks]
        if "all" in inputs:  # this was a replica's slice of the batch
            pairs = replicas.gather(pairs, inputs)
            batch = self._with_codes(inputs["all"])
            if training:
                self.query_tower.make_warm(batch["user_id"])
                self.candidate_tower.make_warm(batch["item_id"])
        if "negative_id" in inputs:
            batch["negative_id"] = inputs["negative_id"]
            batch["negatives"] = self.candidate_tower.retrieval_of(
                inputs["negative_id"], training)
        return [task(*pair, batch) for task, pair in zip(self.tasks, pairs)]

    def _measure(self, batch, query, candidate):
        """Updates the metrics of `compile` with the rows that count."""
        own = slice(replicas.own_rows(batch) if "own" in batch else None)
        predicted = self.predict_label(
            tf.reduce_sum(query * candidate, axis=1))
        self.compiled_metrics.update_state(
            batch["label"][own, tf.newaxis], predicted[own, tf.newaxis],
            batch["weight"][own])

    def _searches(self, candidates):
        """Returns the retrieval block of searches for the items' own texts."""
        if "text" not in candidates:
            raise ValueError(
                "The `Search` task needs items with texts. Received: a "
                "candidate tower without them. Give it an `encoder` and a "
                "`template`, or leave the task out.")
        both = self.query_tower.search(tf.stop_gradient(candidates["text"]))
        return tf.split(both, 2, axis=1)[1]

    def _with_codes(self, inputs):
        batch = dict(inputs)
        batch["user_id"] = self.query_tower.codes(inputs["user_id"])
        batch["item_id"] = self.candidate_tower.codes(inputs["item_id"])
        batch.setdefault("weight", tf.ones_like(batch["label"]))
        if "positive" not in batch and self.task(Retrieval):
            batch["positive"] = doors.positives(self, batch["label"])
        return batch

    @property
    def fingerprint(self) -> str:
        """Digest of the encoder's weights as loaded; "" without an encoder.

        Checkpoints hold only what was trained: they need the same encoder.
        """
        encoder = self.candidate_tower.encoder or self.query_tower.encoder
        return encoder.fingerprint if encoder else ""

    def check_encoder(self, fingerprint: str, folder) -> None:
        """Raises ValueError where weights belong to another encoder.

        Args:
            fingerprint: that of the encoder that they were trained with.
            folder: where they are, for the error.
        """
        if fingerprint != self.fingerprint:
            raise ValueError(
                "Trained weights need the encoder that they were trained "
                f"with. Received: weights in {folder} of the encoder "
                f"{fingerprint[:12] or 'none'}, and the encoder "
                f"{self.fingerprint[:12] or 'none'}. Bring its folder back "
                "as it was.")

    def get_config(self):
        serialise = tf_keras.saving.serialize_keras_object
        return {"name": self.name, "query_tower": serialise(self.query_tower),
                "candidate_tower": serialise(self.candidate_tower),
                "tasks": [serialise(task) for task in self.tasks],
                "linear_block": self.linear_block and dataclasses.asdict(
                    self.linear_block)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the model of a `get_config`; it is not compiled.

        If the encoders of both towers are alike, they share one.
        """
        # Keras must know the encoder's class before it reads a file, and
        # towers do not import it.
        import tfrecal.text.encoder  # noqa: F401

        def made(saved):
            return tf_keras.saving.deserialize_keras_object(
                saved, custom_objects=custom_objects)
        candidate = made(config["candidate_tower"])
        query = config["query_tower"]
        mine, theirs = (tower["config"]["encoder"]
                        for tower in (query, config["candidate_tower"]))
        if mine and theirs and mine["config"] == theirs["config"]:
            query = {**query, "config": {**query["config"],
                                         "encoder": candidate.encoder}}
        return cls(made(query), candidate, [
            made(task) for task in config["tasks"]],
            config.get("linear_block") and BlockOptions(
                **config["linear_block"]), name=config["name"])
