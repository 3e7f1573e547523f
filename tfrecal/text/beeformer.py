"""Fine-tunes an encoder on what users chose together, as beeFormer does."""
from __future__ import annotations

from typing import Sequence

import numpy as np
import scipy.sparse
import tensorflow as tf
import tf_keras
from tqdm import tqdm

from tfrecal import checks
from tfrecal.text.gradient_cache import GradientCache
from tfrecal.text.options import check_texts


def fine_tune(encoder, texts: Sequence[str], histories, *, epochs: int = 5,
              batch_size: int = 128, items: int = 512,
              learning_rate: float = 1e-4, seed: int = 0,
              progress: bool = False) -> dict[str, list[float]]:
    """Trains an encoder so that items of one history have vectors alike.

    A user's history predicts itself: by the inner products of its items'
    text vectors, of norm 1, without that of an item with itself (`nmse`). So
    texts of new items are placed by what people chose together, and not by
    what they say only. It trains what `fit` would train: the encoder's
    `trainable_weights`. Do it before the encoder is given to a tower. An item
    without a grade does not teach, and neither does a user with one item.

    A step encodes each distinct text of its items twice and takes the exact
    gradient in chunks (`text.gradient_cache`); it needs `batch_size` x `items`
    grades in memory.

    Args:
        encoder: a `TextEncoder` whose layers are trained, without dropout.
        texts: a string for each item; alike ones have one vector.
        histories: scipy sparse `[users, items]`, grades from 0; column n is
            of `texts[n]`. The block's are `model.linear_block.grades`.
        epochs: passes over the users.
        batch_size: users of a step.
        items: items of a step: those of its users, and others at random; a
            random part of the users' if they are more.
        learning_rate: Adam's learning rate.
        seed: seed of the order and of the items of a step. The same seed
            gives the same weights on the same machine.
        progress: whether to show a bar on stderr when it takes long.

    Returns:
        `loss` -> one value an epoch, a mean over users.

    Raises:
        ValueError: the encoder has no trained layers, or dropout; the
            histories do not fit, have a grade that is no number from 0, or
            teach nothing; a number is not positive; or training diverged.
        TypeError: `texts` are no strings, or `histories` are not sparse.

    Reference:
        Vančura, Kordík and Straka 2024, "beeFormer" (arXiv 2409.10309): the
        encoder is trained through ELSA (Vančura et al. 2022), in two passes
        and with sampled items. Weights of users' grades replace clicks here.
    """
    texts = check_texts(texts)
    _check_encoder(encoder)
    checks.positive(learning_rate=learning_rate)
    checks.whole(1, epochs=epochs, batch_size=batch_size)
    checks.whole(2, items=items)
    histories = _teaching(histories, texts)
    table = encoder.table(texts)
    step = _make_step(encoder, table, learning_rate)
    rng = np.random.default_rng([seed, 19])
    losses = []
    with tqdm(total=epochs * -(-histories.shape[0] // batch_size),
              unit="step", desc="fine-tuning", delay=2.0,
              disable=not progress) as bar:
        for _ in range(epochs):
            total = 0.0
            for rows, grades in _batches(histories, batch_size, items, rng):
                total += len(grades) * float(step(rows, grades))
                bar.update()
            losses.append(total / histories.shape[0])
            if not np.isfinite(losses[-1]):
                raise ValueError(
                    "Fine-tuning must not diverge. Received: a loss of "
                    f"{losses[-1]} with learning_rate={learning_rate:g}. "
                    "Give a smaller one.")
    return {"loss": losses}


def nmse(vectors: tf.Tensor, grades: tf.Tensor) -> tf.Tensor:
    """Computes ELSA's loss of item vectors on histories.

    Args:
        vectors: `[items, dim]` float32, of any norm.
        grades: `[users, items]` float32, from 0.

    Returns:
        Scalar: squared distance between a user's grades and what they
        predict, max(0, X (A A^T - I)), both of norm 1; mean over users. It
        lies between 0 and 2.
    """
    unit = tf.math.l2_normalize(vectors, 1)
    predicted = tf.nn.relu(tf.matmul(
        tf.matmul(grades, unit), unit, transpose_b=True) - grades)
    away = tf.math.l2_normalize(grades, 1) - tf.math.l2_normalize(
        predicted, 1)
    return tf.reduce_mean(tf.reduce_sum(tf.square(away), 1))


def _make_step(encoder, table, learning_rate):
    """Returns a function that takes a step and returns its loss."""
    optimizer = tf_keras.optimizers.Adam(learning_rate, global_clipnorm=1.0)
    optimizer.build(encoder.trainable_weights)
    cache = GradientCache([table], optimizer, 1)

    @tf.function(autograph=False, input_signature=[
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None, None], tf.float32)])
    def step(rows, grades):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(cache.watched())
            loss = nmse(table(rows, training=True), grades)
        cache.take(tape.gradient(loss, cache.watched()), [])
        return loss

    return step


def _batches(histories, batch_size: int, items: int, rng):
    """Yields rows of a table of texts, int32 `[m]`, and grades `[B, m]`."""
    known = np.flatnonzero(histories.getnnz(axis=0))
    order = rng.permutation(histories.shape[0])
    for start in range(0, len(order), batch_size):
        some = histories[order[start:start + batch_size]]
        own = np.flatnonzero(some.getnnz(axis=0))
        if len(own) > items:
            own = rng.choice(own, items, replace=False)
        else:
            others = np.setdiff1d(known, own, assume_unique=True)
            own = np.concatenate([own, rng.choice(
                others, min(items - len(own), len(others)), replace=False)])
        yield (own + 1).astype(np.int32), some[:, own].toarray()


def _check_encoder(encoder) -> None:
    if encoder.tuning == "frozen" or not encoder.trainable_weights:
        raise ValueError(
            "Fine-tuning needs an encoder whose layers are trained. Received:"
            f" tuning={encoder.tuning!r}. Make it with `tuning=\"top_n\"` or "
            "another.")
    if encoder.dropout:
        raise ValueError(
            "Fine-tuning needs an encoder without dropout: a text is encoded "
            "twice and must give the same vector. Received: dropout="
            f"{encoder.dropout}.")


def _teaching(histories, texts) -> scipy.sparse.csr_matrix:
    """Returns the users with two items or more; checks all of it."""
    if not scipy.sparse.issparse(histories):
        raise TypeError(
            "`histories` must be a scipy sparse matrix, [users, items]. "
            f"Received: a {type(histories).__name__}.")
    if histories.shape[1] != len(texts):
        raise ValueError(
            "`histories` must have a column for each text. Received: "
            f"{histories.shape[1]:,} columns and {len(texts):,} texts.")
    found = scipy.sparse.csr_matrix(histories, dtype=np.float32, copy=True)
    found.sum_duplicates()
    if not np.isfinite(found.data).all() or (found.data < 0).any():
        raise ValueError(
            "Grades must be finite numbers from 0. Received: "
            f"{found.data[~(found.data >= 0) | np.isinf(found.data)][0]}.")
    found.eliminate_zeros()
    found = found[np.flatnonzero(found.getnnz(axis=1) > 1)]
    if not found.nnz:
        raise ValueError(
            "Fine-tuning learns from users with two items or more. Received: "
            "histories without one. Bring more interactions.")
    known = np.flatnonzero(found.getnnz(axis=0))
    if len({texts[item] for item in known}) < 2:
        raise ValueError(
            "Fine-tuning tells texts apart. Received: one text for all "
            f"{len(known):,} items that have a grade.")
    return found
