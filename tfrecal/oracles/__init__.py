"""Who answers label requests: a log, a function, people with files."""
from __future__ import annotations

from tfrecal.oracles.base import Answers, Oracle, Questions
from tfrecal.oracles.file_queue import FileQueueOracle
from tfrecal.oracles.function import CallableOracle
from tfrecal.oracles.replay import ReplayOracle
from tfrecal.oracles.sheets import read_answers, write_questions

__all__ = ["Answers", "CallableOracle", "FileQueueOracle", "Oracle",
           "Questions", "ReplayOracle", "read_answers", "write_questions"]
