"""retrain: feedback -> labels -> fit -> gate -> export -> promotion."""
from __future__ import annotations

import sys
import time
from pathlib import Path

import tf_keras

from tfrecal import callbacks
from tfrecal.callbacks.learning_rate import RoundCosine
from tfrecal.export.export_model import without_advice
from tfrecal.feedback import FeedbackUnavailable
from tfrecal.feedback.log.delivery import take_spilled
from tfrecal.feedback.oracle import FeedbackOracle
from tfrecal.metrics import off_policy
from tfrecal.pool.journal import Journal
from tfrecal.pool.target import Target
from tfrecal.retrain import gate, judging, models, records
from tfrecal.retrain.config import RetrainConfig
from tfrecal.retrain.loop import Loop
from tfrecal.retrain.material import Material, NothingNew, gather
from tfrecal.retrain.todays_tables import TablesWrong, read_without_erased
from tfrecal.scoring.ratings import can_solve

# How much longer training from fresh weights takes (benchmarks/retrain.py).
RESET = 5


def retrain(folder, config: RetrainConfig | None = None, *,
            now: float | None = None, quiet: bool = False) -> dict:
    """Retrains a served model from its feedback, once.

    A retraining that was killed is done again on the same feedback, under
    the same number, before a new one begins.

    Args:
        folder: the loop's folder.
        config: what to do; it is stored in the folder. None takes the
            stored one.
        now: seconds since the epoch; None takes the clock's time.
        quiet: whether to print nothing.

    Returns:
        The record, as the feedback store keeps it: `run_id`, `outcome`
        ("promoted", "refused" or "failed"), `reason`, `version`, `counts`,
        `gate`, `off_policy`, `seconds`.

    Raises:
        TablesWrong: a table of today does not fit the served ones; this is
            known before anything is trained or written.
        ValueError: no new feedback, nothing is served, or a file of the
            loop is damaged.
    """
    loop = Loop(folder, config)
    loop.check()  # before anything is written
    with loop.lock():
        # TensorFlow warns because each model traces its graphs anew.
        with loop.store() as store, without_advice():
            if loop.config.spill:
                take_spilled(store, loop.config.spill)
            return _Retraining(
                loop, store, time.time() if now is None else now,
                quiet).run()


