"""Labels on another scale, and back."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal import splits
from tfrecal.data.interactions import Interactions

METHODS = ["minmax", "user_mean", "z_score"]


def log():
    frame = pd.DataFrame({
        "user_id": list("aaabb") + ["c"], "item_id": list("xyzxyx"),
        "label": [1, 3, 5, 4, 4, 2]})
    return Interactions.from_frame(frame, scale=(1, 5))


def test_minmax_maps_the_scale_not_the_labels_seen():
    data = log().take([1, 3]).normalise("minmax")
    assert data.label.tolist() == [0.5, 0.75] and data.scale == (0.0, 1.0)


def test_user_means_are_taken_off():
    data = log().normalise("user_mean")
    assert data.label.tolist() == [-2, 0, 2, 0, 0, 0]
    assert data.scale == (-3.0, 3.0)    # 1 - mean 4 and 5 - mean 2


def test_z_scores():
    data = log().normalise("z_score")
    expected = np.array([-2, 0, 2]) / np.std([1, 3, 5])
    np.testing.assert_allclose(data.label[:3], expected, rtol=1e-6)
    assert data.label[3:].tolist() == [0, 0, 0]     # no deviation: no 0/0


@pytest.mark.parametrize("method", METHODS)
def test_labels_come_back(method, shop):
    data = shop.normalise(method)
    assert data.label.dtype == np.float32
    assert abs(data.label - shop.label).max() > 0.1
    back = data.scaling.invert(data.frame["user_id"], data.label)
    np.testing.assert_allclose(back, shop.label, atol=1e-5)
    assert data.scale[0] <= data.label.min()
    assert data.label.max() <= data.scale[1]


@pytest.mark.parametrize("method", METHODS)
def test_the_truth_is_on_the_scale_of_the_labels(method, shop):
    data = shop.normalise(method)
    frame = data.frame
    true = [data.truth.loc[u, i]
            for u, i in zip(frame["user_id"], frame["item_id"])]
    raw = [shop.truth.loc[u, i]
           for u, i in zip(frame["user_id"], frame["item_id"])]
    np.testing.assert_allclose(
        data.scaling.invert(frame["user_id"], true), raw, atol=1e-5)


def test_no_label_gets_into_the_tables(shop):
    assert shop.normalise("z_score").users is shop.users


@pytest.mark.parametrize("method", METHODS)
def test_held_out_rows_are_scaled_by_the_rows_that_train(method, shop):
    train, _, test = splits.cold_users(shop, 0.3)
    scaled = train.normalise(method)
    other = test.normalise(scaled.scaling)
    assert other.scale == scaled.scale
    np.testing.assert_allclose(other.scaling.invert(
        test.frame["user_id"], other.label), test.label, atol=1e-5)
    if method == "user_mean":       # unknown users: the mean of all rows
        np.testing.assert_allclose(
            other.label, test.label - train.label.mean(), atol=1e-5)


@pytest.mark.parametrize("method", ["log", None, 3])
def test_an_unknown_method_is_refused(method):
    with pytest.raises(ValueError, match="`method` must be one of"):
        log().normalise(method)


def test_a_scale_of_one_value_has_no_minmax():
    data = Interactions.from_frame(log().frame.assign(label=4))
    with pytest.raises(ValueError, match=r"scale=\(4.0, 4.0\)"):
        data.normalise("minmax")


def test_labels_are_normalised_once():
    with pytest.raises(ValueError, match="normalised once.*'minmax'"):
        log().normalise("minmax").normalise("z_score")


def test_options_of_loading_normalise():
    frame = log().frame
    data = Interactions.from_frame(frame, scale=(1, 5), normalise="minmax")
    assert data.label.tolist() == log().normalise("minmax").label.tolist()
