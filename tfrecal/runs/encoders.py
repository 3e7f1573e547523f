"""Makes the text encoder of a run: as published, warmed up or fine-tuned."""
from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrecal.data.interactions import Interactions
from tfrecal.data.templates import default_template
from tfrecal.runs.config import RunConfig
from tfrecal.scoring.block import GradedHistories
from tfrecal.text import beeformer, simcse
from tfrecal.text.encoder import TextEncoder

# Dropout of SimCSE's paper, used in the warm-up only.
_WARM_UP_DROPOUT = 0.1


def make_encoder(config: RunConfig, data: Interactions,
                 warm: bool = False) -> TextEncoder | None:
    """Makes the config's encoder; None without an encoder or without texts.

    Args:
        config: the config with the encoder's settings.
        data: the `Interactions` whose item texts warm it up.
        warm: whether to warm it up if the config says so.
    """
    if config.encoder == "none" or not len(data.items.columns):
        return None
    if config.tuning == "beeformer":
        raise ValueError(
            "An encoder that is fine-tuned on histories is made with the "
            "run's pool (`runs.build.assemble`). Received: tuning="
            f"{config.tuning!r} without one.")
    encoder = _encoder(config, config.tuning)
    if warm and config.warm_up:
        _check_one_device("A warm-up", f"warm_up={config.warm_up}")
        warmed = _encoder(config, config.tuning, _WARM_UP_DROPOUT)
        simcse.warm_up(warmed, default_template(data.items)(data.items),
                       epochs=config.warm_up, seed=config.seed)
        for weight, value in zip(encoder.weights, warmed.weights):
            weight.assign(value)
    return encoder


def fine_tuned_weights(config: RunConfig, data: Interactions,
                       pool) -> list[np.ndarray]:
    """Fine-tunes the config's encoder on the linear block's objective.

    Args:
        config: the config with the encoder's settings: its top `top_n` layers
            are trained, at `encoder_learning_rate`.
        data: the `Interactions` whose item texts are encoded.
        pool: the pool over them, whose labelled rows teach.

    Returns:
        The weights of these layers, for `fixed_encoder`.

    Raises:
        ValueError: no label is positive, no user has two, or several devices
            would train.
    """
    _check_one_device("Fine-tuning", f"tuning={config.tuning!r}")
    label = pool.label[pool.labelled_rows()]
    if not (label >= pool.positive).any():
        raise ValueError(
            "`--tuning beeformer` learns from the positives among the first "
            f"labels. Received: {len(label):,} labels, none of "
            f"{pool.positive:g} or more. Give a larger `--initial`, or another "
            "`--tuning`.")
    encoder = _encoder(config, "top_n")
    given = {} if config.encoder_learning_rate is None else {
        "learning_rate": config.encoder_learning_rate}
    beeformer.fine_tune(
        encoder, default_template(data.items)(data.items),
        GradedHistories.of_pool(pool).matrix[:, 1:], seed=config.seed,
        progress=True, **given)
    return [weight.numpy() for weight in encoder.trainable_weights]


def fixed_encoder(config: RunConfig, weights) -> TextEncoder:
    """Makes the config's encoder with fine-tuned layers, and freezes it.

    Args:
        config: the config with the encoder's settings.
        weights: what `fine_tuned_weights` returned.
    """
    encoder = _encoder(config, "top_n")
    for weight, value in zip(encoder.trainable_weights, weights, strict=True):
        weight.assign(value)
    return encoder.frozen()


def _check_one_device(what: str, given: str) -> None:
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise ValueError(
            f"{what} trains on one device. Received: {given} with several "
            "workers or devices. Leave it out, or begin the run on one and "
            "resume it on several.")


def _encoder(config, tuning, dropout=0.0) -> TextEncoder:
    return TextEncoder(
        config.encoder, tuning=tuning, top_n=config.top_n,
        rank=config.rank, alpha=config.alpha, dropout=dropout,
        projections=[name.strip() for name in config.projections.split(",")],
        max_length=config.max_length, precision=config.precision)
