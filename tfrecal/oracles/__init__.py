"""Who answers label requests: a log, a function, people with a file."""
from __future__ import annotations

from tfrecal.oracles.base import Answers, Oracle, Questions
from tfrecal.oracles.replay import ReplayOracle

__all__ = ["Answers", "Oracle", "Questions", "ReplayOracle"]
