"""Learner: one model that is trained again and again, for experiments."""
from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import tensorflow as tf

from tfrecal.callbacks import AcquireLabels, EvaluateRetrieval
from tfrecal.callbacks.learning_rate import RoundCosine
from tfrecal.metrics import weighted_auc
from tfrecal.model.tasks import default_tasks
from tfrecal.model.two_tower import TwoTower
from tfrecal.oracles import ReplayOracle
from tfrecal.scoring.graphs import ModelGraphs
from tfrecal.scoring.scorer import PoolScorer

# Each round trains each label at least twice, however many there are.
PASSES = 2


class Learner:
    """A model over one data set, for many runs.

    Each run starts from fresh weights, so runs do not depend on what the
    learner did before. A round is one epoch that goes on from the round
    before, the learning rate falls along a cosine in each: far cheaper than
    training from nothing (benchmarks/warm_start.py).

    Args:
        data: the `Interactions` whose tables the model covers.
        encoder: a frozen `TextEncoder`, or None.
        embedding_dim, dropout: see `TwoTower`.
        batch_size: rows of a step.
        first_steps: steps before anything is bought, at least.
        steps: of every other round, at least; both train each label twice.
        learning_rate: at the start of a round.
        passes: MC-dropout passes.
        make_model: `(data, seed, mean) -> model`, compiled, with fresh
            weights by the seed, `mean` of the known labels: any model that
            offers `model.protocol.Recommends`, a new one for each run. By
            default a `TwoTower`, which is traced once; `encoder`,
            `embedding_dim` and `dropout` are its options.
    """

    def __init__(self, data, encoder=None, *, embedding_dim: int = 32,
                 dropout: float = 0.1, batch_size: int = 512,
                 first_steps: int = 250, steps: int = 60,
                 learning_rate: float = 5e-3, passes: int = 10,
                 make_model: Callable | None = None):
        self.data = data
        self.encoder = encoder
        self.embedding_dim = embedding_dim
        self.dropout = dropout
        self.batch_size = batch_size
        self.first_steps = first_steps
        self.steps = steps
        self.learning_rate = learning_rate
        self.passes = passes
        self.make_model = make_model
        self.model = None

    def reset(self, pool, seed: int):
        """The model with fresh weights.

        Args:
            pool: of the run; the model starts from the mean of its labels.
            seed: of the weights.
        """
        mean = float(pool.label[pool.labelled_rows()].mean())
        if self.make_model is not None:
            # Whatever it keeps beside its weights starts anew with it.
            self._hold(self.make_model(self.data, seed, mean))
            return self.model
        fresh = self._two_tower(seed, mean)
        if self.model is None:
            # Graphs hold the seed of dropout: one for all runs.
            self._hold(self._two_tower(0, mean))
            self.model.compile(learning_rate=self.learning_rate)
        self.model.set_weights(fresh.get_weights())
        for variable in self.model.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        return self.model

    def _hold(self, model):
        """Its graphs too: each run has a pool, and so a scorer, of its own."""
        self.model, self._graphs = model, ModelGraphs.of(model)

    def _two_tower(self, seed: int, mean: float) -> TwoTower:
        return TwoTower.from_interactions(
            self.data, encoder=self.encoder, dropout=self.dropout,
            embedding_dim=self.embedding_dim, seed=seed,
            tasks=default_tasks(self.data.scale, mean), linear_block=None)

    def run(self, problem, strategy, *, rounds: int, batch: int, seed: int,
            draw: int = 0, **options) -> tuple[pd.DataFrame, AcquireLabels]:
        """Trains and acquires in one `fit`.

        Args:
            problem: a `scenarios.Problem`; its pool is used up.
            strategy: an `acquisition.Strategy` or its name.
            rounds: of acquisition.
            batch: labels bought a round.
            seed: of weights, order of rows and acquisition.
            draw: another number, other random acquisitions.
            **options: of `AcquireLabels`.

        Returns:
            the curve, one row a round: `bought`, `cost`, `seconds`,
            `acquire_seconds` and the metrics; and the callback.
        """
        pool = problem.pool
        model = self.reset(pool, seed)
        judge = Judge(problem)
        acquire = AcquireLabels(
            pool, strategy, ReplayOracle(problem.answers), per_round=batch,
            rounds=rounds, target=problem.target, passes=self.passes,
            calibration=problem.validation, seed=seed + 7919 * draw,
            **options)
        sequence = pool.sequence(
            self.batch_size, seed, steps=self.steps, passes=PASSES,
            first_steps=self.first_steps,
            **self._graphs.offers.sequence_options())
        # Plain Keras would shuffle batches by Python's global generator.
        history = model.fit(
            sequence, epochs=rounds + 1, verbose=0, shuffle=False,
            callbacks=[RoundCosine(self.learning_rate), judge, acquire]).history
        curve = judge.curve()
        # What a round bought was chosen at the end of the one before.
        spent = np.r_[0, np.cumsum(history["acquire_seconds"])[:-1]]
        curve.insert(4, "acquire_seconds", spent)
        curve.insert(4, "seconds", curve.pop("train_seconds") + spent)
        return curve, acquire

    def calibration(self, problem, bins: int = 10) -> pd.DataFrame:
        """How often test labels are positive, beside what was predicted.

        Probabilities are calibrated on the validation rows.

        Returns:
            one row a bin of equal width that is not empty: `labels` (in the
            pool), `bin` (mean predicted probability), `observed`, `count`.
        """
        pool, test = problem.pool, problem.test
        held_out = problem.validation
        view = PoolScorer.of(self.model, pool).view(
            test.user_code, test.item_code, {"probabilities"}, calibration=(
                held_out.user_code, held_out.item_code, held_out.label))
        predicted = view.probabilities[:, view.levels >= pool.positive].sum(1)
        good = test.label >= pool.positive
        place = np.minimum((predicted * bins).astype(int), bins - 1)
        count = np.bincount(place, minlength=bins)
        there = count > 0
        mean = [np.bincount(place, values, bins)[there] / count[there]
                for values in (predicted, good)]
        return pd.DataFrame({
            "labels": pool.counts["labelled"], "bin": mean[0],
            "observed": mean[1], "count": count[there]})


