"""What must hold of an argument?

Each function takes arguments by their names and raises an error of one form
where an argument does not hold. Numbers are those of Python and NumPy; a bool
is not a number. Infinity is a number, which `finite` refuses.
"""
from __future__ import annotations

import math
from numbers import Integral, Real

import numpy as np

from tfrecal.checks.json_files import parse_json, read_json
from tfrecal.checks.words import did_you_mean, is_text, shown

__all__ = [
    "at_least", "check_labels", "check_scale", "check_weights",
    "did_you_mean", "finite", "given", "is_text", "lies_in", "on_scale",
    "one_of", "parse_json", "positive", "read_json", "shown", "whole",
]


def positive(*, cure: str = "", **values) -> None:
    """Checks that numbers are above 0.

    Args:
        cure: a sentence to end the message with.
        **values: the given values, by the names of the arguments.

    Raises:
        TypeError: a value is no number.
        ValueError: a value is NaN or out of range.

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
        interval: the interval, such as `"[0, 1)"`: a bracket includes its
            end, a parenthesis leaves it out.
    """
    low, high = map(float, interval[1:-1].split(","))
    for name, value in values.items():
        _check(name, value, f"must lie in {interval}", cure, lambda number: (
            low < number < high
            or number == low and interval[0] == "["
            or number == high and interval[-1] == "]"))


def given(**values) -> dict:
    """Returns the arguments that are not None, for checks of optional ones.

    Example:
        checks.positive(**checks.given(clip=clip))
    """
    return {name: value for name, value in values.items()
            if value is not None}


def one_of(name: str, value, choices, *, cure: str = "") -> None:
    """Checks that a value is one of the allowed ones.

    Args:
        name: the name of the argument.
        value: the given value.
        choices: the allowed values.
        cure: a sentence to end the message with.

    Raises:
        ValueError: the value is none of them.
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
    text = (value if isinstance(value, Real)
            and not isinstance(value, Integral) else shown(value))
    return " ".join(filter(None, (
        f"`{name}` {wanted}. Received: {name}={text}.", cure)))


def check_weights(values, size: int, name: str, *, positive: bool = False,
                  source: str = "") -> np.ndarray:
    """Checks row weights, costs and other numbers, one for each pair.

    Args:
        values: numbers, `[size]`.
        size: number of pairs.
        name: the name of the argument.
        positive: whether 0 is refused too.
        source: where the numbers come from, for the message.

    Returns:
        The numbers as float64 `[size]`.

    Raises:
        ValueError: there are more or fewer numbers, or one of them is
            negative (or 0), NaN or infinite.
    """
    found = np.asarray(values, np.float64)
    wrong = ~(np.isfinite(found) & (found > 0 if positive else found >= 0))
    if found.shape == (size,) and not wrong.any():
        return found
    least = ">" if positive else ">="
    received = f"shape={found.shape}"
    if wrong.any():
        received += (f", {int(wrong.sum())} that are negative,"
                     f"{' 0,' if positive else ''} NaN or infinite, the first "
                     f"is {name}={found[wrong].flat[0]}")
        if found.ndim == 1:
            received += f" at place {np.flatnonzero(wrong)[0]}"
    raise ValueError(
        f"`{name}` must be a finite number {least} 0, one for each of {size} "
        f"pairs. Received: {received}{source and f', from {source}'}.")


def on_scale(labels, scale) -> np.ndarray:
    """Returns which labels lie on a scale, bool `[n]`.

    NaN lies on no scale. A scale of None holds every finite number.
    """
    labels = np.asarray(labels)
    low, high = (-np.inf, np.inf) if scale is None else scale
    return np.isfinite(labels) & (labels >= low) & (labels <= high)


def check_labels(labels, scale, tickets, *, cure: str) -> None:
    """Checks that labels lie on a scale.

    Args:
        labels: numbers, `[n]`.
        scale: `(lowest, highest)` label, or None for any finite number.
        tickets: the tickets of their questions, `[n]`.
        cure: a sentence to end the message with.

    Raises:
        ValueError: a label lies off the scale, or is NaN.
    """
    wrong = np.flatnonzero(~on_scale(labels, scale))
    if len(wrong):
        where = ("be finite numbers" if scale is None else
                 f"lie on the scale {scale[0]:g} to {scale[1]:g}")
        raise ValueError(
            f"Labels must {where}. Received: label={labels[wrong[0]]:g} for "
            f"ticket={tickets[wrong[0]]}. {cure}")


def check_scale(scale) -> tuple[float, float]:
    """Checks a label scale, `(lowest, highest)`, and returns it as floats.

    Raises:
        ValueError: the scale is not two finite, rising numbers.
    """
    try:
        low, high = map(float, scale)
        if -np.inf < low < high < np.inf:
            return low, high
    except (TypeError, ValueError):
        pass
    raise ValueError("`scale` must be (lowest, highest) label. Received: "
                     f"scale={scale!r}.")
