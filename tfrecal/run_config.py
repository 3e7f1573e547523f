"""RunConfig: everything that decides a run. Needs no TensorFlow."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tfrecal import acquisition

SPLITS = ("random", "temporal", "leave_last_n", "cold_users", "cold_items")
ORACLES = ("replay", "people")
LOSSES = ("rating", "retrieval", "pairwise", "search")


@dataclasses.dataclass
class RunConfig:
    """Everything that decides a run; stored as `config.json`.

    Args:
        data: name of a data set, or a CSV file of interactions.
        users, items: CSV files of the tables, where `data` is a file.
        bad_rows: of such files: `"raise"` refuses them, `"drop"` leaves them
            out and counts them.
        duplicates: rows of one pair: `"raise"`, or keep the `"first"` or
            `"last"` by time, or the `"mean"` label.
        split: `"random"` and `"temporal"` (80/10/10), `"leave_last_n"`,
            `"cold_users"` or `"cold_items"`; see `tfrecal.splits`.
        encoder: `"minilm"`, a folder, a Hugging Face name, or `"none"`.
        tuning: how much of the encoder is trained: `"frozen"`, `"top_n"`,
            `"full"`, `"lora"` or `"bitfit"`, see `TextEncoder`; `"auto"`
            tries them on the first labels and writes why into tuning.json.
        top_n: how many of its layers, with `"top_n"`.
        rank, alpha: of the updates, with `"lora"`.
        precision: of products with the encoder's weights: `"float32"`, or
            `"bfloat16"` where the processor has it.
        oracle: `"replay"` hides the log's labels and buys them back in
            rounds; `"people"` trains on all of them, and further pairs are
            asked with `tfrecal acquire` and answered with `tfrecal label`.
        strategy: name of an acquisition strategy.
        target_users, target_items: the audience, for strategies that know
            it: a query on the users or items table, such as `"age <= 21"`;
            by default the whole log.
        target_uniform: `"users"` or `"items"`, each of which then counts
            the same in the audience.
        initial: share (or number) of the pool that is labelled at first.
        batch: labels bought a round.
        rounds: of acquisition; one epoch each.
        final_epochs: epochs after the last round.
        budget: what all labels may cost, or None.
        cost: of a label.
        batch_size: rows of a training step.
        learning_rate: of all but the encoder.
        encoder_learning_rate: of what is trained of the encoder; by default
            `TwoTower.compile`'s.
        encoder_every: batches for one step of the encoder; see
            `TwoTower.compile`.
        dropout: share of the vector elements dropped in training.
        losses: comma-separated: `rating`, one or both of `retrieval` and
            `pairwise`, and `search`, which is left out without texts.
        temperature: divides the inner products of the retrieval loss.
        seed: of everything.
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
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self):
        for name in ("batch", "rounds", "batch_size", "learning_rate",
                     "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be a positive number. "
                                 f"Received: {name}={getattr(self, name)}.")
        for name, known in (("split", SPLITS), ("oracle", ORACLES),
                            ("strategy", acquisition.names())):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(known)}. Received: "
                    f"{name}={getattr(self, name)!r}.")
        if self.target_uniform not in (None, "users", "items"):
            raise ValueError("`target_uniform` must be users or items. "
                             f"Received: {self.target_uniform!r}.")
        for name in ("final_epochs", "cost", "dropout", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be 0 or more. "
                                 f"Received: {name}={getattr(self, name)}.")
        given = self.loss_names
        if not set(given) <= set(LOSSES) or "rating" not in given or not (
                {"retrieval", "pairwise"} & set(given)):
            raise ValueError(
                f"`losses` must be of {', '.join(LOSSES)}: rating, and "
                "retrieval or pairwise at least. Received: "
                f"losses={self.losses!r}.")
        if self.budget is not None and not self.budget > 0:
            raise ValueError("`budget` must be a positive number. "
                             f"Received: budget={self.budget}.")
        if not 0 < self.initial:
            raise ValueError(
                "`initial` must be above 0: the first epoch needs labels. "
                f"Received: initial={self.initial}.")

    @property
    def loss_names(self) -> list[str]:
        """The losses, each once."""
        given = [part.strip() for part in self.losses.split(",")]
        return list(dict.fromkeys(filter(None, given)))

    @property
    def epochs(self) -> int:
        """Epochs of the one `fit`."""
        return self.rounds + self.final_epochs

    @classmethod
    def from_file(cls, path) -> "RunConfig":
        """Reads a JSON file; unknown names are refused."""
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
