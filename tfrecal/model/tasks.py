"""Tasks: two towers' vectors in, a loss out. Towers do not know them."""
from __future__ import annotations

import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.pool.label_head import LOSSES, LabelHead, label_of

#: `TwoTower.from_interactions(query=)` -> negatives of its `Retrieval`.
NEGATIVES = {"mean": 0, "sequence": 256}


class Task(tf_keras.layers.Layer):
    """A loss over a batch of (query, candidate) pairs.

    Args:
        weight: weight of this loss in the model's total, > 0.
        block: the vector block that it reads, `"rating"` or `"retrieval"`.
    """

    def __init__(self, weight: float = 1.0, block: str = "rating", **kwargs):
        super().__init__(**kwargs)
        checks.positive(weight=weight, cure="Or leave the task out.")
        self.weight = weight
        self.block = block

    def call(self, query: tf.Tensor, candidate: tf.Tensor,
             batch: dict) -> tf.Tensor:
        """Returns the loss, a scalar.

        Args:
            query, candidate: float32 `[B, dim]`; row i belongs to pair i.
            batch: `label` `[B]`, `weight` `[B]`, and, where a task needs
                them, `user_id`, `item_id` (int32 `[B]`), `positive` (bool
                `[B]`), `log_q` `[B]`, `list_id` (int32 `[B]`, 0 for none),
                `negative_id` (int32 `[N]`) with their vectors `negatives`
                `[N, dim]`.
        """
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "weight": self.weight,
                "block": self.block}

    def __repr__(self) -> str:
        config = self.get_config()
        for name in ("name", "trainable", "dtype"):
            config.pop(name)
        return f"{type(self).__name__}({self.name!r}, " + ", ".join(
            f"{name}={value!r}" for name, value in config.items()) + ")"


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class Rating(Task):
    """Predicts the label: squared error, or cross-entropy for 0/1 labels.

    Args:
        loss: `"mse"` or `"binary_crossentropy"`.
        scale: (lowest, highest) label; predictions are clipped to it, and
            the squared error is measured in quarters of it, so that L2
            factors mean the same on every scale.
        mean: the mean of all labels (a probability for 0/1 labels), where
            the trained offset starts; by default the middle of the scale.
        weight, block: see `Task`.
    """

    def __init__(self, loss: str = "mse", scale=(1.0, 5.0),
                 mean: float | None = None, weight: float = 1.0,
                 block: str = "rating", **kwargs):
        super().__init__(weight, block, **kwargs)
        checks.one_of("loss", loss, LOSSES)
        self.loss = loss
        self.scale = checks.check_scale(scale)
        self.mean = mean
        low, high = self.scale
        start = (low + high) / 2 if mean is None else mean
        if loss == "binary_crossentropy":
            start = min(max(start, 1e-3), 1 - 1e-3)
            start = float(tf.math.log(start / (1 - start)))
        self.offset = self.add_weight(
            "offset", [], initializer=tf_keras.initializers.Constant(start))

    def call(self, query, candidate, batch):
        score = tf.reduce_sum(query * candidate, axis=1) + self.offset
        label, weight = batch["label"], batch["weight"]
        if self.loss == "mse":
            unit = (self.scale[1] - self.scale[0]) / 4
            loss = tf.square((score - label) / unit)
        else:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(label, score)
        return tf.math.divide_no_nan(
            tf.reduce_sum(weight * loss), tf.reduce_sum(weight))

    def predict(self, score):
        """Returns labels (or probabilities of 1) of inner products.

        Args:
            score: float32 `[B]`, of NumPy or TensorFlow.
        """
        return label_of(score + self.offset, self.loss, self.scale)

    def head(self) -> LabelHead:
        """Returns what `predict` does now, for use without TensorFlow."""
        return LabelHead(self.loss, self.scale, float(self.offset.numpy()))

    def get_config(self):
        return {**super().get_config(), "loss": self.loss,
                "scale": self.scale, "mean": self.mean}


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class Retrieval(Task):
    """Softmax over the positives of a batch, or over sampled items.

    Only the rows that `batch["positive"]` marks take part, as positives and
    as each other's negatives: a labelled negative is never a positive. The
    pool says what a positive is (`Pool(positive=4.0)`).

    Args:
        negatives: number of items of the catalogue that all positives of a
            batch have as negatives, in place of each other; 0 for in-batch
            negatives. Items with a positive label are drawn, each as often
            as any other, so that nothing is to be corrected (SASRec with
            sampled softmax, arXiv 2508.06450, sec. 2). A batch that comes
            from no pool has none, and falls back to its own items.
        temperature: divides the inner products.
        log_q: `"standard"` subtracts each candidate's log probability
            `batch["log_q"]` (Yi et al. 2019, "Sampling-bias-corrected neural
            modeling", eq. 2). `"positive_aware"` leaves the positive
            uncorrected and out of the denominator, and multiplies its loss
            by the probability of misclassifying it (Khrylchenko et al. 2025,
            arXiv 2507.09331). None corrects nothing.
        remove_accidental_hits: True takes other rows of the same item out
            of its negatives.
        weight, block: see `Task`.
    """

    def __init__(self, *, negatives: int = 0, temperature: float = 1.0,
                 log_q: str | None = "standard",
                 remove_accidental_hits: bool = True, weight: float = 0.3,
                 block: str = "retrieval", **kwargs):
        if "positive" in kwargs:
            raise TypeError(
                "The pool says what a positive is. Received: Retrieval("
                f"positive={kwargs['positive']!r}). Give it to the pool: "
                "`Pool.from_interactions(data, positive=...)`.")
        super().__init__(weight, block, **kwargs)
        checks.one_of("log_q", log_q, (None, "standard", "positive_aware"))
        checks.positive(temperature=temperature)
        checks.whole(0, negatives=negatives)
        self.negatives = negatives
        self.temperature = temperature
        self.log_q = log_q
        self.remove_accidental_hits = remove_accidental_hits

    def call(self, query, candidate, batch):
        keep = batch["positive"]
        query = tf.boolean_mask(query, keep)
        candidate = tf.boolean_mask(candidate, keep)
        item = tf.boolean_mask(batch["item_id"], keep)
        weight = tf.boolean_mask(batch["weight"], keep)
        if self.negatives and "negatives" in batch:
            loss = self._sampled(query, candidate, item, batch)
            return tf.math.divide_no_nan(
                tf.reduce_sum(weight * loss), tf.reduce_sum(weight))
        logits = tf.matmul(
            query, candidate, transpose_b=True) / self.temperature
        rows = tf.shape(logits)[0]
        own = tf.eye(rows, dtype=tf.bool)
        hit = own
        if self.remove_accidental_hits:
            hit = tf.equal(item[:, tf.newaxis], item[tf.newaxis, :])
        lowest = tf.constant(-1e9)
        log_q = tf.zeros([rows])
        if self.log_q is not None:
            log_q = tf.boolean_mask(batch["log_q"], keep)
        if self.log_q == "positive_aware":
            loss = self._positive_aware(logits, log_q, hit, lowest)
        else:
            logits = tf.where(hit & ~own, lowest, logits - log_q)
            loss = (tf.reduce_logsumexp(logits, axis=1)
                    - tf.linalg.diag_part(logits))
        return tf.math.divide_no_nan(
            tf.reduce_sum(weight * loss), tf.reduce_sum(weight))

    def _sampled(self, query, candidate, item, batch):
        """Returns the loss `[P]` against the negatives of the batch."""
        positive = tf.reduce_sum(query * candidate, axis=1, keepdims=True)
        negative = tf.matmul(query, batch["negatives"], transpose_b=True)
        hit = item[:, tf.newaxis] == batch["negative_id"][tf.newaxis, :]
        logits = tf.concat([positive, tf.where(
            hit, -1e9 * self.temperature, negative)], 1) / self.temperature
        return tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]

    def _positive_aware(self, logits, log_q, hit, lowest):
        """Returns the loss `[P]`, eq. 8 to 10 of arXiv 2507.09331."""
        positive = tf.linalg.diag_part(logits)
        # Q'(d) = Q(d) / (1 - Q(p)): negatives are drawn without the positive
        without = tf.math.log1p(-tf.exp(log_q))[:, tf.newaxis]
        negative = tf.where(hit, lowest, logits - (log_q - without))
        number = tf.reduce_sum(tf.cast(~hit, tf.float32), axis=1)
        total = tf.reduce_logsumexp(negative, axis=1)
        mean = total - tf.math.log(tf.maximum(number, 1.0))
        missed = tf.stop_gradient(tf.sigmoid(mean - positive))
        loss = missed * (total - positive)
        return tf.where(number > 0, loss, 0.0)

    def get_config(self):
        return {**super().get_config(), "negatives": self.negatives,
                "temperature": self.temperature, "log_q": self.log_q,
                "remove_accidental_hits": self.remove_accidental_hits}

    @classmethod
    def from_config(cls, config):
        """Reads older files too, in which the task held `positive`."""
        return cls(**{k: v for k, v in config.items() if k != "positive"})


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class Pairwise(Task):
    """BPR over the labelled pairs of one user in a batch.

    For every two rows of a user, the one with the higher label should score
    higher (Rendle et al. 2009, "BPR", eq. 4, with observed negatives).
    Batches in which no user occurs twice give no loss.

    Args:
        weight, block: see `Task`.
    """

    def __init__(self, weight: float = 0.1, block: str = "retrieval",
                 **kwargs):
        super().__init__(weight, block, **kwargs)

    def call(self, query, candidate, batch):
        score = tf.reduce_sum(query * candidate, axis=1)
        label, user = batch["label"], batch["user_id"]
        better = label[:, tf.newaxis] > label[tf.newaxis, :]
        same = user[:, tf.newaxis] == user[tf.newaxis, :]
        pairs = tf.where(better & same)
        win, lose = pairs[:, 0], pairs[:, 1]
        loss = tf.nn.softplus(tf.gather(score, lose) - tf.gather(score, win))
        weight = tf.gather(batch["weight"], win)
        return tf.math.divide_no_nan(
            tf.reduce_sum(weight * loss), tf.reduce_sum(weight))


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class InList(Task):
    """Softmax of each click over what its list showed and nobody clicked.

    The negatives of a positive are the rows of its list that are no
    positives (Wu et al. 2019, "NPA", KDD, eq. 9, with all of them in place
    of a sample). Its own query is compared with their candidates. A positive
    whose list shows nothing else gives no loss, and so does a batch without
    `list_id`.

    Args:
        temperature: divides the inner products.
        weight, block: see `Task`.
    """

    def __init__(self, *, temperature: float = 1.0, weight: float = 0.3,
                 block: str = "retrieval", **kwargs):
        super().__init__(weight, block, **kwargs)
        checks.positive(temperature=temperature)
        self.temperature = temperature

    def call(self, query, candidate, batch):
        if "list_id" not in batch:
            return tf.constant(0.0)
        lists, positive = batch["list_id"], batch["positive"]
        clicked = tf.where(positive & (lists > 0))[:, 0]
        shown = tf.where(~positive & (lists > 0))[:, 0]
        pairs = tf.where(tf.gather(lists, clicked)[:, tf.newaxis]
                         == tf.gather(lists, shown)[tf.newaxis, :])
        number = tf.size(clicked)
        row = tf.gather(clicked, pairs[:, 0])
        own = tf.gather(tf.reduce_sum(query * candidate, axis=1), row)
        other = tf.reduce_sum(tf.gather(query, row) * tf.gather(
            candidate, tf.gather(shown, pairs[:, 1])), axis=1)
        above = (other - own) / self.temperature
        # log(1 + sum of exp(above)), shifted by the largest of 0 and them
        most = tf.stop_gradient(tf.maximum(tf.math.unsorted_segment_max(
            above, pairs[:, 0], number), 0.0))
        total = tf.math.unsorted_segment_sum(
            tf.exp(above - tf.gather(most, pairs[:, 0])), pairs[:, 0], number)
        loss = most + tf.math.log(tf.exp(-most) + total)
        weight = tf.where(total > 0, tf.gather(batch["weight"], clicked), 0.0)
        return tf.math.divide_no_nan(
            tf.reduce_sum(weight * loss), tf.reduce_sum(weight))

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@tf_keras.utils.register_keras_serializable(package="tfrecal")
class Search(Task):
    """Teaches the query tower's search text to find items by their texts.

    Each distinct item of a batch is searched for by its own text among the
    others (in-batch softmax). Candidates and encoder are held fixed: this
    task changes the search kernel only and does not disturb the other tasks.
    It needs no labels of searches.

    Args:
        weight: see `Task`.
        l2: factor of the mean squared norm of the search vectors.
    """

    def __init__(self, weight: float = 0.1, l2: float = 0.015, **kwargs):
        super().__init__(weight, **{**kwargs, "block": "retrieval"})
        self.l2 = l2

    def call(self, query, candidate, batch):
        item, place = tf.unique(batch["item_id"])
        first = tf.math.unsorted_segment_min(
            tf.range(tf.size(place)), place, tf.size(item))
        query = tf.gather(query, first)
        candidate = tf.stop_gradient(tf.gather(candidate, first))
        logits = tf.matmul(query, candidate, transpose_b=True)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.range(tf.size(item)), logits)
        norm = tf.reduce_sum(tf.square(query), axis=1)
        return tf.reduce_mean(loss + self.l2 * norm)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