class Judge(EvaluateRetrieval):
    """The curve of a run on the test part: what was bought, how good it is.

    The curve is kept here and not written into `logs`, so that nothing in
    the run can choose by it.

    Beside the metrics of `EvaluateRetrieval`: `rmse_users` and `rmse_items`
    (for 0/1 labels `auc_users` and `auc_items`), in which every user or item
    of the test rows counts the same.
    """

    def __init__(self, problem):
        super().__init__(problem.pool, problem.test,
                         seen=problem.validation, every=1, part="test")
        self.rows: list[dict] = []
        self.initial = problem.pool.counts["labelled"]

    def on_train_begin(self, logs=None):
        self._training = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._training += time.perf_counter() - self._started
        labelled = self.pool.counts["labelled"]
        self.rows.append({
            "round": epoch, "labels": labelled,
            "bought": labelled - self.initial, "cost": self.pool.spent,
            "train_seconds": self._training, **self.evaluate(self.model)})

    def _label_metrics(self, loss, label, predicted):
        found = super()._label_metrics(loss, label, predicted)
        for side, codes in (("users", self.held_out.user_code),
                            ("items", self.held_out.item_code)):
            weight = 1 / np.bincount(codes)[codes]
            if loss == "mse":
                found[f"rmse_{side}"] = float(np.sqrt(np.average(
                    (label - predicted) ** 2, weights=weight)))
            else:
                found[f"auc_{side}"] = weighted_auc(label, predicted, weight)
        return found

    def curve(self) -> pd.DataFrame:
        """One row a round."""
        return pd.DataFrame(self.rows)
