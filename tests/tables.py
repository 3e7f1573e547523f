"""Three rows that several tests start from."""
from __future__ import annotations

import pandas as pd

from tfrecal.data.interactions import Interactions


def frame(**columns):
    data = {"user_id": ["b", "a", "a"], "item_id": ["x", "x", "y"],
            "label": [5, 3, 1], "timestamp": [30, 20, 10]}
    return pd.DataFrame({**data, **columns})


def read(*tables, **options):
    return Interactions.from_frame(*tables, **options)