def default_tasks(scale, mean: float | None = None, search: bool = False,
                  losses=("rating", "retrieval", "search", "in_list"),
                  temperature: float = 1.0, loss_weights=None,
                  negatives: int = 0, lists: bool = False) -> list:
    """Returns the tasks for labels on a scale; (0, 1) means 0/1 labels.

    Args:
        scale: (lowest, highest) label.
        mean: see `Rating`.
        search: whether items have texts to search for.
        losses: names of the tasks to take; also `"pairwise"`. `"search"`
            counts only with `search`, `"in_list"` only with `lists`.
        temperature: see `Retrieval` and `InList`.
        negatives: see `Retrieval`.
        loss_weights: name -> weight, in place of the tasks' own.
        lists: whether rows were shown in lists.
    """
    low, high = map(float, scale)
    loss = "binary_crossentropy" if (low, high) == (0, 1) else "mse"
    made = {"rating": lambda: Rating(loss, (low, high), mean, name="rating"),
            "retrieval": lambda: Retrieval(
                negatives=negatives, temperature=temperature,
                name="retrieval"),
            "pairwise": lambda: Pairwise(name="pairwise"),
            "in_list": lambda: InList(temperature=temperature,
                                      name="in_list"),
            "search": lambda: Search(name="search")}
    counts = {"search": search, "in_list": lists}
    tasks = [make() for name, make in made.items()
             if name in losses and counts.get(name, True)]
    for task in tasks:
        task.weight = (loss_weights or {}).get(task.name, task.weight)
    return tasks
