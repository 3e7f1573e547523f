"""Configs: dataclasses whose values are checked, by pydantic.

A wrong type, an unknown name and a number out of range end in one message
that names each wrong option and what arrived.
"""
from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pydantic
from pydantic import dataclasses as checked_dataclasses
from typing_extensions import dataclass_transform

from tfrecal import checks
from tfrecal.checks.words import did_you_mean, is_text, shown

Class = TypeVar("Class")
LARGEST = 2 ** 63 - 1
_KINDS = {"int_type": "a whole number", "float_type": "a number",
          "string_type": "text", "bool_type": "true or false",
          "tuple_type": "two numbers", "missing": "two numbers",
          "too_long": "two numbers"}
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_TYPES = {"int": int, "float": float, "str": str, "bool": bool}


@dataclass_transform()
def config(cls: type[Class]) -> type[Class]:
    """Makes a class of lines `name: type = default` a checked dataclass.

    A type is `int`, `float`, `bool`, `str` or `tuple[float, float]`, or one
    of them `| None`. True
    and False are no numbers; a whole float, such as 2.0, is a whole number,
    because JSON writers write it; paths are text, and numbers of NumPy are
    numbers. Numbers are finite, and whole ones have at most 64 bits. What
    else must hold of one value is a `rule`; what must hold of several is
    checked in `__post_init__`.

    Example:
        @typed.config
        class Tea:
            cups: int = 1
            _above_0 = typed.rule(checks.positive, "cups")
    """
    cls._bounded = pydantic.field_validator("*")(staticmethod(_bounded))
    cls = checked_dataclasses.dataclass(cls, config=pydantic.ConfigDict(
        strict=True, extra="forbid"))
    types = {field.name: field.type for field in dataclasses.fields(cls)}
    make = cls.__init__

    @functools.wraps(make)
    def __init__(self, *positional, **named):
        if len(positional) > len(types):
            raise TypeError(f"{cls.__name__} takes {len(types)} options. "
                            f"Received: {len(positional)}.")
        named = {**dict(zip(types, positional)), **named}
        values = {name: _plain(value, types.get(name, ""))
                  for name, value in named.items()}
        try:
            make(self, **values)
        except pydantic.ValidationError as error:
            raise ValueError(_message(error, types)) from None

    cls.__init__ = __init__
    return cls


def rule(check: Callable, *names: str):
    """Returns a rule of a config: `check(name=value)` for these options.

    The value has the option's type, and None is not checked.

    Args:
        check: one of `checks`, or alike; it raises ValueError.
        names: names of options.
    """
    def holds(value, info):
        if value is not None:
            check(**{info.field_name: value})
        return value

    return pydantic.field_validator(*names)(staticmethod(holds))


def one_of(choices, *names: str):
    """Returns a rule of a config: these options are one of the choices."""
    def check(**values):
        for name, value in values.items():
            checks.one_of(name, value, choices)

    return rule(check, *names)


def seed(*names: str):
    """Returns a rule of a config: these options seed NumPy and TensorFlow."""
    return rule(functools.partial(checks.lies_in, "[0, 4294967295]"), *names)


def listed(text: str) -> list[str]:
    """Returns the comma-separated names of an option, each once."""
    return list(dict.fromkeys(filter(None, map(str.strip, text.split(",")))))


def options(kinds: dict[str, str], values: dict) -> dict:
    """Checks options of a function, as `config` checks those of a class.

    Args:
        kinds: name -> type as it is written: `"int"`, `"float | None"`.
            Options of other types are left out.
        values: the given options.

    Returns:
        The options.

    Raises:
        ValueError: an option is wrong; the message names each one.
    """
    types = {name: _TYPES[kind.removesuffix(" | None")]
             for name, kind in kinds.items()
             if kind.removesuffix(" | None") in _TYPES}
    model = pydantic.create_model(
        "Options", __config__=pydantic.ConfigDict(
            strict=True, extra="forbid", protected_namespaces=()),
        __validators__={
            "bounded": pydantic.field_validator("*")(staticmethod(_bounded))},
        **{name: (kind | None if " | None" in kinds[name] else kind, None)
           for name, kind in types.items()})
    try:
        found = model.model_validate({
            name: _plain(value, kinds.get(name, ""))
            for name, value in values.items()})
    except pydantic.ValidationError as error:
        raise ValueError(_message(error, types)) from None
    return {name: getattr(found, name) for name in values}


def from_json(cls: type[Class], path, values: dict) -> Class:
    """Makes a config of the values of a file.

    Raises:
        ValueError: a value is wrong; the message names the file.
    """
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{error} The file is {path}.") from None


def _plain(value, kind: str):
    """Returns a value in Python's own type, if it is one of the same kind."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike) and kind.startswith("str"):
        return os.fspath(value)
    if isinstance(value, float) and kind.startswith("int") and (
            value.is_integer()):
        return int(value)
    if isinstance(value, list) and kind.startswith("tuple"):
        return tuple(value)
    return value


def _bounded(value, info):
    if isinstance(value, tuple):
        for one in value:
            _bounded(one, info)
    if isinstance(value, float):
        checks.finite(**{info.field_name: value})
    if isinstance(value, int) and abs(value) > LARGEST:
        raise ValueError(f"`{info.field_name}` must have at most 64 bits. "
                         f"Received: {info.field_name}={shown(value)}.")
    if isinstance(value, str) and ("\0" in value or not is_text(value)):
        raise ValueError(f"`{info.field_name}` must be text. Received: "
                         f"{info.field_name}={shown(value)}.")
    return value


def _message(error: pydantic.ValidationError, known) -> str:
    """Returns one sentence for each wrong option."""
    said, far = [], False
    for one in error.errors(include_url=False):
        # In one line, whatever letters a name from a file has.
        name = shown(str(one["loc"][0]))[1:-1] if one["loc"] else ""
        received = f"Received: {name}={shown(one['input'])}"
        if one["type"] == "value_error":
            said.append(str(one["ctx"]["error"]))
        elif one["type"] in _UNKNOWN:
            near = did_you_mean(name, known)
            far = far or not near
            said.append(f"There is no option `{name}`. {received}"
                        f"{near or '.'}")
        else:
            kind = _KINDS.get(one["type"], "valid")
            said.append(f"`{name}` must be {kind}. {received}.")
    if far:
        said.append(f"The options are {', '.join(known)}.")
    return " ".join(said)
