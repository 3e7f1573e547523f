"""RunConfig: everything that decides a run. It needs no TensorFlow."""
from __future__ import annotations

import functools

from tfrecal import acquisition, checks
from tfrecal.checks import typed
from tfrecal.data.query import check_query
from tfrecal.runs.data import DataConfig
from tfrecal.text import options as encoder_options
from tfrecal.text.options import PRECISIONS

SPLITS = ("random", "temporal", "leave_last_n", "cold_users", "cold_items")
ORACLES = ("replay", "people")
TUNINGS = (*encoder_options.TUNINGS, "beeformer", "auto")
LOSSES = ("rating", "retrieval", "pairwise", "search", "in_list")

# Options of the linear block, each with `block_` before its name.
_OF_BLOCK = ("beta", "l2", "dropout", "text", "cosine", "rank", "popular")


def _check_losses(losses: str) -> None:
    given = set(typed.listed(losses))
    if not given <= set(LOSSES) or not {"retrieval", "pairwise"} & given:
        raise ValueError(
            f"`losses` must be of {', '.join(LOSSES)}: retrieval or pairwise "
            f"at least. Received: losses={checks.shown(losses)}.")


def _read_weights(weights: str) -> dict[str, float]:
    found = {}
    for part in filter(None, map(str.strip, weights.split(","))):
        name, _, number = part.partition("=")
        try:
            value = float(number)
        except ValueError as error:
            raise ValueError(
                "`weights` must be of the form name=number,name=number. "
                f"Received: {checks.shown(part)}.") from error
        if not 0 < value < float("inf") or name.strip() in found:
            raise ValueError(
                "`weights` must be finite numbers above 0, one a loss and "
                "each once; leave a loss out in `losses`. Received: "
                f"weights={checks.shown(weights)}.")
        found[name.strip()] = value
    return found


