"""What does a model predict for any number of pairs, and how surely?"""
from __future__ import annotations

from tfrecal.scoring.scorer import PoolScorer

__all__ = ["PoolScorer"]
