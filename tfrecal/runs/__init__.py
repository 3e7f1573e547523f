"""How does a config become a run and its folder?"""
from __future__ import annotations

from tfrecal.runs.config import RunConfig

__all__ = ["RunConfig"]
