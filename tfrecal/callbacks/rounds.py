"""Rounds: what to ask, what it may cost and what came back, round by round."""
from __future__ import annotations

import numpy as np

from tfrecal import acquisition, checks
from tfrecal.callbacks.buying import Buying
from tfrecal.callbacks.choosing import Choice, Chosen
from tfrecal.oracles import Questions
from tfrecal.scoring.scorer import PoolScorer

# What other workers must copy from the chief's callback.
_FOLLOWED = ("round", "first_round", "exhausted", "last_labels", "stopped")


class Rounds:
    """The rounds of a pool; `AcquireLabels` is the callback that runs them.

    It chooses through a `Choice`, buys through a `Buying`, and keeps what a
    resumed run and other workers must know. `AcquireLabels` explains the
    arguments.

    Attributes:
        round: number of the next round, counted over the life of the pool.
        exhausted: why nothing more can be bought; empty while it can.
        last_labels: epoch at whose end labels came last; -1 if none came.
        explanations: why the best pairs of each round were asked.
    """

    def __init__(self, pool, strategy, oracle, *,
                 per_round: int | None = None,
                 budget: float | None = None, rounds: int | None = None,
                 every: int = 1, target=None, calibration=None, prior=None,
                 expire_after: int | None = None,
                 candidates: int | str | None = None, passes: int = 10,
                 uncertainty: str = "dropout", journal=None, seed: int = 0,
                 verbose: int = 0, batch_size: int | None = None):
        super().__init__()
        if batch_size is not None:
            if per_round is not None:
                raise TypeError(
                    "`batch_size` is the old name of `per_round`. Received: "
                    f"per_round={per_round} and batch_size={batch_size}. "
                    "Leave `batch_size` out.")
            per_round = batch_size
        per_round = 1000 if per_round is None else per_round
        if isinstance(candidates, str) and candidates != "all":
            raise ValueError(
                "`candidates` must be a number, \"all\" or None. Received: "
                f"candidates={candidates!r}.")
        checks.positive(**checks.given(
            per_round=per_round, every=every, budget=budget, rounds=rounds,
            expire_after=expire_after,
            candidates=None if candidates == "all" else candidates))
        checks.one_of("uncertainty", uncertainty, ("dropout", "heads"))
        self.pool = pool
        self.strategy = (acquisition.get(strategy)
                         if isinstance(strategy, str) else strategy)
        self.oracle = oracle
        oracle.use_scale(pool.scale)
        self.per_round = per_round
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
        # Rounds are numbered over the life of a pool.
        self.round = self.first_round = pool.rounds
        self.exhausted = ""
        self.last_labels = -1
        self.stopped = ""
        self.explanations: list[dict] = []
        self._choice = Choice(self)
        self._buying = Buying(pool, oracle, journal)
        self._scorer = None

    @property
    def scorer(self) -> PoolScorer:
        """The `PoolScorer` of the model in training and the pool."""
        if self._scorer is None or self._scorer.model is not self.model:
            self._scorer = PoolScorer.of(self.model, self.pool)
        return self._scorer

    def check(self) -> None:
        """Raises an error where the model lacks what the strategy reads."""
        self.scorer.check()
        self._choice.check()

    def state(self) -> dict:
        """Returns what a resumed run needs; it can be written as JSON."""
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
        # Older run folders have no such entries.
        self.stopped = state.get("stopped", "")
        self.explanations = list(state.get("explanations", []))
        self.strategy.restore(state.get("strategy", {}))
        self._buying.restore(state)

    def stop(self, reason: str) -> None:
        """Ends buying, because of `reason`."""
        self.stopped = self.exhausted = reason

    @property
    def heard(self) -> int:
        """Records of the journal that are in the pool."""
        return self._buying.position

    def news(self, heard: int) -> dict:
        """Returns what happened since the record `heard`, for `follow`."""
        records = self._buying.journal.records[heard:self.heard]
        return {"records": records, **{
            name: getattr(self, name) for name in _FOLLOWED}}

    def follow(self, epoch: int, news: dict) -> None:
        """Does to this pool what another process did to its own.

        The journal is read as after a kill; the oracle is not asked. Call it
        in place of `on_epoch_end`.

        Args:
            epoch: the epoch that has ended.
            news: what `news` of the other process returned for it.
        """
        self._buying.journal.repeat(news["records"])
        self._buying.collect()
        self.expire(epoch)
        if self._buying.repeated(self.round):
            self._buying.collect()
        for name in _FOLLOWED:
            setattr(self, name, news[name])

    def expire(self, epoch: int) -> bool:
        """Returns whether a round is due; old questions expire for it."""
        due = (epoch + 1) % self.every == 0
        if due and self.expire_after is not None:
            self.pool.expire(self.round - self.expire_after + 1)
        return due

    def acquire(self, found: dict) -> None:
        """Runs one round, if anything can be bought.

        Args:
            found: numbers of the round for the logs; they are updated.
        """
        repeated = self._buying.repeated(self.round)
        if repeated:
            questions, why = repeated
            self.explanations += why
            self.round += 1
        else:
            self.exhausted = self.finished()
            chosen = None if self.exhausted else self.choose()
            if chosen is None or not len(chosen.user):
                return
            questions = self.ask(*chosen)
        found["mean_utility"] = float(np.mean(questions.utility))
        self._buying.tell(questions)
        self.collect(found)
        self.exhausted = self.finished()

    def finished(self) -> str:
        """Says why nothing more can be bought; empty while it can."""
        done = self.round - self.first_round
        if self.stopped:
            return self.stopped
        if self.rounds is not None and done >= self.rounds:
            return f"{self.rounds} rounds are done"
        if self.budget is not None and self.pool.spent >= self.budget:
            return f"the budget of {self.budget:g} is spent"
        return ""

    def choose(self) -> Chosen:
        """Returns the next picks; nothing is asked yet.

        Returns:
            `(user, item, utility, strategy)` arrays of one length. If it is
            0, `exhausted` says why.
        """
        chosen, why = self._choice.choose()
        self.exhausted = why or self.exhausted
        return chosen

    def ask(self, user, item, utility, strategy) -> Questions:
        """Marks picks as asked in the next round.

        Args:
            user, item, utility, strategy: as `choose` returns them.
        """
        chosen = Chosen(user, item, utility, strategy)
        why = self._choice.explanations(chosen)
        questions = self._buying.ask(chosen, self.round, why)
        self.explanations += why
        self.round += 1
        return questions

    def collect(self, found: dict) -> None:
        """Takes answers in and adds their numbers to `found`."""
        for name, number in self._buying.collect().items():
            found[name] += number
