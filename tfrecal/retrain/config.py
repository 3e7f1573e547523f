"""RetrainConfig: everything that decides a retraining.

This module needs no TensorFlow.
"""
from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path

from tfrecal import checks
from tfrecal.checks import typed
from tfrecal.feedback.store.address import check_no_password
from tfrecal.files import replace_file

INDEXES = ("auto", "exact", "scann")
CORRECTIONS = ("none", "ips", "snips")


def _check_metric(metric: str) -> None:
    if metric not in ("list_dcg", "rmse") and not re.fullmatch(
            r"[a-z_]+@[1-9][0-9]*", metric):
        raise ValueError(
            "`metric` must be list_dcg, rmse, or one of the catalogue, such "
            f"as ndcg@10. Received: metric={checks.shown(metric)}.")


@typed.config
class RetrainConfig:
    """Everything that decides a retraining; stored as `config.json`.

    Args:
        run: folder of the run whose export was served first.
        to: base path of the served model, such as `models/recommender`.
        feedback: file or SQLAlchemy URL of the feedback store; by default
            the environment variable TFRECAL_FEEDBACK.
        spill: a folder in which logs without a store leave their rows
            (`FeedbackLog(None, spill)`); they are taken in first.
        users, items: files of the tables as they are today (CSV, TSV or
            Parquet, see `todays_tables`); rows of new ids join the model.
            Users of the feedback that are in no table join without columns,
            items do not.
        patience: seconds after which an item above a clicked one that got no
            response counts as a label 0 (labels of 0 and 1 only).
        holdout: share of the feedback, the newest, that judges the model
            and does not train it.
        passes, steps: training starts from the served weights, goes `passes`
            times over all labels and has at least `steps` steps.
        reset: whether to train from fresh weights, five times as long, this
            time.
        batch_size: rows of a training step.
        learning_rate: learning rate at the start, of all but the encoder.
        encoder_learning_rate, encoder_every: options of training the
            encoder, see `TwoTower.compile`.
        correction: how exposure bias is corrected. `"ips"` gives a row the
            inverse of the probability that its pair was shown and looked at
            as its weight, `"snips"` the self-normalised inverse, `"none"`
            no weight.
        clip: the largest weight of a row, with a correction.
        metric: the gate's metric, over users with held-out feedback; by
            default `"list_dcg"` for labels of 0 and 1, else `"rmse"`; see
            `judging.values`.
        position_bias: the probability that a place is looked at falls as
            rank ** -position_bias.
        tolerance: the loss that the gate accepts where it cannot tell, as a
            share of the served model's metric.
        least_users: the least number of users that the gate must have.
        force: whether to promote what the gate refuses, this time; the
            record says so.
        strategy: name of the acquisition strategy, which asks through
            exploration slots.
        questions: number of pairs that each retraining asks for, whatever
            its gate says; 0 asks nothing.
        expires: days after which a question without an answer is dropped.
        k: number of items that the export answers with.
        index: `"auto"`, `"exact"` or `"scann"`.
        target_recall: the recall that a ScaNN index must reach.
        server: the server binary that must be able to run the export.
        address: host:port of the server that must come to serve the
            version; by default the version is only written.
        model: the model's name on the server; by default that of the base
            path.
        timeout: seconds that the server has to load the version.
        seed: the seed of all random draws.
    """

    run: str = ""
    to: str = ""
    feedback: str | None = None
    spill: str | None = None
    users: str | None = None
    items: str | None = None
    patience: float = 3600.0
    holdout: float = 0.2
    passes: int = 2
    steps: int = 60
    reset: bool = False
    batch_size: int = 1024
    learning_rate: float = 5e-3
    encoder_learning_rate: float | None = None
    encoder_every: int = 20
    correction: str = "none"
    clip: float = 10.0
    metric: str | None = None
    position_bias: float = 1.0
    tolerance: float = 0.05
    least_users: int = 20
    force: bool = False
    strategy: str = "vopt"
    questions: int = 0
    expires: float = 7.0
    k: int = 20
    index: str = "auto"
    target_recall: float = 0.97
    server: str | None = None
    address: str | None = None
    model: str | None = None
    timeout: float = 120.0
    seed: int = 0

    _above_0 = typed.rule(
        checks.positive, "passes", "steps", "batch_size", "learning_rate",
        "encoder_learning_rate", "encoder_every", "clip", "least_users",
        "expires", "k", "timeout")
    _least_0 = typed.rule(
        functools.partial(checks.at_least, 0), "position_bias", "patience",
        "tolerance", "questions")
    _seed = typed.seed("seed")
    _holdout = typed.rule(
        functools.partial(checks.lies_in, "(0, 1)"), "holdout")
    _recall = typed.rule(
        functools.partial(checks.lies_in, "(0, 1]"), "target_recall")
    _index = typed.one_of(INDEXES, "index")
    _correction = typed.one_of(CORRECTIONS, "correction")
    _feedback = typed.rule(check_no_password, "feedback")
    _metric = typed.rule(_check_metric, "metric")

    def __post_init__(self):
        for name in ("run", "to"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` must be a folder. Received: "
                                 f"{name}={getattr(self, name)!r}.")

    def write(self, folder) -> None:
        """Stores the config as `config.json` of the loop's folder.

        `force` and `reset` are left out: they hold for one retraining.
        """
        kept = {**dataclasses.asdict(self), "force": False, "reset": False}
        replace_file(Path(folder) / "config.json", lambda path:
                     path.write_text(json.dumps(kept, indent=1), "utf-8"))

    @classmethod
    def from_folder(cls, folder, **changes) -> "RetrainConfig":
        """Reads the config that `write` stored, with changes.

        Raises:
            ValueError: the folder holds no config, or a wrong one.
        """
        path = Path(folder) / "config.json"
        try:
            values = checks.read_json(path, "The config of a loop")
        except ValueError as error:
            raise ValueError(
                f"{error} Bring it back from a copy, or remove it and give "
                "`tfrecal retrain` the loop's options anew.") from None
        return typed.from_json(cls, path, {**values, **changes})
