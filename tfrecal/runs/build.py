"""Builds a run from its config: data, split, pool and model."""
from __future__ import annotations

import dataclasses
import sys

import numpy as np
import tensorflow as tf
import tf_keras

from tfrecal import callbacks
from tfrecal.callbacks.learning_rate import FinalCosine
from tfrecal.data import splits
from tfrecal.data.interactions import Interactions
from tfrecal.files import damaged
from tfrecal.model.linear_block import BlockOptions
from tfrecal.model.tasks import NEGATIVES, default_tasks
from tfrecal.model.two_tower import TwoTower
from tfrecal.pool.pool import Pool
from tfrecal.pool.run_files import STATE, STATE_CURE
from tfrecal.pool.run_folder import AGAIN, RunFolder
from tfrecal.runs.config import RunConfig
from tfrecal.runs.data import load_split
from tfrecal.runs.encoders import (
    fine_tuned_weights,
    fixed_encoder,
    make_encoder,
)
from tfrecal.runs.plan import Plan, labelled_first, target_of
from tfrecal.scoring.rating_choice import choose_rating_l2
from tfrecal.scoring.ratings import can_solve


@dataclasses.dataclass
class Run:
    """A run that is built from its config and ready to train.

    Attributes:
        config: what decides the run, with all numbers (`Plan`).
        split: training, validation and test part of the data.
        pool: the pool over the training part.
        model: the compiled model.
        encoder: weights of the encoder's layers that were fine-tuned before
            training and stay fixed in it (`tuning="beeformer"`), or None.
    """

    config: RunConfig
    split: splits.Split
    pool: Pool
    model: TwoTower
    encoder: list[np.ndarray] | None = None

    def acquire(self, oracle, **options) -> callbacks.AcquireLabels:
        """Returns the callback that buys labels as the config says.

        Args:
            oracle: the `Oracle` that answers.
            **options: options of `AcquireLabels`, in place of the config's.
        """
        config = self.config
        return callbacks.AcquireLabels(
            self.pool, config.strategy, oracle, budget=config.budget,
            seed=config.seed, target=target_of(config, self.split.train),
            calibration=self.split.validation,
            **{"per_round": config.batch, **options})


def build(config: RunConfig, data: Interactions | None = None,
          warm: bool = True) -> Run:
    """Makes the split, the pool and the compiled model of a run.

    The seed of the config decides all random draws.

    Args:
        config: what decides the run.
        data: the data; None loads the config's.
        warm: whether to warm the encoder up if the config says so; not
            needed where stored weights are loaded next.
    """
    split = load_split(config, data)
    return assemble(Plan.of(config, split).config, split, warm)


def assemble(config: RunConfig, split: splits.Split, warm: bool = True,
             encoder: list[np.ndarray] | None = None) -> Run:
    """Makes the pool and the compiled model of a run.

    Args:
        config: what decides the run, as it was planned (`Plan`).
        split: the parts of its data.
        warm: see `build`.
        encoder: `Run.encoder` of the stored run; None fine-tunes the encoder
            on the first labels if the config says so.
    """
    tf_keras.utils.set_random_seed(config.seed)
    pool = first_pool(config, split)
    config = with_rating_l2(config, split, pool)
    mean = float(pool.label[pool.labelled_rows()].mean())
    fixed = None
    if config.tuning == "beeformer":
        if encoder is None:
            encoder = fine_tuned_weights(config, split.train, pool)
        fixed = fixed_encoder(config, encoder)
    model = make_model(config, split.train, mean, warm=warm, encoder=fixed)
    return Run(config, split, pool, model, encoder)


def with_rating_l2(config: RunConfig, split: splits.Split, pool=None,
                   quiet: bool = True) -> RunConfig:
    """Chooses `rating_l2` on the validation part, unless it is given.

    Args:
        config: the config, as it was planned.
        split: the parts of its data.
        pool: the pool that the run begins with, if it is made already.
        quiet: whether to print nothing.
    """
    if config.rating_l2 is not None or "rating" not in config.loss_names:
        return config
    choice = choose_rating_l2(
        first_pool(config, split) if pool is None else pool,
        split.validation, shrinkage=config.shrinkage, seed=config.seed)
    if not quiet:
        print(choice, file=sys.stderr)
    return dataclasses.replace(config, rating_l2=choice.l2)


