"""Which strategy needs fewer labels? Paired comparisons."""
from __future__ import annotations

from tfrecal.compare.config import ComparisonConfig

__all__ = ["ComparisonConfig"]
