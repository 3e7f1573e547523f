"""What does a model predict for any number of pairs, and how surely?"""
from __future__ import annotations


def __getattr__(name: str):
    """`PoolScorer`, at first use: workers of Beam have no TensorFlow."""
    if name == "PoolScorer":
        from tfrecal.scoring.scorer import PoolScorer
        return PoolScorer
    raise AttributeError(f"module 'tfrecal.scoring' has no attribute {name!r}")
