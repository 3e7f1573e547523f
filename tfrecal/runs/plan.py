"""Plan: what a run is going to do, said before it starts; no TensorFlow."""
from __future__ import annotations

import dataclasses
import math
import sys

from tfrecal import acquisition
from tfrecal.data.splits import Split
from tfrecal.data.templates import check_texts
from tfrecal.pool.positives import default_positive
from tfrecal.pool.target import Target
from tfrecal.runs.config import RunConfig

#: Share of the pool that all rounds together buy where `batch` is not given:
#: 6 rounds of 8,000 of MovieLens-100K's 80,000 pairs.
BOUGHT = 0.6
#: Questions of `tfrecal acquire` where `batch` is not given and the run
#: itself buys nothing.
QUESTIONS = 100
_STEPS = 8  # of an epoch over the whole log, at least
# What a strategy reads of predicted labels.
_LABELS = {"mean", "probabilities", "samples", "sample_probabilities"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """The config of a run with all of its numbers, and the plan in words.

    Attributes:
        config: the `RunConfig`; `batch` and `batch_size` are numbers. A
            plan of it is itself.
        lines: what the run is going to do.
        notes: what it does otherwise than the config says, and why.
    """

    config: RunConfig
    lines: list[str]
    notes: list[str]

    def __str__(self) -> str:
        return "\n".join([*self.notes, *self.lines])

    def say(self, quiet: bool = False) -> None:
        """Prints the plan on stderr, or its notes only."""
        for line in [*self.notes, *([] if quiet else self.lines)]:
            print(line, file=sys.stderr)

    @classmethod
    def of(cls, config: RunConfig, split: Split,
           asks: bool = False) -> "Plan":
        """Makes the plan of a run on its data.

        Rounds buy `BOUGHT` of the pool together if `batch` is not given. A
        log whose labels are all alike holds no questions: all of it is
        trained on at once, without the losses that need two kinds of labels.

        Args:
            config: the config as given.
            split: the parts of its data.
            asks: whether somebody else than the log answers, so that labels
                of the log that are all alike tell nothing of the answers.

        Raises:
            ValueError: nothing can be learned or asked, the audience is
                empty, or the encoder has no texts to read.
        """
        check_texts(config.encoder, split.train.items)
        _check_fine_tuning(config, split.train.items)
        label = split.train.label
        alike = label.min() == label.max() and not asks
        if alike and label[0] < default_positive(split.train.scale):
            raise ValueError(
                "A run learns from positives. Received: "
                f"{len(label):,} rows to train on, all with label="
                f"{label[0]:g} on a scale of {split.train.scale[0]:g} to "
                f"{split.train.scale[1]:g}. Bring rows that people liked.")
        config = _with_batch_size(config, len(label))
        if config.oracle == "people":
            return cls(_with_batch(config, QUESTIONS), [
                f"all {len(label):,} pairs are labelled: "
                f"{counted(config.epochs, 'epoch')}; people are asked with "
                "`tfrecal acquire` afterwards"], [])
        plan = cls(config, [], [])
        if alike:
            plan = _without_questions(plan, len(label))
        _check_strategy(plan.config)
        target_of(config, split.train)
        return _with_rounds(plan, len(label))


def counted(number: int, noun: str) -> str:
    """Returns a number and its noun: "1 round", "2,000 rounds"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def labelled_first(config: RunConfig, size: int) -> int:
    """Returns how many pairs of a pool are labelled at first.

    Args:
        config: the run's config.
        size: number of pairs in the pool.
    """
    if config.initial > 1:
        return int(config.initial)
    # A small share of a small pool is a label still.
    return max(1, int(round(config.initial * size)))


def target_of(config: RunConfig, traffic) -> Target | None:
    """Returns the audience that a config names, or None without one.

    Args:
        config: the run's config.
        traffic: `Interactions` of its training part.

    Raises:
        ValueError: nothing of the traffic belongs to the audience.
    """
    if config.target_users or config.target_items:
        return Target.segment(
            traffic, users=config.target_users, items=config.target_items,
            uniform=config.target_uniform)
    if config.target_uniform:
        return Target.from_interactions(
            traffic, uniform=config.target_uniform)
    return None


def _check_fine_tuning(config, items) -> None:
    """Raises ValueError where there is no text to fine-tune on."""
    if config.tuning == "beeformer" and (
            config.encoder == "none" or not len(items.columns)):
        raise ValueError(
            "`--tuning beeformer` fine-tunes an encoder on the items' texts. "
            f"Received: encoder={config.encoder!r} and {len(items.columns)} "
            "columns of items. Bring texts and an `--encoder`, or choose "
            "another `--tuning`.")


def _with_batch_size(config, size: int):
    """Returns a config whose `batch_size` is a number, a power of two."""
    if config.batch_size is not None:
        return config
    fitting = 1 << max(0, int(size / _STEPS).bit_length() - 1)
    return dataclasses.replace(
        config, batch_size=min(max(fitting, 128), 1024))


def _with_batch(config, number):
    return config if config.batch is not None else dataclasses.replace(
        config, batch=number)


def _without_questions(plan: Plan, size: int) -> Plan:
    """Returns the plan of a run on positives only."""
    config = plan.config
    losses = [name for name in config.loss_names
              if name not in ("rating", "pairwise", "in_list")]
    if "retrieval" not in losses:
        losses.append("retrieval")
    weights = ",".join(f"{name}={value!r}" for name, value
                       in config.loss_weights.items() if name in losses)
    changed = dataclasses.replace(
        config, rounds=0, final_epochs=config.epochs, initial=1.0,
        losses=",".join(losses), weights=weights)
    if changed == config:
        return plan
    return Plan(changed, [], [
        f"all rows ({size:,}) are positives, so there is nothing to ask: "
        "trains on all of them with --rounds 0 --initial 1 --losses "
        f"{changed.losses}, which predicts lists and no labels",
        "further labels come from people (--oracle people, then `tfrecal "
        "acquire`) or from a served model (`tfrecal feedback`)"])


def _check_strategy(config) -> None:
    """Raises ValueError where the strategy reads labels nobody predicts."""
    needs = acquisition.get(config.strategy).needs & _LABELS
    if config.rounds and needs and "rating" not in config.loss_names:
        raise ValueError(
            f"The strategy `{config.strategy}` reads predicted labels, which "
            f"need the loss `rating`. Received: losses={config.losses!r}. "
            "Add rating to `--losses`, or choose another `--strategy`.")


def _with_rounds(plan: Plan, size: int) -> Plan:
    """Returns the plan with a `batch` that fits a pool of `size` pairs."""
    config = plan.config
    first = labelled_first(config, size)
    if config.initial > 1 and first > size - bool(config.rounds):
        raise ValueError(
            "`initial` must be a share, or a number of rows up to "
            f"{size:,}, and leave some to ask. Received: initial="
            f"{config.initial:g}. Give a smaller `--initial`, or `--initial 1 "
            "--rounds 0` to train on all.")
    free = size - first
    end = counted(config.final_epochs, (
        "more epoch" if config.rounds else "epoch"))
    if not config.rounds or not free:
        lines = [f"{first:,} of {size:,} pairs labelled, nothing is bought: "
                 f"{end}"]
        if free:
            lines.append("--initial 1 trains on all pairs")
        return Plan(_with_batch(config, QUESTIONS), lines, plan.notes)
    config = _with_batch(config, max(1, min(
        round(BOUGHT * size / config.rounds), free // config.rounds)))
    return Plan(config, [
        f"{counted(config.rounds, 'round')} of {config.batch:,} out of "
        f"{size:,} pairs, {first:,} labelled first, {end}"],
        [*plan.notes, *_short_of(config, free)])


def _short_of(config, free: int) -> list[str]:
    """Says why a run buys less than asked: it has `free` pairs to buy.

    Raises:
        ValueError: the budget pays for nothing.
    """
    paid = _paid(config)
    if paid < 1:
        raise ValueError(
            "`budget` must pay for a label. Received: budget="
            f"{config.budget:g} with cost={config.cost:g}. Give a larger "
            "`--budget`, or `--initial 1 --rounds 0` to train on all.")
    if config.rounds * config.batch <= min(free, paid):
        return []
    number = min(free, paid)
    why = ("the pool holds only" if free <= paid else
           f"the budget of {config.budget:g} pays for only")
    return [f"{why} {counted(number, 'label')} to buy: "
            + counted(math.ceil(number / config.batch), "round")]


def _paid(config):
    """Returns how many labels the budget pays for."""
    if config.budget is None or not config.cost:
        return math.inf
    paid = config.budget / config.cost * (1 + 1e-9)
    return paid if paid == math.inf else int(paid)