def training_callbacks(config: RunConfig, model, pool, *, epochs=None,
                       acquire=None, share=None) -> list:
    """Returns the callbacks that decide how a config's model is trained.

    Args:
        config: the config, as it was planned.
        model, pool: what is trained, and on what.
        epochs: number of epochs of `fit`; None takes the config's.
        acquire: the `AcquireLabels` of the same `fit`, or None.
        share: see `SolveRatings`.
    """
    found = [FinalCosine(config.learning_rate, epochs or config.epochs,
                         config.decay_epochs, acquire)]
    if can_solve(model):
        found.append(callbacks.SolveRatings(pool, share=share))
    return found


def first_pool(config: RunConfig, split: splits.Split) -> Pool:
    """Makes the pool that a run begins with."""
    if config.oracle == "people":
        return Pool.cross(split.train, [split.validation, split.test])
    return Pool.from_interactions(
        split.train, labelled_first(config, len(split.train)),
        seed=config.seed)


def make_model(config: RunConfig, data: Interactions, mean: float,
               seed: int | None = None, warm: bool = False, encoder=None,
               **options) -> TwoTower:
    """Makes the config's model over tables, with fresh weights, compiled.

    Args:
        config: the config with the model's settings.
        data: the `Interactions` whose users and items it covers.
        mean: the mean of the known labels.
        seed: seed of the weights; None takes the config's.
        warm: whether to warm the encoder up if the config says so.
        encoder: the `TextEncoder`; None makes the config's.
        **options: options of `TwoTower.from_interactions`.
    """
    if encoder is None:
        encoder = make_encoder(config, data, warm)
    options.setdefault("linear_block", linear_block(config))
    if config.rating_l2 is not None:
        options["rating_l2"] = config.rating_l2
    model = TwoTower.from_interactions(
        data, encoder=encoder, dropout=config.dropout, mean=mean,
        shrinkage=config.shrinkage, retrieval_l2=config.retrieval_l2,
        text_scale=config.text_scale,
        tasks=default_tasks(
            data.scale, mean, encoder is not None, config.loss_names,
            config.temperature, config.loss_weights,
            NEGATIVES[config.query], lists=data.list_code is not None),
        query=config.query,
        seed=config.seed if seed is None else seed, **options)
    model.compile(learning_rate=config.learning_rate,
                  encoder_learning_rate=config.encoder_learning_rate,
                  encoder_every=config.encoder_every,
                  adversarial=config.adversarial if encoder else 0.0)
    return model


def linear_block(config: RunConfig) -> BlockOptions | None:
    """Returns the linear block that a config's model is trained with."""
    if not config.linear_block:
        return None
    return BlockOptions(**config.block_given)


def restore(folder: RunFolder) -> tuple[Run, dict]:
    """Builds a stored run as it was after its last whole epoch.

    Its config has been planned, perhaps by an earlier version, and holds.

    Returns:
        The run, and its state as `RunFolder.state` holds it.
    """
    config = RunConfig.from_file(folder.checked("config.json"))
    if config.rating_l2 is None:  # before it was chosen
        config = dataclasses.replace(config, rating_l2=0.1)
    encoder = folder.encoder() if config.tuning == "beeformer" else None
    built = assemble(config, load_split(config, folder.data()),
                     not folder.state, encoder)
    state = folder.state  # read again: a run under way may have gone on
    if state:
        built.pool = folder.pool(built.split.train)
        built.model.check_encoder(
            state.get("encoder", ""), folder.path)
        if "linear_block" in state:
            built.model.linear_block = _chosen_block(folder, state)
        weights = folder.weights()
        try:
            tf.train.Checkpoint(model=built.model).restore(
                str(weights)).expect_partial()
        # Damaged bytes raise errors of many classes in TensorFlow.
        except Exception as error:
            raise damaged(
                weights, "Weights must be those that the run has saved",
                f"which cannot be read: {error}", AGAIN) from error
    return built, state


def _chosen_block(folder, state) -> BlockOptions:
    chosen = state["linear_block"]
    try:
        return BlockOptions(**chosen)
    except (TypeError, ValueError) as error:
        raise damaged(
            folder / "state.json", STATE, f"with linear_block={chosen}",
            STATE_CURE) from error


def restore_trained(folder: RunFolder, purpose: str) -> Run:
    """Builds a stored run like `restore`, and requires a trained model.

    Args:
        folder: the run's folder.
        purpose: what needs the model, for the error.

    Returns:
        The run.

    Raises:
        ValueError: no epoch of the run has ended.
    """
    built, state = restore(folder)
    if not state:
        raise ValueError(
            f"{purpose} needs a trained model. Received: {folder.path}, "
            "whose first epoch never ended. Go on with "
            f"`tfrecal run --resume {folder.path}`.")
    return built