class _Retraining:
    """One retraining, which goes on from where a kill left it.

    `runs/<run id>/record.json` says which feedback and which version it
    starts from, and, from the export on, what the gate found.
    """

    def __init__(self, loop: Loop, store, now: float, quiet: bool):
        self.loop, self.config, self.quiet = loop, loop.config, quiet
        self.store = store
        self.started, self.read_at = time.perf_counter(), time.time()
        version, origin = loop.served()
        loop.check_owner(store, origin)
        self.record = {"until": self.store.latest(), "now": now,
                       "base_version": version, "base_run": origin,
                       "force": self.config.force,
                       "reset": self.config.reset,
                       "options": self.loop.options(),
                       "started": time.time()}
        retrainings = self.store.retrainings()
        begun = retrainings[retrainings["outcome"] == "running"]
        self.run_id = int(begun["run_id"].iloc[-1]) if len(begun) else None
        if len(begun):
            owner = records.of_row(
                next(begun.tail(1).itertuples()), store.url).get("loop")
            if owner not in (None, loop.name):
                raise ValueError(
                    "One loop at a time may retrain from a feedback store. "
                    f"Received: retraining {self.run_id} of {owner}, which "
                    f"has not ended, beside {loop.name}. Let that one end, "
                    "or give each model a store of its own. If that is this "
                    f"loop, bring back {loop.folder / 'name'}.")
        if self.run_id is not None:
            self.record.update(self.loop.kept(self.run_id))
        until = self.record["until"]
        self.feedback = store.shown(until=until), store.responses(
            until=until)

    @property
    def _folder(self) -> Path:
        return self.loop.of_run(self.run_id)

    def say(self, text):
        if not self.quiet:
            print(text, flush=True)

    def run(self) -> dict:
        if self.run_id is not None:
            done = self.loop.exported(
                self.run_id, self.record["base_version"])
            if done is not None:
                self._store_config()
                return self._promote(done)
        origin = models.Origin(self.config.run)
        served, tables, _ = self.loop.load(origin, self.record["base_run"])
        try:
            material = self._material(origin, tables)
            if self.run_id is None:
                self._refuse_again()
            self._store_config()
            if self.run_id is None:
                self.run_id = self.store.begin_retraining(
                    self.record["base_version"], {"loop": self.loop.name})
            self.record["loop"] = self.loop.name
            self.loop.keep(self.run_id, self.record)
            self.record["counts"] = material.counts
            self.record["scale"] = list(map(float, material.train.scale))
            self.say(f"retraining {self.run_id} of version "
                     f"{self.record['base_version']}: "
                     f"{material.counts['new_pairs']:,} new labels, of which "
                     f"{material.counts['held_out']:,} judge")
            refusal = self._candidate(origin, served, material)
            if refusal:
                return self._finish("refused", refusal)
            version = self._export(material)
        except (FeedbackUnavailable, TablesWrong):
            raise  # the retraining stays open; the next call ends it
        except (ValueError, OSError) as error:
            if self.run_id is not None:
                self._finish("failed", str(error))
            raise
        return self._promote(version)

    def _store_config(self) -> None:
        self.config.write(self.loop.folder)

    def _refuse_again(self) -> None:
        """Raises ValueError where the same feedback was refused before.

        Another draw on the same feedback could pass by luck.
        """
        retrainings = self.store.retrainings()
        last = (records.of_row(next(retrainings.tail(1).itertuples()))
                if len(retrainings) else {})
        same = ("until", "base_version", "options")
        if (not self.record["force"] and len(retrainings)
                and retrainings["outcome"].iloc[-1] == "refused"
                and all(last.get(name) == self.record[name]
                        for name in same)):
            raise NothingNew(
                "A retraining needs new feedback. Received: what retraining "
                f"{retrainings['run_id'].iloc[-1]} was refused on: "
                f"{retrainings['reason'].iloc[-1]}. Wait for more, or give "
                "--force.")

    def _material(self, origin, tables) -> Material:
        config = self.config
        before = self.loop.until(self.store, self.record["base_run"])
        shown, responses = self.feedback
        today, erased, self._forget = read_without_erased(
            self.store, config, origin, tables, before)
        material = gather(
            origin.labels, tables, responses, shown, served_until=before,
            now=self.record["now"], holdout=config.holdout,
            patience=config.patience, users=today.users, items=today.items,
            erased=erased)
        self.feedback = material.shown, material.responses
        for note in today.notes + material.notes:
            self.say(note)
        return material

    def _candidate(self, origin, served, material) -> str:
        """Trains the candidate; returns why it may not be served, or ""."""
        config = self.config
        few = gate.too_few(material.held_out.frame["user_id"].nunique(),
                           config.least_users)
        if few and not self.record["force"]:
            return few
        pool = material.pool(material.train)
        seed = config.seed + self.run_id
        model = (origin.fresh(material.train, seed, warm=True)
                 if self.record["reset"] else
                 models.grown(origin, served, material.train, seed,
                              self._forget))
        began = time.perf_counter()
        self._fit(model, pool, material, seed)
        self.record["fit_seconds"] = round(time.perf_counter() - began, 3)
        before = served, material.pool(material.before)
        binary = tuple(map(float, material.train.scale)) == (0.0, 1.0)
        metric = config.metric or ("list_dcg" if binary else "rmse")
        verdict = gate.judge(
            *judging.values(
                before, (model, pool), material, *self.feedback,
                metric=metric, position_bias=config.position_bias,
                clip=config.clip),
            metric="negative rmse" if metric == "rmse" else metric,
            tolerance=config.tolerance,
            least=config.least_users, seed=seed)
        self.record["gate"] = verdict.to_dict()
        self.record["off_policy"] = judging.estimate(
            model, pool, material, *self.feedback, k=config.k,
            clip=config.clip, seed=seed)
        self.record["fingerprint"] = material.train.fingerprint()
        self.record["reason"] = verdict.reason
        self.made = model, pool, {metric: abs(verdict.candidate)}
        if verdict.passed:
            return ""
        if not self.record["force"]:
            return verdict.reason
        self.record["reason"] = f"forced, although {verdict.reason}"
        return ""

    def _export(self, material) -> int:
        """Stores the candidate and exports it; returns the version."""
        model, pool, found = self.made
        if any(until >= self.read_at for until in self.store.erased(
                material.train.users.index).values()):
            raise OSError(
                "A retraining must know all erasures. Received: a user who "
                "was erased while it ran. Retrain again.")
        models.save_model(
            model, pool, material.train, self._folder, self.loop.name)
        self.loop.keep(self.run_id, self.record)
        return self.loop.export(
            model, pool, self.run_id, metrics=found,
            fingerprint=self.record["fingerprint"])

    def _fit(self, model, pool, material, seed):
        config = self.config
        model.compile(learning_rate=config.learning_rate,
                      encoder_learning_rate=config.encoder_learning_rate,
                      encoder_every=config.encoder_every,
                      adversarial=model.adversarial)
        weights = None
        if config.correction != "none":
            frame = material.train.frame
            # A pair is seen if it was shown and looked at.
            seen = frame["propensity"] * frame["rank"] ** (
                -config.position_bias)
            weights = off_policy.training_weights(
                seen, config.clip, config.correction == "snips")
        longer = RESET if self.record["reset"] else 1
        watch = [RoundCosine(config.learning_rate)]
        if can_solve(model):
            watch.append(callbacks.SolveRatings(pool, row_weights=weights))
        if config.questions:
            watch.append(self._acquire(pool, material, seed))
        tf_keras.utils.set_random_seed(seed)
        history = model.fit(
            pool.sequence(
                config.batch_size, seed, steps=longer * config.steps,
                passes=longer * config.passes, row_weights=weights),
            epochs=1, callbacks=watch, verbose=int(
                not self.quiet and sys.stdout.isatty())).history
        self.record["asked"] = int(history.get("pending", [0])[0])

    def _acquire(self, pool, material, seed):
        """Returns the callback that asks through exploration slots.

        Its audience are the users and items of the held-out feedback.
        """
        config = self.config
        # The clock stands at the start, however often it was killed since.
        oracle = FeedbackOracle(
            self.store, config.expires * 86_400, config.strategy,
            clock=lambda: self.record["started"])
        oracle.use_scale(material.train.scale)
        waiting = oracle.waiting(self.record["until"])
        # Questions that this retraining asked before a kill may be repeated.
        waiting = waiting[waiting["asked"] < self.record["started"]]
        pool.exclude(*material.train.codes(
            waiting["user_id"], waiting["item_id"]))
        return callbacks.AcquireLabels(
            pool, config.strategy, oracle, per_round=config.questions,
            rounds=1, seed=seed, calibration=material.held_out,
            journal=Journal(self._folder / "journal.jsonl"),
            target=Target.from_interactions(material.held_out))

    def _promote(self, version: int) -> dict:
        wrong = self.loop.promote(version)
        if wrong:
            self.record["version"] = None
            return self._finish("failed", wrong)
        self.record["version"] = version
        return self._finish("promoted", self.record["reason"])

    def _finish(self, outcome: str, reason: str) -> dict:
        self.record["seconds"] = round(
            time.perf_counter() - self.started, 3)
        if outcome != "failed":
            self.store.mark_used(self.run_id, until=self.record["until"])
        self.store.finish_retraining(
            self.run_id, outcome=outcome, reason=reason,
            version=self.record.get("version"), record=self.record)
        self.say(f"{outcome}: {reason}")
        return {**self.record, "run_id": self.run_id, "outcome": outcome,
                "reason": reason}
