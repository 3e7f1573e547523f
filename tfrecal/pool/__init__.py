"""Which pairs are known, asked or answered, and what does `fit` train on?"""
from __future__ import annotations

from tfrecal.pool.journal import Journal
from tfrecal.pool.pool import Pool, PoolExhausted
from tfrecal.pool.target import Target

__all__ = ["Journal", "Pool", "PoolExhausted", "Target"]
