"""How does one run go, from its config to its folder?"""
from __future__ import annotations

from tfrecal.runs.config import RunConfig

__all__ = ["RunConfig"]
