"""ComparisonConfig: everything that decides a comparison.

This module needs no TensorFlow.
"""
from __future__ import annotations

import functools
import json
import re
from pathlib import Path

from tfrecal import acquisition, checks
from tfrecal.acquisition import Strategy
from tfrecal.checks import typed
from tfrecal.data.query import check_query
from tfrecal.runs.data import DataConfig

BASELINE = "random"
# What config.json holds beside the config.
BESIDE = ("primary", "make_model", "fingerprint")


@typed.config
class ComparisonConfig(DataConfig):
    """Everything that decides a comparison; stored as `config.json`.

    The fields of `DataConfig` come first.

    Args:
        encoder: `"minilm"`, a folder, a Hugging Face name, or `"none"`. The
            encoder is not trained.
        scenarios: comma-separated names, see `tfrecal.compare.scenarios`.
        strategies: comma-separated names; options follow a colon, such as
            `core_set:batch=power;max_per_user=5`. The baseline `random` is
            added.
        segment: a query on the users table, for the scenario `segment`.
        seeds: number of paired seeds.
        first_seed: the lowest seed; take other seeds than those with which
            anything was tuned.
        draws: number of runs of the baseline for each seed.
        rounds: number of rounds of acquisition.
        budget: share of the labels that can be bought.
        steps: training steps of a round.
        first_steps: training steps before the first round.
        batch_size: rows of a training step.
        embedding_dim: width of a vector block.
        learning_rate: learning rate at the start of a round.
        dropout: share of the vector elements dropped in training.
        passes: number of MC-dropout passes.
        category: column of the items table that the report groups by.
    """

    encoder: str = "minilm"
    scenarios: str = "standard"
    strategies: str = "target_matched,vopt"
    segment: str | None = None
    seeds: int = 8
    first_seed: int = 0
    draws: int = 2
    rounds: int = 6
    budget: float = 0.5
    steps: int = 60
    first_steps: int = 250
    batch_size: int = 512
    embedding_dim: int = 32
    learning_rate: float = 1e-2
    dropout: float = 0.1
    passes: int = 10
    category: str | None = None

    _above_0 = typed.rule(
        checks.positive, "rounds", "steps", "first_steps",
        "batch_size", "embedding_dim", "learning_rate", "passes")
    _seeds = typed.rule(functools.partial(
        checks.lies_in, "[2, 10000]",
        cure="A comparison needs at least two paired seeds; ten tell real "
        "differences from noise."), "seeds")
    _draws = typed.rule(
        functools.partial(checks.lies_in, "[1, 10000]"), "draws")
    _first = typed.seed("first_seed")
    _budget = typed.rule(functools.partial(
        checks.lies_in, "(0, 1]",
        cure="It is a share of the labels that can be bought."), "budget")
    _dropout = typed.rule(
        functools.partial(checks.lies_in, "[0, 1)"), "dropout")
    _queries = typed.rule(check_query, "segment")

    def __post_init__(self):
        if not self.scenario_names:
            raise ValueError("`scenarios` must name one or more. Received: "
                             f"scenarios={checks.shown(self.scenarios)}.")
        for label in self.labels:
            strategy(label)

    @classmethod
    def from_folder(cls, folder) -> "ComparisonConfig":
        """Reads the config of a comparison that was begun.

        Raises:
            ValueError: the folder holds no comparison.
        """
        path = Path(folder) / "config.json"
        if not path.is_file():
            raise ValueError(
                "A comparison folder must hold config.json. Received: "
                f"{folder}, which has none.")
        values = checks.read_json(path, "The config of a comparison")
        for name in BESIDE:
            values.pop(name, None)
        return typed.from_json(cls, path, values)

    @property
    def labels(self) -> list[str]:
        """The labels of the strategies, the baseline first, each once."""
        return list(dict.fromkeys(
            [BASELINE, *typed.listed(self.strategies)]))

    @property
    def scenario_names(self) -> list[str]:
        """The names of the scenarios, each once."""
        return typed.listed(self.scenarios)


def strategy(label: str) -> Strategy:
    """Makes the strategy that a label names.

    Args:
        label: `name` or `name:option=value;option=value`; values are JSON or
            plain words.

    Raises:
        ValueError: there is no such strategy or option.
    """
    name, _, rest = label.partition(":")
    if not re.fullmatch(r"[\w:;=.+-]+", label):
        raise ValueError(
            "A strategy is written name:option=value;option=value. "
            f"Received: {checks.shown(label)}.")
    options = {}
    for part in filter(None, rest.split(";")):
        key, equals, value = part.partition("=")
        if not equals or key in options:
            raise ValueError(
                "An option of a strategy is written option=value, once. "
                f"Received: {checks.shown(part)} in {checks.shown(label)}.")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    kinds = acquisition.options_of(name)
    if "strategies" in kinds and name not in acquisition.names():
        raise ValueError(
            "A strategy that is made of others cannot be written as a label. "
            f"Received: {checks.shown(label)}. Choose one of "
            f"{', '.join(acquisition.names())}.")
    try:
        return acquisition.get(name, **typed.options(kinds, options))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error} The strategy is {checks.shown(label)}."
                         ) from None
