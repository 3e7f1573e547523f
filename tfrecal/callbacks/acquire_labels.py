"""AcquireLabels: one round of active learning at the end of an epoch."""
from __future__ import annotations

import time

import numpy as np
import tf_keras

from tfrecal.callbacks.rounds import Rounds


class AcquireLabels(Rounds, tf_keras.callbacks.Callback):
    """Scores the pool, chooses pairs, asks the oracle and takes its answers.

    The next epoch of the same `fit` trains on the new labels, so `fit` must be
    given `pool.sequence(...)`. The callback writes `labelled`, `acquired`,
    `declined`, `pending`, `cost` (of all answers so far), `mean_utility` and
    `acquire_seconds` into `logs`, and the numbers of a strategy that adjusts
    itself (`acquisition.Chooser`).

    Args:
        pool: a `Pool`.
        strategy: an `acquisition.Strategy` or its name.
        oracle: an `oracles.Oracle`.
        per_round: pairs asked in a round; 1,000 by default.
        budget: what all answers of the pool may cost, with those before this
            callback, in the oracle's unit; the picks of the last round are
            cut to fit. None for no limit.
        rounds: most rounds that this callback buys. None for no limit.
        every: epochs from one round to the next.
        target: a `Target`, the audience to be served, for strategies that
            read it; by default the pool.
        calibration: held-out `Interactions` on which probabilities are
            calibrated; by default the labelled rows.
        prior: domain knowledge: a function of `(user_ids, item_ids)` that
            returns a factor of 0 or more for each pair, or a list of such
            functions, whose factors are multiplied; see
            `tfrecal.pool.priors`.
        expire_after: rounds after which an unanswered question may be asked
            again; a late answer still counts. None for never.
        candidates: most pairs that are scored; they are drawn at random.
            `"all"` streams over every pair, for strategies that look at one
            pair at a time. None for all pairs of the pool, or 200,000 of a
            lazy one.
        passes: number of samples of the model, for strategies that read
            them.
        uncertainty: `"dropout"` or `"heads"`, see `PoolScorer.view`.
        journal: a `Journal` of this pool. Questions and answers are written
            there before they take effect, so that a killed and restored
            process neither asks twice nor loses an answer. None keeps one
            in memory only.
        seed: the same seed gives the same acquisitions.
        verbose: 1 prints a line for each round.
        batch_size: the old name of `per_round`.

    Raises:
        TypeError, ValueError: an option is out of range; or, when `fit`
            begins, the model does not offer what the strategy reads (see
            `model.protocol`), embeds the pool's ids wrongly, or trains on
            something that cannot grow.
    """

    _begun = False  # whether `fit` has come to its first epoch

    def on_train_begin(self, logs=None):
        if not self.pool.sequences:
            raise ValueError(
                "`AcquireLabels` needs a training set that grows with the "
                "pool. Received: a `fit` without `pool.sequence(...)`. "
                "Call `model.fit(pool.sequence(batch_size=1024), ...)`; a "
                "`tf.data.Dataset` would keep its first length.")
        self.check()
        self._begun = False

    def on_epoch_begin(self, epoch, logs=None):
        if not self._begun:
            self._begun = True
            self._check_backup(epoch)
        # A second `fit` counts its epochs from 0 again.
        self.last_labels = min(self.last_labels, epoch - 1)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        self._check_rows(logs)
        started = time.perf_counter()
        found = {"acquired": 0, "declined": 0, "mean_utility": np.nan}
        asked = self.round
        self.collect(found)
        if self.budget is not None and found["declined"]:
            # What they might have cost can be spent now.
            self.exhausted = self.finished()
        if self.expire(epoch):
            found.update(self.strategy.observe(
                logs, self.pool.labelled_by()))
            self.acquire(found)
        if found["acquired"]:
            self.last_labels = epoch
        logs.update(found, labelled=self.pool.counts["labelled"],
                    pending=self.pool.pending, cost=self.pool.spent,
                    acquire_seconds=time.perf_counter() - started)
        news = self.round > asked or found["acquired"] or found["declined"]
        if self.verbose and news:
            print(f" - round {self.round}: {found['acquired']} labels by "
                  f"{self.strategy.name}, {logs['labelled']} in all, cost "
                  f"{logs['cost']:g}")

    def _check_rows(self, logs):
        """Raises RuntimeError where `fit` did not train on all labels."""
        sequences = self.pool.sequences
        if "rows" in logs:  # a `TwoTower` counts them
            trained = {int(logs["rows"])}
        else:
            trained = {min(one.fetched, one.num_rows) for one in sequences}
        due = {one.num_rows for one in sequences}
        if due and not trained & due:
            raise RuntimeError(
                "Every labelled row must be trained in each epoch. Received: "
                f"{max(trained)} rows trained where {min(due)} are due. Pass "
                "`pool.sequence(...)` to `fit`, without `steps_per_epoch`.")

    def _check_backup(self, epoch):
        """Raises ValueError where Keras goes on and the pool begins anew."""
        backed_up = getattr(self.model, "_training_state", None) is not None
        if backed_up and epoch and not self.pool.rounds and (
                epoch >= self.every):
            raise ValueError(
                "Weights and pool must be of one moment. Received: "
                f"`BackupAndRestore` goes on at epoch {epoch}, and the pool "
                "has not been asked once: labels that were paid before would "
                "be asked and paid again. Use `SavePool`, whose folder holds "
                "the pool too, in place of `BackupAndRestore`; `tfrecal run "
                "--resume` goes on from it.")
