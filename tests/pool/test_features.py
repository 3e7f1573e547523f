"""What towers read of a pool's tables."""
from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tfrecal import Pool
from tfrecal.pool.features import PoolFeatures, column_values


@pytest.mark.parametrize("name", ["label", "weight", "positive", "log_q"])
def test_columns_called_as_something_of_a_row(shop, name):
    """They took the place of the label or the weight in a batch."""
    pool = Pool.from_interactions(shop, initial=0.3, seed=0)
    pool.item_table = pool.item_table.assign(**{name: 1.0})
    with pytest.raises(ValueError, match=f"Received: '{name}'. Rename the"):
        pool.sequence(16, ids="strings", columns=[name])
    with pytest.raises(ValueError, match="`candidate_features` may not"):
        PoolFeatures(pool, candidate=("item_id", name))


@pytest.mark.parametrize("column, wanted", [
    (pd.Series([True, None], dtype="boolean"), [1, np.nan]),
    (pd.Series([3, None], dtype="Int64"), [3, np.nan]),
    (pd.Series([True, False]), [1, 0]),
    (pd.Series([7, 8], dtype="Int64"), [7, 8]),
    (pd.Series(["Köln", None], dtype="category"), ["Köln", ""]),
    (pd.Series(["电影", np.nan], dtype=object), ["电影", ""]),
    (pd.to_datetime(pd.Series(["2024-01-01", None])),
     ["2024-01-01 00:00:00", ""])])
def test_kinds_of_columns(column, wanted):
    found = column_values(column)
    np.testing.assert_array_equal(found, np.array(wanted, found.dtype))
    assert found.dtype in (np.float32, np.int64, object)
