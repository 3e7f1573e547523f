"""What must hold of an argument?

Each function takes arguments by their names, and one that does not hold ends
in an error of one form. Numbers are those of Python and NumPy; a bool is
none. Infinity is a number; `finite` refuses it.
"""
from __future__ import annotations

import math
from numbers import Integral, Real


def positive(*, cure: str = "", **values) -> None:
    """Checks that numbers are above 0.

    Args:
        cure: a sentence to end the message with.
        values: what was given, by the names of the arguments.

    Raises:
        TypeError: a value is no number.
        ValueError: a value is NaN, or out of range.

    Example:
        checks.positive(budget=budget, cure="Labels are paid from it.")
    """
    for name, value in values.items():
        _check(name, value, "must be a positive number", cure,
               lambda number: number > 0)


def finite(*, cure: str = "", **values) -> None:
    """Checks that numbers are neither NaN nor infinite; see `positive`."""
    for name, value in values.items():
        _check(name, value, "must be a finite number", cure, math.isfinite)


def at_least(least, *, cure: str = "", **values) -> None:
    """Checks that numbers are `least` or more; see `positive`."""
    for name, value in values.items():
        _check(name, value, f"must be at least {least}", cure,
               lambda number: number >= least)


def whole(least: int, *, cure: str = "", **values) -> None:
    """Checks that whole numbers are `least` or more; see `positive`.

    A float is no whole number, whatever its value.
    """
    for name, value in values.items():
        _check(name, value, f"must be a whole number of at least {least}",
               cure, lambda number: number >= least, Integral)


def lies_in(interval: str, *, cure: str = "", **values) -> None:
    """Checks that numbers lie in an interval; see `positive`.

    Args:
        interval: such as `"[0, 1)"`: a bracket takes its end in, a
            parenthesis leaves it out.
    """
    low, high = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        _check(name, value, f"must lie in {interval}", cure, lambda number: (
            low < number < high
            or number == low and interval[0] == "["
            or number == high and interval[-1] == "]"))


def given(**values) -> dict:
    """The arguments that are not None, for a check of what may be None.

    Example:
        checks.positive(**checks.given(clip=clip))
    """
    return {name: value for name, value in values.items()
            if value is not None}


def one_of(name: str, value, choices, *, cure: str = "") -> None:
    """Checks that a value is one of some.

    Args:
        name: of the argument.
        value: what was given.
        choices: what may be given.
        cure: a sentence to end the message with.

    Raises:
        ValueError: it is none of them.
    """
    choices = list(choices)
    if value not in choices:
        raise ValueError(_message(
            name, value, f"must be one of {', '.join(map(str, choices))}",
            cure))


def _check(name, value, wanted, cure, holds, kind=Real) -> None:
    message = _message(name, value, wanted, cure)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise TypeError(message)
    if not holds(value):
        raise ValueError(message)


def _message(name, value, wanted, cure) -> str:
    shown = value if isinstance(value, Real) else repr(value)
    return " ".join(filter(None, (
        f"`{name}` {wanted}. Received: {name}={shown}.", cure)))
