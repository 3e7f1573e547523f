"""What `tfrecal tune` searches: settings and the values they may have."""
from __future__ import annotations

import dataclasses
import math

from tfrecal import checks
from tfrecal.runs.config import RunConfig
from tfrecal.text.checkpoints import architecture_of

# Settings that may be searched; each comes after those that decide whether it
# counts.
SEARCHED = ("encoder", "tuning", "top_n", "rank", "alpha", "projections",
            "adversarial", "warm_up", "max_length", "precision",
            "encoder_learning_rate", "losses", "temperature", "dropout",
            "learning_rate", "batch_size", "final_epochs")
# Setting -> what others must be for it to count, where they are searched too.
_ENCODER = {"encoder": lambda name: name != "none"}
_LORA = {**_ENCODER, "tuning": lambda name: name == "lora"}
_TRAINED = {**_ENCODER, "tuning": lambda name: name != "frozen"}
COUNTS = {
    "tuning": _ENCODER,
    "top_n": {**_ENCODER,
              "tuning": lambda name: name in ("top_n", "beeformer")},
    "rank": _LORA, "alpha": _LORA, "projections": _LORA,
    "adversarial": {**_ENCODER, "tuning": lambda name: name == "full"},
    "warm_up": {**_ENCODER, "tuning": lambda name: name not in (
        "frozen", "beeformer")},
    "max_length": _ENCODER, "precision": _ENCODER,
    "encoder_learning_rate": _TRAINED,
    "temperature": {"losses": lambda names: "retrieval" in names}}


def default_space(config: RunConfig, data) -> dict:
    """Returns what is searched by default: encoder, tuning, losses and more.

    Without an encoder in the config, or without texts, no encoder is tried.
    `tuning="full"` is tried only for an encoder without layers, because
    otherwise it costs far more than the others. ALBERT, whose layers share
    their weights, is searched with LoRA in place of its top layer.
    """
    losses = ["rating,retrieval", "rating,retrieval,pairwise",
              "rating,pairwise"]
    if "rating" not in config.loss_names:  # of positives only
        losses = ["retrieval"]
    more = ",search"
    if "in_list" in config.loss_names and data.list_code is not None:
        more += ",in_list"
    space = {"losses": [names + more for names in losses],
             "temperature": {"low": 0.3, "high": 3.0, "log": True},
             "dropout": {"low": 0.0, "high": 0.3}}
    if config.encoder != "none" and len(data.items.columns):
        kind = architecture_of(config.encoder)
        space = {"encoder": [config.encoder, "none"],
                 "tuning": ["frozen", next(
                     way for way in ("top_n", "lora", "full")
                     if way in kind.tunings)], **space}
    return space


def types() -> dict[str, type]:
    """Returns setting -> type of its values."""
    known = {"int": int, "float": float}
    return {field.name: known.get(field.type.removesuffix(" | None"), str)
            for field in dataclasses.fields(RunConfig)}


def checked(space: dict, config: RunConfig) -> dict:
    """Checks a space; returns it with values of the fields' types.

    Settings that decide whether others count come first.

    Raises:
        ValueError: a setting cannot be searched, or cannot have a value.
    """
    if not isinstance(space, dict) or not space:
        raise ValueError(f"A space may hold {list(SEARCHED)}. Received: "
                         f"{checks.shown(space) if space else 'none of them'}"
                         ".")
    wrong = [name for name in space if name not in SEARCHED]
    if wrong:
        raise ValueError(
            f"A space may hold {list(SEARCHED)}. Received: "
            f"{checks.shown(wrong)}"
            f"{checks.did_you_mean(str(wrong[0]), SEARCHED) or '.'}")
    kinds = types()
    found = {name: _checked_values(name, space[name], kinds[name])
             for name in SEARCHED if name in space}
    if "auto" in found.get("tuning", ()):
        raise ValueError("A search tries ways of tuning itself. Received: "
                         "tuning=\"auto\" in the space.")
    for name, given in found.items():
        # Each value is checked beside settings with which it counts.
        beside = {
            parent: value for parent, fits in COUNTS.get(name, {}).items()
            for value in found.get(parent, ()) if fits(value)}
        ends = given if isinstance(given, list) else [
            given["low"], given["high"]]
        for value in ends:
            dataclasses.replace(config, **{**beside, name: value})
    return found


def _checked_values(name, given, kind):
    """Returns a list of values, or a range, as JSON keeps it."""
    if isinstance(given, list) and given:
        return [_checked_value(name, value, kind) for value in given]
    if (isinstance(given, dict) and kind is not str
            and {"low", "high"} <= set(given) <= {"low", "high", "log"}):
        low, high = (_checked_value(name, given[end], kind)
                     for end in ("low", "high"))
        log = given.get("log", False)
        if low < high and isinstance(log, bool) and (low > 0 or not log):
            return {"low": low, "high": high, "log": log}
    raise ValueError(
        "A setting to be searched must be a list of values"
        + (", or low and high (above 0 where log is true)"
           if kind is not str else "")
        + f". Received: {name}={checks.shown(given)}.")


def _checked_value(name, value, kind):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    try:
        if (isinstance(value, str) if kind is str else number
                and math.isfinite(value) and kind(value) == value):
            return kind(value)
    except OverflowError:
        pass
    raise ValueError(f"`{name}` must be searched over values of type "
                     f"{kind.__name__}. Received: {checks.shown(value)}.")
