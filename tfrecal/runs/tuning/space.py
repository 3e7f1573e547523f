"""What `tfrecal tune` searches: settings and the values they may have."""
from __future__ import annotations

import dataclasses
import math

from tfrecal.runs.config import RunConfig
from tfrecal.text.checkpoints import find_folder, read_architecture

# What may be searched; each after those that decide whether it counts.
SEARCHED = ("encoder", "tuning", "top_n", "rank", "alpha", "projections",
            "adversarial", "warm_up", "max_length", "precision",
            "encoder_learning_rate", "losses", "temperature", "dropout",
            "learning_rate", "batch_size", "final_epochs")
# Setting -> what others must be, where they are searched too, for it to count.
_ENCODER = {"encoder": lambda name: name != "none"}
_LORA = {**_ENCODER, "tuning": lambda name: name == "lora"}
_TRAINED = {**_ENCODER, "tuning": lambda name: name != "frozen"}
COUNTS = {
    "tuning": _ENCODER,
    "top_n": {**_ENCODER, "tuning": lambda name: name == "top_n"},
    "rank": _LORA, "alpha": _LORA, "projections": _LORA,
    "adversarial": {**_ENCODER, "tuning": lambda name: name == "full"},
    "warm_up": _TRAINED, "max_length": _ENCODER, "precision": _ENCODER,
    "encoder_learning_rate": _TRAINED,
    "temperature": {"losses": lambda names: "retrieval" in names}}


def default_space(config: RunConfig, data) -> dict:
    """What is searched by default: encoder, tuning, losses and the like.

    Without an encoder in the config, or without texts, no encoder is tried.
    `tuning="full"` is left out, for it costs far more than the others, but
    for an encoder without layers. ALBERT, whose layers are one, is searched
    with LoRA in place of its top layer.
    """
    losses = ["rating,retrieval", "rating,retrieval,pairwise",
              "rating,pairwise"]
    space = {"losses": [f"{names},search" for names in losses],
             "temperature": {"low": 0.3, "high": 3.0, "log": True},
             "dropout": {"low": 0.0, "high": 0.3}}
    if config.encoder != "none" and len(data.items.columns):
        kind = read_architecture(find_folder(config.encoder))
        space = {"encoder": [config.encoder, "none"],
                 "tuning": ["frozen", next(
                     way for way in ("top_n", "lora", "full")
                     if way in kind.tunings)], **space}
    return space


def types() -> dict[str, type]:
    """Setting -> type of its values."""
    known = {"int": int, "float": float}
    return {field.name: known.get(field.type.removesuffix(" | None"), str)
            for field in dataclasses.fields(RunConfig)}


def checked(space: dict, config: RunConfig) -> dict:
    """A space with values of the fields' types, deciding settings first.

    Raises:
        ValueError: a setting that cannot be searched, or a value that it
            cannot have.
    """
    wrong = sorted(set(space) - set(SEARCHED)) if isinstance(
        space, dict) else [space]
    if wrong or not space:
        raise ValueError(f"A space may hold {list(SEARCHED)}. Received: "
                         f"{wrong or 'none of them'}.")
    kinds = types()
    found = {name: _values(name, space[name], kinds[name])
             for name in SEARCHED if name in space}
    if "auto" in found.get("tuning", ()):
        raise ValueError("A search tries ways of tuning itself. Received: "
                         "tuning=\"auto\" in the space.")
    for name, given in found.items():
        # As it counts, where what decides that is searched too.
        beside = {
            parent: value for parent, fits in COUNTS.get(name, {}).items()
            for value in found.get(parent, ()) if fits(value)}
        ends = given if isinstance(given, list) else [
            given["low"], given["high"]]
        for value in ends:
            dataclasses.replace(config, **{**beside, name: value})
    return found


def _values(name, given, kind):
    """A list of values, or a range, as JSON keeps it."""
    if isinstance(given, list) and given:
        return [_one(name, value, kind) for value in given]
    if (isinstance(given, dict) and kind is not str
            and {"low", "high"} <= set(given) <= {"low", "high", "log"}):
        low, high = (_one(name, given[end], kind) for end in ("low", "high"))
        log = given.get("log", False)
        if low < high and log in (True, False) and (low > 0 or not log):
            return {"low": low, "high": high, "log": log}
    raise ValueError(
        "A setting to be searched must be a list of values"
        + (", or low and high (above 0 where log is true)"
           if kind is not str else "")
        + f". Received: {name}={given!r}.")


def _one(name, value, kind):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if (isinstance(value, str) if kind is str else number and math.isfinite(
            value) and kind(value) == value):
        return kind(value)
    raise ValueError(f"`{name}` must be searched over values of type "
                     f"{kind.__name__}. Received: {value!r}.")
