"""Training by several replicas as if by one: slices, gathering, the loop.

A replica is a device (`tf.distribute.MirroredStrategy`) or a worker
(`MultiWorkerMirroredStrategy`) that holds a copy of the model. Each embeds
its slice of every batch. The vectors, which are small, are gathered, so that
the losses see the whole batch and its negatives, and the gradients are those
of one process, up to rounding.
"""
from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras

from tfrecal.model.exact_sums import in_order
from tfrecal.model.keras_arguments import refuse_of_replicas


def gather(pairs: list, inputs: dict) -> list:
    """Returns vectors of the whole batch from those of each slice.

    Rows of other replicas are constants. A replica's own rows get the
    gradient of the sum of all replicas' losses, which are equal, so no
    gradient has to be sent.

    Args:
        pairs: `(query, candidate)`, float32 `[own rows, dim]` each.
        inputs: as `PoolSequence.share` makes them.

    Returns:
        Such pairs, `[rows, dim]`.
    """
    context = tf.distribute.get_replica_context()
    number = context.num_replicas_in_sync
    distinct = list({id(one): one for pair in pairs
                     for one in pair}.values())
    joined = tf.concat(distinct, axis=1)
    everyone = context.all_gather(tf.stop_gradient(joined), axis=0)
    first, stop = inputs["own"][0], inputs["own"][1]
    own = joined[:stop - first]
    own += (number - 1.0) * (own - tf.stop_gradient(own))
    # A replica without rows sent a copy, after all others'.
    rows = tf.shape(inputs["all"]["label"])[0]
    whole = tf.concat([everyone[:first], own, everyone[stop:rows]], axis=0)
    found = dict(zip(map(id, distinct), tf.split(
        whole, [one.shape[1] for one in distinct], axis=1)))
    return [tuple(found[id(one)] for one in pair) for pair in pairs]


def own_rows(inputs: dict) -> tf.Tensor:
    """Returns the number of rows that count in a replica's batch, int32.

    Without replicas all count.
    """
    if "own" in inputs:
        return inputs["own"][1] - inputs["own"][0]
    return tf.shape(inputs["label"])[0]


def all_rows(inputs: dict) -> tf.Tensor:
    """Returns the number of rows of the whole batch, float32.

    A mean over batches weighs their losses by it.
    """
    whole = inputs.get("all", inputs)
    return tf.cast(tf.shape(whole["label"])[0], tf.float32)


def share_of_loss(loss, penalties, inputs: dict):
    """Returns a replica's share of the loss, which it differentiates.

    The sum over all replicas is the loss of a single process.

    Args:
        loss: loss of the whole batch, the same on each replica.
        penalties: means over the replica's slice.
        inputs: the replica's batch.

    Returns:
        `(share of the loss, number of replicas)`.
    """
    if "own" not in inputs:
        return in_order(loss, *penalties), 1.0
    number = float(
        tf.distribute.get_replica_context().num_replicas_in_sync)
    share = tf.cast(own_rows(inputs), tf.float32) / all_rows(inputs)
    return in_order(loss / number, *(
        share * penalty for penalty in penalties)), number


def fit(model, sequence, *, epochs: int = 1, initial_epoch: int = 0,
        callbacks=None, verbose=0, **refused):
    """Trains as Keras' `fit` on a growing `PoolSequence`, on replicas.

    Keras' own loop keeps the number of steps of its first epoch there: of 4,
    8, 12 and 16 steps it takes 4 each time (tf_keras 2.20,
    `DataHandler.enumerate_epochs`, which does not look at a distributed set
    again). Callbacks run as in Keras, without losses of single steps.

    Args:
        model: a `TwoTower` made and compiled in its strategy's scope.
        sequence: a `PoolSequence`, the same on each worker.
        epochs, initial_epoch, callbacks, verbose: as in Keras.

    Returns:
        A Keras `History`.

    Raises:
        ValueError: `sequence` is no `PoolSequence`, or another argument of
            Keras is given.
    """
    refuse_of_replicas(refused)
    if not hasattr(sequence, "share"):
        raise ValueError(
            "Several replicas train on slices of a `PoolSequence`. Received: "
            f"{type(sequence).__name__}. Call `model.fit(pool.sequence(), "
            "...)`, or make the model outside of the strategy's scope.")
    strategy, cache = model.distribute_strategy, model.gradient_cache
    if cache:
        cache.place(strategy)
    local = local_replicas(strategy)
    run = tf_keras.callbacks.CallbackList(
        callbacks, add_history=True, add_progbar=bool(verbose), model=model,
        verbose=int(bool(verbose)), epochs=epochs, steps=len(sequence))
    model.stop_training = False
    run.on_train_begin()
    logs: dict = {}
    for epoch in range(initial_epoch, epochs):
        with strategy.scope():
            model.reset_metrics()
        run.on_epoch_begin(epoch)
        if cache:
            cache.start(len(sequence))
        for number in range(len(sequence)):
            run.on_train_batch_begin(number)
            shares = [sequence.share(
                number, replica, strategy.num_replicas_in_sync)
                for replica in local]
            _step(model, shares)(shares)
            if cache:
                cache.end_of_batch(number, len(sequence))
            run.on_train_batch_end(number, {})
        with strategy.scope():
            logs = {metric.name: float(metric.result())
                    for metric in model.metrics}
        run.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
        sequence.on_epoch_end()
    run.on_train_end(logs)
    return model.history


def _step(model, shares):
    """Returns the model's step on all replicas, traced once.

    It takes batches of any size: `shares` holds a batch for each replica of
    this process.
    """
    if model.train_function is None:
        strategy = model.distribute_strategy

        def step(shares):
            strategy.run(model.train_step, args=(
                strategy.experimental_distribute_values_from_function(
                    lambda context: shares[
                        context.replica_id_in_sync_group % len(shares)]),))

        model.train_function = tf.function(
            step, autograph=False, input_signature=[
                tf.nest.map_structure(_any_length, shares)])
    return model.train_function


def _any_length(value):
    value = tf.convert_to_tensor(value) if isinstance(
        value, np.ndarray) else value
    if isinstance(value, tf.RaggedTensor):
        return tf.RaggedTensorSpec([None, None], value.dtype)
    return tf.TensorSpec([None], value.dtype)


def local_replicas(strategy) -> list[int]:
    """Returns the numbers of this process's replicas, among all."""
    found = []

    def note(context):
        found.append(int(context.replica_id_in_sync_group))
        return tf.zeros([])

    strategy.experimental_distribute_values_from_function(note)
    return found
