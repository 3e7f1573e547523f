"""RunConfig: everything that decides a run. It needs no TensorFlow."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tfrecal import acquisition, checks
from tfrecal.text import options as encoder_options
from tfrecal.text.options import PRECISIONS

SPLITS = ("random", "temporal", "leave_last_n", "cold_users", "cold_items")
ORACLES = ("replay", "people")
TUNINGS = (*encoder_options.TUNINGS, "auto")
LOSSES = ("rating", "retrieval", "pairwise", "search")


@dataclasses.dataclass
class RunConfig:
    """Everything that decides a run; stored as `config.json`.

    Args:
        data: name of a data set, or a CSV file of interactions.
        users, items: CSV files of the tables, where `data` is a file.
        bad_rows: what to do with bad rows of these files: `"raise"` refuses
            them, `"drop"` leaves them out and counts them.
        duplicates: what to do with several rows of one pair: `"raise"`, or
            keep the `"first"` or `"last"` by time, or the `"mean"` label.
        split: `"random"` and `"temporal"` (80/10/10), `"leave_last_n"`,
            `"cold_users"` or `"cold_items"`; see `tfrecal.splits`.
        encoder: `"minilm"`, a folder, a Hugging Face name, or `"none"`.
        tuning: how much of the encoder is trained: `"frozen"`, `"top_n"`,
            `"full"`, `"lora"` or `"bitfit"`, see `TextEncoder`; `"auto"`
            tries them on the first labels and writes why into tuning.json.
        top_n: how many of its layers are trained, with `"top_n"`.
        rank, alpha: rank and scale of the updates, with `"lora"`.
        projections: names of the projections that have an update,
            comma-separated; see `lora.LoRA`.
        max_length: tokens of a text that are read, special ones included.
        warm_up: epochs of SimCSE on the item texts before any label, with
            dropout 0.1 (`simcse.warm_up`); for an encoder that is trained.
        adversarial: length of FGM's step on the word embeddings, with
            `"full"`; 0 is none (`TwoTower.compile`).
        precision: precision of products with the encoder's weights:
            `"float32"`, or `"bfloat16"` where the processor has it.
        oracle: `"replay"` hides the log's labels and buys them back in
            rounds; `"people"` trains on all of them, and further pairs are
            asked with `tfrecal acquire` and answered with `tfrecal label`.
        strategy: name of an acquisition strategy.
        target_users, target_items: the audience, for strategies that know
            it: a query on the users or items table, such as `"age <= 21"`;
            by default the whole log.
        target_uniform: `"users"` or `"items"`, each of which then counts
            the same in the audience.
        initial: share of the pool that is labelled at first, where 1 is all
            of it; a value above 1 is a number of labels.
        batch: labels bought in a round (`per_round` of `AcquireLabels`).
        rounds: number of rounds of acquisition; each takes one epoch.
        final_epochs: epochs after the last round.
        budget: what all labels may cost, or None.
        cost: cost of a label.
        batch_size: rows of a training step.
        learning_rate: learning rate of all but the encoder.
        encoder_learning_rate: learning rate of the encoder's trained
            weights; by default `TwoTower.compile`'s.
        encoder_every: batches for one step of the encoder; see
            `TwoTower.compile`.
        dropout: share of the vector elements dropped in training.
        losses: comma-separated: `rating`, one or both of `retrieval` and
            `pairwise`, and `search`, which is left out without texts.
        weights: loss weights, such as `retrieval=0.5,search=0.2`; the other
            losses keep theirs (`tfrecal.model.tasks`).
        temperature: divides the inner products of the retrieval loss.
        seed: the seed of all random draws.
    """

    data: str = "ml-100k"
    users: str | None = None
    items: str | None = None
    bad_rows: str = "raise"
    duplicates: str = "raise"
    split: str = "random"
    encoder: str = "minilm"
    tuning: str = "top_n"
    top_n: int = 1
    rank: int = 8
    alpha: float = 16.0
    projections: str = "query,value"
    max_length: int = 64
    warm_up: int = 0
    adversarial: float = 0.0
    precision: str = "float32"
    oracle: str = "replay"
    strategy: str = "vopt"
    target_users: str | None = None
    target_items: str | None = None
    target_uniform: str | None = None
    initial: float = 0.05
    batch: int = 8000
    rounds: int = 6
    final_epochs: int = 2
    budget: float | None = None
    cost: float = 1.0
    batch_size: int = 1024
    learning_rate: float = 5e-3
    encoder_learning_rate: float | None = None
    encoder_every: int = 20
    dropout: float = 0.05
    losses: str = "rating,retrieval,search"
    weights: str = ""
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self):
        checks.positive(
            batch=self.batch, rounds=self.rounds, batch_size=self.batch_size,
            learning_rate=self.learning_rate, temperature=self.temperature,
            **checks.given(budget=self.budget, encoder_learning_rate=(
                self.encoder_learning_rate)))
        checks.positive(initial=self.initial,
                        cure="The first epoch needs labels.")
        for name, known in (("split", SPLITS), ("oracle", ORACLES),
                            ("tuning", TUNINGS), ("precision", PRECISIONS),
                            ("strategy", acquisition.names())):
            checks.one_of(name, getattr(self, name), known)
        checks.one_of("target_uniform", self.target_uniform,
                      (None, "users", "items"))
        checks.at_least(0, final_epochs=self.final_epochs, cost=self.cost,
                        dropout=self.dropout, seed=self.seed)
        given = self.loss_names
        if not set(given) <= set(LOSSES) or "rating" not in given or not (
                {"retrieval", "pairwise"} & set(given)):
            raise ValueError(
                f"`losses` must be of {', '.join(LOSSES)}: rating, and "
                "retrieval or pairwise at least. Received: "
                f"losses={self.losses!r}.")
        self._check_regularisation()

    def _check_regularisation(self) -> None:
        for name in ("warm_up", "adversarial"):
            value = getattr(self, name)
            if not 0 <= value < float("inf") or (
                    name == "warm_up" and value != int(value)):
                kind = "a whole" if name == "warm_up" else "a finite"
                raise ValueError(f"`{name}` must be {kind} number of 0 or "
                                 f"more. Received: {name}={value}.")
        if self.encoder != "none":
            if self.adversarial and self.tuning != "full":
                raise ValueError(
                    "`adversarial` moves word embeddings, which must be "
                    f"trained. Received: adversarial={self.adversarial} with "
                    f"tuning={self.tuning!r}. Choose `--tuning full`.")
            if self.adversarial and self.encoder_every != 1:
                raise ValueError(
                    "`adversarial` needs a step of the encoder each batch. "
                    f"Received: adversarial={self.adversarial} with "
                    f"encoder_every={self.encoder_every}. Give "
                    "`--encoder-every 1`.")
            if self.warm_up and self.tuning in ("frozen", "auto"):
                raise ValueError(
                    "`warm_up` needs an encoder that is trained. Received: "
                    f"warm_up={self.warm_up} with tuning={self.tuning!r}. "
                    "Choose another `tuning`.")
        other = sorted(set(self.loss_weights) - set(self.loss_names))
        if other:
            raise ValueError(
                f"`weights` must be of the `losses`, {self.losses}. "
                f"Received: weights={self.weights!r}.")

    @property
    def loss_weights(self) -> dict[str, float]:
        """Loss -> weight, for the losses that are given one."""
        found = {}
        for part in filter(None, map(str.strip, self.weights.split(","))):
            name, _, number = part.partition("=")
            try:
                value = float(number)
            except ValueError as error:
                raise ValueError(
                    "`weights` must be of the form name=number,name=number. "
                    f"Received: {part!r}.") from error
            if not 0 < value < float("inf") or name.strip() in found:
                raise ValueError(
                    "`weights` must be finite numbers above 0, one a loss "
                    "and each once; leave a loss out in `losses`. Received: "
                    f"weights={self.weights!r}.")
            found[name.strip()] = value
        return found

    @property
    def loss_names(self) -> list[str]:
        """The names of the losses, each once."""
        given = [part.strip() for part in self.losses.split(",")]
        return list(dict.fromkeys(filter(None, given)))

    @property
    def epochs(self) -> int:
        """The number of epochs of the one `fit`."""
        return self.rounds + self.final_epochs

    @classmethod
    def from_file(cls, path) -> "RunConfig":
        """Reads a JSON file; refuses unknown names."""
        try:
            values = dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError("A config must be a JSON file. Received: "
                             f"{path}: {error}") from error
        known = [f.name for f in dataclasses.fields(cls)]
        wrong = sorted(set(values) - set(known))
        if wrong:
            raise ValueError(f"A config may hold {known}. "
                             f"Received: {wrong} in {path}.")
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError("A config must hold numbers where they belong. "
                             f"Received: {path}: {error}.") from error
