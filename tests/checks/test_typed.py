"""Configs: every wrong option is named in one message."""
from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest

from tfrecal import checks
from tfrecal.checks import typed


@typed.config
class Tea:
    """A config with one option of each kind."""

    name: str = "sencha"
    shop: str | None = None
    cups: int = 1
    warm: float = 0.5
    most: int | None = None
    milk: bool = False

    _above_0 = typed.rule(checks.positive, "cups", "most", "warm")
    _name = typed.one_of(("sencha", "assam"), "name")

    def __post_init__(self):
        if self.milk and self.name == "sencha":
            raise ValueError("`milk` does not go with sencha.")


def refusal(**values) -> str:
    with pytest.raises(ValueError) as error:
        Tea(**values)
    said = str(error.value)
    assert "\n" not in said and type(error.value) is ValueError
    return said


@pytest.mark.parametrize("name, value, kind", [
    ("cups", 2.5, "a whole number"), ("cups", "2", "a whole number"),
    ("cups", True, "a whole number"), ("cups", None, "a whole number"),
    ("cups", [1], "a whole number"), ("cups", {}, "a whole number"),
    ("warm", "0.5", "a number"), ("warm", False, "a number"),
    ("warm", np.bool_(True), "a number"), ("warm", 10 ** 400, "a number"),
    ("name", 5, "text"), ("shop", ["a"], "text"), ("shop", b"a", "text"),
    ("milk", 1, "true or false"), ("milk", "yes", "true or false"),
    ("most", 1.5, "a whole number")])
def test_wrong_types(name, value, kind):
    assert refusal(**{name: value}) == (
        f"`{name}` must be {kind}. Received: "
        f"{name}={checks.shown(getattr(value, 'item', lambda: value)())}.")


@pytest.mark.parametrize("name, value, message", [
    ("cups", 0, "positive"), ("cups", -3, "positive"),
    ("cups", 10 ** 30, "at most 64 bits"),
    ("warm", float("nan"), "warm=nan"), ("warm", float("inf"), "finite"),
    ("name", "Sencha", "sencha, assam"),
    ("shop", "a\0", "must be text"), ("shop", "\ud800", "must be text")])
def test_wrong_values(name, value, message):
    assert message in refusal(**{name: value})


def test_a_number_that_python_cannot_write():
    assert "a number of 19,932 bits" in refusal(cups=10 ** 6000)


def test_all_that_is_wrong_is_named():
    said = refusal(cups=2.5, warm=-1.0, name="mint", milk=0, shpo="x", zzz=1)
    for part in ("cups=2.5", "warm=-1.0", "name='mint'", "milk=0",
                 "shpo='x'; did you mean `shop`?", "zzz=1",
                 "The options are name, shop, cups, warm, most, milk."):
        assert part in said
    assert refusal(milk=True) == "`milk` does not go with sencha."
    assert refusal(**{"a\nb\ud800": 1}).encode()


def test_what_is_taken():
    assert Tea(cups=2.0) == Tea(cups=np.int64(2)) == Tea("sencha", None, 2)
    assert type(Tea(cups=2.0).cups) is int
    assert type(Tea(warm=1).warm) is float
    assert Tea(warm=np.float32(0.5)).warm == 0.5
    assert Tea(shop=Path("a")).shop == "a"
    assert Tea(most=3).most == 3 and Tea(most=None).most is None
    with pytest.raises(TypeError, match="takes 6 options"):
        Tea(*range(7))


def test_it_is_a_dataclass():
    tea = Tea(cups=3)
    assert dataclasses.asdict(tea)["cups"] == 3
    assert dataclasses.replace(tea, warm=0.1) == Tea(cups=3, warm=0.1)
    with pytest.raises(ValueError, match="cups=0"):
        dataclasses.replace(tea, cups=0)
    assert pickle.loads(pickle.dumps(tea)) == tea


def test_the_file_is_named():
    with pytest.raises(ValueError, match=r"cups=0\. The file is a\.json\.$"):
        typed.from_json(Tea, "a.json", {"cups": 0})
