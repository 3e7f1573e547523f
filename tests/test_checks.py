import numpy as np
import pytest

from tfrecal import checks

HOLDS = [
    (checks.positive, (), [1, 0.5, np.float32(2), np.int64(3), np.inf]),
    (checks.finite, (), [0, -1.5, np.float64(1e300)]),
    (checks.at_least, (1,), [1, 1.5, np.inf, np.int8(1)]),
    (checks.whole, (2,), [2, np.int32(7)]),
    (checks.lies_in, ("[0, 1)",), [0, 0.5, np.float16(0)]),
    (checks.lies_in, ("(0, 1]",), [1e-9, 1]),
]
FAILS = [
    (checks.positive, (), [0, -1, np.nan, np.float32("nan")],
     "`x` must be a positive number. Received: x="),
    (checks.finite, (), [np.nan, np.inf, -np.inf],
     "`x` must be a finite number. Received: x="),
    (checks.at_least, (1,), [0.5, np.int64(0), np.nan],
     "`x` must be at least 1. Received: x="),
    (checks.whole, (2,), [1, np.int64(-3)],
     "`x` must be a whole number of at least 2. Received: x="),
    (checks.lies_in, ("[0, 1)",), [-0.1, 1, np.nan, np.inf],
     "`x` must lie in [0, 1). Received: x="),
    (checks.lies_in, ("(0, 1]",), [0, 1.1],
     "`x` must lie in (0, 1]. Received: x="),
]


@pytest.mark.parametrize("check, first, good", HOLDS)
def test_what_holds(check, first, good):
    for value in good:
        assert check(*first, x=value) is None


@pytest.mark.parametrize("check, first, bad, message", FAILS)
def test_what_does_not_hold(check, first, bad, message):
    for value in bad:
        with pytest.raises(ValueError) as error:
            check(*first, x=value)
        assert str(error.value) == f"{message}{value}."


@pytest.mark.parametrize("check, first", [row[:2] for row in HOLDS])
@pytest.mark.parametrize("value", ["1", True, np.bool_(True), None, [1], 1j])
def test_what_is_no_number(check, first, value):
    with pytest.raises(TypeError) as error:
        check(*first, x=value)
    assert str(error.value).endswith(f" Received: x={value!r}.")


def test_a_float_is_no_whole_number():
    with pytest.raises(TypeError, match="x=2.0"):
        checks.whole(1, x=2.0)


def test_one_of():
    checks.one_of("mode", None, (None, "a"))
    with pytest.raises(ValueError) as error:
        checks.one_of("mode", "c", iter("ab"), cure="Take one.")
    assert str(error.value) == (
        "`mode` must be one of a, b. Received: mode='c'. Take one.")


def test_the_cure_ends_the_message():
    with pytest.raises(ValueError, match=r"k=0\. Ask for more\.$"):
        checks.positive(k=0, cure="Ask for more.")


def test_what_may_be_none():
    checks.positive(**checks.given(clip=None))
    assert checks.given(a=0, b=None, c="") == {"a": 0, "c": ""}
