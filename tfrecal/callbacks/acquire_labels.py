"""AcquireLabels: one round of active learning at the end of an epoch."""
from __future__ import annotations

import time

import numpy as np
import tf_keras

from tfrecal import acquisition
from tfrecal.callbacks.buying import Buying
from tfrecal.callbacks.choosing import Choice, Chosen
from tfrecal.oracles import Questions

# What other workers must know of the chief's callback.
_FOLLOWED = ("round", "first_round", "exhausted", "last_labels", "stopped")


class AcquireLabels(tf_keras.callbacks.Callback):
    """Scores the pool, chooses pairs, asks the oracle, takes answers in.

    The next epoch of the same `fit` trains on what came back, so `fit` must
    be given `pool.sequence(...)`. Writes `labelled`, `acquired`, `declined`,
    `pending`, `cost` (of all answers so far), `mean_utility` and
    `acquire_seconds` into `logs`, and what a strategy that adjusts itself
    (`acquisition.Chooser`) has to say.

    Args:
        pool: a `Pool`.
        strategy: an `acquisition.Strategy` or its name.
        oracle: an `oracles.Oracle`.
        batch_size: pairs asked a round.
        budget: what all answers of the pool may cost, those before this
            callback included, in the oracle's unit; the last batch is cut to
            fit. None for no limit.
        rounds: this callback buys at most so many rounds. None for no limit.
        every: epochs a round.
        target: a `Target`, the audience to be served, for strategies that
            know it; by default the pool.
        calibration: held-out `Interactions` on which probabilities are
            calibrated; by default the labelled rows.
        prior: domain knowledge: a function of `(user_ids, item_ids)` that
            returns a weight of 0 or more for each pair, or a list of them,
            whose weights are multiplied; see `tfrecal.pool.priors`.
        expire_after: rounds after which an unanswered question may be asked
            again; a late answer counts all the same. None for never.
        candidates: at most so many pairs are scored, drawn at random.
            `"all"` streams over every pair, for strategies that look at one
            pair at a time.
        passes: samples of the model, for strategies that read them.
        uncertainty: `"dropout"` or `"heads"`, see `PoolScorer.view`.
        journal: a `Journal` of this pool, in which questions and answers
            stand before they take effect, so that a killed and restored
            process neither asks twice nor loses an answer; see there for
            late, repeated and contradictory answers. None keeps one in
            memory only.
        seed: same seed, same acquisitions.
        verbose: 1 prints a line a round.
    """

    def __init__(self, pool, strategy, oracle, *, batch_size: int = 1000,
                 budget: float | None = None, rounds: int | None = None,
                 every: int = 1, target=None, calibration=None, prior=None,
                 expire_after: int | None = None,
                 candidates: int | str | None = None, passes: int = 10,
                 uncertainty: str = "dropout", journal=None, seed: int = 0,
                 verbose: int = 0):
        super().__init__()
        if isinstance(candidates, str) and candidates != "all":
            raise ValueError(
                "`candidates` must be a number, \"all\" or None. Received: "
                f"candidates={candidates!r}.")
        for name, value in (("batch_size", batch_size), ("every", every),
                            ("budget", budget), ("rounds", rounds),
                            ("expire_after", expire_after),
                            ("candidates", None if candidates == "all"
                             else candidates)):
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` must be a positive number. "
                                 f"Received: {name}={value}.")
        self.pool = pool
        self.strategy = (acquisition.get(strategy)
                         if isinstance(strategy, str) else strategy)
        self.oracle = oracle
        oracle.use_scale(pool.scale)
        self.batch_size = batch_size
        self.budget = budget
        self.rounds = rounds
        self.every = every
        self.target = target
        self.calibration = calibration
        self.prior = prior
        self.expire_after = expire_after
        self.candidates = candidates
        self.passes = passes
        self.uncertainty = uncertainty
        self.seed = seed
        self.verbose = verbose
        # Rounds are numbered through the life of a pool.
        self.round = self.first_round = pool.rounds
        self.exhausted = ""
        self.last_labels = -1
        self.stopped = ""
        self.explanations: list[dict] = []
        self._choice = Choice(self)
        self._buying = Buying(pool, oracle, journal)

    def state(self) -> dict:
        """What a resumed run needs, JSON-able."""
        return {"round": self.round, "first_round": self.first_round,
                "exhausted": self.exhausted, "stopped": self.stopped,
                "last_labels": self.last_labels,
                "explanations": self.explanations,
                "strategy": self.strategy.state(), **self._buying.state()}

    def restore(self, state: dict) -> None:
        """Continues from what `state` returned."""
        self.round = state["round"]
        self.first_round = state["first_round"]
        self.exhausted = state["exhausted"]
        self.last_labels = state["last_labels"]
        # Runs of before these existed have none.
        self.stopped = state.get("stopped", "")
        self.explanations = list(state.get("explanations", []))
        self.strategy.restore(state.get("strategy", {}))
        self._buying.restore(state)

    def stop(self, reason: str) -> None:
        """Buys nothing more, because of `reason`."""
        self.stopped = self.exhausted = reason

    @property
    def heard(self) -> int:
        """Records of the journal that are in the pool."""
        return self._buying.position

    def news(self, heard: int) -> dict:
        """What happened since the record `heard`, for `follow`; JSON-able."""
        records = self._buying.journal.records[heard:self.heard]
        return {"records": records, **{
            name: getattr(self, name) for name in _FOLLOWED}}

    def follow(self, epoch: int, news: dict) -> None:
        """Does to this pool what another process did to its own.

        The journal is read as after a kill; the oracle hears of nothing.

        Args:
            epoch: that has ended.
            news: of the other process for this epoch, in place of
                `on_epoch_end`.
        """
        self._buying.journal.repeat(news["records"])
        self._buying.collect()
        self._expire(epoch)
        if self._buying.repeated(self.round):
            self._buying.collect()
        for name in _FOLLOWED:
            setattr(self, name, news[name])

    def on_train_begin(self, logs=None):
        if not self.pool.sequences:
            raise ValueError(
                "`AcquireLabels` needs a training set that grows with the "
                "pool. Received: a `fit` without `pool.sequence(...)`. "
                "Call `model.fit(pool.sequence(batch_size=1024), ...)`; a "
                "`tf.data.Dataset` would keep its first length.")

    def on_epoch_begin(self, epoch, logs=None):
        self._due = self.pool.rows_an_epoch
        if self._due is None:
            self._due = self.pool.counts["labelled"]
        # A second `fit` counts its epochs from 0 again.
        self.last_labels = min(self.last_labels, epoch - 1)

    def on_epoch_end(self, epoch, logs=None):
        logs = {} if logs is None else logs
        self._check_rows(logs)
        started = time.perf_counter()
        found = {"acquired": 0, "declined": 0, "mean_utility": np.nan}
        asked = self.round
        self._collect(found)
        if self.budget is not None and found["declined"]:
            # What was set aside for them can be spent after all.
            self.exhausted = self._finished()
        if self._expire(epoch):
            found.update(self.strategy.observe(
                logs, self.pool.labelled_by()))
            self._acquire(found)
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

    def _expire(self, epoch) -> bool:
        """Whether a round is due, for which old questions expire."""
        due = (epoch + 1) % self.every == 0
        if due and self.expire_after is not None:
            self.pool.expire(self.round - self.expire_after + 1)
        return due

    def _check_rows(self, logs):
        trained = logs.get("rows")
        if trained is not None and int(trained) != self._due:
            raise RuntimeError(
                "Every labelled row must be trained in each epoch. Received: "
                f"{int(trained)} rows trained where {self._due} are due. "
                "Pass `pool.sequence(...)` to `fit`, without "
                "`steps_per_epoch`.")

    def _acquire(self, found):
        repeated = self._buying.repeated(self.round)
        if repeated:
            questions, why = repeated
            self.explanations += why
            self.round += 1
        else:
            self.exhausted = self._finished()
            chosen = None if self.exhausted else self.choose()
            if chosen is None or not len(chosen.user):
                return
            questions = self.ask(*chosen)
        found["mean_utility"] = float(np.mean(questions.utility))
        self._buying.tell(questions)
        self._collect(found)
        self.exhausted = self._finished()

    def _finished(self) -> str:
        """Why nothing more can be bought, or an empty string."""
        done = self.round - self.first_round
        if self.stopped:
            return self.stopped
        if self.rounds is not None and done >= self.rounds:
            return f"{self.rounds} rounds are done"
        if self.budget is not None and self.pool.spent >= self.budget:
            return f"the budget of {self.budget:g} is spent"
        return ""

    def choose(self) -> Chosen:
        """The next batch; nothing is asked yet.

        Returns:
            `(user, item, utility, strategy)` arrays of one length. Where it
            is 0, `exhausted` says why.
        """
        chosen, why = self._choice.choose()
        self.exhausted = why or self.exhausted
        return chosen

    def ask(self, user, item, utility, strategy) -> Questions:
        """Marks what was chosen as asked, as the next round."""
        chosen = Chosen(user, item, utility, strategy)
        why = self._choice.explanations(chosen)
        questions = self._buying.ask(chosen, self.round, why)
        self.explanations += why
        self.round += 1
        return questions

    def _collect(self, found):
        for name, number in self._buying.collect().items():
            found[name] += number
