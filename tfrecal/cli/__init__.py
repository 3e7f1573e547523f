"""What can be done from a shell? One file a group of commands."""
from __future__ import annotations

from tfrecal.cli.main import main

__all__ = ["main"]
