"""Weights a pair, label scales and labels."""
from __future__ import annotations

import numpy as np
import pytest

from tfrecal.checks import check_labels, check_scale, check_weights, on_scale


def test_weights_pass_as_float64():
    found = check_weights([0, 2], 2, "prior")
    assert found.tolist() == [0, 2] and found.dtype == np.float64
    assert len(check_weights([], 0, "cost", positive=True)) == 0


@pytest.mark.parametrize("values, options, message", [
    ([1, -1, np.nan], {}, r"`cost` must be a finite number >= 0, one for each "
     r"of 3 pairs. Received: shape=\(3,\), 2 that are negative, NaN or "
     r"infinite, the first is cost=-1.0 at place 1\.$"),
    ([1, 0, np.inf], {"positive": True}, "number > 0.*2 that are.*cost=0.0"),
    ([1, 1], {"source": "mine"}, r"shape=\(2,\), from mine\.$"),
    (1.0, {}, r"shape=\(\)\.$"), (-1.0, {}, r"shape=\(\), 1 that are")])
def test_what_are_no_weights(values, options, message):
    with pytest.raises(ValueError, match=message):
        check_weights(values, 3, "cost", **options)


def test_labels_on_a_scale():
    labels = np.array([1, 5, 0.9, 6, np.nan, np.inf, -np.inf])
    assert on_scale(labels, (1, 5)).tolist() == [True] * 2 + [False] * 5
    assert on_scale(labels, None).tolist() == [True] * 4 + [False] * 3
    check_labels(labels[:2], (1, 5), [3, 4], cure="")
    with pytest.raises(ValueError, match="scale 1 to 5.*=6 for ticket=8. M"):
        check_labels(labels[[0, 3]], (1, 5), [3, 8], cure="Mend it.")
    with pytest.raises(ValueError, match="must be finite.*=nan for ticket=8"):
        check_labels(labels[4:], None, [8, 9, 9], cure="")


def test_scales():
    assert check_scale(np.array([1, 5])) == (1.0, 5.0)
    for wrong in ((5, 1), (1, 1), (1,), 5, (0, np.inf), ("a", "b"), None):
        with pytest.raises(ValueError, match=r"`scale` must be \(lowest"):
            check_scale(wrong)
