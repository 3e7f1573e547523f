"""What would people do? A simulated world with known tastes."""
from __future__ import annotations

from tfrecal.data.world.world import World

__all__ = ["World"]
