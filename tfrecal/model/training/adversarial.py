"""FGM: a step against the worst small change of the word embeddings."""
from __future__ import annotations

import tensorflow as tf

from tfrecal import checks


def check(epsilon: float, encoders) -> None:
    """Raises ValueError where FGM is asked for and cannot be.

    Args:
        epsilon: length of the perturbation; 0 is none.
        encoders: the model's `TextEncoder`s.
    """
    checks.at_least(0, adversarial=epsilon)
    checks.finite(adversarial=epsilon)
    if epsilon and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise ValueError(
            "`adversarial` moves word embeddings in place, which copies of a "
            f"model cannot. Received: adversarial={epsilon} under a strategy "
            "of several replicas. Leave one of them out.")
    tunings = [encoder.tuning for encoder in encoders]
    if epsilon and "full" not in tunings:
        raise ValueError(
            "`adversarial` perturbs word embeddings, which must be trained. "
            f"Received: adversarial={epsilon} with encoders of tuning="
            f"{tunings}. Make the encoder with `tuning=\"full\"`.")


def word_embeddings(encoder, variables, gradients):
    """Returns the table of word embeddings and its gradient.

    It is the largest of the tables, which alone have gradients by row
    (`tf.IndexedSlices`): there are more words than positions.

    Args:
        encoder: a `TextEncoder` with `tuning="full"`.
        variables, gradients: the model's variables and a gradient of each.

    Returns:
        `(variable, tf.IndexedSlices)`, or None where nothing was looked up.
    """
    own = {weight.ref() for weight in encoder.trainable_weights}
    tables = [(variable, gradient)
              for variable, gradient in zip(variables, gradients)
              if variable.ref() in own
              and isinstance(gradient, tf.IndexedSlices)]
    return max(tables, key=lambda pair: pair[0].shape[0], default=None)


def perturb(variable: tf.Variable, gradient: tf.IndexedSlices,
            epsilon: float):
    """Moves rows by `epsilon * g / |g|`, |g| over all rows of the batch.

    Args:
        variable: `[words, dim]` float32.
        gradient: gradient of the loss; a row may come several times.
        epsilon: length of the step; a gradient of 0 moves nothing.

    Returns:
        `(rows, values)` for `restore`: the rows that were moved, each once,
        and their values before.

    Reference:
        Miyato et al. 2017 (arXiv 1605.07725), eq. 5, but over the words of
        a batch instead of a single text, and without normalised embeddings.
    """
    rows, place = tf.unique(gradient.indices)
    total = tf.math.unsorted_segment_sum(
        gradient.values, place, tf.size(rows))
    step = epsilon * tf.math.divide_no_nan(total, tf.norm(total))
    values = tf.gather(variable, rows)
    variable.scatter_update(tf.IndexedSlices(values + step, rows))
    return rows, values


def restore(variable: tf.Variable, rows, values) -> None:
    """Undoes `perturb` exactly.

    Args:
        variable: as for `perturb`.
        rows, values: what `perturb` returned.
    """
    variable.scatter_update(tf.IndexedSlices(values, rows))


def add(one, two):
    """Returns the sum of two gradients; each may be None or by row."""
    if one is None or two is None:
        return two if one is None else one
    if isinstance(one, tf.IndexedSlices) and isinstance(
            two, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([one.values, two.values], 0),
            tf.concat([one.indices, two.indices], 0), one.dense_shape)
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(two)
