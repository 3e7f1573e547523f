"""Warms an encoder up on the texts of a catalogue, without labels."""
from __future__ import annotations

from typing import Sequence

import tensorflow as tf
import tf_keras

from tfrecal import checks
from tfrecal.text.options import check_texts


def warm_up(encoder, texts: Sequence[str], *, epochs: int = 3,
            batch_size: int = 64, temperature: float = 0.05,
            learning_rate: float = 3e-5, seed: int = 0,
            progress: bool = False) -> dict[str, list[float]]:
    """Trains an encoder to tell texts apart in spite of dropout.

    Each text of a batch is encoded twice, with different dropout. The two
    vectors should be nearer to each other than to those of the other texts.
    It trains what `fit` would train: the encoder's `trainable_weights`. Do it
    before the encoder is given to a tower, which encodes its table of texts
    when it is made. It brought nothing on MovieLens' titles
    (benchmarks/warm_up_texts.py): measure it on your texts.

    Args:
        encoder: a `TextEncoder` with `tuning="top_n"` or `"full"` and
            `dropout` above 0.
        texts: strings, of which at least two are distinct; each distinct text
            counts once.
        epochs: passes over the distinct texts. A last batch that is not
            full is left out; each epoch shuffles anew.
        batch_size: texts of a training step, each a negative of the others.
        temperature: divides the cosines.
        learning_rate: Adam's learning rate.
        seed: seed of the order and of dropout. It sets TensorFlow's global
            seed, from which the encoder's dropout draws. The same seed gives
            the same weights on the same machine.
        progress: whether Keras shows its bar.

    Returns:
        Metric -> one value an epoch, a mean over batches: `loss`;
        `accuracy`, the share of texts whose own second vector is the
        nearest; `alignment` and `uniformity`, both better when lower.

    Raises:
        ValueError: the encoder has no trained layers or no dropout, there are
            too few texts, or a number is not positive.
        TypeError: `texts` are no strings.

    Reference:
        Gao et al. 2021, "SimCSE" (arXiv 2104.08821): the loss is eq. 4,
        alignment eq. 2, uniformity eq. 3.
    """
    texts = list(dict.fromkeys(check_texts(texts)))
    _check(encoder, texts, epochs=epochs, batch_size=batch_size,
           temperature=temperature, learning_rate=learning_rate)
    tf.random.set_seed(seed)
    model = _TwoPasses(encoder, encoder.table(texts), temperature)
    model.compile(
        tf_keras.optimizers.Adam(learning_rate, global_clipnorm=1.0))
    model.optimizer.build(encoder.trainable_weights)  # else traced twice
    rows = tf.data.Dataset.range(1, len(texts) + 1).shuffle(
        len(texts), seed=seed, reshuffle_each_iteration=True)
    rows = rows.batch(min(batch_size, len(texts)), drop_remainder=True)
    return model.fit(rows, epochs=epochs, verbose=int(progress)).history


def _check(encoder, texts, **positive) -> None:
    if encoder.tuning == "frozen" or not encoder.trainable_weights:
        raise ValueError(
            "A warm-up needs an encoder whose layers are trained. Received: "
            f"tuning={encoder.tuning!r}. Make it with `tuning=\"top_n\"` or "
            "`\"full\"`.")
    if not encoder.dropout > 0:
        raise ValueError(
            "A warm-up needs an encoder with `dropout` above 0: else both "
            "passes of a text are one. Received: dropout="
            f"{encoder.dropout}. The paper takes 0.1.")
    checks.positive(**positive)
    if len(texts) < 2 or positive["batch_size"] < 2:
        raise ValueError(
            "A warm-up compares texts with each other: it needs two distinct "
            f"ones in a batch. Received: {len(texts)} distinct texts, "
            f"batch_size={positive['batch_size']}.")


class _TwoPasses(tf_keras.Model):
    """Trains an encoder on the loss of two passes over rows of a table."""

    def __init__(self, encoder, table, temperature: float):
        super().__init__()
        self.encoder = encoder
        self.table = table
        self.temperature = temperature
        self._means = [tf_keras.metrics.Mean(name) for name in (
            "loss", "accuracy", "alignment", "uniformity")]
        # The weights are the encoder's, so there is nothing to build.
        self.built = True

    @property
    def metrics(self):
        return self._means

    @tf.autograph.experimental.do_not_convert
    def train_step(self, rows):
        """Trains one step on distinct rows, integers `[B]`."""
        with tf.GradientTape() as tape:
            one, two = (tf.math.l2_normalize(self.table(rows, training=True), 1)
                        for _ in range(2))
            found = contrast(one, two, self.temperature)
        weights = self.encoder.trainable_weights
        gradients = tape.gradient(found[0], weights)
        self.optimizer.apply_gradients(zip(gradients, weights))
        for mean, value in zip(self._means, found):
            mean.update_state(value)
        return {mean.name: mean.result() for mean in self._means}


def contrast(one: tf.Tensor, two: tf.Tensor, temperature: float):
    """Computes SimCSE's loss of two passes, and measures of the vectors.

    Args:
        one, two: `[B, dim]` float32 of norm 1; row i of both is text i.
        temperature: divides the cosines.

    Returns:
        Scalars: loss (eq. 4), accuracy, alignment (eq. 2, mean squared
        distance of the two vectors of a text), uniformity (eq. 3, over pairs
        of different texts in pass one).
    """
    cosines = tf.matmul(one, two, transpose_b=True)
    own = tf.range(tf.shape(one)[0])
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
        own, cosines / temperature)
    hit = tf.argmax(cosines, 1, output_type=tf.int32) == own
    alignment = 2 - 2 * tf.linalg.diag_part(cosines)
    among = tf.boolean_mask(tf.matmul(one, one, transpose_b=True),
                            own[:, tf.newaxis] != own)
    uniformity = tf.reduce_logsumexp(4 * among - 4) - tf.math.log(
        tf.cast(tf.size(among), tf.float32))
    return (tf.reduce_mean(loss), tf.reduce_mean(tf.cast(hit, tf.float32)),
            tf.reduce_mean(alignment), uniformity)