@typed.config
class RunConfig(DataConfig):
    """Everything that decides a run; stored as `config.json`.

    The fields of `DataConfig` come first.

    Args:
        validation, test: files of a validation and a test part of one's own,
            of users and items of `data` or of the tables. A part that is not
            given is cut from `data` by `split`.
        split: `"random"` and `"temporal"` (80/10/10), `"leave_last_n"`,
            `"cold_users"` or `"cold_items"`; see `tfrecal.splits`.
        encoder: `"minilm"`, a folder, a Hugging Face name, or `"none"`.
        tuning: how much of the encoder is trained: `"frozen"`, `"top_n"`,
            `"full"`, `"lora"` or `"bitfit"`, see `TextEncoder`;
            `"beeformer"` fine-tunes its top layers on the first labels'
            histories and then freezes it (`beeformer.fine_tune`); `"auto"`
            tries the first ones on the first labels and writes why into
            tuning.json.
        top_n: how many of its layers are trained, with `"top_n"` and
            `"beeformer"`.
        rank, alpha: rank and scale of the updates, with `"lora"`.
        projections: names of the projections that have an update,
            comma-separated; see `lora.LoRA`.
        max_length: tokens of a text that are read, special ones included.
        warm_up: epochs of SimCSE on the item texts before any label, with
            dropout 0.1 (`simcse.warm_up`); for an encoder that is trained
            in the run's `fit`.
        adversarial: length of FGM's step on the word embeddings, with
            `"full"`; 0 is none (`TwoTower.compile`).
        precision: precision of products with the encoder's weights:
            `"float32"`, or `"bfloat16"` where the processor has it.
        oracle: `"replay"` hides the log's labels and buys them back in
            rounds; `"people"` trains on all of them, and further pairs are
            asked with `tfrecal acquire` and answered with `tfrecal label`.
        strategy: name of an acquisition strategy.
        target_users, target_items: the audience, for strategies that know
            it: a query on the users or items table, such as `"age <= 21"`
            (see `tfrecal.data.query`); by default the whole log.
        target_uniform: `"users"` or `"items"`, each of which then counts
            the same in the audience.
        initial: share of the pool that is labelled at first, where 1 is all
            of it; a value above 1 is a number of labels.
        batch: labels bought in a round (`per_round` of `AcquireLabels`); by
            default such that all rounds together buy 60% of the pool, or
            what is left of it. The run's config.json has the number.
        rounds: number of rounds of acquisition; each takes one epoch. 0
            buys nothing and trains on what is labelled at first for
            `final_epochs` epochs: with `--initial 1`, on all of the log.
        final_epochs: epochs after the last round.
        budget: what all labels may cost, or None.
        cost: cost of a label.
        batch_size: rows of a training step; by default such that an epoch
            over all of the log takes 8 steps or more, from 128 to 1,024.
        learning_rate: learning rate of all but the encoder.
        encoder_learning_rate: learning rate of the encoder's trained
            weights; by default `TwoTower.compile`'s, with `"beeformer"`
            `fine_tune`'s.
        encoder_every: batches for one step of the encoder; see
            `TwoTower.compile`.
        dropout: share of the vector elements dropped in training.
        shrinkage: the L2 of a user or item is multiplied by 1 + shrinkage /
            labels, so that few labels move them less.
        rating_l2: L2 of the vectors and biases that predict labels; by
            default chosen on the validation part before training.
        retrieval_l2: L2 of the vectors that lists are made by.
        text_scale: scale of the text vectors beside those of ids.
        losses: comma-separated: one or both of `retrieval` and `pairwise`;
            `rating`, without which no labels are predicted; `search`,
            which is left out without texts; and `in_list`, which is left
            out where no row has a `list_id`.
        weights: loss weights, such as `retrieval=0.5,search=0.2`; the other
            losses keep theirs (`tfrecal.model.tasks`).
        temperature: divides the inner products of the retrieval loss.
        query: what stands for a user's history: the `"mean"` of its items,
            or a `"sequence"`, which reads them in their order
            (`SequenceQueryTower`).
        linear_block: whether a closed-form regression from histories stands
            beside the trained vectors in lists, see `model.linear_block`.
        block_beta: scale of the block's scores beside the trained ones; 0
            takes it out. Of `BlockOptions`, as those that follow; what is
            not given is chosen on the validation part when training ends.
        block_l2: ridge of the block's regression, in units of the data.
        block_dropout: dropout of the regression, from 0 to below 1; it is
            not chosen.
        block_text: weight of the kernel of the items' texts in it.
        block_cosine: weight of the cosines of texts beside it.
        block_rank: width of the block's vectors; it is not chosen.
        block_popular: weight of what most users like, for users who are
            known by a history only.
        history_decay: weight of an item of a history beside the next younger
            one, from above 0 to 1; chosen on the validation part if it is
            not given. A split by time tells it, a random one cannot.
        new_items: share of lists that items known by their text only may
            take: their norm beside that of items of few labels; 0 keeps
            them out.
        seed: the seed of all random draws.
    """

    validation: str | None = None
    test: str | None = None
    split: str = "random"
    encoder: str = encoder_options.ENCODER
    tuning: str = "top_n"
    top_n: int = 1
    rank: int = 8
    alpha: float = 16.0
    projections: str = "query,value"
    max_length: int = encoder_options.MAX_LENGTH
    warm_up: int = 0
    adversarial: float = 0.0
    precision: str = "float32"
    oracle: str = "replay"
    strategy: str = "vopt"
    target_users: str | None = None
    target_items: str | None = None
    target_uniform: str | None = None
    initial: float = 0.05
    batch: int | None = None
    rounds: int = 6
    final_epochs: int = 2
    budget: float | None = None
    cost: float = 1.0
    batch_size: int | None = None
    learning_rate: float = 5e-3
    encoder_learning_rate: float | None = None
    encoder_every: int = 20
    dropout: float = 0.05
    shrinkage: float = 40.0
    rating_l2: float | None = None
    retrieval_l2: float = 0.015
    text_scale: float = 0.1
    losses: str = "rating,retrieval,search,in_list"
    weights: str = ""
    temperature: float = 1.0
    query: str = "mean"
    linear_block: bool = True
    block_beta: float | None = None
    block_l2: float | None = None
    block_dropout: float | None = None
    block_text: float | None = None
    block_cosine: float | None = None
    block_rank: int | None = None
    block_popular: float | None = None
    history_decay: float | None = None
    new_items: float = 1.0
    seed: int = 0

    _above_0 = typed.rule(
        checks.positive, "batch", "batch_size", "learning_rate",
        "temperature", "budget", "encoder_learning_rate", "encoder_every",
        "rating_l2",
        "max_length", "top_n", "rank", "alpha", "block_rank")
    _initial = typed.rule(functools.partial(
        checks.positive, cure="The first epoch needs labels."), "initial")
    _least_0 = typed.rule(
        functools.partial(checks.at_least, 0), "rounds", "final_epochs",
        "cost", "warm_up", "adversarial", "shrinkage", "retrieval_l2",
        "text_scale")
    # The bounds of `BlockOptions`, which needs SciPy.
    _block = typed.rule(
        functools.partial(checks.lies_in, "[0, 1e+06]"), "block_beta",
        "block_text", "block_cosine", "block_popular", "new_items")
    _ridge = typed.rule(
        functools.partial(checks.lies_in, "(0, 1e+06]"), "block_l2")
    _dropout = typed.rule(
        functools.partial(checks.lies_in, "[0, 1)"), "dropout",
        "block_dropout")
    _decay = typed.rule(
        functools.partial(checks.lies_in, "(0, 1]"), "history_decay")
    _seed = typed.seed("seed")
    _split = typed.one_of(SPLITS, "split")
    _oracle = typed.one_of(ORACLES, "oracle")
    _tuning = typed.one_of(TUNINGS, "tuning")
    _query = typed.one_of(("mean", "sequence"), "query")
    _precision = typed.one_of(PRECISIONS, "precision")
    _strategy = typed.one_of(acquisition.names(), "strategy")
    _uniform = typed.one_of(("users", "items"), "target_uniform")

    _losses = typed.rule(_check_losses, "losses")
    _weights = typed.rule(_read_weights, "weights")
    _queries = typed.rule(check_query, "target_users", "target_items")

    def __post_init__(self):
        if not self.epochs:
            raise ValueError(
                "A run needs an epoch. Received: rounds=0 and final_epochs=0."
                " Give `--final-epochs 8`, such as for a log that is wholly "
                "labelled.")
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
            if self.warm_up and self.tuning in (
                    "frozen", "beeformer", "auto"):
                raise ValueError(
                    "`warm_up` needs an encoder that `fit` trains. Received: "
                    f"warm_up={self.warm_up} with tuning={self.tuning!r}. "
                    "Choose another `tuning`.")
        if not self.linear_block:
            given = sorted({
                name for name in (*(f"block_{one}" for one in _OF_BLOCK),
                                  "history_decay")
                if getattr(self, name) is not None}
                | ({"new_items"} if self.new_items != 1 else set()))
            if given:
                raise ValueError(
                    f"`{'`, `'.join(given)}` must come with a linear block. "
                    "Received: linear_block=False beside it. Leave one of "
                    "them out.")
        other = sorted(set(self.loss_weights) - set(self.loss_names))
        if other:
            raise ValueError(
                f"`weights` must be of the `losses`, {self.losses}. "
                f"Received: weights={checks.shown(self.weights)}.")

    @property
    def own_parts(self) -> dict[str, str]:
        """Part of the split -> the file that holds it, beside `data`."""
        return {name: path for name, path in (
            ("validation", self.validation), ("test", self.test))
            if path is not None}

    @property
    def block_given(self) -> dict[str, float]:
        """Options of the linear block that are given, not chosen."""
        given = {name: getattr(self, f"block_{name}")
                 for name in _OF_BLOCK}
        return checks.given(**given, decay=self.history_decay,
                            new_items=self.new_items)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Loss -> weight, for the losses that are given one."""
        return _read_weights(self.weights)

    @property
    def loss_names(self) -> list[str]:
        """The names of the losses, each once."""
        return typed.listed(self.losses)

    @property
    def epochs(self) -> int:
        """The number of epochs of the one `fit`."""
        return self.rounds + self.final_epochs

    @property
    def decay_epochs(self) -> int:
        """The number of last epochs over which the learning rate falls.

        They follow the rounds; without rounds they are the last quarter.
        """
        return self.final_epochs if self.rounds else max(
            1, self.final_epochs // 4)

    @classmethod
    def from_file(cls, path) -> "RunConfig":
        """Reads a JSON file.

        Raises:
            ValueError: it is no JSON file, or a value or a name is wrong.
        """
        return typed.from_json(cls, path, checks.read_json(path, "A config"))
